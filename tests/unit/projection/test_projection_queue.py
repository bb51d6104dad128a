"""The simulated queue against bounds, closed formulas and a second simulation that takes small steps."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.projection.queue import (
    LAST,
    NOTHING,
    PODS,
    POOL,
    Limit,
    Outcome,
    Site,
    Work,
    at_full_speed,
    least_s,
    most_s,
    simulate,
    under_limits,
)


def backlog(seconds: list[float], **uses: list[float]) -> Work:
    return Work(np.zeros(len(seconds)), np.array(seconds), {name: np.array(column) for name, column in uses.items()})


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=60), st.integers(1, 20), st.floats(0, 5))
def test_a_backlog_ends_between_its_bounds(seconds: list[float], pods: int, reset: float) -> None:
    work, site = backlog(seconds), Site(pods, reset)
    makespan = simulate(work, site).makespan_s
    assert least_s(work, site)[0] <= makespan * (1 + 1e-9)
    assert makespan <= most_s(work, site) * (1 + 1e-9)


def test_the_order_of_arrival_is_kept_and_pods_are_taken_as_they_get_free() -> None:
    work = Work(np.array([0.0, 0.0, 1.0, 50.0]), np.array([10.0, 4.0, 4.0, 1.0]))
    outcome = simulate(work, Site(2, reset_s=1.0))
    assert outcome.started.tolist() == [0, 0, 5, 50]
    assert outcome.ended.tolist() == [11, 5, 10, 52]
    assert outcome.held == {PODS: pytest.approx(4), LAST: pytest.approx(2), NOTHING: pytest.approx(46)}
    assert outcome.caught_up_s == 0  # two pods for the two that were there
    assert outcome.busy == pytest.approx((11 + 5 + 5 + 2) / 104)
    assert outcome.mean_present(0, 52) == pytest.approx((11 + 5 + 9 + 2) / 52)


def test_the_database_pool_bounds_the_pods() -> None:
    outcome = simulate(backlog([10.0] * 6), Site(6, connections=5, connections_each=2))
    assert outcome.makespan_s == 30
    assert outcome.held[POOL] == 20


def test_one_ticket_takes_what_the_bucket_holds_and_then_what_flows_in() -> None:
    outcome = simulate(backlog([100.0], tokens=[1000.0]), Site(1, 7.0, {"tokens": Limit(60, burst=100)}))
    # The reset is not slowed; then 900 of 1,000 tokens come at one a second.
    assert outcome.makespan_s == pytest.approx(7 + 900)
    # At full speed 10 a second go and 1 comes: the bucket lasts 100/9 seconds.
    assert outcome.held["tokens"] == pytest.approx(900 - 100 / 9)


def test_a_limit_nobody_reaches_changes_nothing() -> None:
    random = np.random.default_rng(5)
    seconds = random.lognormal(3, 1, 200)
    work = Work(np.cumsum(random.exponential(20, 200)), seconds, {"tokens": np.full(200, 90.0)})
    limited = Site(3, 2.0, {"tokens": Limit(6000, burst=8000)})
    started, ended = at_full_speed(work, limited)
    slowly_started, slowly_ended, slowed = under_limits(work, limited)
    assert np.allclose(started, slowly_started, rtol=1e-12)
    assert np.allclose(ended, slowly_ended, rtol=1e-12)
    assert slowed == {"tokens": []}


def test_a_provider_that_is_the_bottleneck_gives_its_rate_whatever_the_pods() -> None:
    random = np.random.default_rng(6)
    seconds = random.lognormal(3, 1, 3000)
    work = Work(np.zeros(3000), seconds, {"tokens": seconds * 100, "requests": np.ones(3000)})
    limits = {"tokens": Limit(60_000), "requests": Limit(1e6)}
    few, many = simulate(work, Site(40, limits=limits)), simulate(work, Site(400, limits=limits))
    bound, name = least_s(work, Site(400, limits=limits))
    assert name == "tokens"
    assert bound == pytest.approx((work.uses["tokens"].sum() - 60_000) / 1000)
    for outcome in (few, many):
        assert bound <= outcome.makespan_s < 1.05 * bound
        assert outcome.held["tokens"] > 0.95 * outcome.makespan_s


def in_small_steps(work: Work, site: Site, step: float) -> Outcome:
    """The same queue, looked at every ``step`` seconds."""
    size = len(work)
    left, reset = work.seconds.copy(), np.full(size, site.reset_s)
    started, ended = np.full(size, math.inf), np.full(size, math.inf)
    levels = {name: limit.size for name, limit in site.limits.items()}
    now, following = 0.0, 0
    while not np.isfinite(ended).all():
        while (
            following < size
            and work.arrivals[following] <= now
            and (started < math.inf).sum() - (ended < math.inf).sum() < site.at_once
        ):
            started[following], following = now, following + 1
        running = (started < math.inf) & (ended == math.inf)
        resetting = running & (reset > 0)
        working = running & ~resetting
        reset[resetting] -= step
        demands = {name: float((work.uses[name] / work.seconds)[working].sum()) for name in levels}
        pace = min(
            [
                1.0,
                *((levels[name] / step + site.limits[name].per_second) / demand for name, demand in demands.items() if demand),
            ]
        )
        left[working] -= step * pace
        for name, level in levels.items():
            limit = site.limits[name]
            levels[name] = min(limit.size, level + (limit.per_second - demands[name] * pace) * step)
        now += step
        ended[working & (left <= 0)] = now
    return Outcome(work, site.at_once, started, ended, {})


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32))
def test_under_limits_as_in_small_steps(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = int(random.integers(1, 12))
    seconds = random.uniform(2, 30, size)
    uses = {"tokens": random.uniform(0, 300, size), "requests": random.integers(1, 9, size).astype(float)}
    work = Work(np.sort(random.uniform(0, 40, size)), seconds, uses)
    limits = {"tokens": Limit(float(random.uniform(120, 2400)), float(random.uniform(0, 200))), "requests": Limit(30, 3)}
    site = Site(int(random.integers(1, 6)), float(random.uniform(0, 4)), limits)
    exact, stepped = simulate(work, site), in_small_steps(work, site, 0.02)
    assert np.allclose(exact.started, stepped.started, atol=0.6)
    assert np.allclose(exact.ended, stepped.ended, atol=0.6)
    assert exact.makespan_s >= least_s(work, site)[0] * (1 - 1e-9)
    assert math.fsum(exact.held.values()) == pytest.approx(exact.makespan_s)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Limit(0), "above 0"),
        (lambda: Limit(math.inf), "above 0"),
        (lambda: Limit(10, -1), "burst"),
        (lambda: Site(0), "at least one pod"),
        (lambda: Site(1, -1.0), "reset"),
        (lambda: Site(4, connections=1, connections_each=2), "too small"),
        (lambda: backlog([]), "at least one ticket"),
        (lambda: backlog([1.0], tokens=[]), "as many"),
        (lambda: backlog([-1.0]), "not negative"),
        (lambda: backlog([math.nan]), "finite"),
        (lambda: Work(np.array([2.0, 1.0]), np.ones(2)), "order"),
        (lambda: simulate(backlog([1.0]), Site(1, limits={"tokens": Limit(1)})), "how many tokens"),
    ],
)
def test_what_cannot_be_is_refused(made: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made()  # type: ignore[operator]
