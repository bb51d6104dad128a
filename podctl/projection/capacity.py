"""How long the real workload takes on so many pods, how many pods a deadline needs, and whether pods keep up with what arrives.

Each answer is simulated many times (`queue.simulate`), on tickets drawn with replacement from the attempts that the run made,
stratum by stratum. Each time the attempts themselves are redrawn first (the bootstrap), so that the spread of the answers also
has in it how little the sample knows. No drawn ticket takes longer than the longest that the run saw: where production has
no cap of its own, real backlogs end later. Everything is a function of the seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from podctl.projection.queue import (
    Floats,
    Outcome,
    Site,
    Work,
    least_s,
    limit_on_pods,
    most_s,
    never_slowed,
    simulate,
    whole_s,
)

#: Tickets that are simulated for one answer, spread over its replications.
_TICKETS = 1_000_000
_FEWEST, _MOST = 20, 400
#: A steady state is watched after this share of the tickets, begun with nothing to do.
_WARM_UP = 0.2
_STEADY_REPLICATIONS, _STEADY_TICKETS = 20, 20_000


@dataclass(frozen=True)
class Observed:
    """The attempts of a stratum: ``seconds`` of each without its pod's reset, and ``uses`` as in `queue.Work`."""

    seconds: Sequence[float]
    uses: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.seconds or any(len(column) != len(self.seconds) for column in self.uses.values()):
            raise ValueError("a stratum needs at least one attempt, with its seconds and all that it used")


@dataclass(frozen=True)
class Demand:
    """Tickets to be worked. ``backlog``: stratum -> how many wait at the start, in no order. ``arrivals``: (second, stratum) of
    others, as they are known; or ``per_hour``: stratum -> how many come by chance (Poisson), for ``hours``."""

    backlog: Mapping[str, int] = field(default_factory=dict)
    arrivals: Sequence[tuple[float, str]] = ()
    per_hour: Mapping[str, float] = field(default_factory=dict)
    hours: float = 0.0

    def __post_init__(self) -> None:
        numbers = [*self.backlog.values(), *self.per_hour.values(), self.hours, *(second for second, _ in self.arrivals)]
        if not all(0 <= number < math.inf for number in numbers):
            raise ValueError("tickets, rates and times are finite and not negative")

    @property
    def strata(self) -> set[str]:
        coming = {name for name, rate in self.per_hour.items() if rate * self.hours > 0}
        return {name for name, count in self.backlog.items() if count} | {name for _, name in self.arrivals} | coming

    @property
    def expected(self) -> float:
        """Tickets, on average."""
        return sum(self.backlog.values()) + len(self.arrivals) + self.hours * sum(self.per_hour.values())


@dataclass(frozen=True)
class Spread:
    """One simulation in twenty came below ``low``, half below ``median``, nineteen in twenty below ``high``."""

    low: float
    median: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        low, median, high = np.quantile(np.asarray(values, dtype=float), (0.05, 0.5, 0.95))
        return Spread(float(low), float(median), float(high))


@dataclass(frozen=True)
class Clearing:
    """What so many pods make of a demand.

    ``held``: see `queue.Outcome.held`, as shares of the makespan, averaged. ``divided_s`` is all the work over all pods, what a
    division would say; ``longest_s`` the longest ticket with its reset; ``floor_s`` what no number of pods can go below
    within the provider's limits: all three are medians.
    """

    replications: int
    seed: int
    tickets: float
    at_once: int
    makespan_s: Spread
    caught_up_s: Spread
    mean_wait_s: Spread
    busy: float
    held: Mapping[str, float]
    divided_s: float
    longest_s: float
    floor_s: float

    @property
    def limited_by(self) -> str:
        return max(self.held, key=lambda name: self.held[name])


@dataclass(frozen=True)
class PodsNeeded:
    """``pods`` None: no number of them meets the deadline often enough, and ``limited_by`` stands in the way.

    Of ``replications``, ``met`` ended by the deadline with ``pods``, or with the ``most`` that were tried.
    """

    deadline_s: float
    probability: float
    pods: int | None
    most: int
    met: int
    replications: int
    seed: int
    limited_by: str
    makespan_s: Spread


@dataclass(frozen=True)
class Steady:
    """What becomes of a queue into which tickets come for ever.

    ``loads``: pods (or the database pool) and each limit -> the share of it that the arrivals need. From 1 on there is no
    steady state: the queue grows by ``growth_per_hour`` tickets an hour. ``overloaded``: of ``redraws`` of the attempts, those
    in which a load is 1 or more. ``least_pods`` is the fewest whose own load is below 1.

    Without a steady state the rest is None. A ticket waits ``mean_wait_s`` for a pod; 19 in 20 wait less than ``long_wait_s``.
    ``present`` tickets wait or are under way on average; by Little's law it is ``by_little``, tickets a second times a
    ticket's mean seconds from arrival to end.
    """

    loads: Mapping[str, float]
    least_pods: int
    overloaded: int
    redraws: int
    growth_per_hour: float
    seed: int
    mean_wait_s: float | None = None
    long_wait_s: float | None = None
    present: float | None = None
    by_little: float | None = None
    busy: float | None = None

    @property
    def limited_by(self) -> str:
        return max(self.loads, key=lambda name: self.loads[name])


def draw(observed: Mapping[str, Observed], demand: Demand, seed: int, replication: int, *, redraw: bool = True) -> Work:
    """One workload. Without ``redraw`` the observed attempts are taken for the whole truth.

    Raises ValueError when a stratum that is demanded was not observed, or no ticket comes.
    """
    names = _observed(observed, demand.strata)
    random = np.random.default_rng([seed, replication])
    uses = _known_uses(observed, names)
    arrivals, rows = [np.empty(0)], [np.empty((0, 1 + len(uses)))]
    for name in names:
        table = _table(observed[name], uses)
        if redraw:
            table = table[random.integers(0, len(table), len(table))]
        coming = random.poisson(demand.per_hour.get(name, 0.0) * demand.hours)
        known = [second for second, stratum in demand.arrivals if stratum == name]
        by_chance = random.uniform(0.0, demand.hours * 3600, coming)
        arrivals.append(np.concatenate([np.zeros(demand.backlog.get(name, 0)), known, by_chance]))
        rows.append(table[random.integers(0, len(table), len(arrivals[-1]))])
    when, what = np.concatenate(arrivals), np.concatenate(rows)
    if not len(when):
        raise ValueError(f"in {demand.hours:g} hours it may be that no ticket comes at all: ask for a longer time")
    order = random.permutation(len(when))  # what waits at the start is in no order
    order = order[np.argsort(when[order], kind="stable")]
    columns = what[order].T
    return Work(when[order], columns[0], dict(zip(uses, columns[1:], strict=True)))


@dataclass(frozen=True)
class Workloads:
    """What is simulated: ``demand`` of tickets like those ``observed``, drawn ``replications`` times (None: as often as is quick and
    enough). With ``redraw`` what was observed is drawn again too, each time, so that how few tickets it is of is in the spread."""

    observed: Mapping[str, Observed]
    demand: Demand
    seed: int
    replications: int | None = None
    redraw: bool = True

    def drawn(self) -> list[Work]:
        """Raises ValueError as `draw` does."""
        times = self.replications or min(_MOST, max(_FEWEST, int(_TICKETS / max(1.0, self.demand.expected))))
        return [draw(self.observed, self.demand, self.seed, number, redraw=self.redraw) for number in range(times)]


def clear(workloads: Workloads, site: Site) -> Clearing:
    """How long ``site`` takes for them. Raises ValueError as `draw` and `queue.simulate` do."""
    works = workloads.drawn()
    outcomes = [simulate(work, site) for work in works]
    return Clearing(
        replications=len(works),
        seed=workloads.seed,
        tickets=sum(map(len, works)) / len(works),
        at_once=site.at_once,
        makespan_s=Spread.of([outcome.makespan_s for outcome in outcomes]),
        caught_up_s=Spread.of([outcome.caught_up_s for outcome in outcomes]),
        mean_wait_s=Spread.of([float(outcome.waits_s.mean()) for outcome in outcomes]),
        busy=float(np.mean([outcome.busy for outcome in outcomes])),
        held=_held(outcomes),
        divided_s=float(np.median([whole_s(work, site).sum() / site.at_once for work in works])),
        longest_s=float(np.median([whole_s(work, site).max() for work in works])),
        floor_s=float(np.median([least_s(work, replace(site, pods=len(work)))[0] for work in works])),
    )


def pods_for(deadline_s: float, probability: float, workloads: Workloads, site: Site) -> PodsNeeded:
    """The fewest pods with which the last ticket ends by ``deadline_s`` in at least ``probability`` of the simulations.

    ``site.pods`` does not matter. Every number of pods meets the same workloads. Raises ValueError as `draw` does, and for a
    deadline or a probability that cannot be.
    """
    if not 0 < deadline_s < math.inf or not 0 < probability <= 1:
        raise ValueError("a deadline lies after the start, and the probability to meet it above 0 and at most at 1")
    works = workloads.drawn()
    most = int(min(max(map(len, works)), site.most_pods))
    wanted = math.ceil(probability * len(works) - 1e-9)

    def meets(pods: int) -> bool:
        return _met(works, replace(site, pods=pods), deadline_s, wanted) >= wanted

    fails, enough = 0, 1
    while not (found := meets(enough)) and enough < most:
        fails, enough = enough, min(2 * enough, most)
    while found and enough - fails > 1:
        middle = (fails + enough) // 2
        fails, enough = (fails, middle) if meets(middle) else (middle, enough)
    outcomes = [simulate(work, replace(site, pods=enough)) for work in works]
    held = _held(outcomes)
    return PodsNeeded(
        deadline_s=deadline_s,
        probability=probability,
        pods=enough if found else None,
        most=most,
        met=sum(outcome.makespan_s <= deadline_s for outcome in outcomes),
        replications=len(works),
        seed=workloads.seed,
        limited_by=max(held, key=lambda name: held[name]),
        makespan_s=Spread.of([outcome.makespan_s for outcome in outcomes]),
    )


def steady(
    observed: Mapping[str, Observed], per_hour: Mapping[str, float], site: Site, *, seed: int, redraws: int = 200
) -> Steady:
    """Tickets that come by chance (Poisson) at these rates a stratum, for ever. Raises ValueError as `clear` does."""
    names = _observed(observed, {name for name, rate in per_hour.items() if rate})
    rates = np.array([per_hour[name] / 3600 for name in names])
    if not np.all(np.isfinite(rates)) or np.any(rates < 0) or not rates.sum():
        raise ValueError("tickets come at a finite rate above 0")
    uses = sorted(site.limits)
    tables = [_table(observed[name], uses) for name in names]
    loads = _loads(tables, rates, site, uses)
    random = np.random.default_rng([seed, 0])
    redrawn = ([table[random.integers(0, len(table), len(table))] for table in tables] for _ in range(redraws))
    answer = Steady(
        loads=loads,
        least_pods=math.floor(loads[limit_on_pods(site)] * site.at_once) + 1,
        overloaded=sum(max(_loads(some, rates, site, uses).values()) >= 1 for some in redrawn),
        redraws=redraws,
        growth_per_hour=max(0.0, (1 - 1 / max(loads.values())) * float(rates.sum()) * 3600),
        seed=seed,
    )
    if max(loads.values()) >= 1:
        return answer
    tickets = max(_STEADY_TICKETS, 20 * site.at_once)
    demand = Demand(per_hour=per_hour, hours=tickets / float(rates.sum()) / 3600)
    watched = [
        _Watched.of(simulate(work, site))
        for work in Workloads(observed, demand, seed, _STEADY_REPLICATIONS, redraw=False).drawn()
    ]
    waits = np.concatenate([part.waits_s for part in watched])
    return replace(
        answer,
        mean_wait_s=float(waits.mean()),
        long_wait_s=float(np.quantile(waits, 0.95)),
        present=float(np.mean([part.present for part in watched])),
        by_little=float(np.mean([part.by_little for part in watched])),
        busy=float(np.mean([part.busy for part in watched])),
    )


@dataclass(frozen=True)
class _Watched:
    """A simulation from the end of its warm-up to its last arrival."""

    waits_s: Floats
    present: float
    by_little: float
    busy: float

    @staticmethod
    def of(outcome: Outcome) -> _Watched:
        work = outcome.work
        first = int(_WARM_UP * len(work))
        since, until = float(work.arrivals[first]), float(work.arrivals[-1])
        seconds = until - since
        stays = (outcome.ended - work.arrivals)[first:]
        at_work = np.minimum(outcome.ended, until) - np.maximum(outcome.started, since)
        return _Watched(
            waits_s=outcome.waits_s[first:],
            present=outcome.mean_present(since, until),
            by_little=len(stays) / seconds * float(stays.mean()),
            busy=float(np.maximum(at_work, 0.0).sum()) / (outcome.at_once * seconds),
        )


def _observed(observed: Mapping[str, Observed], wanted: set[str]) -> list[str]:
    missing = sorted(wanted - set(observed))
    if missing:
        raise ValueError(f"the run has no attempt of {', '.join(missing)}: how long such tickets take is not known")
    if not wanted:
        raise ValueError("no ticket comes: there is nothing to simulate")
    return sorted(wanted)


def _known_uses(observed: Mapping[str, Observed], names: Sequence[str]) -> list[str]:
    """What every stratum says how much it uses of."""
    return sorted(set.intersection(*(set(observed[name].uses) for name in names)))


def _table(stratum: Observed, uses: Sequence[str]) -> Floats:
    """(attempts, 1 + uses): seconds, then what was used."""
    missing = [use for use in uses if use not in stratum.uses]
    if missing:
        raise ValueError(f"how many {' and '.join(missing)} a ticket takes is not known, so no limit on them can be simulated")
    return np.column_stack([np.asarray(column, dtype=float) for column in (stratum.seconds, *map(stratum.uses.get, uses))])


def _loads(tables: Sequence[Floats], rates: Floats, site: Site, uses: Sequence[str]) -> dict[str, float]:
    means = np.array([table.mean(axis=0) for table in tables])
    needed = rates @ means  # pods' seconds and uses, a second
    loads = {limit_on_pods(site): float(needed[0] + rates.sum() * site.reset_s) / site.at_once}
    return loads | {use: float(need) / site.limits[use].per_second for use, need in zip(uses, needed[1:], strict=True)}


def _met(works: Sequence[Work], site: Site, deadline_s: float, wanted: int) -> int:
    """How many of the works end by the deadline; counting stops where ``wanted`` cannot be reached any more."""
    met, left = 0, len(works)
    for work in works:
        left -= 1
        met += _ends_by(work, site, deadline_s)
        if met + left < wanted:
            break
    return met


def _ends_by(work: Work, site: Site, deadline_s: float) -> bool:
    if least_s(work, site)[0] > deadline_s:
        return False
    if (
        not work.arrivals[-1]
        and all(never_slowed(work, site, name) for name in site.limits)
        and most_s(work, site) <= deadline_s
    ):
        return True
    return simulate(work, site).makespan_s <= deadline_s


def _held(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """Shares of the makespan, averaged."""
    names = dict.fromkeys(name for outcome in outcomes for name in outcome.held)
    return {name: float(np.mean([outcome.held.get(name, 0.0) / outcome.makespan_s for outcome in outcomes])) for name in names}
