"""What a sample would find, against simulation and the formula; and the gate against itself."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from example_run import attempt, example_run, info

from podctl.evidence.results import AttemptResult, RunResult
from podctl.spec.models import Gate
from podctl.stats.gate import judged
from podctl.stats.power import Design, chances, most_flips, own_flips, plan
from podctl.stats.selftest import self_test


def run(made: list[AttemptResult]) -> RunResult:
    return RunResult(info(), "finished", tuple(made), "pass")


@pytest.mark.parametrize(("flips", "fall"), [(0.3, 0.0), (0.3, 0.1), (0.12, 0.1)])
def test_chances_are_those_of_the_gate(flips: float, fall: float) -> None:
    rng = np.random.default_rng(3)
    verdicts = []
    for _ in range(300):
        worse, better, _ = rng.multinomial(80, [(flips + fall) / 2, (flips - fall) / 2, 1 - flips])
        before = [attempt(f"{n}", n < worse or n >= worse + better) for n in range(80)]
        after = [attempt(f"{n}", n >= worse) for n in range(80)]
        verdicts.append(judged(run(after), Gate(regression=0.1), run(before)).verdict)
    found = chances(Design(80, 1, flips), 0.1, fall)
    assert verdicts.count("fail") / 300 == pytest.approx(found.fail, abs=0.09)
    assert verdicts.count("pass") / 300 == pytest.approx(found.passes, abs=0.09)
    assert found.fail + found.passes + found.inconclusive == pytest.approx(1)


def test_the_figures_of_the_formula() -> None:
    """n ≈ ψ (2.487 / δ)² passes an unchanged version in 80 of 100 runs, and finds a fall of δ in as many."""
    for tickets, margin in ((742, 0.05), (186, 0.10)):
        design = Design(tickets, 1, 0.3)
        assert design.detectable == pytest.approx(margin, abs=0.0005)
        assert chances(design, margin, 0.0).passes == pytest.approx(0.8, abs=0.02)
        assert chances(design, margin, margin).fail == pytest.approx(0.78, abs=0.03)
    assert chances(Design(742, 1, 0.3), 0.05, 0.0).fail <= 0.05
    assert chances(Design(742, 1, 0.3), 0.05, 0.05).passes <= 0.055


def test_a_fall_that_flips_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least that share of flips"):
        chances(Design(50, 1, 0.02), 0.05, 0.05)
    assert chances(Design(60, 1, 0.0), 0.05, 0.0).passes == 1.0


def test_repeats_average_chance_away_and_nothing_else() -> None:
    assert Design(50, 4, 0.3, 1.0).effective == pytest.approx(200)
    assert Design(50, 4, 0.3, 0.0).effective == pytest.approx(50)
    assert most_flips(0.8, 0.0) == pytest.approx(0.32)
    assert own_flips([(1, 2), (2, 2), (3, 4)]) == pytest.approx((1 + 0 + 0.5) / 3)
    assert own_flips([(1, 1)]) is None


def test_a_plan_says_where_its_figures_come_from() -> None:
    bare = plan(60, 1000, 1, margin=0.05, limit=Decimal("1.00"))
    assert bare.most and bare.lines[0].dollars == Decimal(60) and len(bare.assumed) == 3
    base = example_run(repeats=2, quirks=False)
    known = plan(60, 1000, 2, margin=0.05, limit=Decimal("1.00"), base=base)
    assert not known.most and known.lines[0].tickets == 60 and known.lines[0].attempts == 120
    assert any("run-20251121" in note for note in known.assumed)
    assert [line.tickets for line in bare.lines] == [60, 30, 120, 240, bare.settles]
    given = plan(60, 1000, 1, margin=0.1, limit=Decimal(1), rate=0.9, flips=0.2, noise=1.0, dollars=Decimal("0.1"))
    assert given.assumed == () and given.lines[0].dollars == Decimal(6)


def test_a_version_against_itself() -> None:
    result = example_run(repeats=4, quirks=False, scale=2)
    test = self_test([result], Gate(regression=0.05, cost_rise=0.1), replications=30, seed=4)
    assert test is not None
    assert (test.tickets, test.repeats, sum(test.verdicts.values())) == (96, 2, 30)
    assert test.false_fails <= 0.09 and test.interval.low <= test.false_fails <= test.interval.high
    assert self_test([result], Gate(regression=0.05, cost_rise=0.1), replications=30, seed=4) == test
    assert self_test([example_run()], Gate()) is None, "one attempt each shows nothing"
    assert self_test([example_run(), example_run(seed=9)], Gate(), replications=100) is not None


def test_a_gate_that_fails_by_luck_is_seen() -> None:
    """Tickets' attempts that are dealt unfairly: the first half passes. Only a gate that saw the order would fail it."""
    made = [attempt(f"T-{n}", repeat == 0, id=f"{n}-{repeat}", repeat=repeat) for n in range(60) for repeat in range(2)]
    test = self_test([run(made)], Gate(regression=0.05), replications=200)
    assert test is not None and 0.005 <= test.false_fails <= 0.09
    fair = replace(run(made), attempts=tuple(a for a in made if a.repeat == 0))
    worse = replace(run(made), attempts=tuple(a for a in made if a.repeat == 1))
    assert judged(worse, Gate(regression=0.05), fair).verdict == "fail"
