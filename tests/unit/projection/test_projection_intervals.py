"""The numbers under a projection, against exact answers and scipy's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from podctl.projection.intervals import (
    Ranged,
    added,
    bca_bounds,
    gamma_bounds,
    stratified_wilson,
    student_bounds,
    student_draws,
    widened,
)
from podctl.projection.resampling import resample
from podctl.stats.proportions import wilson

RNG = np.random.default_rng(5)
GROUPS = [RNG.lognormal(0, 1, (40, 2)), RNG.lognormal(1, 0.5, (25, 2))]
WEIGHTS = np.array([[1000.0, 1000.0], [300.0, 300.0]])


def test_sums_and_errors_are_those_of_stratified_sampling() -> None:
    found = resample(GROUPS, WEIGHTS, 4000, np.random.default_rng(1), [(0, 1)])
    first = [group[:, 0] for group in GROUPS]
    total = 1000 * first[0].mean() + 300 * first[1].mean()
    variance = 1000**2 * first[0].var(ddof=1) / 40 + 300**2 * first[1].var(ddof=1) / 25
    assert found.sums[0] == pytest.approx(total)
    assert found.errors[0] == pytest.approx(math.sqrt(variance))
    # The bootstrap's own variance is over n, not over n − 1.
    assert found.replicates[:, 0].mean() == pytest.approx(total, rel=0.01)
    plug_in = 1000**2 * first[0].var() / 40 + 300**2 * first[1].var() / 25
    assert found.replicates[:, 0].var() == pytest.approx(plug_in, rel=0.08)


def test_a_ratio_keeps_what_goes_together() -> None:
    """Of two columns that are the same the ratio is certain, however much each varies."""
    same = [np.column_stack([group[:, 0], 2 * group[:, 0]]) for group in GROUPS]
    found = resample(same, WEIGHTS, 500, np.random.default_rng(1), [(0, 1)])
    assert found.sums[2] == pytest.approx(0.5)
    assert found.errors[2] == pytest.approx(0, abs=1e-9)
    assert found.replicates[:, 2] == pytest.approx(0.5)
    apart = resample(GROUPS, WEIGHTS, 500, np.random.default_rng(1), [(0, 1)])
    assert apart.errors[2] == pytest.approx(apart.replicates[:, 2].std(), rel=0.2)


def test_chunks_of_weights_change_nothing_in_distribution() -> None:
    many = [RNG.lognormal(0, 1, (30_000, 1))]
    found = resample(many, np.array([[1.0]]), 300, np.random.default_rng(2))
    assert found.replicates[:, 0].std() == pytest.approx(found.errors[0], rel=0.15)
    assert len(np.unique(found.replicates[:, 0])) == 300


def test_bca_is_scipys() -> None:
    one = [group[:, [0]] for group in GROUPS]
    found = resample(one, WEIGHTS[:, [0]], 20_000, np.random.default_rng(3))
    low, high = bca_bounds(found, one, WEIGHTS[:, [0]], 0.95)

    def total(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return 1000 * first.mean(axis=axis) + 300 * second.mean(axis=axis)

    theirs = stats.bootstrap(
        [group[:, 0] for group in one], total, n_resamples=20_000, method="BCa", random_state=np.random.default_rng(4)
    )
    assert low[0] == pytest.approx(theirs.confidence_interval.low, rel=0.01)
    assert high[0] == pytest.approx(theirs.confidence_interval.high, rel=0.01)


def test_the_students_interval_is_that_of_its_replications() -> None:
    """By hand, one resample at a time."""
    values = GROUPS[0][:, :1]
    found = resample([values], np.array([[1.0]]), 4000, np.random.default_rng(6))
    rng = np.random.default_rng(7)
    error = values.std(ddof=1) / math.sqrt(len(values))
    away = []
    for _ in range(4000):
        again = values[rng.integers(0, len(values), len(values))]
        own = again.std(ddof=1) / math.sqrt(len(values)) / again.mean()
        away.append((math.log(again.mean()) - math.log(values.mean())) / own)
    near, far = np.quantile(away, (0.025, 0.975))
    relative = error / values.mean()
    low, high = student_bounds(found, 0.95, log=True)
    assert low[0] == pytest.approx(values.mean() * math.exp(-far * relative), rel=0.03)
    assert high[0] == pytest.approx(values.mean() * math.exp(-near * relative), rel=0.05)


def test_draws_have_the_intervals_bounds_as_their_quantiles() -> None:
    found = resample([GROUPS[0][:, :1]], np.array([[1.0]]), 4000, np.random.default_rng(6))
    low, high = student_bounds(found, 0.9, log=True)
    assert np.quantile(student_draws(found, 0), (0.05, 0.95)) == pytest.approx([low[0], high[0]], rel=0.01)


@given(st.integers(0, 400), st.floats(0.01, 1e6))
def test_gamma_bounds_of_equal_weights_are_the_exact_ones_of_a_count(events: int, weight: float) -> None:
    """Garwood 1936, as weighted sums of one weight are counts."""
    low, high = gamma_bounds(np.array(events * weight), np.array(events * weight**2), np.array(weight), 0.95)
    exact_low = stats.chi2.ppf(0.025, 2 * events) / 2 if events else 0.0
    assert float(low) == pytest.approx(exact_low * weight)
    assert float(high) == pytest.approx(stats.chi2.ppf(0.975, 2 * events + 2) / 2 * weight)


def test_two_ranges_add_up() -> None:
    one = Ranged(np.array([10.0]), np.array([7.0]), np.array([14.0]))
    other = Ranged(np.array([5.0]), np.array([1.0]), np.array([8.0]))
    found = added(one, other)
    assert (found.value, found.low, found.high) == (15.0, 15 - 5.0, 15 + 5.0)
    assert added(one, other, 1.0).high == 15 + 7.0
    sure = Ranged(np.array([5.0]), np.array([5.0]), np.array([5.0]))
    assert (added(one, sure).low, added(one, sure).high) == (12.0, 19.0)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1), st.floats(0.1, 5)), min_size=1, max_size=6))
def test_a_share_lies_in_its_range(groups: list[tuple[int, float, float]]) -> None:
    tickets = [of for of, _, _ in groups]
    passed = [round(of * share) for of, share, _ in groups]
    weights = [weight / sum(weight for _, _, weight in groups) for _, _, weight in groups]
    shares = [np.array([1.0] * some + [0.0] * (of - some)) for some, of in zip(passed, tickets, strict=True)]
    found = stratified_wilson(shares, weights, 0.95)
    share = sum(weight * some / of for some, of, weight in zip(passed, tickets, weights, strict=True))
    assert -1e-9 <= found.low <= share + 1e-9 and share - 1e-9 <= found.high <= 1 + 1e-9
    assert found.high > found.low


def test_a_share_of_one_group_is_wilsons() -> None:
    assert stratified_wilson([np.array([1.0] * 7 + [0.0] * 3)], [1.0], 0.95) == wilson(7, 10)


def test_repeats_narrow_a_share_as_far_as_tickets_allow() -> None:
    """50 tickets × 8: between 50 attempts and 400, as their design effect has it."""
    shares = np.random.default_rng(8).binomial(8, np.random.default_rng(9).beta(3.4, 1.5, 50)) / 8
    found = stratified_wilson([shares], [1.0], 0.95)
    share, width = shares.mean(), found.high - found.low
    wide, narrow = wilson(share * 50, 50), wilson(share * 400, 400)
    assert narrow.high - narrow.low < width < wide.high - wide.low
    assert width == pytest.approx(2 * 2.01 * shares.std(ddof=1) / math.sqrt(50), rel=0.05)
    # Two strata that are one do not know more.
    halves = stratified_wilson([shares[:25], shares[25:]], [0.5, 0.5], 0.95)
    assert halves.high - halves.low == pytest.approx(width, rel=0.1)


def test_a_range_is_widened_by_what_else_varies() -> None:
    assert widened(8.0, 12.5, 10.0, 0.0, 0.95) == (8.0, 12.5)
    low, high = widened(10.0, 10.0, 10.0, 0.1, 0.95)
    assert math.log(high / 10) == pytest.approx(1.96 * math.sqrt(math.log(1.01)), rel=1e-3)
    assert low * high == pytest.approx(100)
    assert widened(0.0, 5.0, 2.0, 0.3, 0.95)[0] == 0.0
