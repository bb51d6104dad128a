"""Attempts of a campaign: each planned attempt as it is, and beside it the same ticket with something done to it. PURE."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from podctl.evidence import codec
from podctl.evidence.results import Campaign, Variant
from podctl.runs.attempt import Planned
from podctl.tickets.types import Ticket


@dataclass(frozen=True)
class Varied:
    """``ticket`` is what the agent gets: another text, other rows, or the very same where a variant does its work elsewhere."""

    variant: Variant
    ticket: Ticket


@dataclass(frozen=True)
class Vary:
    """A campaign. ``of`` a plain attempt are its variants: the same ones whenever it is asked."""

    kind: str
    name: str
    seed: int
    of: Callable[[Planned], Sequence[Varied]]


def with_variants(planned: Sequence[Planned], vary: Vary, seed: int) -> tuple[list[Planned], Campaign]:
    """``planned`` and their variants, in an order that ``seed`` fixes: round by round, plain and varied attempts mixed.

    What changes while a run goes on (a provider that slows down) so meets all kinds alike. A variant is one more repeat of its ticket.
    """
    repeats = Counter(one.position for one in planned)
    whole: list[tuple[int, Planned]] = []
    for plain in planned:
        whole.append((plain.repeat, plain))
        for varied in vary.of(plain):
            repeats[plain.position] += 1
            number = repeats[plain.position]
            id = f"{plain.position + 1:04d}-{number}"
            whole.append((plain.repeat, replace(plain, id=id, repeat=number, ticket=varied.ticket, variant=varied.variant)))
    whole.sort(key=lambda one: (one[0], hashlib.sha256(f"{seed}:{one[1].id}:{one[1].ticket.id}".encode()).digest()))
    ordered = [one for _, one in whole]
    return ordered, Campaign(vary.kind, vary.name, vary.seed, _digest(ordered))


def _digest(planned: Sequence[Planned]) -> str:
    variants = [[one.id, codec.to_json(one.variant)] for one in planned if one.variant is not None]
    return hashlib.sha256(json.dumps(variants, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()
