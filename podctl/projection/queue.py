"""Tickets that wait for pods, and pods that wait for a provider: one simulated day, exactly.

Tickets are started in the order of their arrival. A pod is first reset, then works its ticket for the seconds that it would take
alone. Meanwhile tokens and requests flow evenly out of the provider's buckets; while a bucket is empty, every ticket under way
is slowed by the same factor, so that together they use just what flows in. A clock that runs by that factor makes each
ticket one event: no rounds of a call are simulated, and calls that are refused and repeated cost no time of their own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Nothing takes no time at all: a ticket's use of tokens a second stays finite.
SHORTEST_S = 1e-3


@dataclass(frozen=True)
class Limit:
    """A provider's limit as it is kept: a bucket that ``per_minute`` flows into, and that is full at first.

    ``burst`` is the bucket's size; None is a minute's worth, as OpenAI and Anthropic have it.
    """

    per_minute: float
    burst: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.per_minute < math.inf or not 0 <= self.size < math.inf:
            raise ValueError("a limit is above 0 a minute, and its burst 0 or more; leave out what is not limited")

    @property
    def per_second(self) -> float:
        return self.per_minute / 60

    @property
    def size(self) -> float:
        return self.per_minute if self.burst is None else self.burst


@dataclass(frozen=True)
class Site:
    """Where tickets are worked. ``limits``: what is limited (``tokens``, ``requests``) -> its limit.

    ``connections`` is the database pool of all pods together, of which each takes ``connections_each``.
    """

    pods: int
    reset_s: float = 0.0
    limits: Mapping[str, Limit] = field(default_factory=dict)
    connections: int | None = None
    connections_each: int = 1

    def __post_init__(self) -> None:
        if self.pods < 1 or self.connections_each < 1 or not 0 <= self.reset_s < math.inf:
            raise ValueError("a site has at least one pod, a reset takes 0 seconds or more, and a pod at least one connection")
        if self.most_pods < 1:
            raise ValueError(f"a pool of {self.connections} connections is too small for one pod")

    @property
    def most_pods(self) -> float:
        """As many as the database pool serves."""
        return math.inf if self.connections is None else self.connections // self.connections_each

    @property
    def at_once(self) -> int:
        return int(min(self.pods, self.most_pods))


@dataclass(frozen=True)
class Work:
    """Tickets in the order of their arrival: ``arrivals`` in seconds, ascending; ``seconds`` each would take alone, without
    reset; ``uses``: what is limited -> how much each takes of it. All of one length, at least 1."""

    arrivals: Floats
    seconds: Floats
    uses: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = len(self.arrivals)
        if size == 0 or any(len(column) != size for column in (self.seconds, *self.uses.values())):
            raise ValueError("work is at least one ticket, with as many arrivals as seconds and uses")
        if np.any(np.diff(self.arrivals) < 0):
            raise ValueError("tickets come in the order of their arrival")
        for name, column in {"arrivals": self.arrivals, "seconds": self.seconds, **self.uses}.items():
            if not np.all(np.isfinite(column)) or np.any(column < 0):
                raise ValueError(f"{name} of a ticket are finite and not negative")

    def __len__(self) -> int:
        return len(self.arrivals)


def whole_s(work: Work, site: Site) -> Floats:
    """How long each ticket would hold a pod that no provider slows."""
    whole: Floats = np.maximum(work.seconds, SHORTEST_S) + site.reset_s
    return whole


#: What held the work up besides a provider's limits, which go by their own names.
PODS, POOL, LAST, NOTHING = "pods", "database connections", "last tickets", "no tickets"


@dataclass(frozen=True)
class Outcome:
    """``started`` (its reset begins) and ``ended`` are seconds, a ticket each.

    ``held`` is where the seconds from 0 to the last end went, by what would have to grow for the work to go faster: a limit's
    name while tickets are slowed by it; `PODS` (or `POOL`) while a ticket waits for one; `LAST` while the last tickets are
    under way and pods stand idle; `NOTHING` while pods wait for tickets to arrive.
    """

    work: Work
    at_once: int
    started: Floats
    ended: Floats
    held: Mapping[str, float]

    @property
    def makespan_s(self) -> float:
        """From 0 to the last end."""
        return float(self.ended.max())

    @property
    def waits_s(self) -> Floats:
        return self.started - self.work.arrivals

    @property
    def busy(self) -> float:
        """Share of the pods' time in which they had a ticket."""
        return float((self.ended - self.started).sum()) / (self.at_once * self.makespan_s)

    @property
    def caught_up_s(self) -> float:
        """When for the first time no ticket that has arrived is left waiting."""
        arrived = np.searchsorted(self.work.arrivals, self.started, side="right")
        return float(self.started[np.argmax(arrived <= np.arange(1, len(self.work) + 1))])

    def mean_present(self, since: float, until: float) -> float:
        """Tickets waiting or under way, averaged over the time between."""
        inside = np.minimum(self.ended, until) - np.maximum(self.work.arrivals, since)
        return float(np.maximum(inside, 0.0).sum()) / (until - since)


def simulate(work: Work, site: Site) -> Outcome:
    """Raises ValueError when a limit is set on something of which ``work`` does not say how much it takes."""
    missing = sorted(set(site.limits) - set(work.uses))
    if missing:
        raise ValueError(f"how many {' and '.join(missing)} a ticket takes is not known, so no limit on them can be simulated")
    started, ended = at_full_speed(work, site)
    slowed: dict[str, list[list[float]]] = {}
    if not all(_suffices(limit, work.uses[name], started + site.reset_s, ended) for name, limit in site.limits.items()):
        started, ended, slowed = under_limits(work, site)
    return Outcome(work, site.at_once, started, ended, _held(work, site, started, ended, slowed))


def least_s(work: Work, site: Site) -> tuple[float, str]:
    """No schedule ends sooner, and why: all the work over all pods (W/c), the longest ticket, or what a bucket gives.

    Counted from time 0, as if every ticket had been there.
    """
    whole = whole_s(work, site)
    bounds = [(float(whole.sum()) / site.at_once, limit_on_pods(site)), (float(whole.max()), LAST)]
    bounds += [_flow(work, name, limit) for name, limit in site.limits.items()]
    return max(bounds)


def most_s(work: Work, site: Site) -> float:
    """W/c + (1 − 1/c)·S_max: a backlog that no provider slows is done by then, whatever its order (Graham 1969)."""
    whole = whole_s(work, site)
    return float(whole.sum()) / site.at_once + (1 - 1 / site.at_once) * float(whole.max())


def _flow(work: Work, name: str, limit: Limit) -> tuple[float, str]:
    return max(0.0, float(work.uses[name].sum()) - limit.size) / limit.per_second, name


def limit_on_pods(site: Site) -> str:
    return POOL if site.most_pods <= site.pods else PODS


def never_slowed(work: Work, site: Site, name: str) -> bool:
    """Whether even the tickets that use most a second could not empty the bucket together."""
    uses, limit = work.uses[name], site.limits[name]
    at_once = min(site.at_once, len(uses))
    rates = np.partition(uses / np.maximum(work.seconds, SHORTEST_S), len(uses) - at_once)
    return bool(rates[len(uses) - at_once :].sum() <= limit.per_second or uses.sum() <= limit.size)


def _suffices(limit: Limit, uses: Floats, since: Floats, until: Floats) -> bool:
    """Whether the bucket never empties while each ticket takes its ``uses`` evenly between ``since`` and ``until``."""
    times, rates = np.concatenate([since, until]), uses / (until - since)
    order = np.argsort(times, kind="stable")
    demand = np.cumsum(np.concatenate([rates, -rates])[order])[:-1]
    taken = np.concatenate([[0.0], np.cumsum((demand - limit.per_second) * np.diff(times[order]))])
    # What the bucket lacks of being full is how far ``taken`` is above its lowest so far (Lindley 1952).
    return bool((taken - np.minimum.accumulate(taken)).max() <= limit.size)


def at_full_speed(work: Work, site: Site) -> tuple[Floats, Floats]:
    free = [0.0] * site.at_once
    started = []
    whole = whole_s(work, site)
    for arrival, seconds in zip(work.arrivals.tolist(), whole.tolist(), strict=True):
        begin = free[0] if free[0] > arrival else arrival
        heapreplace(free, begin + seconds)
        started.append(begin)
    begun = np.array(started)
    return begun, begun + whole


def under_limits(work: Work, site: Site) -> tuple[Floats, Floats, dict[str, list[list[float]]]]:
    """Also when each limit slowed the work: (from, until) in seconds."""
    names = [name for name in site.limits if not never_slowed(work, site, name)]
    flows = [site.limits[name].per_second for name in names]
    sizes = [site.limits[name].size for name in names]
    levels, demands = list(sizes), [0.0] * len(names)
    seconds = np.maximum(work.seconds, SHORTEST_S)
    rates = np.column_stack([work.uses[name] / seconds for name in names]).tolist()
    needs, arrivals, total = seconds.tolist(), work.arrivals.tolist(), len(work)
    started, ended = [0.0] * total, [0.0] * total
    slowed: dict[str, list[list[float]]] = {name: [] for name in names}
    resetting: deque[tuple[float, int]] = deque()
    working: list[tuple[float, int]] = []  # (end on the slowed clock, ticket)
    now = slow_clock = 0.0
    idle, following, done, reset_s = site.at_once, 0, 0, site.reset_s
    buckets = range(len(names))
    while done < total:
        while idle and following < total and arrivals[following] <= now:
            started[following] = now
            resetting.append((now + reset_s, following))
            idle, following = idle - 1, following + 1
        while resetting and resetting[0][0] <= now:
            _, ticket = resetting.popleft()
            heappush(working, (slow_clock + needs[ticket], ticket))
            for bucket in buckets:
                demands[bucket] += rates[ticket][bucket]
        pace, slowing = 1.0, -1
        for bucket in buckets:
            if levels[bucket] <= 0 and demands[bucket] * pace > flows[bucket]:
                pace, slowing = flows[bucket] / demands[bucket], bucket
        until, emptied = math.inf, -1
        ends = bool(working)
        if ends:
            until = now + (working[0][0] - slow_clock) / pace
        if resetting and resetting[0][0] < until:
            until, ends = resetting[0][0], False
        if idle and following < total and arrivals[following] < until:
            until, ends = arrivals[following], False
        for bucket in buckets:
            drain = demands[bucket] * pace - flows[bucket]
            if bucket != slowing and drain > 0 and levels[bucket] > 0 and now + levels[bucket] / drain < until:
                until, ends, emptied = now + levels[bucket] / drain, False, bucket
        passed = until - now
        for bucket in buckets:
            if bucket != slowing:
                level = levels[bucket] + (flows[bucket] - demands[bucket] * pace) * passed
                levels[bucket] = min(sizes[bucket], max(0.0, level))
        if emptied >= 0:
            levels[emptied] = 0.0
        if slowing >= 0:
            spans = slowed[names[slowing]]
            if spans and spans[-1][1] == now:
                spans[-1][1] = until
            else:
                spans.append([now, until])
        slow_clock = working[0][0] if ends else slow_clock + passed * pace
        now = until
        while working and working[0][0] <= slow_clock:
            _, ticket = heappop(working)
            ended[ticket] = now
            idle, done = idle + 1, done + 1
            for bucket in buckets:
                demands[bucket] -= rates[ticket][bucket]
        if not working:
            demands = [0.0] * len(names)  # what rounding left of them
    return np.array(started), np.array(ended), slowed


def _held(work: Work, site: Site, started: Floats, ended: Floats, slowed: Mapping[str, list[list[float]]]) -> dict[str, float]:
    """See `Outcome.held`. Waiting, idle and last seconds count only while nothing was slowed."""
    makespan, last_start = float(ended.max()), float(started[-1])
    held = {name: math.fsum(until - since for since, until in spans) for name, spans in slowed.items()}
    # In order of arrival both ends of waiting ascend, so its union is what each ticket adds to those before it.
    begins = np.maximum(work.arrivals, np.concatenate([[0.0], started[:-1]]))
    waiting = np.column_stack([begins, started])[started > begins]
    spans = np.array(sorted(span for part in slowed.values() for span in part)).reshape(-1, 2)
    whole = float((waiting[:, 1] - waiting[:, 0]).sum())
    held[limit_on_pods(site)] = max(0.0, whole - _overlap(waiting, spans))
    held[LAST] = max(0.0, makespan - last_start - _overlap(np.array([[last_start, makespan]]), spans))
    held[NOTHING] = max(0.0, makespan - math.fsum(held.values()))
    return held


def _overlap(some: Floats, others: Floats) -> float:
    """Seconds that lie in both; each (n, 2), ascending, and disjoint in itself."""
    if not len(some) or not len(others):
        return 0.0
    lengths = np.concatenate([[0.0], np.cumsum(others[:, 1] - others[:, 0])])

    def covered(moment: Floats) -> Floats:
        """Seconds of ``others`` before each moment."""
        before = np.searchsorted(others[:, 0], moment, side="right")
        cut = np.where(before > 0, np.maximum(0.0, others[np.maximum(before - 1, 0), 1] - moment), 0.0)
        result: Floats = lengths[before] - cut
        return result

    return float((covered(some[:, 1]) - covered(some[:, 0])).sum())
