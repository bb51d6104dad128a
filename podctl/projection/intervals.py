"""Ranges of stratified sums. Arrays are replications × columns; bounds are one a column.

What each covers, simulated on heavy-tailed costs, is in benchmarks/README.md (`python -m benchmarks projection`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

from podctl.projection.resampling import Floats, Resampled
from podctl.stats.proportions import Interval, wilson

LOG_T = "bootstrap-t on the log scale"
PLAIN_T = "bootstrap-t"
BCA = "bootstrap BCa"
GAMMA = "gamma"
VOLUME = "the volume's own uncertainty"
BOTH = "bootstrap-t on the log scale for machines, gamma for outcomes"
WILSON = "Wilson, stratified"


def student(resampled: Resampled, *, log: bool) -> Floats:
    """Each replication's (estimate* − estimate) / error*, on the log scale by the delta method (Efron 1979; Hall 1988).

    Replications of which nothing can be told (a sum of 0 on the log scale, no scatter) are infinitely far away.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        if log:
            apart = np.log(resampled.replicates) - np.log(resampled.sums)
            errors = resampled.replicate_errors / resampled.replicates
        else:
            apart, errors = resampled.replicates - resampled.sums, resampled.replicate_errors
        found: Floats = np.where(apart == 0, 0.0, apart / errors)
    found[np.isnan(found)] = -np.inf
    return found


def student_bounds(resampled: Resampled, level: float, *, log: bool, scale: Floats | float = 1.0) -> tuple[Floats, Floats]:
    """The bootstrap-t interval. ``scale``: the design's standard error over that of independent draws.

    A bound is not finite where too many replications tell nothing.
    """
    tail = (1 - level) / 2
    # An order statistic, not one between two: infinite replications stay what they are.
    near, far = np.quantile(student(resampled, log=log), (tail, 1 - tail), axis=0, method="inverted_cdf")
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if not log:
            return resampled.sums - far * resampled.errors * scale, resampled.sums - near * resampled.errors * scale
        relative = resampled.errors / resampled.sums * scale
        return resampled.sums * np.exp(-far * relative), resampled.sums * np.exp(-near * relative)


def student_draws(resampled: Resampled, column: int, scale: float = 1.0) -> Floats:
    """The values that the log bootstrap-t interval holds possible, one a replication: its bounds are their quantiles."""
    one = resampled.column(column)
    relative = one.errors / one.sums * scale
    drawn: Floats = one.sums * np.exp(-student(one, log=True)[:, 0] * relative)
    return drawn


def bca_bounds(resampled: Resampled, groups: Sequence[Floats], weights: Floats, level: float) -> tuple[Floats, Floats]:
    """Bias-corrected and accelerated, for sums of means of several samples (Efron 1987; the acceleration as in scipy.stats.bootstrap).

    Leaving ticket i out of a group of n moves the sum by weight · (mean − y_i) / (n − 1), so no jackknife is run.
    """
    count, columns = resampled.replicates.shape
    above, below = np.zeros(columns), np.zeros(columns)
    for values, weight in zip(groups, weights, strict=True):
        moved = (values - values.mean(axis=0)) * weight
        above += (moved**3).sum(axis=0) / len(values) ** 3
        below += (moved**2).sum(axis=0) / len(values) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        acceleration = np.where(below > 0, above / (6 * below**1.5), 0.0)
        less = (resampled.replicates < resampled.sums).mean(axis=0) + (resampled.replicates == resampled.sums).mean(axis=0) / 2
        bias = ndtri(np.clip(less, 1 / (count + 1), count / (count + 1)))
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        moved_z = bias + ndtri(tail)
        share = ndtr(bias + moved_z / (1 - acceleration * moved_z))
        bounds.append(np.array([np.quantile(resampled.replicates[:, k], share[k]) for k in range(columns)]))
    return bounds[0], bounds[1]


def gamma_bounds(total: Floats, variance: Floats, heaviest: Floats, level: float) -> tuple[Floats, Floats]:
    """Of weighted sums of rare events (Fay and Feuer 1997, "Confidence intervals for directly standardized rates").

    ``heaviest``: the most that one event more could weigh. With no event seen the upper bound is −ln((1 − level) / 2) times that.
    """
    tail = (1 - level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(total > 0, gammaincinv(total**2 / variance, tail) * variance / total, 0.0)
        shape, scale = _gamma_above(total, variance, heaviest)
        high = gammaincinv(shape, 1 - tail) * scale
    return low, high


def _gamma_above(total: Floats, variance: Floats, heaviest: Floats) -> tuple[Floats, Floats]:
    """Shape and scale of the distribution that the upper bound is of."""
    return (total + heaviest) ** 2 / (variance + heaviest**2), (variance + heaviest**2) / (total + heaviest)


def gamma_draws(total: Floats, variance: Floats, heaviest: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Values of such a sum that the sample leaves possible: half of the distribution of the lower bound, half of the upper's."""
    drawn: Floats = rng.gamma(*_gamma_above(total, variance, heaviest), count)
    lower = rng.random(count) < 0.5
    drawn[lower] = rng.gamma(total**2 / variance, variance / total, int(lower.sum())) if total > 0 else 0.0
    return drawn


@dataclass(frozen=True)
class Ranged:
    """Values with their bounds, one a column."""

    value: Floats
    low: Floats
    high: Floats


def added(one: Ranged, other: Ranged, correlation: Floats | float = 0.0) -> Ranged:
    """The sum of two, by recovering variances from their bounds (MOVER; Zou and Donner 2008, with Zou 2008 for correlated ones)."""
    value = one.value + other.value

    def apart(first: Floats, second: Floats) -> Floats:
        distance: Floats = np.sqrt(first**2 + second**2 + 2 * correlation * first * second)
        return distance

    return Ranged(
        value,
        value - apart(one.value - one.low, other.value - other.low),
        value + apart(one.high - one.value, other.high - other.value),
    )


def stratified_wilson(groups: Sequence[Floats], weights: Sequence[float], level: float) -> Interval:
    """Of a weighted share: Wilson's interval at the effective sample size share (1 − share) / variance (Korn and Graubard 1998).

    ``groups``: each ticket's share, 0 or 1 without repeats; weights add up to 1. Without repeats a group's variance is taken at
    (passed + ½) / (tickets + 1), so that 10 of 10 does not count as certainty; exactly Wilson's where there is one group. With repeats
    it is that among tickets' shares, corrected for few tickets by (z / t)².
    """
    tickets = [len(group) for group in groups]
    share = math.fsum(weight * float(group.mean()) for group, weight in zip(groups, weights, strict=True))
    softened = [(float(group.sum()) + 0.5) / (len(group) + 1) for group in groups]
    mean = math.fsum(weight * rate for rate, weight in zip(softened, weights, strict=True))
    plain = [rate * (1 - rate) / of for rate, of in zip(softened, tickets, strict=True)]
    repeated = any(bool(((group > 0) & (group < 1)).any()) for group in groups)
    if not repeated:
        if len(groups) == 1:
            return wilson(float(groups[0].sum()), tickets[0], level)
        effective = mean * (1 - mean) / math.fsum(weight**2 * part for part, weight in zip(plain, weights, strict=True))
        return wilson(share * effective, effective, level)
    among = [
        min(part, float(group.var(ddof=1)) / len(group)) if group.std() > 0 else part
        for group, part in zip(groups, plain, strict=True)
    ]
    variance = math.fsum(weight**2 * part for part, weight in zip(among, weights, strict=True))
    freedom = max(1, sum(tickets) - len(tickets))
    few = (float(ndtri(0.5 + level / 2)) / float(stdtrit(freedom, 0.5 + level / 2))) ** 2
    effective = mean * (1 - mean) / variance * few
    return wilson(share * effective, effective, level)


def widened(low: float, high: float, value: float, deviation: float, level: float) -> tuple[float, float]:
    """A range with an independent relative error of ``deviation`` added: squared distances add up on the log scale (MOVER, Zou and
    Donner 2008)."""
    if deviation == 0 or value <= 0:
        return low, high
    more = float(ndtri(0.5 + level / 2)) * math.sqrt(math.log1p(deviation**2))

    def moved(bound: float, sign: int) -> float:
        return 0.0 if bound <= 0 else value * math.exp(sign * math.hypot(math.log(bound / value), more))

    return moved(low, -1), moved(high, 1)
