"""The chance that a draw has as many of a kind: against enumeration, simulation and a textbook."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.stats.representation import Stratum, expected, holm, tails

strata = st.lists(
    st.integers(1, 6).flatmap(lambda n: st.builds(Stratum, st.just(n), st.integers(0, n), st.integers(0, n))),
    min_size=1,
    max_size=3,
)


def every_draw(parts: list[Stratum]) -> list[int]:
    """How many of the kind each possible sample has."""
    draws = [
        [sum(index < part.of_kind for index in chosen) for chosen in itertools.combinations(range(part.total), part.drawn)]
        for part in parts
    ]
    return [sum(one) for one in itertools.product(*draws)]


@given(strata)
@settings(max_examples=60, deadline=None)
def test_tails_are_those_of_every_possible_sample(parts: list[Stratum]) -> None:
    counts = every_draw(parts)
    for found in set(counts):
        both = tails(found, parts)
        assert both.at_most == pytest.approx(sum(count <= found for count in counts) / len(counts))
        assert both.at_least == pytest.approx(sum(count >= found for count in counts) / len(counts))
    assert expected(parts) == pytest.approx(sum(counts) / len(counts))


def test_fishers_lady_tasting_tea() -> None:
    """Four of eight cups guessed right by luck: 1 in 70 (Fisher 1935, The Design of Experiments, chapter 2)."""
    assert tails(4, [Stratum(8, 4, 4)]).at_least == pytest.approx(1 / 70)


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot have 3"):
        tails(3, [Stratum(10, 2, 5)])
    with pytest.raises(ValueError, match="no stratum"):
        tails(0, [Stratum(2, 3, 1)])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_about_one_sample_in_twenty_is_suspected_and_not_more() -> None:
    """Forty columns of a hundred tickets, drawn honestly, many times."""
    chance = random.Random(5)
    kinds = [{ticket for ticket in range(100) if chance.random() < 0.3} for _ in range(40)]
    suspected = 0
    for _ in range(300):
        sample = set(chance.sample(range(100), 25))
        found = [tails(len(kind & sample), [Stratum(100, len(kind), 25)]).two_sided for kind in kinds]
        suspected += min(holm(found)) < 0.05
    assert suspected <= 24  # 15 expected at most; 24 is beyond 98 % of binomials
