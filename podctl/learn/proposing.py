"""From a ticket and what happened to it to a case that is proposed, or to the case that it is like. PURE."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.safe import printable
from podctl.learn.choosing import ALIKE, Chosen, alike
from podctl.learn.freezing import State
from podctl.mirror.secrets import without_known
from podctl.spec.base import API_VERSION
from podctl.spec.suite import MOST_ROWS, Case, CaseOrigin, CaseTicket
from podctl.tickets.suite import written_reference
from podctl.tickets.types import Ticket

_LONGEST = 80


@dataclass(frozen=True)
class Seen:
    """Where a ticket was seen to go wrong; of an incident that no run saw, only ``learned``, ``by`` and ``unmasked``.

    ``learned``: UTC; ``unmasked``: why the ticket may be kept as its source has it.
    """

    learned: str
    by: str
    run: str = ""
    agent: str = ""
    digest: str = ""
    unmasked: str = ""
    seeds: tuple[tuple[str, str], ...] = ()


def case_of(chosen: Chosen, ticket: Ticket, state: State, seen: Seen) -> Case:
    """Proposed, with the reference that the source has, and without keys and passwords whose form is known.

    Raises ValueError for a state of too many rows.
    """
    rows = sum(len(table.rows) + len(table.gone) for tables in state.values() for table in tables.values())
    if rows > MOST_ROWS:
        raise ValueError(f"its state has {rows:,} rows, and a case at most {MOST_ROWS:,}")
    attempt = chosen.attempt
    return Case(
        apiVersion=API_VERSION,
        kind="Case",
        name=name_of(ticket.id),
        ticket=CaseTicket(
            id=ticket.id, text=without_known(ticket.text), stratum=without_known(ticket.stratum), fields=cleaned(ticket.fields)
        ),
        reference=cleaned(written_reference(ticket.reference)),
        state=state,
        seeds=dict(seen.seeds),
        origin=CaseOrigin(
            kind=chosen.kind,
            why=chosen.why,
            run=seen.run,
            attempt=attempt.id if seen.run else "",
            agent=seen.agent,
            digest=seen.digest,
            evidence=attempt.evidence_root if seen.run else "",
            failure=chosen.failure if seen.run else "",
            unmasked=seen.unmasked,
            learned=seen.learned,
            by=seen.by,
        ),
    )


def unfit(ticket: str, error: ValueError) -> SpecError:
    return SpecError(
        f"ticket {printable(ticket, 400)} cannot be a case: {printable(str(error), 400)}",
        code="case-unfit",
        unchanged="what was proposed before it stays",
        hint="name others by --ticket",
    )


def name_of(ticket: str) -> str:
    """A file's name. Where a ticket's id is none as it stands, with a part of its digest, so that two ids never share one."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", ticket)[:_LONGEST].lstrip("._-")
    if plain == ticket:
        return plain
    return f"{plain or 'case'}-{hashlib.sha256(ticket.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def cleaned(value: Any) -> Any:
    """A JSON value without keys and passwords whose form is known, wherever they stand in it."""
    return _each_text(value, without_known)


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _each_text(one, change) for name, one in value.items()}
    return [_each_text(one, change) for one in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Known:
    """A case that is there already. ``same``: of the same ticket; otherwise of one that failed alike, in like words."""

    case: Case
    same: bool
    changed: bool = False  # of the same ticket, which has other words or another state now


def known(case: Case, there: Iterable[Case]) -> Known | None:
    """The case of ``there`` that makes this one a repetition."""
    cases = list(there)
    for one in cases:
        if one.ticket.id == case.ticket.id:
            return Known(one, same=True, changed=one.identity != case.identity)
    for one in cases:
        same_failure = case.origin.failure and (one.origin.kind, one.origin.failure) == (case.origin.kind, case.origin.failure)
        if same_failure and alike(one.ticket.text, case.ticket.text) >= ALIKE:
            return Known(one, same=False)
    return None
