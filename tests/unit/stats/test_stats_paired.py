"""Paired tests against enumeration, published values and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.stats.paired import holm, mcnemar_worse, paired, sign_flip, tango


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_sign_flips_are_counted_exactly(falls: list[int]) -> None:
    sizes = [abs(fall) for fall in falls]
    sums = [sum(s * z for s, z in zip(signs, sizes, strict=True)) for signs in itertools.product((1, -1), repeat=len(sizes))]
    assert sign_flip(falls) == pytest.approx(sum(total >= sum(falls) for total in sums) / len(sums))


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_without_repeats_it_is_mcnemar(worse: int, better: int, same: int) -> None:
    before = (
        {f"w{i}": (1, 1) for i in range(worse)}
        | {f"b{i}": (0, 1) for i in range(better)}
        | {f"s{i}": (1, 1) for i in range(same)}
    )
    after = {ticket: (0, 1) if ticket[0] == "w" else (1, 1) for ticket in before}
    pairs = paired(before, after)
    if pairs is None:
        assert not before
    else:
        assert pairs.p_worse == pytest.approx(mcnemar_worse(worse, better))
        assert (pairs.worse, pairs.better, pairs.design) == (worse, better, 1.0)


def test_tango_as_it_was_published() -> None:
    # Tango 1998, table of the crossover of soft lenses: 44 pairs, 0 and 1 discordant; the statistic at a difference of
    # −0.1 (the new system worse by a tenth) is 1.709, p = 0.044.
    assert tango(1, 0, 44, 0.1) == pytest.approx(0.0437, abs=0.0005)


def test_without_a_flip_the_number_of_tickets_decides() -> None:
    for tickets in (10, 52, 400):
        assert tango(0, 0, tickets, 0.05) == pytest.approx(math.erfc(math.sqrt(tickets * 0.05 / 0.95 / 2)) / 2)


@pytest.mark.parametrize("margin", [0.0, 0.05, 1.0])
def test_every_margin_has_an_answer(margin: float) -> None:
    for worse, better, tickets in ((0, 0, 3), (3, 0, 3), (0, 3, 3), (1, 1, 3)):
        assert 0 <= tango(worse, better, tickets, margin) <= 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_rejects_what_its_steps_reject(chances: list[float]) -> None:
    adjusted = holm(chances)
    rejected = set()
    for rank, index in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[index] * (len(chances) - rank) > 0.05:
            break
        rejected.add(index)
    assert {index for index, chance in enumerate(adjusted) if chance <= 0.05} == rejected


def test_what_settles_it_is_the_formula() -> None:
    before = {f"t{i}": (1, 1) for i in range(740)}
    after = {ticket: (0, 1) if i < 111 else (1, 1) for i, ticket in enumerate(before)}
    before |= {f"t{i}": (0, 1) for i in range(111, 222)}
    pairs = paired(before, after)
    assert pairs is not None and pairs.drop == 0
    assert pairs.tickets_to_settle(0.05) == pytest.approx(740, abs=5)  # ψ = 0.3
    assert pairs.tickets_to_settle(0.10) == pytest.approx(185, abs=2)
    assert pairs.detectable == pytest.approx(0.05, abs=0.001)
    assert pairs.tickets_to_settle(0.0) is None


@settings(deadline=None)
@given(st.data())
def test_ragged_repeats_are_compared_all_the_same(data: st.DataObject) -> None:
    counts = st.integers(1, 11).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of)))
    tickets = [f"t{i}" for i in range(data.draw(st.integers(1, 12)))]
    before, after = ({t: data.draw(counts) for t in tickets} for _ in range(2))
    pairs = paired(before, after)
    assert pairs is not None
    shares = [before[t][0] / before[t][1] - after[t][0] / after[t][1] for t in tickets]
    assert pairs.drop == pytest.approx(sum(shares) / len(shares), abs=0.002)
    assert 0 <= pairs.p_worse <= 1 and 0 <= pairs.p_inferior(0.1) <= 1 and 0 < pairs.design <= 1


def test_with_repeats_it_neither_fails_nor_passes_too_often() -> None:
    """Tickets of any difficulty, four attempts each: equal versions fail, and worse ones pass, in about 5 % at most."""
    rng = np.random.default_rng(5)
    failed = passed = 0
    for _ in range(600):
        skill = rng.beta(0.7, 0.35, 40)
        old, same = (rng.binomial(4, skill) for _ in range(2))
        worse = rng.binomial(4, np.where(np.arange(40) < 20, np.maximum(skill - 0.2, 0), skill))
        fall = float(np.mean(skill[:20] - np.maximum(skill[:20] - 0.2, 0))) / 2
        tickets = [f"t{i}" for i in range(40)]
        before = {t: (int(c), 4) for t, c in zip(tickets, old, strict=True)}
        equal = paired(before, {t: (int(c), 4) for t, c in zip(tickets, same, strict=True)})
        other = paired(before, {t: (int(c), 4) for t, c in zip(tickets, worse, strict=True)})
        assert equal is not None and other is not None
        failed += equal.p_worse <= 0.05
        passed += other.p_inferior(fall) <= 0.05
    assert failed / 600 <= 0.07 and passed / 600 <= 0.08
