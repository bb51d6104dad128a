"""A source's values with their places, as readers of Compose files and manifests want them. PURE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.mirror.said import Place
from podctl.spec.problems import Mark, printable
from podctl.spec.source import Document, Item


@dataclass(frozen=True)
class Node:
    """A value of the source. ``place`` is its key's where it has one; ``base`` is what paths in it are relative to."""

    value: Any
    place: Place
    entries: dict[str, Node] | None = None
    items: list[Node] | None = None
    base: Path = Path()
    tag: str = ""

    @property
    def is_scalar(self) -> bool:
        return self.entries is None and self.items is None

    def get(self, key: str) -> Node | None:
        return (self.entries or {}).get(key)

    def at(self, *keys: str) -> Node | None:
        """What is under a path of keys."""
        found: Node | None = self
        for key in keys:
            found = found.get(key) if found is not None else None
        return found

    def each(self) -> Iterator[tuple[str, Node]]:
        return iter((self.entries or {}).items())

    def text(self, *keys: str) -> str:
        """The scalar under a path of keys as text; empty when there is none."""
        found = self.at(*keys)
        return found.written() if found is not None and found.is_scalar else ""

    def written(self) -> str:
        """A scalar as other systems write it into an environment."""
        if self.value is None:
            return ""
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        return str(self.value)

    def texts(self) -> list[str]:
        """A list's scalars, or the one scalar there is."""
        if self.items is not None:
            return [item.written() for item in self.items if item.is_scalar]
        return [self.written()] if self.is_scalar and self.value is not None else []


def tree(document: Document, base: Path, change: Callable[[str, Place], str] = lambda text, place: text) -> Node:
    """``change`` is applied to each text that is a value (not to keys)."""

    def made(item: Item, at: Mark) -> Node:
        place = Place(document.file, at.line, at.column)
        if item.entries is not None:
            entries = {key: made(value, mark) for key, (mark, value) in item.entries.items()}
            return Node(None, place, entries=entries, base=base, tag=item.tag)
        if item.items is not None:
            return Node(None, place, items=[made(child, child.at) for child in item.items], base=base, tag=item.tag)
        value = item.value
        if isinstance(value, str):
            value = change(value, place)
        elif isinstance(value, float):
            value = item.written  # 1.10 is a version more often than a number
        return Node(value, place, base=base, tag=item.tag)

    return made(document.root, document.root.at)


def moved(node: Node, place: Place) -> Node:
    return replace(node, place=place)


def scalar(text: str, place: Place, base: Path = Path()) -> Node:
    return Node(text, place, base=base)


def wrong(place: Place, message: str, hint: str = "", code: str = "source-invalid") -> SpecError:
    """A mistake of the source that leaves nothing to import."""
    return SpecError(printable(f"{place}: {message}", 400), code=code, unchanged="nothing was written", hint=hint)
