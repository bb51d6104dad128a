"""How often the total's range holds the truth, on populations fitted to the run's own data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from podctl.projection.intervals import Ranged, added, gamma_bounds, student_bounds
from podctl.projection.model import Coverage
from podctl.projection.resampling import Floats, resample

_REPLICATIONS = 1_000
_POPULATIONS, _FEWEST = 1_000, 100
#: Products of one population with the weights of the resamples that are worth their time, over all populations.
_WORK = 4e9
#: Cells of one chunk of simulated samples.
_CELLS = 1 << 21
FITTED = "each stratum log-normal in what machines cost, with the outcomes that were seen"


@dataclass(frozen=True)
class Costs:
    """Dollars of a group's tickets: what machines cost, and what people and rework cost by how the ticket ended.

    ``worst``: the most that one outcome could cost.
    """

    machines: Floats
    outcomes: Floats
    worst: float

    def simulate(self, samples: int, rng: np.random.Generator) -> tuple[Floats, Floats, float]:
        """Machines and outcomes of as many samples of the same size, tickets × samples; the true mean that they were drawn from."""
        count = len(self.machines)
        machines, outcomes = np.zeros((count, samples)), np.zeros((count, samples))
        truth = float(self.outcomes.mean())
        paid = self.machines[self.machines > 0]
        if len(paid):
            logs = np.log(paid)
            deviation = float(logs.std(ddof=1)) if len(paid) > 1 else 0.0
            share = len(paid) / count
            machines = np.exp(rng.normal(logs.mean(), deviation, machines.shape))
            if share < 1:
                machines *= rng.random(machines.shape) < share
            truth += share * math.exp(logs.mean() + deviation**2 / 2)
        if self.outcomes.any():
            outcomes = self.outcomes[rng.integers(0, count, outcomes.shape)]
        return machines, outcomes, truth


def coverage(costs: Sequence[Costs], weights: Floats, level: float, seed: int) -> Coverage:
    """Of the range of Σ weight · mean, as `figures.Figures.together` has it, with as many tickets a group as the run has.

    Samples of a chunk share the weights of their resamples: that changes no sample's range in distribution.
    """
    tickets = sum(len(group.machines) for group in costs)
    populations = int(min(_POPULATIONS, max(_FEWEST, _WORK / (_REPLICATIONS * tickets))))
    rng = np.random.default_rng([seed, 1])
    held = done = 0
    while done < populations:
        some = min(populations - done, max(10, _CELLS // tickets))
        held += _held(costs, weights, level, some, rng)
        done += some
    achieved = held / populations
    return Coverage(level, achieved, math.sqrt(achieved * (1 - achieved) / populations), populations, FITTED)


def _held(costs: Sequence[Costs], weights: Floats, level: float, samples: int, rng: np.random.Generator) -> int:
    machines, outcomes, truths = zip(*(group.simulate(samples, rng) for group in costs), strict=True)
    truth = float(weights @ np.array(truths))
    found = Ranged(np.zeros(samples), np.zeros(samples), np.zeros(samples))
    if any(part.any() for part in machines):
        resampled = resample(machines, np.repeat(weights[:, None], samples, axis=1), _REPLICATIONS, rng)
        found = Ranged(resampled.sums, *student_bounds(resampled, level, log=True))
    heaviest = max(weight / len(group.machines) * group.worst for weight, group in zip(weights, costs, strict=True))
    if heaviest > 0:
        found = added(found, _rare(outcomes, weights, np.array(heaviest), level))
    return int(((found.low <= truth) & (truth <= found.high)).sum())


def _rare(outcomes: Sequence[Floats], weights: Floats, heaviest: Floats, level: float) -> Ranged:
    parts = [(part, weight, len(part)) for part, weight in zip(outcomes, weights, strict=True)]
    total = np.sum([weight * part.mean(axis=0) for part, weight, _ in parts], axis=0)
    events = np.sum([(weight / count) ** 2 * (part**2).sum(axis=0) for part, weight, count in parts], axis=0)
    stratified = np.sum(
        [weight**2 / count * part.var(axis=0, ddof=1) for part, weight, count in parts if count > 1] or [np.zeros_like(total)],
        axis=0,
    )
    variance = np.where(stratified > 0, np.minimum(events, stratified), events)
    return Ranged(total, *gamma_bounds(total, variance, heaviest, level))
