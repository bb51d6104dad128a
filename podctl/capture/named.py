"""Which values tickets name rows by. PURE."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podctl.capture.schema import Edge
from podctl.spec.capture import NamedRows
from podctl.tickets.types import Ticket

_MOST = 100_000


@dataclass
class Naming:
    """Values of ``columns`` of ``table`` -> the tickets that name them; ``what`` says in the user's words where they stand."""

    what: str
    table: str
    columns: tuple[str, ...]
    values: dict[tuple[str, ...], list[str]] = field(default_factory=dict)

    def add(self, value: tuple[str, ...], ticket: str) -> None:
        if len(self.values) < _MOST:
            self.values.setdefault(value, []).append(ticket)


def by_paths(tickets: Sequence[Ticket], rules: Iterable[NamedRows]) -> list[Naming]:
    """What each rule finds in the tickets' fields, their text among them under ``text``."""
    found = []
    for rule in rules:
        naming = Naming(rule.path, rule.table, (rule.column,))
        pattern = re.compile(rule.match) if rule.match is not None else None
        for ticket in tickets:
            for value in _values(_row(ticket), rule.path):
                for text in _matches(value, pattern):
                    naming.add((text,), ticket.id)
        found.append(naming)
    return found


def by_references(tickets: Iterable[Ticket], database: str, edges: Sequence[Edge]) -> list[Naming]:
    """The rows that reference resolutions change or remove, and those that what they write refers to."""
    found: dict[tuple[str, tuple[str, ...]], Naming] = {}

    def name(table: str, row: Mapping[str, Any], ticket: str) -> None:
        values = tuple(text for value in row.values() if (text := _text(value)) is not None)
        if values and len(values) == len(row):
            naming = found.setdefault((table, tuple(row)), Naming("reference.changes", table, tuple(row)))
            naming.add(values, ticket)

    for ticket in tickets:
        for change in (ticket.reference.changes or ()) if ticket.reference else ():
            if change.database != database:
                continue
            table = change.table.removeprefix("public.")
            if change.op != "insert":
                name(table, dict(sorted(change.key.items())), ticket.id)
            written = {**change.key, **change.values}
            for edge in edges:
                if edge.child == table and not edge.when and not change.values.keys().isdisjoint(edge.columns):
                    to = zip(edge.to, edge.columns, strict=True)
                    name(edge.parent, {parent: written.get(column) for parent, column in to}, ticket.id)
    return list(found.values())


def at_path(ticket: Ticket, path: str) -> list[str]:
    """Every text or number at a dotted path into the ticket."""
    return list(_values(_row(ticket), path))


def _row(ticket: Ticket) -> dict[str, Any]:
    return {"id": ticket.id, "text": ticket.text, **ticket.fields}


def _values(value: Any, path: str) -> Iterator[str]:
    """Every text or number at ``a.b.c``, through lists; a key written with its dots wins over nesting."""
    if isinstance(value, list):
        for entry in value:
            yield from _values(entry, path)
    elif not path:
        text = _text(value)
        if text is not None:
            yield text
    elif isinstance(value, dict):
        if path in value:
            yield from _values(value[path], "")
            return
        first, _, rest = path.partition(".")
        if first in value:
            yield from _values(value[first], rest)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value.strip() or None
    return None if value is None or isinstance(value, dict | list) else json.dumps(value)


def _matches(text: str, pattern: re.Pattern[str] | None) -> Iterator[str]:
    if pattern is None:
        yield text
        return
    for match in pattern.finditer(text):
        value = match[1] if pattern.groups else match[0]
        if value:
            yield value
