"""The population's share of successes, from groups of tickets that stand for more or less of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from podctl.stats.proportions import Interval, clustered_se, effective_size
from podctl.stats.thresholds import MOST_TICKETS, Sides, exact, least_chance, mean_share, share_high, share_low, share_settles


@dataclass(frozen=True)
class Part:
    """Tickets that had the same chance to be drawn and stand for ``weight`` of the population.

    ``size``: independent attempts that would tell as much; ``variance``: of ``share``.
    """

    weight: float
    tickets: int
    share: float
    size: float
    variance: float


def of_clusters(weight: float, clusters: Sequence[tuple[int, int]]) -> Part:
    """Of ``(passed, of)`` a ticket."""
    share = sum(passed for passed, _ in clusters) / sum(of for _, of in clusters)
    variance = clustered_se(clusters) ** 2 if len(clusters) > 1 else share * (1 - share)
    return Part(weight, len(clusters), share, effective_size(clusters), variance)


def of_shares(weight: float, shares: Sequence[float]) -> Part:
    """Of one share a ticket."""
    mean, variance, size = mean_share(shares)
    return Part(weight, len(shares), mean, size, variance)


@dataclass(frozen=True)
class WeighedShare:
    """Each part's exact bounds are put together by recovered variances (Zou and Donner 2008).

    What no ticket stands for is not in ``share``; it counts as failing for the lower bound and as passing for the upper one.
    """

    parts: tuple[Part, ...]

    @property
    def seen(self) -> float:
        """The part of the population that tickets stand for."""
        return math.fsum(part.weight for part in self.parts)

    @property
    def share(self) -> float:
        return self._sum / self.seen

    @property
    def _sum(self) -> float:
        return math.fsum(part.weight * part.share for part in self.parts)

    @property
    def tickets(self) -> int:
        return sum(part.tickets for part in self.parts)

    def low(self, chance: float) -> float:
        """The lower bound that is above the truth with at most ``chance``, below a half."""
        apart = (part.weight * (part.share - share_low(part.share, part.size, chance)) for part in self.parts)
        return self._sum - math.hypot(*apart)

    def high(self, chance: float) -> float:
        apart = (part.weight * (share_high(part.share, part.size, chance) - part.share) for part in self.parts)
        return self._sum + max(0.0, 1 - self.seen) + math.hypot(*apart)

    def interval(self) -> Interval:
        """95 %, two-sided."""
        return Interval(max(0.0, self.low(0.025)), min(1.0, self.high(0.025)))

    def sides(self, threshold: float) -> Sides:
        """As `share_sides`.

        The exact test at the effective size of the whole would pass wrongly, in a third of runs with 20 tickets for 90 % of the population
        and 200 for the rest: when the 20 all pass, their variance is not seen. With many small parts that nearly all pass, the bounds
        above fail wrongly in up to 8 % of runs. So they pass, and for a fail both have to say so.
        """
        size = self._size
        beyond = (threshold - max(0.0, 1 - self.seen)) / self.seen
        by_size = exact(self.share * size, size, beyond)[0] if beyond > 0 else 1.0
        return Sides(
            p_below=max(by_size, least_chance(lambda chance: self.high(chance) <= threshold)),
            p_above=least_chance(lambda chance: self.low(chance) >= threshold),
            low=max(0.0, self.low(0.05)),
            high=min(1.0, max(self.high(0.05), share_high(self.share, size, 0.05) * self.seen + 1 - self.seen)),
            settles=self._settles(threshold),
        )

    @property
    def _size(self) -> float:
        """Effective: attempts of which the share would vary like this one (Korn and Graubard 1998), at most those there are."""
        most = math.fsum(part.size for part in self.parts)
        variance = math.fsum(part.weight**2 * part.variance for part in self.parts) / self.seen**2
        return min(most, self.share * (1 - self.share) / variance) if variance > 0 else most

    def _settles(self, threshold: float) -> int | None:
        """Drawn as these were: as many as the variance asks for, and as many as let the bounds tell."""
        needed = share_settles(self.share, threshold, self.tickets / self._size)
        if needed is None:
            return None
        times = 1.0
        while times * self.tickets < needed or not self._times(times)._told(threshold):
            times *= 1.1
            if times * self.tickets > MOST_TICKETS:
                return None
        return math.ceil(times * self.tickets)

    def _told(self, threshold: float) -> bool:
        return self.low(0.05) >= threshold or self.high(0.05) <= threshold

    def _times(self, times: float) -> WeighedShare:
        return WeighedShare(tuple(replace(part, size=part.size * times) for part in self.parts))
