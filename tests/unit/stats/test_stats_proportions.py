"""Intervals and tests against published or hand-computed values."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.stats.paired import mcnemar_worse
from podctl.stats.proportions import clustered_se, clustered_wilson, pass_hat_k, wilson


def test_wilson_as_newcombe_published_it() -> None:
    # Newcombe 1998, table I, method 3.
    for passed, of, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson(passed, of)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


def test_wilson_needs_a_trial() -> None:
    with pytest.raises(ValueError, match="at least one trial"):
        wilson(0, 0)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_is_symmetric(case: tuple[int, int]) -> None:
    passed, of = case
    interval, mirror = wilson(passed, of), wilson(of - passed, of)
    assert 0 <= interval.low <= passed / of <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirror.high)


def test_mcnemar_is_the_binomial_tail() -> None:
    # Five flips, all worse: 1/32. Five flips, four worse: (5 + 1)/32.
    assert mcnemar_worse(5, 0) == pytest.approx(1 / 32)
    assert mcnemar_worse(4, 1) == pytest.approx(6 / 32)
    assert mcnemar_worse(0, 7) == 1.0
    assert mcnemar_worse(0, 0) == 1.0


def test_clustered_standard_error_without_repeats_is_the_usual_one() -> None:
    clusters = [(1, 1)] * 30 + [(0, 1)] * 10
    assert clustered_se(clusters) == pytest.approx(math.sqrt(0.75 * 0.25 / 39))


def test_identical_repeats_add_nothing() -> None:
    once = [(1, 1)] * 30 + [(0, 1)] * 10
    eight = [(8, 8)] * 30 + [(0, 8)] * 10
    assert clustered_se(eight) == pytest.approx(clustered_se(once))
    one, many = clustered_wilson(once), clustered_wilson(eight)
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.05)
    naive = wilson(240, 320)
    assert many.high - many.low > 2 * (naive.high - naive.low)


def test_where_every_ticket_agrees_the_tickets_are_the_sample() -> None:
    assert clustered_wilson([(5, 5)] * 10) == wilson(10, 10)
    assert clustered_wilson([(3, 5)]).high - clustered_wilson([(3, 5)]).low > 0.8


def test_the_clustered_interval_covers_as_it_says() -> None:
    rng = random.Random(3)
    hits = naive = 0
    for _ in range(400):
        clusters = []
        for _ in range(50):
            skill = rng.betavariate(2, 0.7)
            clusters.append((sum(rng.random() < skill for _ in range(8)), 8))
        hits += clustered_wilson(clusters).contains(2 / 2.7)
        naive += wilson(sum(c for c, _ in clusters), 400).contains(2 / 2.7)
    assert 0.92 <= hits / 400 <= 0.98
    assert naive / 400 < 0.85


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(1, n))))
def test_pass_hat_k_is_the_share_of_k_subsets_that_all_pass(case: tuple[int, int, int]) -> None:
    passed, of, k = case
    outcomes = [True] * passed + [False] * (of - passed)
    subsets = list(itertools.combinations(outcomes, k))
    assert pass_hat_k(passed, of, k) == pytest.approx(sum(map(all, subsets)) / len(subsets))


def test_pass_hat_k_refuses_more_than_was_tried() -> None:
    with pytest.raises(ValueError, match="1 ≤ k ≤ trials"):
        pass_hat_k(2, 3, 4)
