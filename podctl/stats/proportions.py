"""Shares of successes, and how sure one can be of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Interval:
    """Bounds of a share, each 0 to 1."""

    low: float
    high: float

    def contains(self, share: float) -> bool:
        return self.low <= share <= self.high


def wilson(successes: float, trials: float, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (Wilson 1927). ``trials`` may be an effective, fractional size, and must be above 0."""
    if trials <= 0:
        raise ValueError("an interval needs at least one trial")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At 0 and 1 the formula is exact on paper and off by rounding here.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
    return Interval(low, high)


def clustered_se(clusters: Sequence[tuple[int, int]]) -> float:
    """Standard error of the pooled share over ``(passed, of)`` a ticket, repeats of a ticket being alike.

    The ratio estimator's between-cluster variance with the G/(G−1) correction (Cochran 1977, 11.8;
    Miller 2024, "Adding error bars to evals"). Infinite with a single ticket: repeats say nothing about other tickets.
    """
    trials = sum(of for _, of in clusters)
    if trials == 0:
        raise ValueError("a standard error needs at least one trial")
    groups = len(clusters)
    if groups == 1:
        return math.inf
    share = sum(passed for passed, _ in clusters) / trials
    spread = sum((passed - of * share) ** 2 for passed, of in clusters)
    return math.sqrt(groups / (groups - 1) * spread) / trials


def effective_size(clusters: Sequence[tuple[int, int]], confidence: float = 0.95) -> float:
    """How many independent trials clustered ones are worth.

    n_eff = p(1−p)/se² · (t_{n−1}/t_{G−1})² (Korn and Graubard 1998), never above the trials made; where every ticket
    agrees (p is 0 or 1) the variance cannot be seen and the tickets themselves are the sample. Without repeats: the trials.
    """
    groups = [(passed, of) for passed, of in clusters if of > 0]
    trials = sum(of for _, of in groups)
    share = sum(passed for passed, _ in groups) / trials if trials else 0.0
    if all(of == 1 for _, of in groups):
        return float(trials)
    if share in (0.0, 1.0) or len(groups) == 1:
        return float(len(groups))
    se = clustered_se(groups)
    if se == 0:
        return float(trials)
    # Here and not above: most commands need none of it. scipy.stats would take a second and twice the memory.
    from scipy.special import stdtrit

    tail = 0.5 + confidence / 2
    correction = float(stdtrit(trials - 1, tail) / stdtrit(len(groups) - 1, tail)) ** 2
    return min(float(trials), share * (1 - share) / se**2 * correction)


def clustered_wilson(clusters: Sequence[tuple[int, int]], confidence: float = 0.95) -> Interval:
    """Wilson's interval at the effective size of clustered trials; without repeats the plain interval."""
    effective = effective_size(clusters, confidence)
    share = sum(passed for passed, _ in clusters) / max(1, sum(of for _, of in clusters))
    return wilson(share * effective, effective, confidence)


def pass_hat_k(passed: int, of: int, k: int) -> float:
    """The chance that k repeats of a ticket all pass: C(c,k)/C(n,k), the unbiased form (Yao et al. 2024, τ-bench)."""
    if not 1 <= k <= of or not 0 <= passed <= of:
        raise ValueError(f"pass^{k} needs 1 ≤ k ≤ trials and passed ≤ trials; got {passed} of {of}")
    return math.comb(passed, k) / math.comb(of, k)
