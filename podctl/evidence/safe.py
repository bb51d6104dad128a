"""Text from agents, made safe to show on a terminal."""

from __future__ import annotations

import json
from typing import Any


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
