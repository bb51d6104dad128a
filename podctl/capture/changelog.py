"""Lines of a change log as logical decoding writes them, as changes of rows. PURE.

wal2json, format versions 1 and 2: https://github.com/eulerto/wal2json, README.md and wal2json.c.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Column -> value as text.
Values = Mapping[str, str | None]
_OPS = {"I": "i", "U": "u", "D": "d", "T": "t", "insert": "i", "update": "u", "delete": "d", "truncate": "t"}
#: Lines of version 2 that say nothing of rows: begin, commit, message.
_OTHERS = ("B", "C", "M")


@dataclass(frozen=True)
class Line:
    """``at`` in microseconds since the epoch, ``op`` one of i, u, d, t; ``number`` is the line's, from 1."""

    number: int
    at: int
    xid: int
    op: str
    schema: str
    table: str
    old: Values | None
    new: Values | None


def read_wal2json(lines: Iterable[str]) -> Iterator[Line]:
    """Raises ValueError naming the line that is not understood, or does not say when and by which transaction."""
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            entry = json.loads(text, parse_float=str, parse_int=str)
            if "change" in entry:
                for change in entry["change"]:
                    if change["kind"] != "message":
                        yield _version_1(number, entry, change)
            elif entry["action"] not in _OTHERS:
                yield _version_2(number, entry)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"line {number} is not of wal2json: {type(error).__name__} {error}") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error.msg}") from None


def _version_1(number: int, entry: Mapping[str, Any], change: Mapping[str, Any]) -> Line:
    names = change.get("columnnames")
    new = _values(zip(names, change["columnvalues"], strict=True)) if names is not None else None
    keys = change.get("oldkeys")
    old = _values(zip(keys["keynames"], keys["keyvalues"], strict=True)) if keys is not None else None
    return _line(number, entry, _OPS[change["kind"]], change, old, new)


def _version_2(number: int, entry: Mapping[str, Any]) -> Line:
    def values(name: str) -> Values | None:
        return _values((one["name"], one["value"]) for one in entry[name]) if name in entry else None

    return _line(number, entry, _OPS[entry["action"]], entry, values("identity"), values("columns"))


def _line(
    number: int, entry: Mapping[str, Any], op: str, of: Mapping[str, Any], old: Values | None, new: Values | None
) -> Line:
    missing = [option for key, option in (("timestamp", "include-timestamp"), ("xid", "include-xids")) if not entry.get(key)]
    if missing:
        raise ValueError(f"line {number} has no {missing[0].removeprefix('include-')}: wal2json writes it with {missing[0]}")
    at = datetime.datetime.fromisoformat(entry["timestamp"])
    if at.tzinfo is None:
        raise ValueError(f"line {number}: its timestamp has no time zone")
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    if op == "u" and new is not None:
        # Large values that did not change are left out of the new row.
        old, new = {**new, **(old or {})} if old is None else old, {**(old or {}), **new}
    moment = (at - epoch) // datetime.timedelta(microseconds=1)
    return Line(number, moment, int(entry["xid"]), op, of.get("schema", "public"), of["table"], old, new)


def _values(pairs: Iterable[tuple[str, Any]]) -> Values:
    return {name: _text(value) for name, value in pairs}


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "t" if value else "f"
    if value is not None and not isinstance(value, str):
        raise TypeError("a value is neither text nor a number")
    return value
