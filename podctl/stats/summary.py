"""What a run's attempts add up to. Infrastructure's failures stand apart from the agent's, unknown costs from zero."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from podctl.evidence.causes import Cause
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult
from podctl.stats.proportions import Interval, clustered_wilson, pass_hat_k


@dataclass(frozen=True)
class Rate:
    """Passes over the attempts that count. ``share`` and ``interval`` (95 %, by ticket) are None when none counts."""

    passed: int
    of: int
    tickets: int
    share: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Money:
    """Dollars of attempts whose cost is known, and how many attempts' cost is not."""

    known: Decimal
    unknown: int

    @property
    def total(self) -> Decimal | None:
        return None if self.unknown else self.known


@dataclass(frozen=True)
class Quantiles:
    """Observed values (nearest rank), in the unit of what was measured."""

    count: int
    p50: float
    p95: float
    max: float


@dataclass(frozen=True)
class StratumSummary:
    name: str
    tickets: int
    attempts: int
    rate: Rate
    infrastructure: int
    not_run: int
    boundary: int
    dollars: Money  # over attempts that count
    cost_per_ticket: Decimal | None
    seconds_per_ticket: float | None


@dataclass(frozen=True)
class Summary:
    """Figures over attempts that count, unless a name or comment says otherwise."""

    attempts: int
    tickets: int
    causes: dict[Cause, int]  # every attempt, in the order of Cause
    rate: Rate
    rate_if_infrastructure_failed: float | None  # every infrastructure failure taken as a failure of the agent
    rate_if_infrastructure_passed: float | None
    infrastructure: int  # ended by something that is not the agent; unclassified included
    infrastructure_share: float  # of the attempts that were run
    not_run: int  # cancelled
    boundary_attempts: int  # every try to cross the boundary, in every attempt
    boundary_violating: int  # attempts with at least one
    pass_hat: dict[int, float]  # k -> mean over tickets with at least k counted repeats; empty without repeats
    strata: tuple[StratumSummary, ...]
    tokens: Tokens  # every attempt
    dollars: Money  # every attempt
    counted_dollars: Money
    cost_per_ticket: Decimal | None  # a ticket worked once; None: unknown, or nothing counts
    cost_per_resolved: Decimal | None  # all that was spent over what passed; None: unknown, or nothing passed
    seconds_per_ticket: float | None  # wall, mean
    wall_s: float  # every attempt, summed
    cpu_s: float  # every attempt
    dollar_quantiles: Quantiles | None  # over known costs
    second_quantiles: Quantiles | None
    simulated: bool


def is_infrastructure(attempt: AttemptResult) -> bool:
    """Ended by something that says nothing about the agent, and was not merely cancelled."""
    return not attempt.cause.counts and attempt.cause is not Cause.CANCELLED


def is_pass(attempt: AttemptResult) -> bool:
    return attempt.passed and attempt.cause.counts


def crosses_boundary(attempt: AttemptResult) -> bool:
    """It tried to do what is not the agent's to do, whether that was refused or came through."""
    return (
        attempt.boundary_attempts > 0
        or attempt.cause is Cause.BOUNDARY_VIOLATION
        or any(entry.class_ == "forbidden" for check in attempt.checks for entry in check.diff)
    )


class Ended(Protocol):
    """What figures need of an attempt: an `AttemptResult`, or a store's line about one."""

    @property
    def ticket(self) -> str: ...
    @property
    def cause(self) -> Cause: ...
    @property
    def passed(self) -> bool: ...
    @property
    def dollars(self) -> Decimal | None: ...
    @property
    def wall_s(self) -> float: ...


def by_ticket(attempts: Iterable[Ended]) -> dict[str, tuple[int, int]]:
    """Ticket -> (passed, of) over the attempts that count; tickets without any are absent."""
    counts: dict[str, tuple[int, int]] = {}
    for attempt in attempts:
        if attempt.cause.counts:
            passed, of = counts.get(attempt.ticket, (0, 0))
            counts[attempt.ticket] = (passed + attempt.passed, of + 1)
    return counts


def rate_of(attempts: Iterable[Ended]) -> Rate:
    clusters = list(by_ticket(attempts).values())
    passed, of = sum(p for p, _ in clusters), sum(n for _, n in clusters)
    if of == 0:
        return Rate(0, 0, 0, None, None)
    return Rate(passed, of, len(clusters), passed / of, clustered_wilson(clusters))


def money_of(attempts: Iterable[Ended]) -> Money:
    amounts = [attempt.dollars for attempt in attempts]
    return Money(sum((a for a in amounts if a is not None), Decimal(0)), sum(a is None for a in amounts))


def quantiles_of(values: Sequence[float]) -> Quantiles | None:
    if not values:
        return None
    ranked = sorted(values)
    p50, p95 = (ranked[math.ceil(q * len(ranked)) - 1] for q in (0.5, 0.95))
    return Quantiles(len(ranked), p50, p95, ranked[-1])


def mean_dollars(money: Money, count: int) -> Decimal | None:
    return None if count == 0 or money.total is None else money.total / count


def mean_seconds(attempts: Sequence[Ended]) -> float | None:
    return math.fsum(a.wall_s for a in attempts) / len(attempts) if attempts else None


def _pass_hat(clusters: Iterable[tuple[int, int]]) -> dict[int, float]:
    counts = list(clusters)
    most = max((of for _, of in counts), default=0)
    if most < 2:
        return {}
    result = {}
    for k in range(1, most + 1):
        values = [pass_hat_k(passed, of, k) for passed, of in counts if of >= k]
        result[k] = math.fsum(values) / len(values)
    return result


def _stratum(name: str, attempts: Sequence[AttemptResult]) -> StratumSummary:
    counted = [a for a in attempts if a.cause.counts]
    money = money_of(counted)
    return StratumSummary(
        name=name,
        tickets=len({a.ticket for a in attempts}),
        attempts=len(attempts),
        rate=rate_of(attempts),
        infrastructure=sum(is_infrastructure(a) for a in attempts),
        not_run=sum(a.cause is Cause.CANCELLED for a in attempts),
        boundary=sum(crosses_boundary(a) for a in attempts),
        dollars=money,
        cost_per_ticket=mean_dollars(money, len(counted)),
        seconds_per_ticket=mean_seconds(counted),
    )


def summarize(attempts: Sequence[AttemptResult]) -> Summary:
    """The summary of any set of attempts, an empty one included."""
    counted = [a for a in attempts if a.cause.counts]
    causes = Counter(a.cause for a in attempts)
    infrastructure = sum(is_infrastructure(a) for a in attempts)
    not_run = causes[Cause.CANCELLED]
    ran = len(attempts) - not_run
    rate = rate_of(attempts)
    money = money_of(counted)
    strata: dict[str, list[AttemptResult]] = defaultdict(list)
    for attempt in attempts:
        strata[attempt.stratum].append(attempt)
    return Summary(
        attempts=len(attempts),
        tickets=len({a.ticket for a in attempts}),
        causes={cause: causes[cause] for cause in Cause if causes[cause]},
        rate=rate,
        rate_if_infrastructure_failed=rate.passed / ran if ran else None,
        rate_if_infrastructure_passed=(rate.passed + infrastructure) / ran if ran else None,
        infrastructure=infrastructure,
        infrastructure_share=infrastructure / ran if ran else 0.0,
        not_run=not_run,
        boundary_attempts=sum(a.boundary_attempts for a in attempts),
        boundary_violating=sum(crosses_boundary(a) for a in attempts),
        pass_hat=_pass_hat(by_ticket(attempts).values()),
        strata=tuple(_stratum(name, strata[name]) for name in sorted(strata)),
        tokens=sum((a.tokens for a in attempts), Tokens()),
        dollars=money_of(attempts),
        counted_dollars=money,
        cost_per_ticket=mean_dollars(money, len(counted)),
        cost_per_resolved=mean_dollars(money, rate.passed),
        seconds_per_ticket=mean_seconds(counted),
        wall_s=math.fsum(a.wall_s for a in attempts),
        cpu_s=math.fsum(a.cpu_s for a in attempts),
        dollar_quantiles=quantiles_of([float(a.dollars) for a in counted if a.dollars is not None]),
        second_quantiles=quantiles_of([a.wall_s for a in counted]),
        simulated=any(a.simulated for a in attempts),
    )
