"""Capacity against M/M/c and M/G/1, Little's law, deadlines worked out by hand, and a heavy tail that a division does not see."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from podctl.projection.capacity import Clearing, Demand, Observed, Workloads, clear, draw, pods_for, steady
from podctl.projection.queue import LAST, PODS, POOL, Limit, Site, simulate


def exponential(mean: float, size: int = 4000) -> Observed:
    """An exponential distribution's quantiles, as attempts."""
    return Observed((-mean * np.log1p(-(np.arange(size) + 0.5) / size)).tolist())


def erlang_wait_s(per_s: float, mean_s: float, pods: int) -> float:
    """Mean wait in M/M/c (Erlang 1917)."""
    load = per_s * mean_s
    last = load**pods / math.factorial(pods) / (1 - load / pods)
    waits = last / (sum(load**k / math.factorial(k) for k in range(pods)) + last)
    return waits * mean_s / (pods - load)


@pytest.mark.parametrize(("pods", "load"), [(1, 0.5), (1, 0.8), (4, 0.8), (12, 0.9)])
def test_waiting_is_erlangs(pods: int, load: float) -> None:
    found = steady({"all": exponential(60)}, {"all": load * pods * 60}, Site(pods), seed=1)
    assert found.mean_wait_s == pytest.approx(erlang_wait_s(load * pods / 60, 60, pods), rel=0.1)
    assert found.busy == pytest.approx(load, rel=0.03)
    assert found.loads == {PODS: pytest.approx(load, rel=0.01)}
    assert found.least_pods == math.floor(load * pods) + 1
    assert found.present == pytest.approx(found.by_little, rel=0.02)


def test_waiting_with_one_pod_and_a_tail_is_pollaczek_and_khinchines() -> None:
    random = np.random.default_rng(3)
    seconds = random.lognormal(3, 0.9, 500)
    rate = 0.6 / seconds.mean()
    found = steady({"all": Observed(seconds.tolist())}, {"all": rate * 3600}, Site(1), seed=2)
    assert found.mean_wait_s == pytest.approx(rate * (seconds**2).mean() / (2 * (1 - 0.6)), rel=0.1)


def test_more_than_pods_can_do_has_no_steady_state() -> None:
    observed = {"all": exponential(60)}
    found = steady(observed, {"all": 300}, Site(4), seed=1)
    assert found.loads[PODS] == pytest.approx(1.25, rel=0.01)
    assert found.growth_per_hour == pytest.approx(60, rel=0.02)
    assert (found.mean_wait_s, found.present, found.overloaded) == (None, None, 200)
    assert found.least_pods == 5 and found.limited_by == PODS
    # What an hour leaves behind, simulated.
    work = clear(Workloads(observed, Demand(per_hour={"all": 300}, hours=200), seed=1, replications=3, redraw=False), Site(4))
    assert work.makespan_s.median - 200 * 3600 == pytest.approx(200 * 60 * 60 / 4, rel=0.1)


def test_a_provider_can_be_what_does_not_keep_up() -> None:
    observed = {"all": Observed([30.0, 50.0], {"tokens": [8000.0, 12_000.0]})}
    found = steady(observed, {"all": 400}, Site(100, limits={"tokens": Limit(50_000)}), seed=1)
    assert found.loads["tokens"] == pytest.approx(400 * 10_000 / 60 / 50_000)
    assert found.limited_by == "tokens"
    assert found.growth_per_hour == pytest.approx(100)


def heavy_tails() -> dict[str, Observed]:
    """10,000 tickets' minutes in five strata, log-normal, σ 0.5 to 1.4: 7.8 h of work for each of 128 pods."""
    random = np.random.default_rng(11)
    strata = [(0.5, 4000, 1.0), (0.7, 2500, 1.5), (0.9, 1800, 2.0), (1.1, 1200, 4.0), (1.4, 500, 8.0)]
    drawn = [median * random.lognormal(0, sigma, count) for sigma, count, median in strata]
    scale = 7.8 * 3600 * 128 / sum(part.sum() for part in drawn)
    return {f"s{number}": Observed((part * scale).tolist()) for number, part in enumerate(drawn)}


def of_whole(observed: dict[str, Observed], pods: int, replications: int = 20) -> Clearing:
    demand = Demand({name: len(stratum.seconds) for name, stratum in observed.items()})
    return clear(Workloads(observed, demand, seed=4, replications=replications), Site(pods))


def test_a_division_does_not_see_the_tail() -> None:
    """10,000 heavy-tailed tickets on 128 pods: 7.8 h by W/c, and 13.6 h in a simulation that was made independently of this one."""
    found = of_whole(heavy_tails(), 128)
    assert found.divided_s / 3600 == pytest.approx(7.8, rel=0.03)
    assert found.makespan_s.low / 3600 < 13.6 < found.makespan_s.high / 3600
    assert found.makespan_s.median > 1.5 * found.divided_s
    assert found.held[LAST] > 0.3
    few = of_whole(heavy_tails(), 8, 5)
    assert few.makespan_s.median == pytest.approx(few.divided_s, rel=0.05)
    assert few.limited_by == PODS


def test_the_least_number_of_pods_is_found() -> None:
    observed, demand = {"all": Observed([60.0])}, Demand({"all": 100})
    found = pods_for(600, 0.95, Workloads(observed, demand, seed=1), Site(1))
    assert (found.pods, found.met) == (10, found.replications)
    assert pods_for(599, 0.95, Workloads(observed, demand, seed=1), Site(1)).pods == 12  # nine rounds of a minute
    assert pods_for(60, 0.95, Workloads(observed, demand, seed=1), Site(1)).pods == 100


def test_one_pod_less_would_miss_the_deadline() -> None:
    random = np.random.default_rng(8)
    seconds = random.lognormal(4, 1, 120)
    observed = {"all": Observed(seconds.tolist(), {"tokens": (seconds * 50).tolist()})}
    demand, site = Demand({"all": 800}), Site(1, 3.0, {"tokens": Limit(60_000)})
    found = pods_for(2.2 * 3600, 0.9, Workloads(observed, demand, seed=9, replications=60), site)
    assert found.pods is not None and found.met >= 54

    works = [draw(observed, demand, 9, number) for number in range(60)]

    def in_time(pods: int) -> int:
        return sum(simulate(work, replace(site, pods=pods)).makespan_s <= 2.2 * 3600 for work in works)

    assert in_time(found.pods) == found.met
    assert in_time(found.pods - 1) < 54


@pytest.mark.parametrize(
    ("site", "deadline", "limited_by"),
    [
        (Site(1, limits={"tokens": Limit(10_000)}), 3600.0, "tokens"),
        (Site(1, limits={"requests": Limit(2)}), 3600.0, "requests"),
        (Site(1), 50.0, LAST),
        (Site(1, connections=4), 1000.0, POOL),
    ],
)
def test_no_number_of_pods_is_an_answer(site: Site, deadline: float, limited_by: str) -> None:
    observed = {"all": Observed([60.0] * 5, {"tokens": [10_000.0] * 5, "requests": [4.0] * 5})}
    found = pods_for(deadline, 0.95, Workloads(observed, Demand({"all": 100}), seed=1), site)
    assert found.pods is None and found.met == 0
    assert found.limited_by == limited_by
    assert found.makespan_s.median > deadline


def test_a_backlog_is_caught_up_while_more_comes() -> None:
    observed = {"all": Observed([60.0])}
    demand = Demand({"all": 500}, per_hour={"all": 60}, hours=40)
    found = clear(Workloads(observed, demand, seed=1, replications=30), Site(2))
    # Two pods do 120 an hour, 60 come: 60 an hour less.
    assert found.caught_up_s.median == pytest.approx(500 / 60 * 3600, rel=0.05)


def test_known_arrivals_are_taken_as_they_are() -> None:
    observed = {"slow": Observed([100.0]), "quick": Observed([1.0])}
    demand = Demand(arrivals=[(10.0, "quick"), (0.0, "slow"), (200.0, "slow")])
    found = clear(Workloads(observed, demand, seed=1, replications=2), Site(1))
    assert found.makespan_s.median == 300
    assert found.mean_wait_s.median == pytest.approx(90 / 3)


def test_few_attempts_make_a_wide_range() -> None:
    random = np.random.default_rng(2)
    seconds = random.lognormal(3, 1, 200).tolist()
    demand = Demand({"all": 2000})
    few = clear(Workloads({"all": Observed(seconds[:10])}, demand, seed=1, replications=100), Site(4))
    many = clear(Workloads({"all": Observed(seconds)}, demand, seed=1, replications=100), Site(4))
    truth = clear(Workloads({"all": Observed(seconds)}, demand, seed=1, replications=100, redraw=False), Site(4))

    def width(found: Clearing) -> float:
        return (found.makespan_s.high - found.makespan_s.low) / found.makespan_s.median

    assert width(few) > 2 * width(many) > 3 * width(truth)


def test_a_seed_is_an_answer() -> None:
    observed, demand = heavy_tails(), Demand({"s0": 50, "s4": 50})
    once, again = (clear(Workloads(observed, demand, seed=5, replications=10), Site(8)) for _ in range(2))
    assert once == again
    assert clear(Workloads(observed, demand, seed=6, replications=10), Site(8)) != once


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda o: clear(Workloads(o, Demand({"none": 5}), seed=1), Site(1)), "no attempt of none"),
        (lambda o: clear(Workloads(o, Demand({"all": 0}), seed=1), Site(1)), "no ticket comes"),
        (lambda o: clear(Workloads(o, Demand({"all": 5}), seed=1), Site(1, limits={"tokens": Limit(5)})), "how many tokens"),
        (lambda o: clear(Workloads(o, Demand(per_hour={"all": 0.001}, hours=1), seed=1), Site(1)), "longer time"),
        (lambda o: steady(o, {"all": 0}, Site(1), seed=1), "no ticket comes"),
        (lambda o: steady(o, {"all": 5}, Site(1, limits={"tokens": Limit(5)}), seed=1), "how many tokens"),
        (lambda o: steady(o, {"all": -5}, Site(1), seed=1), "finite rate"),
        (lambda o: pods_for(0, 0.9, Workloads(o, Demand({"all": 5}), seed=1), Site(1)), "deadline"),
        (lambda o: pods_for(5, 1.1, Workloads(o, Demand({"all": 5}), seed=1), Site(1)), "probability"),
        (lambda o: Demand({"all": -5}), "not negative"),
        (lambda o: Observed([]), "at least one attempt"),
        (lambda o: Observed([1.0], {"tokens": []}), "all that it used"),
    ],
)
def test_what_cannot_be_answered_is_refused(ask: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ask({"all": Observed([1.0])})  # type: ignore[operator]
