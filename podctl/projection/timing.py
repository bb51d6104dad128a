"""How long the volume takes, how many pods a deadline needs, and whether pods keep up: `capacity` asked of a run's sample."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from podctl.evidence.records import TOKEN_KINDS
from podctl.projection import capacity
from podctl.projection.capacity import Demand, Observed, Spread, Workloads
from podctl.projection.figures import Cell, merged
from podctl.projection.model import LEAST, Clearing, Deadline, Estimate, SteadyState, Timing
from podctl.projection.queue import Limit, Site
from podctl.projection.sample import COLUMNS
from podctl.spec.volume import Volume, Work
from podctl.stats.units import percent

#: Of larger backlogs so many tickets are simulated, and the time is scaled: the last tickets then count too much, never too little.
MOST = 100_000
_HOURS = {"day": 24.0, "week": 168.0, "month": 8766 / 12, "quarter": 8766 / 4, "year": 8766.0}
_LEVEL = 0.9  # of `capacity.Spread`


def timing(cells: Sequence[Cell], busiest: Mapping[str, float], volume: Volume, pods: int, seed: int) -> Timing:
    """``cells``: their weights are tickets of all periods; ``busiest``: stratum -> tickets of the busiest period; ``pods``: of the run,
    which answers are for where the volume's `work` names none."""
    work = volume.work or Work()
    whole = {name: math.fsum(cell.weight for cell in cells if cell.stratum == name) for name in busiest}
    named = {f"{cell.stratum} {index}": cell for index, cell in enumerate(cells)}
    tickets = {name: cell.weight / whole[cell.stratum] * busiest[cell.stratum] for name, cell in named.items()}
    observed = {name: _observed(cell, work) for name, cell in named.items()}
    sampled = sum(cell.drawn.tickets for cell in merged(cells))
    scale = max(1.0, sum(tickets.values()) / MOST)
    demand = Demand(backlog={name: round(some / scale) for name, some in tickets.items()})
    sites = [_site(work, some) for some in work.pods or (pods,)]
    clearing: tuple[Clearing, ...] = ()
    deadline = arriving = None
    if demand.strata:
        workloads = Workloads(observed, demand, seed)
        clearing = tuple(_clearing(workloads, site, sampled, scale) for site in sites)
        if work.deadline is not None:
            deadline = _deadline(workloads, sites[0], work, sampled, scale)
    per_hour = {name: some / _HOURS[volume.period] for name, some in tickets.items() if some}
    if per_hour and volume.of == "future" and (volume.work is not None or volume.periods > 1):
        arriving = _steady(observed, per_hour, sites[-1], seed)
    return Timing(clearing, arriving, deadline, tuple(_assumptions(volume, work, scale, arriving is not None)))


def _observed(cell: Cell, work: Work) -> Observed:
    known = dict(zip(COLUMNS, cell.drawn.attempts.T, strict=True))
    uses = {}
    if work.provider.tokens_per_minute is not None:
        uses["tokens"] = np.sum([known[kind] for kind in TOKEN_KINDS], axis=0).tolist()
    if work.provider.requests_per_minute is not None:
        uses["requests"] = known["calls"].tolist()
    return Observed((known["hours"] * 3600).tolist(), uses)


def _site(work: Work, pods: int) -> Site:
    given = {"tokens": work.provider.tokens_per_minute, "requests": work.provider.requests_per_minute}
    limits = {name: Limit(limit) for name, limit in given.items() if limit is not None}
    return Site(pods, work.reset, limits, work.connections, work.connections_each)


def _clearing(workloads: Workloads, site: Site, sampled: int, scale: float) -> Clearing:
    found = capacity.clear(workloads, site)
    divided = found.divided_s * scale / 3600
    return Clearing(site.pods, _hours(found.makespan_s, scale, sampled, found.replications), divided, found.limited_by)


def _hours(spread: Spread, scale: float, sampled: int, replications: int) -> Estimate:
    value, low, high = (seconds * scale / 3600 for seconds in (spread.median, spread.low, spread.high))
    if sampled < LEAST:
        return Estimate(value, "hours", why=f"{sampled} tickets are too few for a range: {LEAST} at least")
    return Estimate(value, "hours", low, high, _LEVEL, f"simulated {replications} times")


def _deadline(workloads: Workloads, site: Site, work: Work, sampled: int, scale: float) -> Deadline:
    hours = (work.deadline or 0.0) / 3600
    if sampled < LEAST:
        return Deadline(hours, None, f"{sampled} tickets are too few to tell: {LEAST} at least")
    needed = capacity.pods_for((work.deadline or 0.0) / scale, work.chance, workloads, site)
    if needed.pods is not None:
        return Deadline(hours, needed.pods)
    return Deadline(hours, None, f"not even with {needed.most:,} pods, held up by {needed.limited_by}")


def _steady(observed: Mapping[str, Observed], per_hour: Mapping[str, float], site: Site, seed: int) -> SteadyState:
    found = capacity.steady(observed, per_hour, site, seed=seed)
    stable = found.mean_wait_s is not None
    why = "simulated once for the attempts as they are" if stable else "the queue grows without end"

    def told(value: float | None, unit: str) -> Estimate:
        return Estimate(value, "seconds" if unit == "seconds" else "tickets", why=why)

    return SteadyState(
        pods=site.pods,
        per_hour=math.fsum(per_hour.values()),
        stable=stable,
        busy=found.busy if found.busy is not None else found.loads[found.limited_by],
        least_pods=found.least_pods,
        growth_per_hour=found.growth_per_hour,
        overloaded=found.overloaded / found.redraws,
        wait_mean=told(found.mean_wait_s, "seconds"),
        wait_p95=told(found.long_wait_s, "seconds"),
        in_system=told(found.present, "tickets"),
        bound_by=found.limited_by,
    )


def _assumptions(volume: Volume, work: Work, scale: float, arriving: bool) -> Iterator[str]:
    what = "the busiest period's tickets" if volume.periods > 1 else "all tickets"
    yield f"for the time to clear them {what} wait at the start, in no order; a pod takes {work.reset:g} s between two"
    yield "no ticket takes longer than the longest that the run saw"
    if scale > 1:
        yield f"{MOST:,} tickets are simulated, and the time of all is in proportion"
    if work.provider.tokens_per_minute is not None:
        yield "tokens of every kind count alike against the provider's limit"
    if arriving:
        yield f"tickets arrive by chance, day and night, as many an hour as in the busiest {volume.period}"
    if work.deadline is not None:
        yield f"the deadline is met in {percent(work.chance)} of the simulations"
