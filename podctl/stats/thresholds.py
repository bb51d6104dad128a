"""One sample against a threshold: how sure one can be that the truth lies on one side of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podctl.stats.paired import POWER_80, normal
from podctl.stats.proportions import effective_size

#: Beyond this nobody waits for the answer.
MOST_TICKETS = 100_000


@dataclass(frozen=True)
class Sides:
    """``p_below``: the chance of so small a figure by luck were the truth at the threshold; ``p_above``: of so large a one.

    ``settles``: tickets in all that tell the sides apart in 80 of 100 runs, the figure being what it is; None: none do.
    """

    p_below: float
    p_above: float
    low: float  # one-sided 95 % bounds of the truth
    high: float
    settles: int | None


def share_sides(clusters: Sequence[tuple[int, int]], threshold: float) -> Sides:
    """Passes ``(passed, of)`` a ticket against a share strictly between 0 and 1.

    Clopper and Pearson's (1934) exact test, with repeats at the effective sample size (Korn and Graubard 1998).
    """
    share = sum(passed for passed, _ in clusters) / sum(of for _, of in clusters)
    return _share_sides(share, effective_size(clusters), len(clusters), threshold)


def mean_share_sides(shares: Sequence[float], threshold: float) -> Sides:
    """As `share_sides`, of the mean of one share a ticket; two tickets at least."""
    mean, _, size = mean_share(shares)
    return _share_sides(mean, size, len(shares), threshold)


def mean_share(shares: Sequence[float]) -> tuple[float, float, float]:
    """The mean, the variance of that mean, and as many whole tickets as would vary like these.

    Tickets that do not vary at all, and a single one, are taken for as many as they are.
    """
    count = len(shares)
    mean = math.fsum(shares) / count
    spread = math.fsum((share - mean) ** 2 for share in shares)
    if spread == 0:
        return mean, 0.0, float(count)
    from scipy.special import stdtrit

    variance = spread / (count - 1) / count
    return mean, variance, mean * (1 - mean) / variance * float(1.645 / stdtrit(count - 1, 0.95)) ** 2


def _share_sides(share: float, size: float, tickets: int, threshold: float) -> Sides:
    p_below, p_above = exact(share * size, size, threshold)
    return Sides(
        p_below=p_below,
        p_above=p_above,
        low=share_low(share, size, 0.05),
        high=share_high(share, size, 0.05),
        settles=share_settles(share, threshold, tickets / size),
    )


def share_low(share: float, size: float, chance: float) -> float:
    """Clopper and Pearson's lower bound, which is above the truth with at most ``chance``; sizes may be fractional."""
    from scipy.special import betaincinv

    return float(betaincinv(share * size, (1 - share) * size + 1, chance)) if share > 0 else 0.0


def share_high(share: float, size: float, chance: float) -> float:
    return 1 - share_low(1 - share, size, chance)


def least_chance(holds: Callable[[float], bool]) -> float:
    """The smallest chance at which ``holds`` begins to hold; 1 where it does not up to a half."""
    if not holds(0.5):
        return 1.0
    low, high = 0.0, 8.0  # in standard deviations
    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(normal(-middle)) else (low, middle)
    return normal(-low)


def exact(passed: float, size: float, threshold: float) -> tuple[float, float]:
    """P(X ≤ passed) and P(X ≥ passed) of a binomial, by the incomplete beta function, which knows fractional sizes."""
    from scipy.special import betainc

    failed = size - passed
    p_below = 1.0 if failed <= 0 else float(betainc(failed, passed + 1, 1 - threshold))
    p_above = 1.0 if passed <= 0 else float(betainc(passed, failed + 1, threshold))
    return p_below, p_above


def share_settles(share: float, threshold: float, tickets_each: float) -> int | None:
    distance = abs(share - threshold)
    if distance < 1e-9:
        return None
    spread = 1.645 * math.sqrt(threshold * (1 - threshold)) + 0.842 * math.sqrt(share * (1 - share))
    size = math.ceil((spread / distance) ** 2)
    while size <= MOST_TICKETS and min(exact(share * size, size, threshold)) > 0.05:
        size = math.ceil(size * 1.05) + 1
    needed = math.ceil(size * tickets_each)
    return needed if needed <= MOST_TICKETS else None


def mean_sides(values: Sequence[float], threshold: float) -> Sides | None:
    """The mean of one value a ticket against a threshold; None with fewer than two tickets, which show no spread.

    Costs and times are skewed, and Student's t then takes too few for too much: a few cheap tickets look like a cheap
    agent. So below the threshold both t and Hall's transformation (Hall 1992, without skewness to first order) have to
    say so, and above it both as well.
    """
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    sd = math.sqrt(squares / (count - 1))
    if sd <= abs(mean) * 1e-12:
        return Sides(0.0 if mean < threshold else 1.0, 0.0 if mean > threshold else 1.0, mean, mean, None)
    skew = math.fsum((value - mean) ** 3 for value in values) / count / (squares / count) ** 1.5
    from scipy.special import stdtr, stdtrit

    def chances(at: float) -> tuple[float, float]:
        w = (mean - at) / sd
        hall = w + skew * w * w / 3 + skew * skew * w**3 / 27 + skew / (6 * count)
        by_t, by_hall = (float(stdtr(count - 1, math.sqrt(count) * z)) for z in (w, hall))
        return max(by_t, by_hall), max(1 - by_t, 1 - by_hall)

    p_below, p_above = chances(threshold)
    half = float(stdtrit(count - 1, 0.95)) * sd / math.sqrt(count)
    distance = abs(mean - threshold)
    settles = None if distance == 0 else math.ceil((POWER_80 * sd / distance) ** 2)
    return Sides(
        p_below,
        p_above,
        low=mean - half,
        high=_where(lambda at: chances(at)[0], mean, mean + half),
        settles=settles if settles is not None and settles <= MOST_TICKETS else None,
    )


def _where(chance: Callable[[float], float], low: float, high: float) -> float:
    """Where the falling function ``chance`` is 0.05, from ``low`` on, to a thousandth."""
    step = high - low
    while chance(high) > 0.05 and step < 1e12 * max(1.0, abs(low)):
        step *= 2
        high = low + step
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if chance(middle) > 0.05 else (low, middle)
    return high
