"""Two versions on the same tickets: whether one is worse, whether it is no worse than allowed, and what would settle it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

#: 1.645 + 0.842: a one-sided test at 5 % that finds what it looks for in 80 of 100 runs.
POWER_80 = 2.4865
#: Differences of tickets are counted in whole parts of this at most.
_FINEST = 1000
_Z = 1.6449

Counts = tuple[int, int]  # (passed, of)


@dataclass(frozen=True)
class Paired:
    """Tickets that count in both runs. A ticket's difference is its share of passes before, less that now."""

    tickets: int
    rate_before: float
    rate: float
    fallen: float  # what tickets lost, summed, in tickets
    risen: float  # what tickets gained
    worse: int  # tickets that lost something
    better: int
    design: float  # variance of the differences over what one attempt a ticket would have: 1 without repeats, below with
    p_worse: float  # the chance of such a fall by luck between equal versions

    @property
    def drop(self) -> float:
        """How far the pass rate fell, as a share; below 0 it rose."""
        return (self.fallen - self.risen) / self.tickets

    @property
    def discordance(self) -> float:
        """ψ, the share of tickets that differ, never estimated as none: that a sample has no flip does not mean there are none."""
        return min(1.0, (self.fallen + self.risen + 1) / (self.tickets + 1))

    @property
    def detectable(self) -> float:
        """The fall that a sample like this one finds in 80 of 100 runs, as a share (at most 1)."""
        return min(1.0, POWER_80 * math.sqrt(self.discordance * self.design / self.tickets))

    def p_inferior(self, margin: float) -> float:
        """The chance of so small a fall by luck if the version were worse by ``margin`` or more (Tango 1998, score test).

        With repeats at the effective number of tickets. Below 0.05 the version is not inferior by the margin.
        """
        return tango(self.fallen / self.design, self.risen / self.design, self.tickets / self.design, margin)

    def most(self, chance: float) -> float:
        """The upper bound of the fall that is below the truth with ``chance``, which is below a half."""
        return tango_bound(self.fallen / self.design, self.risen / self.design, self.tickets / self.design, chance)

    def least(self, chance: float) -> float:
        """The lower bound that is above it."""
        return -tango_bound(self.risen / self.design, self.fallen / self.design, self.tickets / self.design, chance)

    def tickets_to_settle(self, margin: float) -> int | None:
        """Tickets in all that settle it in 80 of 100 runs, the change being what it was: n ≈ ψ (2.487 / δ)².

        δ is the distance to the nearer answer: the margin itself when nothing changed. None: no number does.
        """
        drop = max(0.0, self.drop)
        distance = max(margin - drop, drop)
        if distance <= 0:
            return None
        least = _Z**2 * (1 - margin) / margin if margin > 0 else 0.0
        return math.ceil(max(self.discordance * self.design * (POWER_80 / distance) ** 2, least))


def paired(before: Mapping[str, Counts], after: Mapping[str, Counts]) -> Paired | None:
    """Over the tickets of both; None without any. Every ticket weighs the same."""
    common = sorted(before.keys() & after.keys())
    if not common:
        return None
    old, new = [before[t][0] / before[t][1] for t in common], [after[t][0] / after[t][1] for t in common]
    parts = _common_parts(of for t in common for of in (before[t][1], after[t][1]))
    falls = [round((a - b) * parts) for a, b in zip(old, new, strict=True)]
    fallen = sum(f for f in falls if f > 0) / parts
    risen = -sum(f for f in falls if f < 0) / parts
    return Paired(
        tickets=len(common),
        rate_before=math.fsum(old) / len(common),
        rate=math.fsum(new) / len(common),
        fallen=fallen,
        risen=risen,
        worse=sum(f > 0 for f in falls),
        better=sum(f < 0 for f in falls),
        design=_design(falls, parts),
        p_worse=sign_flip(falls),
    )


def _common_parts(numbers: Iterable[int]) -> int:
    parts = math.lcm(*set(numbers))
    return parts if parts <= _FINEST else _FINEST


def _design(falls: Sequence[int], parts: int) -> float:
    """Σd²/Σ|d|: 1 where every difference is a whole ticket. With few tickets, larger by Student's t over the normal."""
    changed = [abs(f) / parts for f in falls if f]
    if parts == 1 or not changed:
        return 1.0
    if len(falls) == 1:
        return 1.0
    from scipy.special import stdtrit

    few = (float(stdtrit(len(falls) - 1, 0.95)) / _Z) ** 2
    return min(1.0, math.fsum(d * d for d in changed) / math.fsum(changed) * few)


def sign_flip(falls: Sequence[int]) -> float:
    """The chance that the falls sum to as much as they do when each is as likely a rise: exact, one-sided.

    A ticket's repeats stay together, so that they are no tickets of their own. With falls of 1, 0 and −1 this is the
    exact McNemar test (McNemar 1947); otherwise Fisher's sign-flip test for pairs (Fisher 1935).
    """
    sizes = [abs(f) for f in falls if f]
    if not sizes:
        return 1.0
    if len(set(sizes)) == 1:
        return mcnemar_worse(sum(f > 0 for f in falls), sum(f < 0 for f in falls))
    import numpy as np

    # chance[s]: that the sizes so far which come up as falls sum to s.
    divisor = math.gcd(*sizes)
    chance = np.ones(1)
    for size in sorted(size // divisor for size in sizes):
        wider = np.zeros(len(chance) + size)
        wider[: len(chance)] += chance / 2
        wider[size:] += chance / 2
        chance = wider
    fallen = sum(f for f in falls if f > 0) // divisor
    return min(1.0, float(chance[fallen:].sum()))


def mcnemar_worse(worse: int, better: int) -> float:
    """Exact one-sided McNemar: the chance of at least ``worse`` of the flips going that way by luck (McNemar 1947)."""
    if worse < 0 or better < 0:
        raise ValueError("counts of flips cannot be negative")
    if worse == 0:
        return 1.0
    from scipy.special import bdtrc

    return float(bdtrc(worse - 1, worse + better, 0.5))


def tango(worse: float, better: float, tickets: float, margin: float) -> float:
    """The one-sided p-value of Tango's score test that the fall is ``margin`` or more (Tango 1998, Statistics in Medicine 17).

    Unlike the difference plus 1.645 standard errors it does not take a small sample without a flip for certainty:
    with a margin of 5 points that needs 52 tickets.
    """
    a = 2 * tickets
    b = (2 * tickets - worse + better) * margin - worse - better
    c = -better * margin * (1 - margin)
    rare = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = tickets * (2 * rare + margin * (1 - margin))
    gap = worse - better - tickets * margin
    if variance <= 0:
        return 0.0 if gap < 0 else 1.0
    return normal(gap / math.sqrt(variance))


def tango_bound(worse: float, better: float, tickets: float, tail: float) -> float:
    """The fall that Tango's test stops to reject at ``tail``, which is below a half: the upper bound of the true one."""
    low, high = (worse - better) / tickets, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if tango(worse, better, tickets, middle) > tail else (low, middle)
    return high


def normal(z: float) -> float:
    return math.erfc(-z / math.sqrt(2)) / 2


def holm(chances: Sequence[float]) -> list[float]:
    """p-values adjusted for there being several (Holm 1979): below 0.05, the chance of any false one stays below 0.05."""
    adjusted = [1.0] * len(chances)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(chances)), key=lambda i: chances[i])):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = highest
    return adjusted
