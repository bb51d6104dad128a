"""Drawing the sample: pure, repeatable from a seed, stable when tickets come and go."""

from __future__ import annotations

import difflib
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from podctl.errors import SpecError
from podctl.spec.problems import printable
from podctl.spec.tickets import HeldOut, Sample
from podctl.tickets.allocation import equal, neyman, proportional
from podctl.tickets.types import Ticket


@dataclass(frozen=True)
class Drawn:
    """``tickets`` in run order, strata mixed, so that a run cut short is still spread over them.

    ``digest`` is over the tickets' contents whatever their order; ``strata``: name -> (in the sample, in the
    population); ``weights``: ticket id -> how many tickets of the population it stands for. One that must be in the
    sample stands for itself, the others for N_h / n_h of those that chance chose among (Horvitz and Thompson 1952); where
    no chance was left in a stratum, all of it for N_h / n_h.
    """

    tickets: tuple[Ticket, ...]
    digest: str
    strata: dict[str, tuple[int, int]]
    weights: dict[str, float]


def draw(tickets: Sequence[Ticket], sample: Sample, deviations: Mapping[str, float] | None = None) -> Drawn:
    """Tickets of each stratum in the order of sha256(seed, id), as many as the design gives it.

    Excluded tickets and those of the other part (held out, or not) are no part of the population; included ones come
    first in their stratum. ``deviations``: stratum -> standard deviation of what is measured, for design neyman.
    Raises `SpecError` for unknown ids and for a size that cannot be met.
    """
    included = frozenset(sample.include)
    population = population_of(tickets, sample)
    size = len(population) if sample.size == "all" else sample.size
    _fits(size, len(population), len(included))

    order = {ticket.id: order_key(sample.seed, ticket.id) for ticket in population}
    strata: dict[str, list[Ticket]] = {}
    for ticket in sorted(population, key=lambda ticket: (ticket.id not in included, order[ticket.id])):
        strata.setdefault(ticket.stratum, []).append(ticket)
    totals = {name: len(strata[name]) for name in sorted(strata)}
    certain = {name: sum(ticket.id in included for ticket in strata[name]) for name in totals}
    floors = {name: max(certain[name], min(sample.minimum, totals[name])) for name in totals}
    if sum(floors.values()) > size:
        raise SpecError(
            f"at least {sample.minimum} of each of {len(totals)} strata come to {sum(floors.values())} tickets, more than {size}",
            code="sample-too-small",
            hint=f"set size: {sum(floors.values())} or more, or a lower minimum",
        )
    counts = _allocate(size, totals, floors, sample, deviations)

    chosen = [ticket for name, count in counts.items() for ticket in strata[name][:count]]
    chosen.sort(key=lambda ticket: order[ticket.id])
    return Drawn(
        tickets=tuple(chosen),
        digest=digest(chosen),
        strata={name: (counts[name], totals[name]) for name in totals},
        weights={
            ticket.id: _weight(ticket.id in included, counts[ticket.stratum], totals[ticket.stratum], certain[ticket.stratum])
            for ticket in chosen
        },
    )


def population_of(tickets: Sequence[Ticket], sample: Sample) -> list[Ticket]:
    """What is drawn from. Raises `SpecError` for ids that are unknown, in both lists, or in the other part."""
    included, excluded = frozenset(sample.include), frozenset(sample.exclude)
    _known(included | excluded, tickets)
    if both := sorted(included & excluded):
        raise SpecError(f"ticket {printable(both[0], 60)} is included and excluded", code="sample-conflict")
    part = sample.held_out
    there = [ticket for ticket in tickets if part is None or is_held_out(ticket.id, part) == (sample.part == "held-out")]
    if missing := sorted(included - {ticket.id for ticket in there}):
        where = "held out" if sample.part == "open" else "not held out"
        raise SpecError(
            f"the sample includes ticket {printable(missing[0], 60)}, which is {where}",
            code="sample-conflict",
            hint="a held-out part is of use only when nobody looked at it before: take another ticket",
        )
    return [ticket for ticket in there if ticket.id not in excluded]


def is_held_out(ticket_id: str, part: HeldOut) -> bool:
    """By HMAC-SHA256 of the id: it depends on nothing but the key, the share and the id."""
    made = hmac.digest(part.key.encode("utf-8", "surrogatepass"), ticket_id.encode("utf-8", "surrogatepass"), "sha256")
    return int.from_bytes(made[:8], "big") < part.share * 2**64


def _allocate(
    size: int,
    totals: dict[str, int],
    floors: dict[str, int],
    sample: Sample,
    deviations: Mapping[str, float] | None,
) -> dict[str, int]:
    if sample.design == "proportional":
        return proportional(size, totals, floors)
    if sample.design == "equal":
        return equal(size, totals, floors)
    known = deviations or {}
    missing = sorted(set(totals) - set(known))
    if missing:
        raise SpecError(
            f"design neyman: the prior says nothing of {printable(', '.join(missing[:20]), 400)}",
            code="sample-prior",
            hint="name every stratum in the prior; podctl tickets lists them",
        )
    if not any(known[name] > 0 for name in totals):
        raise SpecError(
            "design neyman: by the prior nothing varies in any stratum",
            code="sample-prior",
            hint="a pass rate of 0 or 1 leaves nothing to measure: soften the prior, or use another design",
        )
    return neyman(size, totals, floors, known)


def _weight(is_certain: bool, count: int, total: int, certain: int) -> float:
    if count == certain:
        return total / count
    return 1.0 if is_certain else (total - certain) / (count - certain)


def order_key(seed: int, ticket_id: str) -> bytes:
    """Where a ticket stands in the draw; depends on nothing but the seed and its id."""
    return hashlib.sha256(f"{seed}\0{ticket_id}".encode("utf-8", "surrogatepass")).digest()


def digest(tickets: Iterable[Ticket]) -> str:
    """sha256 over the tickets' ids and contents, in the order of their ids."""
    contents = [_contents(ticket) for ticket in sorted(tickets, key=lambda ticket: ticket.id)]
    return hashlib.sha256(json.dumps(contents, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def _contents(ticket: Ticket) -> dict[str, Any]:
    """As plain values, without what it does not have; states may be large, and a digest of them will do."""
    values = asdict(replace(ticket, states={}))
    del values["states"]
    if ticket.states:
        states = {name: [[one.shown, one.gone, one.rows] for one in state] for name, state in ticket.states.items()}
        values["states"] = hashlib.sha256(json.dumps(states, sort_keys=True).encode("ascii")).hexdigest()
    if ticket.reference is not None and ticket.reference.recorded is None:
        del values["reference"]["recorded"]
    return values


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
