"""Keeping what an agent sends to a size that fits a record."""

from __future__ import annotations

import base64
import math
from typing import Any

TEXT = 8 * 1024
ITEMS = 128
DEPTH = 8


def bounded(value: Any, text: int = TEXT, items: int = ITEMS, depth: int = DEPTH) -> Any:
    """The value as JSON of bounded size: long text and lists are cut, deep nesting and odd numbers become text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else clipped(hex(value), text)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return clipped(value, text)
    if isinstance(value, bytes):
        return clipped(base64.b64encode(value[:text]).decode("ascii"), text)
    if isinstance(value, list | tuple | dict) and depth <= 0:
        return "…"
    if isinstance(value, dict):
        pairs = list(value.items())[:items]
        return {clipped(str(key), 256): bounded(item, text, items, depth - 1) for key, item in pairs}
    if isinstance(value, list | tuple):
        return [bounded(item, text, items, depth - 1) for item in value[:items]]
    return clipped(str(value), text)


def clipped(value: str, limit: int) -> str:
    return value if len(value) <= limit else value[:limit] + "…"


class Budgeted:
    """Cuts a list of messages so that all of them together stay under ``left`` characters, the latest kept whole first."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.cut = False

    def messages(self, messages: list[Any]) -> list[Any]:
        kept: list[Any] = []
        for message in reversed(messages):
            small = bounded(message, text=min(16 * 1024, max(self.left, 0)))
            size = len(str(small))
            if size > self.left or len(kept) >= ITEMS:
                self.cut = True
                break
            self.cut = self.cut or small != message
            self.left -= size
            kept.append(small)
        return kept[::-1]


def body_text(data: bytes, whole: int) -> dict[str, Any]:
    """A recorded body: ``text``, or ``base64`` when it is not UTF-8, and ``truncated`` when ``whole`` is more."""
    cut = whole > len(data)
    for drop in range(4 if cut else 1):
        try:
            kept: dict[str, Any] = {"text": data[: len(data) - drop].decode("utf-8")}
            break
        except UnicodeDecodeError:
            continue
    else:
        kept = {"base64": base64.b64encode(data).decode("ascii")}
    return {**kept, "truncated": True} if cut else kept
