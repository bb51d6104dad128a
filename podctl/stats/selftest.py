"""The gate on a version against itself: how often it fails what did not change."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from podctl.evidence.results import AttemptResult, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.gate import judged
from podctl.stats.proportions import Interval, wilson


@dataclass(frozen=True)
class SelfTest:
    """Verdicts of the gate's paired requirements on pairs of runs that differ by chance alone.

    ``interval``: 95 % of the share that failed, for so many replications; what other tickets would give is not in it.
    """

    tickets: int
    repeats: int  # of each run of a pair
    replications: int
    seed: int
    verdicts: dict[Verdict, int]

    @property
    def false_fails(self) -> float:
        return self.verdicts.get("fail", 0) / self.replications

    @property
    def interval(self) -> Interval:
        return wilson(self.verdicts.get("fail", 0), self.replications)


def self_test(runs: Sequence[RunResult], gate: Gate, *, replications: int = 1000, seed: int = 1) -> SelfTest | None:
    """Tickets drawn again from ``runs``, all of one agent digest, each ticket's attempts dealt to two runs at random.

    Only what compares two runs is asked: ``regression`` (5 points where the gate has none), ``stratum_regression`` and
    ``cost_rise``. None where fewer than two tickets have two attempts that count.
    """
    gate = Gate(
        regression=0.05 if gate.regression is None else gate.regression,
        stratum_regression=gate.stratum_regression,
        cost_rise=gate.cost_rise,
        boundary_violations=None,
        honeytokens=None,
        infrastructure_failures=1.0,
    )
    attempts: dict[str, list[AttemptResult]] = defaultdict(list)
    for run in runs:
        for attempt in run.plain.attempts:
            if attempt.cause.counts and attempt.ticket not in run.info.quarantine:
                attempts[attempt.ticket].append(attempt)
    dealt = [found for _, found in sorted(attempts.items()) if len(found) >= 2]
    if len(dealt) < 2:
        return None
    rng = random.Random(seed)
    empty = replace(runs[0], info=replace(runs[0].info, quarantine={}), status="finished")
    verdicts: Counter[Verdict] = Counter()
    for _ in range(replications):
        one, other = _pair(dealt, rng)
        verdicts[judged(replace(empty, attempts=one), gate, replace(empty, attempts=other)).verdict] += 1
    return SelfTest(len(dealt), min(len(found) for found in dealt) // 2, replications, seed, dict(verdicts))


def _pair(
    dealt: Sequence[list[AttemptResult]], rng: random.Random
) -> tuple[tuple[AttemptResult, ...], tuple[AttemptResult, ...]]:
    one: list[AttemptResult] = []
    other: list[AttemptResult] = []
    for index, found in enumerate(rng.choices(dealt, k=len(dealt))):
        shuffled = rng.sample(found, len(found))
        half = len(found) // 2
        # A ticket that was drawn twice is two tickets.
        one += [replace(attempt, ticket=f"{index}") for attempt in shuffled[:half]]
        other += [replace(attempt, ticket=f"{index}") for attempt in shuffled[half : 2 * half]]
    return tuple(one), tuple(other)
