"""A source file's rows to tickets, keeping the reference and hidden columns from what the agent sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.models import Tickets
from podctl.spec.problems import printable
from podctl.spec.tickets import Dimension, First, Joined
from podctl.tickets.events import never_shown, one_row_each
from podctl.tickets.fields import ABSENT, find, leads_somewhere, meant, plain_parts, without
from podctl.tickets.mapping import Missing, Reading
from podctl.tickets.references import parse_reference
from podctl.tickets.rows import Row, problem, read_rows
from podctl.tickets.strata import Grouping, groupings, stratum_of
from podctl.tickets.types import Ticket

MAX_SHOWN = 20
MAX_ID = 200


@dataclass(frozen=True)
class Population:
    """Every ticket of a source, and beside it what an agent does not see.

    ``rows``: each ticket's whole row, in the same order; ``dimensions``: how strata were made of them.
    """

    tickets: tuple[Ticket, ...]
    rows: tuple[dict[str, Any], ...]
    dimensions: tuple[Grouping, ...]


def load_tickets(spec: Tickets) -> list[Ticket]:
    """Every ticket of the source, in its order.

    ``fields`` is the row without the reference and the hidden columns. An empty text is ``""``; several
    stratum paths are joined by `` / ``. Raises `SpecError` naming the rows at fault, 20 at most.
    """
    return list(load_population(spec).tickets)


def load_population(spec: Tickets) -> Population:
    """As `load_tickets`, with what strata were made of."""
    path = spec.source
    rows = read_rows(path, repeated=spec.repeated == "list")
    reading = Reading.of(spec)
    hidden = list(spec.hide)
    mistakes: list[tuple[Row, str]] = []
    if spec.events is not None:
        hidden += never_shown(spec.events)
        _paths_exist(spec, rows, _event_paths(spec))
        rows, mistakes = one_row_each(rows, spec.events, spec.fields.id, reading)
    if rows:
        _paths_exist(spec, rows, [("hide", name) for name in spec.hide] + _mapped_paths(spec))
    values = [row.values for row in rows]
    dimensions = groupings(spec.fields.stratum, values, reading)
    tickets: list[Ticket] = []
    seen: dict[str, int] = {}
    for row in rows:
        try:
            ticket = _ticket(spec, row, hidden, reading, dimensions)
            if ticket.id in seen:
                raise ValueError(f"the id {printable(ticket.id, 60)!r} was given before, in row {seen[ticket.id]}")
            seen[ticket.id] = row.number
            tickets.append(ticket)
        except ValueError as error:
            said = str(error)
            if isinstance(error, Missing):
                said = f"{said}; {meant(error.path, [row.values])}"
            mistakes.append((row, said))
    if mistakes:
        raise _all([problem(path, _place(row), said).what for row, said in mistakes], path)
    return Population(tuple(tickets), tuple(values), tuple(dimensions))


def _place(row: Row) -> str:
    return f"row {row.number} (line {row.line})" if row.line else f"row {row.number}"


def _all(mistakes: list[str], path: Path) -> SpecError:
    if len(mistakes) == 1:
        return SpecError(mistakes[0], code="tickets-invalid")
    listed = mistakes[:MAX_SHOWN] + ([f"and {len(mistakes) - MAX_SHOWN} more"] if len(mistakes) > MAX_SHOWN else [])
    what = problem(path, "", f"{len(mistakes)} rows are wrong").what
    return SpecError(what, code="tickets-invalid", cause="\n".join(listed))


def _mapped_paths(spec: Tickets) -> list[tuple[str, str]]:
    """Every path of the mapping that some row must have, with its role."""
    fields = spec.fields
    found = [("id", fields.id)] if spec.id_from == "field" else []
    found += [("text", path) for path in _needed(fields.text)]
    stratum = fields.stratum
    parts = () if stratum is None else (stratum,) if isinstance(stratum, str | Dimension) else stratum
    for part in parts:
        found += [("stratum", path) for path in _needed(part.field if isinstance(part, Dimension) else part)]
    return found + ([("reference", fields.reference)] if fields.reference is not None else [])


def _needed(source: str | First | Joined | None) -> list[str]:
    if source is None:
        return []
    if isinstance(source, str):
        return [source]
    if isinstance(source, Joined):
        return [path for part in source.join for path in _needed(part)]
    return []  # one of them is enough, which is seen row by row


def _event_paths(spec: Tickets) -> list[tuple[str, str]]:
    events = spec.events
    if events is None:
        return []
    named = (
        events.at,
        events.state,
        events.opened,
        events.resolved,
        events.closed,
        *events.order,
        *events.last,
        *events.assigned,
    )
    return [("id", spec.fields.id), *(("events", path) for path in named if path is not None)]


def _paths_exist(spec: Tickets, rows: Sequence[Row], named: Sequence[tuple[str, str]]) -> None:
    """A path that leads nowhere in any row is a slip, and in ``hide`` or ``reference`` shows an agent what it must not see.

    Raises `SpecError`.
    """
    for role, path in named:
        parts = plain_parts(path)
        if not any(leads_somewhere(row.values, parts) or find(row.values, path) is not ABSENT for row in rows):
            said = f"{role} names {printable(path, 60)!r}, which no row has"
            if len(rows) == 1 and role in ("id", "text", "stratum"):
                continue  # the row's own message has its place
            raise problem(spec.source, "", said, meant(path, (row.values for row in rows)))


def _ticket(spec: Tickets, row: Row, hide: list[str], reading: Reading, dimensions: Sequence[Grouping]) -> Ticket:
    fields = spec.fields
    hidden = list(hide)
    reference = None
    if fields.reference is not None:
        hidden.append(fields.reference)
        found = find(row.values, fields.reference)
        reference = None if found is ABSENT else parse_reference(found)
    identity = str(row.number) if spec.id_from == "row" else _id(row.values, fields.id, reading)
    text = "" if fields.text is None else reading.text(row.values, fields.text, "text")
    return Ticket(identity, text, stratum_of(row.values, dimensions), without(row.values, hidden), reference)


def _id(row: dict[str, Any], path: str, reading: Reading) -> str:
    text = reading.text(row, path, "id").strip()
    if not text:
        raise ValueError(f"the id, {path!r}, is empty")
    if len(text) > MAX_ID or not text.isprintable():
        raise ValueError(f"the id {printable(text, 60)!r} is longer than {MAX_ID} characters or has unprintable ones")
    return text
