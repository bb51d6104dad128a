"""PURE: when two values are the same, whatever spelling each came in."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

_PLAIN_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_MAX_NUMBER = 1000
_TIMES = ("timestamp", "timestamptz", "date")


def same(expected: Any, actual: Any, kind: str | None = None) -> bool:
    """Whether ``actual`` is what ``expected`` means.

    ``kind`` is the column's (`podctl.data.catalog.Kind`). Numbers compare by value, timestamps by instant, json by
    value, text exactly; a list is an array of such values. Without a kind, a number equals text that spells it, and two texts must be equal.
    """
    if expected is None or actual is None:
        return expected is actual
    if isinstance(expected, bool) or isinstance(actual, bool):
        return _truth(expected) is not None and _truth(expected) == _truth(actual)
    if kind in ("integer", "number"):
        return _same_number(expected, actual)
    if kind in _TIMES or isinstance(expected, date) or isinstance(actual, date):
        return _same_time(expected, actual)
    if kind == "json":
        return _same_json(_parsed(expected), _parsed(actual))
    if kind == "text":
        if isinstance(expected, list) and isinstance(actual, str):
            return _same_array(expected, array(actual))
        if isinstance(actual, list) and isinstance(expected, str):
            return _same_array(actual, array(expected))
        return str(expected) == str(actual)
    if isinstance(expected, dict | list) or isinstance(actual, dict | list):
        return _same_json(expected, actual)
    if isinstance(expected, str) and isinstance(actual, str):
        return expected == actual
    return _same_number(expected, actual)


def _truth(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    # CSV references have no booleans of their own.
    return {"true": True, "t": True, "false": False, "f": False}.get(value) if isinstance(value, str) else None


def number(value: Any) -> Decimal | None:
    """The exact value of a number or of text that spells one."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, Decimal):
        return value
    text = repr(value) if isinstance(value, float) else str(value)
    return Decimal(text) if len(text) <= _MAX_NUMBER and _PLAIN_NUMBER.fullmatch(text) else None


def _same_number(expected: Any, actual: Any) -> bool:
    left, right = number(expected), number(actual)
    if left is None or right is None:
        return str(expected) == str(actual)
    return left == right


def _instant(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, date):
        moment = datetime(value.year, value.month, value.day)
    else:
        try:
            moment = datetime.fromisoformat(str(value).strip())
        except ValueError:
            return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _same_time(expected: Any, actual: Any) -> bool:
    left, right = _instant(expected), _instant(actual)
    return left == right if left is not None and right is not None else str(expected) == str(actual)


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _same_json(left: Any, right: Any) -> bool:
    # Iterative: json in a column may be nested deeper than Python recurses.
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if isinstance(one, dict) and isinstance(other, dict):
            if one.keys() != other.keys():
                return False
            pairs += [(one[key], other[key]) for key in one]
        elif isinstance(one, list) and isinstance(other, list):
            if len(one) != len(other):
                return False
            pairs += zip(one, other, strict=True)
        elif isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
            if one is not other:
                return False
        elif isinstance(one, str) or isinstance(other, str):
            if one != other:
                return False
        elif isinstance(one, dict | list) or isinstance(other, dict | list) or number(one) != number(other):
            return False
    return True


_ELEMENT = re.compile(r'"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>(?:[^",{}\\]|\\.)+)|(?P<mark>[{},])', re.DOTALL)


def array(text: str) -> list[Any] | None:
    """PostgreSQL's text of an array as lists of text and None; None when it is not one.

    Source: PostgreSQL documentation, 8.15.6 Array Input and Output Syntax.
    """
    at = text.index("=") + 1 if text.startswith("[") and "=" in text else 0  # bounds, as in [0:1]={a,b}
    whole: list[Any] = []
    open_lists = [whole]
    while at < len(text):
        found = _ELEMENT.match(text, at)
        if found is None:
            return None
        at = found.end()
        if found["mark"] == "{":
            inner: list[Any] = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif found["mark"] == "}":
            open_lists.pop()
            if not open_lists:
                return None
        elif found["quoted"] is not None:
            open_lists[-1].append(_unescaped(found["quoted"]))
        elif found["plain"] is not None:
            open_lists[-1].append(None if found["plain"] == "NULL" else _unescaped(found["plain"]))
    return whole[0] if len(open_lists) == 1 and len(whole) == 1 and isinstance(whole[0], list) else None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _same_array(expected: list[Any], actual: list[Any] | None) -> bool:
    if actual is None or len(expected) != len(actual):
        return False
    return all(
        _same_array(wanted, found if isinstance(found, list) else None) if isinstance(wanted, list) else same(wanted, found)
        for wanted, found in zip(expected, actual, strict=True)
    )


def shown(value: Any, limit: int = 200) -> str:
    """A value as one line of JSON for a message; nothing in it can move the cursor or forge a line."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = repr(type(value).__name__)
    text = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[: limit * 2])
    return text if len(text) <= limit else text[: limit - 1] + "…"
