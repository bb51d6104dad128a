"""Text from agents, made safe to show on a terminal and to hand to other programs."""

from __future__ import annotations

import json
import math
from typing import Any

_DEEPEST = 60


def printable(text: str, limit: int = 200) -> str:
    """One line without control, bidirectional, invisible or unassigned characters; those show as escapes.

    Text longer than ``limit`` characters is cut, with a note of how many are missing.
    """
    kept = text[:limit]
    if not kept.isprintable():
        kept = "".join(character if character.isprintable() else _escape(character) for character in kept)
    missing = len(text) - limit
    return f"{kept}… (+{missing:,} more)" if missing > 0 else kept


def _escape(character: str) -> str:
    """As Python would write it, lone surrogates included: ``\\x1b``, ``\\u202e``, ``\\n``."""
    return character.encode("unicode_escape").decode("ascii")


def printable_value(value: Any, limit: int = 200) -> str:
    """Any JSON value on one line: strings in single quotes, ``null`` for None, the rest as compact JSON."""
    if isinstance(value, str):
        return f"'{printable(value, limit)}'"
    try:
        return printable(json.dumps(value, separators=(", ", ": "), ensure_ascii=False, default=str), limit)
    except (ValueError, TypeError, RecursionError):
        return f"<{type(value).__name__}>"


def fitted(line: str, width: int) -> str:
    """A printable line cut to ``width`` characters, a note of what is missing included."""
    if len(line) <= width:
        return line
    kept = max(0, width - len(f"… (+{len(line):,} more)"))
    return f"{line[:kept]}… (+{len(line) - kept:,} more)"


def well_formed(text: str) -> str:
    """The text as valid Unicode: surrogate pairs joined, lone surrogates replaced."""
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def well_formed_value(value: Any, depth: int = 0) -> Any:
    """A JSON value that any reader takes: valid Unicode, no NaN or infinity, bounded nesting, other objects as text."""
    if isinstance(value, str):
        return well_formed(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth >= _DEEPEST:
        return "<nested too deeply>"
    if isinstance(value, dict):
        return {well_formed(str(key)): well_formed_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [well_formed_value(item, depth + 1) for item in value]
    return well_formed(str(value))
