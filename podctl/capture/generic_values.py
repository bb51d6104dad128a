"""Values of other databases as PostgreSQL writes them in COPY text. PURE."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from podctl.masking.copytext import NULL, escape

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(r"\d{2}:\d{2}(:\d{2}(\.\d{1,6})?)?", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def field_of(kind: str) -> Callable[[Any], bytes]:
    """What writes one value of a column of PostgreSQL type ``kind``; it raises ValueError for a value that is none of it."""
    write = _WRITERS.get(kind.split("(")[0], _text)

    def field(value: Any) -> bytes:
        if value is None:
            return NULL
        text = write(value)
        if "\0" in text:
            raise ValueError("it holds a NUL character, which PostgreSQL's text cannot")
        return escape(text.encode())

    return field


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode()  # UnicodeDecodeError is a ValueError
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _whole(value: Any) -> str:
    if (
        isinstance(value, bool | int)
        or (isinstance(value, float | Decimal) and value == int(value))
        or (isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,19}", value, re.ASCII))
    ):
        number = int(value)
    else:
        raise ValueError("it is no whole number")
    if not -(2**63) <= number < 2**63:
        raise ValueError("it is beyond 64 bits")
    return str(number)


def _number(value: Any) -> str:
    if isinstance(value, int | float | Decimal):
        return str(int(value) if isinstance(value, bool) else value)
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return value
    raise ValueError("it is no number")


def _truth(value: Any) -> str:
    known = {0: "f", 1: "t", "0": "f", "1": "t", "t": "t", "f": "f", "true": "t", "false": "f", b"\0": "f", b"\1": "t"}
    found = known.get(value.lower() if isinstance(value, str) else value)
    if found is None:
        raise ValueError("it is neither true nor false")
    return found


def _bytes(value: Any) -> str:
    return "\\x" + (value.encode() if isinstance(value, str) else bytes(value)).hex()


def _document(value: Any) -> str:
    text = value if isinstance(value, str) else value.decode() if isinstance(value, bytes) else json.dumps(value)
    json.loads(text)
    return text


def _like(pattern: re.Pattern[str], what: str) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        if isinstance(value, datetime.timedelta):
            value = (datetime.datetime.min + value).time() if datetime.timedelta() <= value < datetime.timedelta(days=1) else ""
        text = value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)
        if pattern.fullmatch(text) is None:
            raise ValueError(f"it is no {what}")
        return text

    return write


_WRITERS: dict[str, Callable[[Any], str]] = {
    "smallint": _whole,
    "integer": _whole,
    "bigint": _whole,
    "numeric": _number,
    "real": _number,
    "double precision": _number,
    "boolean": _truth,
    "bytea": _bytes,
    "jsonb": _document,
    "date": _like(_DATE, "date"),
    "time without time zone": _like(_TIME, "time of day"),
    "timestamp without time zone": _like(_MOMENT, "time"),
    "timestamp with time zone": _like(_MOMENT, "time"),
}
