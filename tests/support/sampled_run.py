"""Made-up runs whose costs have heavy tails: what projections are tried on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from example_run import info

from podctl.clock import SystemClock
from podctl.evidence.causes import Cause
from podctl.evidence.owner import Owner
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult, RunInfo, RunResult
from podctl.evidence.store import Store
from podctl.evidence.store_rows import Planned
from podctl.projection.sample import Sampled, sampled
from podctl.spec.volume import Volume


@dataclass(frozen=True)
class Kind:
    """A stratum: tickets tried and there, log-normal dollars, shares of tickets that end wrong or are handed over."""

    tried: int
    there: int
    median: float = 0.10
    sigma: float = 0.8
    wrong: float = 0.1
    handed_over: float = 0.1


KINDS = {"easy": Kind(40, 4000, 0.05, 0.6), "hard": Kind(30, 1000, 0.60, 1.1, 0.2, 0.2), "odd": Kind(30, 300, 0.20, 0.9)}


@dataclass
class Made:
    info: RunInfo
    attempts: list[AttemptResult] = field(default_factory=list)

    @property
    def sample(self) -> Sampled:
        return sampled(self.info, self.attempts)

    def without(self, *tickets: str) -> Made:
        return Made(self.info, [attempt for attempt in self.attempts if attempt.ticket not in tickets])

    def changed(self, ticket: str, **fields: Any) -> Made:
        return Made(self.info, [replace(one, **fields) if one.ticket == ticket else one for one in self.attempts])

    def stored(self, directory: Path) -> Made:
        """In a store of its own, finished."""
        store = Store.open(directory, SystemClock())
        planned = [Planned(one.id, one.ticket, one.stratum, one.position, one.repeat) for one in self.attempts]
        store.create_run(self.info, planned, Owner.current())
        for one in self.attempts:
            store.start_try(self.info.id, one.id, 1)
            store.finish_try(self.info.id, one.id, 1, one, one.dollars or Decimal(0))
        spent = sum((one.dollars or Decimal(0) for one in self.attempts), Decimal(0))
        store.finish_run(self.info.id, RunResult(self.info, "finished", tuple(self.attempts), "pass", spent_dollars=spent))
        store.close()
        return self


def run_of(kinds: Mapping[str, Kind] = KINDS, *, seed: int = 1, repeats: int = 1, include: Sequence[str] = ()) -> Made:
    """Tickets are called ``easy-0``, ``easy-1`` …"""
    rng = np.random.default_rng(seed)
    made: list[AttemptResult] = []
    position = 0
    for name, kind in kinds.items():
        for number in range(kind.tried):
            level = rng.normal(0, kind.sigma)
            for repeat in range(1, repeats + 1):
                made.append(_attempt(f"{name}-{number}", name, position, repeat, kind, level, rng))
            position += 1
    strata = {name: (kind.tried, kind.there) for name, kind in kinds.items()}
    size = sum(kind.tried for kind in kinds.values())
    settings = {"sample": {"include": list(include)}}
    return Made(info(strata=strata, sample_size=size, repeats=repeats, settings=settings), made)


def _attempt(
    ticket: str, stratum: str, position: int, repeat: int, kind: Kind, level: float, rng: np.random.Generator
) -> AttemptResult:
    dollars = kind.median * float(np.exp(level + rng.normal(0, 0.2)))
    fate = rng.random()
    wrong, handed = fate < kind.wrong, kind.wrong <= fate < kind.wrong + kind.handed_over
    return AttemptResult(
        id=f"{position:05d}-{repeat}",
        ticket=ticket,
        stratum=stratum,
        repeat=repeat,
        position=position,
        cause=Cause.AGENT_TIMED_OUT if handed else Cause.COMPLETED,
        passed=not wrong and not handed,
        tokens=Tokens(input=round(dollars * 1e5), output=round(dollars * 1e4)),
        dollars=Decimal(repr(round(dollars, 6))),
        wall_s=60 * dollars,
        model_calls=3,
    )


def volume(**fields: Any) -> Volume:
    return Volume.model_validate({"apiVersion": "podctl/v1", "kind": "Volume", "name": "v", **fields})
