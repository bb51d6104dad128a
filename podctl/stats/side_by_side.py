"""Several agents on one sample: each one's figures, and how each differs from the first, ticket by ticket.

Only tickets that count in both runs, and that the later one has not in quarantine, tell two agents apart. Every ticket weighs the same, as it stands in the sample.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from podctl.evidence.results import AttemptResult, RunInfo, RunResult, Verdict
from podctl.stats.compare import notes_of
from podctl.stats.paired import Counts, paired, tango_bound
from podctl.stats.proportions import Interval
from podctl.stats.summary import Money, Rate, summarize
from podctl.stats.units import plural

#: Tickets in common below which a difference has no range, and below which it is of low confidence.
LEAST, THIN = 10, 25
#: The chance that any of all ranges of one figure misses, however many agents are compared.
_ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """An agent's figure less the first one's. ``value`` None: unknown; ``low`` and ``high`` None: no range; ``why`` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""

    @property
    def told_apart(self) -> bool | None:
        """Whether the range is on one side of no difference; None without a range."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Side:
    """One run. Money is None where some cost is unknown; ``cost_per_resolved`` also where nothing was resolved."""

    info: RunInfo
    status: str
    verdict: Verdict
    simulated: bool
    rate: Rate
    dollars: Money
    cost_per_ticket: Decimal | None
    cost_per_resolved: Decimal | None
    seconds_per_ticket: float | None
    infrastructure: int
    not_run: int
    attempts: int
    stopped_early: bool

    @property
    def agent(self) -> str:
        return f"{self.info.agent_name} {self.info.agent_version}".strip()


@dataclass(frozen=True)
class Against:
    """A run against the first, on the tickets that count in both. Differences: shares, dollars, dollars, seconds."""

    run: str
    common_tickets: int
    same_sample: bool
    pass_rate: Difference
    cost_per_ticket: Difference
    cost_per_resolved: Difference
    seconds_per_ticket: Difference
    notes: tuple[str, ...]


@dataclass(frozen=True)
class SideBySide:
    """``level``: of each range, so that with ``others`` all ranges of one figure hold together in 95 % of cases (Bonferroni)."""

    sides: tuple[Side, ...]
    others: tuple[Against, ...]
    level: float

    @property
    def same_sample(self) -> bool:
        return all(other.same_sample for other in self.others)

    @property
    def simulated(self) -> bool:
        return any(side.simulated for side in self.sides)


def without_detail(attempt: AttemptResult) -> AttemptResult:
    """What `side_by_side` needs of an attempt; the rest is most of its memory."""
    return replace(attempt, checks=(), phases={}, uses={}, models=None, detail="")


def side_by_side(runs: Sequence[Callable[[], RunResult]]) -> SideBySide:
    """Two runs or more, the first of which the others are held against. Each is loaded when it is its turn, and two are held at once."""
    if len(runs) < 2:
        raise ValueError("a comparison needs two runs")
    first = runs[0]()
    base, level = _by_ticket(first), 1 - _ALPHA / (len(runs) - 1)
    sides, others = [_side(first)], []
    for load in runs[1:]:
        run = load()
        sides.append(_side(run))
        others.append(_against(first, base, run, level))
    return SideBySide(tuple(sides), tuple(others), level)


@dataclass(frozen=True)
class _Ticket:
    """Means over the repeats that count; ``dollars`` None where one of them is unknown."""

    counts: Counts
    dollars: float | None
    seconds: float

    @property
    def share(self) -> float:
        return self.counts[0] / self.counts[1]


def _by_ticket(run: RunResult) -> dict[str, _Ticket]:
    repeats = defaultdict(list)
    for attempt in run.attempts:
        if attempt.cause.counts:
            repeats[attempt.ticket].append(attempt)
    return {
        ticket: _Ticket(
            (sum(one.passed for one in some), len(some)),
            None
            if any(one.dollars is None for one in some)
            else math.fsum(float(one.dollars or 0) for one in some) / len(some),
            math.fsum(one.wall_s for one in some) / len(some),
        )
        for ticket, some in repeats.items()
    }


def _side(run: RunResult) -> Side:
    summary = summarize(run.attempts)
    return Side(
        info=run.info,
        status=run.status,
        verdict=run.verdict,
        simulated=run.info.simulated or summary.simulated,
        rate=summary.rate,
        dollars=summary.counted_dollars,
        cost_per_ticket=summary.cost_per_ticket,
        cost_per_resolved=summary.cost_per_resolved,
        seconds_per_ticket=summary.seconds_per_ticket,
        infrastructure=summary.infrastructure,
        not_run=summary.not_run,
        attempts=summary.attempts,
        stopped_early=run.comparison is not None and run.comparison.early_stop is not None,
    )


def _against(first: RunResult, base: Mapping[str, _Ticket], run: RunResult, level: float) -> Against:
    aside, mine = run.info.quarantine.keys(), _by_ticket(run)
    common = sorted((base.keys() & mine.keys()) - aside)
    before, after = [base[ticket] for ticket in common], [mine[ticket] for ticket in common]
    return Against(
        run=run.info.id,
        common_tickets=len(common),
        same_sample=first.info.sample_digest == run.info.sample_digest
        and len(common) == len(base.keys() - aside) == len(mine.keys() - aside),
        pass_rate=_of_rates(before, after, level),
        cost_per_ticket=_of_money(before, after, level, per_resolved=False),
        cost_per_resolved=_of_money(before, after, level, per_resolved=True),
        seconds_per_ticket=_of_means([one.seconds for one in before], [one.seconds for one in after], level),
        notes=notes_of(first, run),
    )


def _of_rates(before: Sequence[_Ticket], after: Sequence[_Ticket], level: float) -> Difference:
    pairs = paired(
        {str(at): one.counts for at, one in enumerate(before)}, {str(at): one.counts for at, one in enumerate(after)}
    )
    if pairs is None:
        return Difference(None, why="no ticket counts in both runs")
    if pairs.tickets < LEAST:
        return Difference(-pairs.drop, why=_too_few(pairs.tickets))
    interval = score_interval(
        pairs.risen / pairs.design, pairs.fallen / pairs.design, pairs.tickets / pairs.design, (1 - level) / 2
    )
    return Difference(-pairs.drop, interval.low, interval.high)


def score_interval(more: float, less: float, tickets: float, tail: float) -> Interval:
    """Of the difference ``(more - less) / tickets`` of two paired shares: what Tango's score test does not reject (Tango 1998)."""
    return Interval(-tango_bound(less, more, tickets, tail), tango_bound(more, less, tickets, tail))


def _of_money(before: Sequence[_Ticket], after: Sequence[_Ticket], level: float, *, per_resolved: bool) -> Difference:
    old, new = ([one.dollars for one in some if one.dollars is not None] for some in (before, after))
    unknown = sum(None in (one.dollars, other.dollars) for one, other in zip(before, after, strict=True))
    if unknown:
        return Difference(None, why=f"the cost of {plural(unknown, 'ticket')} is unknown")
    if per_resolved:
        return _of_ratios(old, [one.share for one in before], new, [one.share for one in after], level)
    return _of_means(old, new, level)


def _of_means(before: Sequence[float], after: Sequence[float], level: float) -> Difference:
    return _student([new - old for old, new in zip(before, after, strict=True)], level)


def _of_ratios(
    old_sums: Sequence[float], old_shares: Sequence[float], new_sums: Sequence[float], new_shares: Sequence[float], level: float
) -> Difference:
    """Of Σ dollars / Σ passes: each ratio linearised at its value (Cochran 1977, 2.11), the tickets staying pairs."""
    if not old_sums:
        return Difference(None, why="no ticket counts in both runs")
    resolved = math.fsum(old_shares), math.fsum(new_shares)
    if not all(resolved):
        return Difference(None, why="one of them resolved nothing")
    ratios = math.fsum(old_sums) / resolved[0], math.fsum(new_sums) / resolved[1]
    value = ratios[1] - ratios[0]
    if min(resolved) < LEAST:
        return Difference(value, why=f"one of them resolved fewer than {LEAST} tickets")
    old = _linear(old_sums, old_shares, ratios[0])
    new = _linear(new_sums, new_shares, ratios[1])
    found = _student([b - a for a, b in zip(old, new, strict=True)], level)
    if found.low is None or found.high is None or found.value is None:
        return Difference(value, why=found.why)
    return Difference(value, value + found.low - found.value, value + found.high - found.value)


def _linear(sums: Sequence[float], shares: Sequence[float], ratio: float) -> list[float]:
    mean = math.fsum(shares) / len(shares)
    return [(part - ratio * share) / mean for part, share in zip(sums, shares, strict=True)]


def _student(values: Sequence[float], level: float) -> Difference:
    """The mean of the tickets' differences with Student's t interval."""
    count = len(values)
    if count == 0:
        return Difference(None, why="no ticket counts in both runs")
    mean = math.fsum(values) / count
    if count < LEAST:
        return Difference(mean, why=_too_few(count))
    spread = math.fsum((value - mean) ** 2 for value in values)
    if spread <= 1e-24 * (1 + mean * mean):
        return Difference(mean, why="every ticket differs by the same amount")
    from scipy.special import stdtrit

    half = float(stdtrit(count - 1, (1 + level) / 2)) * math.sqrt(spread / (count - 1) / count)
    return Difference(mean, mean - half, mean + half)


def _too_few(tickets: int) -> str:
    return f"only {plural(tickets, 'ticket')} in common: a range needs {LEAST}"
