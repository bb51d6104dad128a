"""Which changes were a ticket's resolution, and what they come to. PURE."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from podctl.capture.past import ABSENT, Change, Past, Row, RowKey
from podctl.spec.history import Actors, Resolution

Kind = Literal["found", "nothing", "ambiguous", "unknown"]


@dataclass(frozen=True)
class Moments:
    """When a ticket was opened and resolved; ``transactions``: those it names, None when it is not asked to."""

    ticket: str
    opened: int
    resolved: int | None
    transactions: Set[str] | None = None


@dataclass(frozen=True)
class NetChange:
    """What a resolution did to one row. Columns that say nothing are as they were, and ABSENT in new rows."""

    row: RowKey
    op: Literal["insert", "update", "delete"]
    old: Row | None
    new: Row | None


@dataclass(frozen=True)
class Outcome:
    """``why`` is a code of `podctl.tickets.past.WHY`; ``detail`` may hold production's values: it is for the terminal, not for files."""

    kind: Kind
    why: str = ""
    table: str = ""
    detail: str = ""
    changes: tuple[NetChange, ...] = ()


def resolutions(
    past: Past, tickets: Sequence[Moments], rows: Mapping[str, Set[RowKey]], rules: Resolution
) -> dict[str, Outcome]:
    """Ticket -> what its resolution was. ``tickets`` are all there are: those that no one samples claim changes as well.

    ``rows``: ticket -> its own rows, looked at when the rules say so.
    """
    chosen = {one.ticket: _chosen(past, one, rows.get(one.ticket, frozenset()), rules) for one in tickets}
    if rules.transactions == "whole":
        chosen = _whole(past, chosen)
    claims: dict[int, list[str]] = defaultdict(list)
    for ticket, changes in chosen.items():
        for change in changes:
            claims[id(change)].append(ticket)
    outcomes = {one.ticket: _outcome(past, one, chosen[one.ticket], claims) for one in tickets}
    if rules.unchanged == "reference":
        return {ticket: Outcome("found") if one.kind == "nothing" else one for ticket, one in outcomes.items()}
    return outcomes


def _chosen(past: Past, ticket: Moments, rows: Set[RowKey], rules: Resolution) -> list[Change]:
    if ticket.resolved is None:
        return []
    end = ticket.resolved + int((rules.margin or 0) * 1_000_000)
    own = rules.rows == "named"
    candidates: Iterable[Change] = (change for row in rows for change in past.rows.get(row, ())) if own else past.changes
    return [
        change
        for change in candidates
        if ticket.opened < change.at <= end
        and _acts(rules.actors, change.actor)
        and (ticket.transactions is None or change.transaction in ticket.transactions)
    ]


def _acts(actors: Actors, who: str) -> bool:
    if any(fnmatchcase(who, pattern) for pattern in actors.never):
        return False
    return not actors.only or any(fnmatchcase(who, pattern) for pattern in actors.only)


def _whole(past: Past, chosen: Mapping[str, list[Change]]) -> dict[str, list[Change]]:
    by_transaction: dict[str, list[Change]] = defaultdict(list)
    for change in past.changes:
        if change.transaction:
            by_transaction[change.transaction].append(change)
    whole = {}
    for ticket, changes in chosen.items():
        every = {id(change): change for change in changes}
        for transaction in dict.fromkeys(change.transaction for change in changes if change.transaction):
            every |= {id(change): change for change in by_transaction[transaction]}
        whole[ticket] = list(every.values())
    return whole


@dataclass
class _Fold:
    """One row from a ticket's opening on."""

    old: Row | None
    new: Row | None
    mine: set[int] = field(default_factory=set)  # columns that the resolution changed
    others: set[int] = field(default_factory=set)
    others_row: bool = False  # somebody else made or removed it


def _outcome(past: Past, ticket: Moments, changes: list[Change], claims: Mapping[int, list[str]]) -> Outcome:
    if ticket.resolved is None or ticket.resolved > past.now:
        return Outcome("unknown", "unresolved")
    if ticket.resolved < ticket.opened:
        return Outcome("unknown", "order")
    for change in changes:
        others = [one for one in claims[id(change)] if one != ticket.ticket]
        if others:
            detail = f"{_shown(change.row)}, which {', '.join(others[:3])} may have changed"
            return Outcome("ambiguous", "overlap", change.row[0], detail)
    mine = {id(change) for change in changes}
    net = []
    for row in dict.fromkeys(change.row for change in sorted(changes, key=lambda one: one.order)):
        if past.unknown(row, ticket.opened):
            return Outcome("ambiguous", "gap", row[0], _shown(row))
        fold = _folded(past, row, ticket.opened, mine)
        if fold.others_row or fold.mine & fold.others:
            return Outcome("ambiguous", "mixed", row[0], _shown(row))
        if (one := _net(past, row, fold)) is not None:
            net.append(one)
    return Outcome("found", changes=tuple(net)) if net else Outcome("nothing", "no-change")


def _folded(past: Past, row: RowKey, opened: int, mine: Set[int]) -> _Fold:
    """The row as it was, with the ticket's own changes."""
    later = past.rows[row][bisect_right(past.rows[row], opened, key=lambda change: change.at) :]
    last = max(place for place, change in enumerate(later) if id(change) in mine)
    before = past.at(row, opened)
    fold = _Fold(before, before)
    for place, change in enumerate(later):
        whole = change.old is None or change.new is None
        columns = set() if whole else set(past.differing(row[0], change.old or (), change.new or ()))
        if id(change) in mine:
            if whole or fold.new is None:
                # A row that is made or removed is so with everything that is in it.
                fold.mine |= set(range(len(past.tables[row[0]].stored)))
                fold.new = change.new
            else:
                fold.mine |= columns
                after = change.new or ()
                fold.new = tuple(after[at] if at in columns else value for at, value in enumerate(fold.new))
        elif place < last:
            fold.others |= columns
            fold.others_row = fold.others_row or whole
    return fold


def _net(past: Past, row: RowKey, fold: _Fold) -> NetChange | None:
    if fold.old is None and fold.new is None:
        return None
    if fold.old is None or fold.new is None:
        new = fold.new and tuple(ABSENT if past.ignores(row[0], at) else value for at, value in enumerate(fold.new))
        return NetChange(row, "delete" if new is None else "insert", fold.old, new)
    changed = past.differing(row[0], fold.old, fold.new)
    if not changed:
        return None
    new = tuple(fold.new[at] if at in changed else value for at, value in enumerate(fold.old))
    return NetChange(row, "update", fold.old, new)


def _shown(row: RowKey) -> str:
    return f"{row[0]} {', '.join(str(value) for value in row[1])}"
