"""Before spending: what a sample of so many tickets would find, by the tests that the gate will use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from podctl.evidence.results import RunResult
from podctl.stats.paired import POWER_80, mcnemar_worse, tango
from podctl.stats.summary import by_ticket, summarize
from podctl.stats.units import plural

_ALPHA = 0.05
#: Beyond so many standard deviations a number of flips adds nothing to a chance.
_FAR = 7


@dataclass(frozen=True)
class Design:
    """``flips``: ψ, the share of tickets whose single attempts differ between the versions. ``noise``: how much of that is
    one and the same version differing from itself, which repeats average away; the rest stays. ``effect``: so many of these tickets tell
    as much as one would where all weigh the same."""

    tickets: int
    repeats: int
    flips: float
    noise: float = 1.0
    effect: float = 1.0

    @property
    def effective(self) -> float:
        """Tickets of one attempt each that would tell as much."""
        return self.tickets / (1 - self.noise + self.noise / self.repeats) / self.effect

    @property
    def detectable(self) -> float:
        """The fall that is found in 80 of 100 runs: 2.487 √(ψ / n)."""
        return min(1.0, POWER_80 * math.sqrt(self.flips / self.effective))


@dataclass(frozen=True)
class Chances:
    fail: float
    passes: float

    @property
    def inconclusive(self) -> float:
        return max(0.0, 1 - self.fail - self.passes)


def most_flips(rate: float, fall: float) -> float:
    """ψ of versions that pass ``rate`` and ``rate - fall`` of the tickets and have nothing to do with one another.

    Versions of one agent mostly pass and fail the same tickets, so that theirs is below this.
    """
    after = max(0.0, rate - fall)
    return rate * (1 - after) + after * (1 - rate)


def chances(design: Design, margin: float, fall: float) -> Chances:
    """Of each verdict on ``regression: margin`` when the pass rate in truth falls by ``fall`` (a share, below ψ).

    Exact without repeats, from the binomial of the flips and of those that are worse; with repeats of the effective number.
    Raises `ValueError` for a fall that so few flips cannot make.
    """
    if abs(fall) > design.flips:
        raise ValueError(f"a fall of {fall:.3f} needs at least that share of flips, and there is {design.flips:.3f}")
    tickets = max(1, round(design.effective))
    if design.flips == 0:
        return Chances(0.0, float(tango(0, 0, tickets, margin) <= _ALPHA))
    from scipy.special import bdtr, bdtrc, gammaln, xlog1py, xlogy

    share_worse = (design.flips + fall) / (2 * design.flips)
    spread = _FAR * math.sqrt(tickets * design.flips * (1 - design.flips)) + 1
    middle = tickets * design.flips
    failing = passing = 0.0
    for flips in range(max(0, math.floor(middle - spread)), min(tickets, math.ceil(middle + spread)) + 1):
        ways = gammaln(tickets + 1) - gammaln(flips + 1) - gammaln(tickets - flips + 1)
        chance = math.exp(ways + xlogy(flips, design.flips) + xlog1py(tickets - flips, -design.flips))
        most = _most_passing(flips, tickets, margin)
        least = max(_least_failing(flips), most + 1)
        passing += chance * (float(bdtr(most, flips, share_worse)) if most >= 0 else 0.0)
        if least <= flips:
            failing += chance * (float(bdtrc(least - 1, flips, share_worse)) if least > 0 else 1.0)
    return Chances(min(1.0, failing), min(1.0, passing))


def _least_failing(flips: int) -> int:
    """The fewest worse flips of so many that McNemar's test takes for worse; more than there are when it takes none."""
    low, high = 0, flips + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if mcnemar_worse(middle, flips - middle) <= _ALPHA else (middle + 1, high)
    return low


def _most_passing(flips: int, tickets: int, margin: float) -> int:
    """The most worse flips of so many that are still not inferior; −1 when none are."""
    low, high = -1, flips
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if tango(middle, flips - middle, tickets, margin) <= _ALPHA else (low, middle - 1)
    return low


@dataclass(frozen=True)
class Line:
    """A sample of ``tickets``: the verdicts it would give, and what it costs (None: not known)."""

    tickets: int
    attempts: int
    dollars: Decimal | None
    detectable: float
    equal: Chances  # the version is as good as the baseline
    worse: Chances  # it is worse by the margin


@dataclass(frozen=True)
class Plan:
    """``lines`` begin with the sample that was asked for. ``assumed`` says where each figure that is not given comes from."""

    margin: float
    rate: float
    flips: float
    noise: float
    repeats: int
    population: int
    dollars_each: Decimal | None
    most: bool  # dollars are an upper bound
    lines: tuple[Line, ...]
    settles: int  # tickets that make an unchanged version pass in 80 of 100 runs, about
    assumed: tuple[str, ...]


def plan(
    tickets: int,
    population: int,
    repeats: int,
    *,
    margin: float,
    limit: Decimal,
    base: RunResult | None = None,
    rate: float | None = None,
    flips: float | None = None,
    noise: float | None = None,
    dollars: Decimal | None = None,
    effect: float = 1.0,
) -> Plan:
    """``limit``: what an attempt may cost at most, where nothing else is known; ``effect``: of the sample's weights (`Design`).

    Raises `ValueError` for a fall that the flips cannot make.
    """
    assumed = []
    base = None if base is None else base.plain
    summary = None if base is None else summarize(base.attempts)
    if rate is None and summary is not None:
        rate = summary.rate.share
        assumed.append(f"baseline rate: of run {base.info.id if base else ''}")
    if rate is None:
        rate = 0.8
        assumed.append("baseline rate: nothing is known; --baseline or --baseline-rate")
    if flips is None and base is not None and (own := own_flips(by_ticket(base.attempts).values())) is not None:
        flips = max(own, margin)
        assumed.append("flips: as often as the baseline's repeats differ from one another; a changed agent differs more")
    if flips is None:
        flips = max(most_flips(rate, margin), margin)
        assumed.append(
            "flips: the most, of versions that have nothing in common; --flips, or a baseline with repeats, knows better"
        )
    if noise is None:
        noise = 1.0
        if repeats > 1:
            assumed.append(
                "noise: every flip is chance that repeats average away; --noise below 1 where versions really differ"
            )
    most = False
    if dollars is None and summary is not None and summary.counted_dollars.total is not None and summary.rate.of:
        dollars = summary.counted_dollars.total / summary.rate.of
        assumed.append("dollars: the mean of the baseline's attempts" + ("; simulated" if summary.simulated else ""))
    if dollars is None:
        dollars, most = limit, True
        assumed.append("dollars: limits.dollars, the most that an attempt may cost; --baseline or --dollars knows better")
    if effect > 1:
        told = plural(round(tickets / effect), "ticket")
        assumed.append(f"weights: the sample is not in proportion to its strata and tells as much as {told} that are")
    one = Design(1, repeats, flips, noise, effect)
    settles = math.ceil(flips * (POWER_80 / margin) ** 2 / one.effective)
    sizes = [tickets, *sorted({size for size in (tickets // 2, tickets * 2, tickets * 4, settles) if 1 <= size != tickets})]
    lines = tuple(
        Line(
            size,
            size * repeats,
            dollars * size * repeats,
            design.detectable,
            chances(design, margin, 0.0),
            chances(design, margin, margin),
        )
        for size in sizes
        for design in [Design(size, repeats, flips, noise, effect)]
    )
    return Plan(margin, rate, flips, noise, repeats, population, dollars, most, lines, settles, tuple(assumed))


def own_flips(counts: Iterable[tuple[int, int]]) -> float | None:
    """ψ of a version against itself: the mean of 2 p (1 − p), unbiased, over tickets with two attempts or more; None without."""
    each = [2 * passed * (of - passed) / (of * (of - 1)) for passed, of in counts if of >= 2]
    return math.fsum(each) / len(each) if each else None
