"""What a captured seed knows of tickets: what each was opened on, and what people changed to resolve it. PURE."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podctl.stats.units import plural
from podctl.tickets.states import DatabaseState, TableState, Values
from podctl.tickets.types import Reference, Ticket

#: Code -> why a ticket cannot be used, for people.
WHY = {
    "time": "its moments are missing or not understood",
    "unresolved": "it was not resolved when the capture was made",
    "older": "it was opened before the history begins",
    "order": "it was resolved before it was opened",
    "truncated": "a table was emptied since by TRUNCATE, whose rows nobody recorded",
    "gap": "the history of a row does not fit together: changes are missing",
    "columns": "the history has no value for a column",
    "uncovered": "a table has no history, and its rows came with others since",
    "parents": "a row refers to one that neither the history nor the source has",
    "no-change": "no change is its own",
    "overlap": "a change may be another ticket's as well",
    "mixed": "others changed the same between its opening and its resolution",
    "masked": "masking leaves nothing to see of what was changed",
    "not-there": "the seed was not captured for it",
}


@dataclass(frozen=True)
class TicketPast:
    """``problem``: why its state is not known; ``resolution``: found, nothing, ambiguous or unknown, empty where nobody asked.

    ``changes`` are row changes as evidence has them, whole rows as text; ``new_parents`` in each: columns that refer to a row
    which the same resolution made -> table and column.
    """

    state: DatabaseState = ()
    problem: str = ""
    resolution: str = ""
    why: str = ""
    changes: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class WithPast:
    """``tickets`` can be worked; ``left_out``: id -> code of `WHY`."""

    tickets: list[Ticket]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """How many were left out, and why."""
        counts = Counter(self.left_out.values())
        return [f"{plural(count, 'ticket')} left out: {WHY[code]}" for code, count in sorted(counts.items())]


def read_past(lines: Iterable[str]) -> dict[str, TicketPast]:
    """Ticket -> its past, from the lines of history.jsonl.

    Tables come first, in the order of their numbers; then rows, in theirs, and tickets, each after the rows that it names. A
    ticket's state lists tables with the rows that go and those that come. Raises KeyError, TypeError, IndexError and ValueError
    for other lines.
    """
    tables, rows, found = list[TableState](), list[Values](), dict[str, TicketPast]()
    for line in lines:
        entry = json.loads(line)
        if "row" in entry:
            rows.append(tuple(entry["row"]))
        elif "columns" in entry:
            tables.append(TableState(entry["schema"], entry["name"], tuple(entry["columns"]), tuple(entry["key"])))
        elif entry.get("problem"):
            found[str(entry["ticket"])] = TicketPast(problem=str(entry["problem"]))
        else:
            state = tuple(_with_rows(tables[table], rows, gone, come) for table, gone, come in entry["state"])
            said = (str(entry.get("resolution", "")), str(entry.get("why", "")))
            found[str(entry["ticket"])] = TicketPast(state, "", *said, tuple(map(dict, entry.get("changes", ()))))
    return found


def _with_rows(table: TableState, rows: Sequence[Values], gone: Iterable[int], come: Iterable[int]) -> TableState:
    places = [table.columns.index(name) for name in table.key]
    keys = tuple(tuple(rows[number][place] for place in places) for number in gone)
    return replace(table, gone=keys, rows=tuple(rows[number] for number in come))


def with_past(tickets: Iterable[Ticket], pasts: Mapping[str, Mapping[str, TicketPast]], need_reference: bool) -> WithPast:
    """Tickets with what each database (``pasts``: database -> ticket -> past) knows of them, less those that cannot be used.

    A reference that a ticket has already stays its own. Of several databases each says what was changed there: nothing in
    some is right as long as something is in one; one that cannot tell leaves the ticket without a reference.
    """
    usable, left_out = list[Ticket](), dict[str, str]()
    for ticket in tickets:
        known = {database: past.get(ticket.id, TicketPast(problem="not-there")) for database, past in pasts.items()}
        problem = next((one.problem for one in known.values() if one.problem), "")
        if problem:
            left_out[ticket.id] = problem if problem in WHY else "time"
            continue
        own = ticket.reference
        states = {database: one.state for database, one in known.items() if one.state}
        if own is None or (own.changes is None and not own.sql):
            asked = [one for one in known.values() if one.resolution]
            unclear = next((one.why for one in asked if one.resolution in ("ambiguous", "unknown")), "")
            found = any(one.resolution == "found" for one in asked)
            if need_reference and (unclear or not found):
                left_out[ticket.id] = unclear if unclear in WHY else "no-change"
                continue
            if found and not unclear:
                own = replace(own or Reference(), recorded=_recorded(known))
        usable.append(replace(ticket, reference=own, states=states))
    return WithPast(usable, left_out)


def _recorded(known: Mapping[str, TicketPast]) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {**change, "database": database, "user": "people"} for database, one in known.items() for change in one.changes
    )
