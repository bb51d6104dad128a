"""What a row's paths come to as text, numbers and times."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from podctl.spec.problems import printable
from podctl.spec.tickets import First, Joined, Tickets
from podctl.tickets.fields import ABSENT, find
from podctl.tickets.references import kind

#: Nested blocks of a rich text that are read.
_RICH_DEPTH = 64


class Missing(ValueError):
    """A row lacks what a path leads to; ``path`` is as it was written."""

    def __init__(self, role: str, path: str) -> None:
        super().__init__(f"the {role}, {path!r}, is missing")
        self.role, self.path = role, path


@dataclass(frozen=True)
class Reading:
    """How texts of a source are understood: which stand for nothing, and how times are written."""

    empty: frozenset[str] = frozenset()
    time_format: str | None = None
    zone: ZoneInfo = ZoneInfo("UTC")

    @staticmethod
    def of(spec: Tickets) -> Reading:
        return Reading(frozenset(spec.empty), spec.time_format, ZoneInfo(spec.timezone))

    def text(self, row: dict[str, Any], source: str | First | Joined, role: str, between: str = ", ") -> str:
        """Null and what stands for nothing are ``""``; a list's entries are joined with ``between``.

        Raises `Missing` when no path leads anywhere, and ValueError for an object.
        """
        if isinstance(source, Joined):
            texts = [self.text(row, part, role, between) for part in source.join]
            return source.separator.join(text for text in texts if text.strip())
        if isinstance(source, First):
            return self._first(row, source, role, between)
        value = find(row, source)
        if value is ABSENT:
            raise Missing(role, source)
        if isinstance(value, list) and "[" not in source:
            raise ValueError(f"the {role}, {source!r}: expected text or a number, found a list; {source}[] reads it")
        return self._plain(value, source, role, between)

    def _first(self, row: dict[str, Any], source: First, role: str, between: str) -> str:
        lacking = 0
        for path in source.first:
            try:
                text = self.text(row, path, role, between)
            except Missing:
                lacking += 1
            else:
                if text.strip():
                    return text
        if source.otherwise is not None:
            return source.otherwise
        if lacking == len(source.first):
            raise Missing(role, source.first[0])
        return ""

    def _plain(self, value: Any, path: str, role: str, between: str) -> str:
        if value is None:
            return ""
        if isinstance(value, str):
            return "" if value in self.empty else value
        if isinstance(value, list):
            entries = (self._plain(entry, path, role, between) for entry in value)
            return between.join(entry for entry in entries if entry)
        if isinstance(value, dict):
            if value.get("type") == "doc" and isinstance(value.get("content"), list):
                return rich_text(value)
            raise ValueError(f"the {role}, {path!r}: expected text or a number, found {kind(value)}")
        return json.dumps(value)

    def number(self, row: dict[str, Any], source: str | First, role: str) -> float | None:
        """None when nothing is there. Raises ValueError when it is no finite number."""
        text = self.text(row, source, role).strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise ValueError(f"the {role}: expected a number, found {printable(text, 40)!r}")
        return value

    def time(self, row: dict[str, Any], source: str | First, role: str) -> datetime | None:
        """With its time zone; None when nothing is there. Raises ValueError when it is no time."""
        text = self.text(row, source, role).strip()
        return self.moment(text, role) if text else None

    def moment(self, text: str, role: str) -> datetime:
        """Raises ValueError saying what was expected."""
        try:
            written_as = self.time_format
            found = datetime.fromisoformat(text) if written_as is None else datetime.strptime(text, written_as)
            return found if found.tzinfo is not None else found.replace(tzinfo=self.zone)
        except (ValueError, OverflowError) as error:
            written = f"a time written as {self.time_format}" if self.time_format else "a time as ISO 8601 has it"
            hint = "" if self.time_format else "; time_format says how others are written"
            raise ValueError(f"the {role}: expected {written}, found {printable(text, 40)!r}{hint}") from error


def rich_text(document: dict[str, Any]) -> str:
    """The words of a text in the Atlassian Document Format, a block a line.

    https://developer.atlassian.com/cloud/jira/platform/apis/document/structure/: a tree of nodes with ``type``,
    ``content`` and, in leaves, ``text``.
    """
    lines: list[str] = [""]
    _write(document, lines, 0)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _write(node: Any, lines: list[str], depth: int) -> None:
    if not isinstance(node, dict) or depth > _RICH_DEPTH:
        return
    attributes = node.get("attrs")
    written = node.get("text")
    if node.get("type") == "hardBreak":
        lines.append("")
    elif isinstance(written, str):
        first, *others = written.split("\n")
        lines[-1] += first
        lines.extend(others)
    elif isinstance(attributes, dict) and isinstance(attributes.get("text"), str):
        lines[-1] += attributes["text"]  # a mention, an emoji, a status
    content = node.get("content")
    if isinstance(content, list):
        leaves = all(isinstance(child, dict) and "content" not in child for child in content)
        for child in content:
            _write(child, lines, depth + 1)
        if leaves or node.get("type") == "paragraph":
            lines.append("")


def edges_text(edges: Sequence[str]) -> list[str]:
    """Names of the groups between ``edges``: one more than there are."""
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    return [f"under {edges[0]}", *inner, f"{edges[-1]} and over"]
