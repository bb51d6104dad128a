"""Text that agents wrote, made safe to look at. Escaping for HTML, XML or Markdown comes after."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from podctl.evidence.safe import printable

#: More marks than this on one letter are not writing but drawing over the neighbours.
MAX_MARKS = 4


def visible(text: str, limit: int = 0, *, keep: str = "") -> str:
    """The text with every control, format (bidi, zero-width), surrogate and unassigned character shown, not obeyed.

    C0 controls become their pictures (``␛``), the rest ``⟨U+202E⟩``. ``keep`` lists controls to leave, such as ``"\\n"``.
    With a ``limit`` above 0 the result has at most that many characters; what was cut ends in ``…``. Every character left is valid in XML.
    """
    if limit and len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    spelled = _spell_out(text, keep)
    return spelled if not limit or len(spelled) <= limit else spelled[: limit - 1] + "…"


def _spell_out(text: str, keep: str) -> str:
    shown = []
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if character in keep:
            shown.append(character)
        elif category == "Cc" and ord(character) < 0x20:
            shown.append(chr(0x2400 + ord(character)))
        elif category == "Zs":
            shown.append(" ")
        elif category[0] == "C" or category in ("Zl", "Zp") or marks > MAX_MARKS:
            shown.append(f"⟨U+{ord(character):04X}⟩")
        else:
            shown.append(character)
    return "".join(shown)


def columns(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Plain columns: readable by eyes, cut and awk."""
    cells = [list(headings), *([printable(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def value_text(value: Any, limit: int = 120) -> str:
    """A value of a database row or an argument, in one line."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return visible(value, limit) if value else "(empty)"
    return visible(str(value), limit)


def pairs_text(pairs: dict[str, Any], limit: int = 160) -> str:
    """``{"id": 7}`` as ``id=7``."""
    return visible(", ".join(f"{name}={value_text(value, 60)}" for name, value in pairs.items()), limit)


#: What stands for a character where the terminal cannot show it.
_ASCII = {
    "–": "-", "—": "-", "…": "...", "≤": "<=", "≥": ">=", "→": "->", "×": "x", "·": "-", "±": "+-", "✓": "+", "✕": "x",
    "⟨": "<", "⟩": ">", "█": "#", "░": ".", "─": "-", "│": "|", "−": "-", "━": "-", "╸": "-", "╺": "-",
}  # fmt: skip


def encodable(text: str, encoding: str | None) -> str:
    """The text in what a stream's encoding can carry; anything else as an ASCII stand-in or ``\\u…``."""
    name = encoding or "ascii"
    try:
        text.encode(name)
    except UnicodeEncodeError:
        stand_in = "".join(_ASCII.get(character, character) for character in text)
        return stand_in.encode(name, "backslashreplace").decode(name)
    except LookupError:
        return encodable(text, "ascii")
    return text
