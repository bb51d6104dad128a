"""Two versions on the same tickets where some tickets stand for more of the population than others.

Each group of tickets that had the same chance to be drawn is compared for itself; what they say is put together by their parts of
the population.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podctl.stats.paired import POWER_80, Counts, Paired, paired, sign_flip
from podctl.stats.thresholds import least_chance
from podctl.stats.weighing import Weighing

#: In how many parts, and for each ticket that differs in how many at least, the whole of the differences is counted.
_PARTS, _EACH = 20_000, 10


@dataclass(frozen=True)
class WeighedPairs:
    """As `Paired`, of the population. ``parts``: each group's part of the population, and its tickets.

    What no ticket that counts stands for is in neither rate. It may have fallen as far as can be, or risen: a pass, or a fail, has to
    hold then too. ``by_signs``: the chance of such a fall when every ticket's difference is as likely a rise.
    """

    parts: tuple[tuple[float, Paired], ...]
    by_signs: float

    @property
    def tickets(self) -> int:
        return sum(pairs.tickets for _, pairs in self.parts)

    @property
    def worse(self) -> int:
        return sum(pairs.worse for _, pairs in self.parts)

    @property
    def better(self) -> int:
        return sum(pairs.better for _, pairs in self.parts)

    @property
    def seen(self) -> float:
        """The part of the population that tickets stand for."""
        return math.fsum(share for share, _ in self.parts)

    @property
    def rate_before(self) -> float:
        return math.fsum(share * pairs.rate_before for share, pairs in self.parts) / self.seen

    @property
    def rate(self) -> float:
        return math.fsum(share * pairs.rate for share, pairs in self.parts) / self.seen

    @property
    def drop(self) -> float:
        return self._sum / self.seen

    @property
    def _sum(self) -> float:
        return math.fsum(share * pairs.drop for share, pairs in self.parts)

    @property
    def _variance(self) -> float:
        """Of the drop between versions that differ on so many tickets and are equally good; never none."""
        each = (share**2 * pairs.discordance * pairs.design / pairs.tickets for share, pairs in self.parts)
        return math.fsum(each) / self.seen**2

    @property
    def detectable(self) -> float:
        """The fall that a sample like this one finds in 80 of 100 runs, as a share (at most 1)."""
        return min(1.0, POWER_80 * math.sqrt(self._variance))

    def p_inferior(self, margin: float) -> float:
        """As `Paired.p_inferior`: the chance at which the upper bound of the fall is the margin.

        The bound is put together from each group's (Tango's) by recovered variances (Zou and Donner 2008), so that a heavy group of few
        tickets without a flip is not taken for certain.
        """
        return least_chance(lambda chance: self._most(chance) <= margin)

    @property
    def p_worse(self) -> float:
        """The chance of such a fall by luck when there is none.

        By signs it is exact between equal versions, and a little too small where one kind of ticket gained what another lost; so the
        lower bound of the fall has to be above 0 too.
        """
        return max(self.by_signs, least_chance(lambda chance: self._least(chance) >= 0))

    def _most(self, chance: float) -> float:
        """The upper bound of the fall that is below the truth with ``chance``."""
        apart = (share * (pairs.most(chance) - pairs.drop) for share, pairs in self.parts)
        return self._sum + max(0.0, 1 - self.seen) + math.hypot(*apart)

    def _least(self, chance: float) -> float:
        apart = (share * (pairs.drop - pairs.least(chance)) for share, pairs in self.parts)
        return self._sum - max(0.0, 1 - self.seen) - math.hypot(*apart)

    def tickets_to_settle(self, margin: float) -> int | None:
        """As `Paired.tickets_to_settle`, drawn as these were."""
        drop = max(0.0, self.drop)
        distance = max(margin - drop, drop)
        return math.ceil(self.tickets * self._variance * (POWER_80 / distance) ** 2) if distance > 0 else None


def compared(
    before: Mapping[str, Counts], after: Mapping[str, Counts], weighing: Weighing | None
) -> Paired | WeighedPairs | None:
    """Over the tickets of both, each weighing what it stands for; None without any. ``weighing`` knows all of ``after``.

    By signs, differences are flipped with their weights (Fisher 1935), as `sign_flip` does without.
    """
    if weighing is None:
        return paired(before, after)
    groups = weighing.split({ticket: after[ticket] for ticket in sorted(before.keys() & after.keys())})
    parts = [(share, pairs) for share, those in groups if (pairs := paired(before, those)) is not None]
    if not parts:
        return None
    falls = [
        share / len(those) * (before[t][0] / before[t][1] - passed / of)
        for share, those in groups
        for t, (passed, of) in those.items()
    ]
    return WeighedPairs(tuple(parts), sign_flip(_in_parts(falls)))


def _in_parts(falls: Sequence[float]) -> list[int]:
    """In whole numbers, nearly in proportion; any weights are as exact as others."""
    whole = math.fsum(map(abs, falls))
    parts = max(_PARTS, _EACH * sum(fall != 0 for fall in falls))
    return [round(fall / whole * parts) for fall in falls] if whole else []
