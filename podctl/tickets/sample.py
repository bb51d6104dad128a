"""Drawing the sample: pure, repeatable from a seed, stable when tickets come and go."""

from __future__ import annotations

import difflib
import hashlib
import heapq
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction

from podctl.errors import SpecError
from podctl.spec.models import Sample
from podctl.spec.problems import printable
from podctl.tickets.types import Ticket


@dataclass(frozen=True)
class Drawn:
    """``tickets`` in run order, strata mixed, so that a run cut short is still spread over them.

    ``digest`` is over the tickets' contents whatever their order; ``strata``: name -> (in the sample, in the
    population); ``weights``: ticket id -> how many tickets of the population it stands for, N_h / n_h.
    """

    tickets: tuple[Ticket, ...]
    digest: str
    strata: dict[str, tuple[int, int]]
    weights: dict[str, float]


def draw(tickets: Sequence[Ticket], sample: Sample) -> Drawn:
    """Tickets of each stratum in the order of sha256(seed, id), as many as the design gives it.

    Excluded tickets are no part of the population; included ones come first in their stratum.
    Raises `SpecError` for unknown ids and for a size that cannot be met.
    """
    included, excluded = frozenset(sample.include), frozenset(sample.exclude)
    _known(included | excluded, tickets)
    if both := sorted(included & excluded):
        raise SpecError(f"ticket {printable(both[0], 60)} is included and excluded", code="sample-conflict")
    population = [ticket for ticket in tickets if ticket.id not in excluded]
    size = len(population) if sample.size == "all" else sample.size
    _fits(size, len(population), len(included))

    order = {ticket.id: order_key(sample.seed, ticket.id) for ticket in population}
    strata: dict[str, list[Ticket]] = {}
    for ticket in sorted(population, key=lambda ticket: (ticket.id not in included, order[ticket.id])):
        strata.setdefault(ticket.stratum, []).append(ticket)
    totals = {name: len(strata[name]) for name in sorted(strata)}
    floors = {name: sum(ticket.id in included for ticket in strata[name]) for name in totals}
    allocate = proportional if sample.design == "proportional" else equal
    counts = allocate(size, totals, floors)

    chosen = [ticket for name, count in counts.items() for ticket in strata[name][:count]]
    chosen.sort(key=lambda ticket: order[ticket.id])
    return Drawn(
        tickets=tuple(chosen),
        digest=digest(chosen),
        strata={name: (counts[name], totals[name]) for name in totals},
        weights={ticket.id: totals[ticket.stratum] / counts[ticket.stratum] for ticket in chosen},
    )


def order_key(seed: int, ticket_id: str) -> bytes:
    """Where a ticket stands in the draw; depends on nothing but the seed and its id."""
    return hashlib.sha256(f"{seed}\0{ticket_id}".encode("utf-8", "surrogatepass")).digest()


def digest(tickets: Iterable[Ticket]) -> str:
    """sha256 over the tickets' ids and contents, in the order of their ids."""
    contents = [asdict(ticket) for ticket in sorted(tickets, key=lambda ticket: ticket.id)]
    return hashlib.sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def proportional(size: int, totals: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """Largest remainders of size * N_h / N, with at least one a stratum where the size allows it.

    No stratum gets less than its floor or more than it has.
    """
    ones = {name: max(1, floors[name]) for name in totals}
    lowest = ones if sum(ones.values()) <= size else floors
    whole = sum(totals.values())
    share = {name: Fraction(size * total, whole) for name, total in totals.items()}
    counts = {name: max(lowest[name], int(share[name])) for name in totals}
    missing = size - sum(counts.values())
    if missing >= 0:
        return _raise(counts, missing, totals, {name: -share[name] for name in totals})
    # Floors took more than the shares leave: take back where the count is furthest above its share.
    heap = [(share[name] - counts[name], name) for name in totals if counts[name] > lowest[name]]
    heapq.heapify(heap)
    for _ in range(-missing):
        _, name = heapq.heappop(heap)
        counts[name] -= 1
        if counts[name] > lowest[name]:
            heapq.heappush(heap, (share[name] - counts[name], name))
    return counts


def equal(size: int, totals: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """The same number a stratum; what a short stratum cannot give, the others do."""
    counts = dict(floors)
    return _raise(counts, size - sum(counts.values()), totals, {name: Fraction(0) for name in totals})


def _raise(counts: dict[str, int], missing: int, totals: dict[str, int], offset: dict[str, Fraction]) -> dict[str, int]:
    """Add one at a time where count + offset is least and there still is one to take; ties by name."""
    heap = [(counts[name] + offset[name], name) for name in totals if counts[name] < totals[name]]
    heapq.heapify(heap)
    for _ in range(missing):
        _, name = heapq.heappop(heap)
        counts[name] += 1
        if counts[name] < totals[name]:
            heapq.heappush(heap, (counts[name] + offset[name], name))
    return counts


def _known(named: frozenset[str], tickets: Sequence[Ticket]) -> None:
    ids = {ticket.id for ticket in tickets}
    if len(ids) != len(tickets):
        raise SpecError("two tickets have the same id", code="sample-duplicate-id")
    unknown = sorted(named - ids)
    if unknown:
        near = difflib.get_close_matches(unknown[0], sorted(ids)[:10_000], n=1)
        listed = printable(", ".join(unknown[:20]), 400)
        raise SpecError(
            f"the sample names tickets that the source does not have: {listed}",
            code="sample-unknown-ticket",
            hint=f"did you mean {printable(near[0], 60)}?" if near else "",
        )


def _fits(size: int, population: int, included: int) -> None:
    if population == 0:
        raise SpecError("there are no tickets to draw from", code="sample-empty", hint="exclude fewer tickets")
    if size > population:
        raise SpecError(
            f"a sample of {size} was asked for, but there are only {population} tickets",
            code="sample-too-large",
            hint=f"set size: {population} or size: all",
        )
    if included > size:
        raise SpecError(
            f"{included} tickets are included, more than the sample's size of {size}",
            code="sample-too-small",
            hint=f"set size: {included} or more",
        )
