"""Event logs, several rows a ticket: one row a ticket, and how it was handled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from podctl.spec.tickets import Events
from podctl.tickets.mapping import Reading
from podctl.tickets.rows import Row

#: The column that `one_row_each` adds.
HANDLING = "handling"
#: Hours are rounded to this: 36 seconds.
_HOURS_DIGITS = 2


@dataclass(frozen=True)
class _Event:
    row: Row
    place: tuple[tuple[int, Any], ...]
    at: datetime | None
    state: str


def never_shown(events: Events) -> list[str]:
    """Columns that only a ticket's end knows; an agent must not see them."""
    return [HANDLING, *events.last, *(column for column in (events.resolved, events.closed) if column is not None)]


def one_row_each(rows: Sequence[Row], spec: Events, id_path: str, reading: Reading) -> tuple[list[Row], list[tuple[Row, str]]]:
    """A row a ticket, in the order of their first events, and the rows at fault with what is wrong with each.

    A ticket's row is its first event's, with the columns ``spec.last`` of its last event, and ``handling``: see `handling`.
    """
    tickets: dict[str, list[_Event]] = {}
    mistakes: list[tuple[Row, str]] = []
    for row in rows:
        try:
            if HANDLING in row.values:
                raise ValueError(f"a column is called {HANDLING!r}, as what podctl derives is; rename it")
            identity = reading.text(row.values, id_path, "id").strip()
            event = _Event(
                row,
                tuple(_rank(reading.text(row.values, column, "order"), reading) for column in spec.order),
                None if spec.at is None else reading.time(row.values, spec.at, "time of the event"),
                "" if spec.state is None else reading.text(row.values, spec.state, "state").strip(),
            )
            for column in spec.last:
                if column not in row.values:
                    raise ValueError(f"the column {column!r} of `last` is missing")
            tickets.setdefault(identity, []).append(event)
        except ValueError as error:
            mistakes.append((row, str(error)))
    made: list[Row] = []
    for events in tickets.values():
        events.sort(key=lambda event: event.place)  # stable: what ties stays in the file's order
        first, last = events[0].row, events[-1].row
        try:
            values = {**first.values, **{column: last.values[column] for column in spec.last}}
            values[HANDLING] = handling(events, spec, reading)
        except ValueError as error:
            mistakes.append((last, str(error)))
        else:
            made.append(Row(len(made) + 1, first.line, values))
    return made, mistakes


def handling(events: Sequence[_Event], spec: Events, reading: Reading) -> dict[str, Any]:
    """What a ticket's events, in order, say of how it was handled. Hours are of the calendar, not of business.

    ``opened``, ``resolved``, ``closed``: times (ISO 8601) or null. Resolved is when it came to its *last* resolution: a ticket that was
    reopened was not resolved before. ``hours_to_resolve`` and ``hours_to_close`` count from ``opened``; ``hours_waiting`` is the part of
    the time to resolution in waiting states. ``reopened``: how often it left resolved and closed states; ``reassigned``: how often an
    assignment changed to another, nobody not counted; ``events``; ``last_state``. ``inconsistent``: it ends before it begins, and its
    hours are null. Raises ValueError for a time that cannot be read.
    """
    done = {*spec.resolved_states, *spec.closed_states}
    states = [event.state for event in events]
    opened = _column(events, spec.opened, reading) or events[0].at
    resolved = _column(events[::-1], spec.resolved, reading)
    closed = _column(events[::-1], spec.closed, reading)
    if spec.resolved is None:
        resolved = _entered(events, done)
    if spec.closed is None:
        closed = _entered(events, set(spec.closed_states))
    early = any(end is not None and opened is not None and end < opened for end in (resolved, closed))
    assigned = [tuple(reading.text(event.row.values, path, "assignment") for path in spec.assigned) for event in events]
    holders = [holder for holder in assigned if any(holder)]
    return {
        "opened": _written(opened),
        "resolved": _written(resolved),
        "closed": _written(closed),
        "hours_to_resolve": None if early else _hours(opened, resolved),
        "hours_to_close": None if early else _hours(opened, closed),
        "hours_waiting": None if early or not spec.waiting_states else _waiting(events, spec, resolved),
        "reopened": sum(before in done and after not in done for before, after in pairwise(states)),
        "reassigned": sum(before != after for before, after in pairwise(holders)),
        "events": len(events),
        "last_state": states[-1],
        "inconsistent": early,
    }


def _rank(text: str, reading: Reading) -> tuple[int, Any]:
    """Nothing before numbers, numbers before times, times before other text."""
    if not text.strip():
        return 0, 0
    try:
        return 1, float(text)
    except ValueError:
        pass
    try:
        return 2, reading.moment(text.strip(), "order")
    except ValueError:
        return 3, text


def _column(events: Sequence[_Event], column: str | None, reading: Reading) -> datetime | None:
    """The first time that the column has."""
    times = (reading.time(event.row.values, column, column) for event in events if column is not None)
    return next((moment for moment in times if moment is not None), None)


def _entered(events: Sequence[_Event], states: set[str]) -> datetime | None:
    """When the ticket came into the states that it did not leave any more."""
    entered = None
    for before, event in zip([None, *events], events, strict=False):
        if event.state not in states:
            entered = None
        elif before is None or before.state not in states:
            entered = event.at
    return entered


def _waiting(events: Sequence[_Event], spec: Events, until: datetime | None) -> float | None:
    total = 0.0
    for event, after in pairwise(events):
        if event.state in spec.waiting_states:
            if event.at is None or after.at is None:
                return None
            end = min(after.at, until) if until is not None else after.at
            total += max(0.0, (end - event.at).total_seconds())
    return round(total / 3600, _HOURS_DIGITS)


def _hours(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else round((end - begin).total_seconds() / 3600, _HOURS_DIGITS)


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
