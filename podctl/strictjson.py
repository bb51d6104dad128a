"""JSON from strangers, read as every other reader would read it, or not at all. PURE.

Readers differ in which of two equal keys they take, in bytes that are not UTF-8, in half of a surrogate pair, in NaN, in numbers that
are too large or too small for them, and in how deep they go. Where they differ there is no answer.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

_HALF = re.compile("[\ud800-\udfff]")


class NotJson(ValueError):
    """Not one JSON value to every reader. The text says why in one printable line; what it is said of goes before it: "is not UTF-8"."""


def read_json(data: bytes | str, *, most: int | None = None, deepest: int = 64, digits: int = 40) -> Any:
    """One value. ``most`` bytes are read (None: whoever calls has bounded them); ``deepest``: objects and lists within one another;
    ``digits`` of a whole number. Raises `NotJson`."""
    if most is not None and len(data) > most:
        raise NotJson(f"is larger than {most:,} bytes")

    def whole(text: str) -> int:
        if len(text.lstrip("-")) > digits:
            raise NotJson(f"holds a number of more than {digits} digits")
        return int(text)

    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        value = json.loads(text, object_pairs_hook=_object, parse_int=whole, parse_float=_float, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise NotJson(f"is not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise NotJson(f"is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NotJson(f"is nested deeper than {deepest} levels") from None
    _look_through(value, deepest)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise NotJson(f"has the key {ascii(doubled(pairs))[:80]} twice")
    return value


def doubled(pairs: list[tuple[str, Any]]) -> str:
    """The first key that is there a second time; there is one."""
    seen: set[str] = set()
    return next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _float(text: str) -> float:
    value = float(text)
    lost = value == 0 and any(digit in "123456789" for digit in re.split("[eE]", text)[0])
    if lost or not math.isfinite(value):
        raise NotJson("holds a number out of range")
    return value


def _constant(text: str) -> NoReturn:
    raise NotJson(f"holds {text}, which JSON does not have")


def _look_through(value: Any, deepest: int) -> None:
    # Without recursion: however deep it is, it is told and not fallen over.
    level: list[Any] = [value]
    for depth in range(deepest + 1):
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                if not one.isascii() and _HALF.search(one):
                    raise NotJson("holds half of a surrogate pair")
            elif isinstance(one, dict | list):
                if depth == deepest:
                    raise NotJson(f"is nested deeper than {deepest} levels")
                below += one
                if isinstance(one, dict):
                    below += one.values()
        level = below
