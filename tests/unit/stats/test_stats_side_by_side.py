"""Differences of agents on common tickets: paired, with ranges that hold what they say, and refused where they cannot."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest
from example_run import attempt, info

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, Quarantined, RunResult
from podctl.stats.side_by_side import Against, SideBySide, score_interval, side_by_side


def run_of(rows: list[tuple[bool, float, float]], name: str = "run", **fields: object) -> RunResult:
    """Ticket by ticket (passed, dollars, seconds)."""
    made = tuple(
        attempt(f"T-{at}", passed, position=at, id=f"{at}-1", dollars=Decimal(repr(dollars)), wall_s=seconds)
        for at, (passed, dollars, seconds) in enumerate(rows)
    )
    return RunResult(info(id=name, **fields), "finished", made, "pass")


def compared(*runs: RunResult) -> SideBySide:
    return side_by_side([lambda run=run: run for run in runs])


def only(*runs: RunResult) -> Against:
    (other,) = compared(*runs).others
    return other


def changed(run: RunResult, number: int, **fields: object) -> RunResult:
    from dataclasses import replace

    parts: list[AttemptResult] = list(run.attempts)
    parts[number] = replace(parts[number], **fields)  # type: ignore[arg-type]
    return replace(run, attempts=tuple(parts))


def test_differences_are_of_the_later_run_less_the_first() -> None:
    before = run_of([(at % 2 == 0, 1.0 + at % 3, 10.0) for at in range(40)])
    after = run_of([(at % 4 != 3, 2.0 + at % 3, 9.0 + at % 2) for at in range(40)])
    found = only(before, after)
    assert found.same_sample and found.common_tickets == 40
    assert found.pass_rate.value == pytest.approx(0.25)
    assert found.cost_per_ticket.value == pytest.approx(1.0)
    assert found.seconds_per_ticket.value == pytest.approx(-0.5)
    spent = sum(1.0 + at % 3 for at in range(40))
    assert found.cost_per_resolved.value == pytest.approx((spent + 40) / 30 - spent / 20)


def test_students_range_is_the_textbooks() -> None:
    """Ten differences 1..10: mean 5.5, s = 3.02765, t(9, .975) = 2.262157."""
    found = only(run_of([(True, 1.0, 0.0)] * 10), run_of([(True, 1.0, float(at + 1)) for at in range(10)]))
    low, high = found.seconds_per_ticket.low, found.seconds_per_ticket.high
    assert (low, high) == (pytest.approx(3.33415, abs=1e-4), pytest.approx(7.66585, abs=1e-4))


def test_a_shares_range_is_tangos() -> None:
    """As the score test with its restricted estimate searched on a grid gives it; without a flip a range remains."""
    found = score_interval(1, 0, 43, 0.025)
    assert (found.low, found.high) == (pytest.approx(-0.0612, abs=2e-3), pytest.approx(0.1206, abs=2e-3))
    none = score_interval(0, 0, 30, 0.025)
    assert none.low == pytest.approx(-none.high) and 0.1 < none.high < 0.13


def test_ranges_hold_the_truth_as_often_as_they_say() -> None:
    """300 pairs of log-normal costs, correlated by ticket; 60 tickets each. Nominal 95 %; 3 standard errors are 3.8 points."""
    rng = random.Random(5)
    held = [0, 0, 0]
    for _ in range(300):
        rows: tuple[list[tuple[bool, float, float]], list[tuple[bool, float, float]]] = ([], [])
        for _ in range(60):
            hard = rng.gauss(0, 0.7)
            for side, (share, shift) in zip(rows, ((0.8, 0.0), (0.7, 0.3)), strict=True):
                cost = 2.718281828 ** (hard + shift + rng.gauss(0, 0.6))
                side.append((rng.random() < share, cost, cost))
        found = only(run_of(rows[0]), run_of(rows[1]))
        mean = 2.718281828 ** ((0.49 + 0.36) / 2)
        truth = (-0.1, mean * (2.718281828**0.3 - 1), mean * (2.718281828**0.3 / 0.7 - 1 / 0.8))
        parts = (found.pass_rate, found.cost_per_ticket, found.cost_per_resolved)
        for at, (part, true) in enumerate(zip(parts, truth, strict=True)):
            assert part.low is not None and part.high is not None
            held[at] += part.low <= true <= part.high
    assert all(count / 300 >= 0.912 for count in held), held


def test_with_several_each_range_is_wider() -> None:
    rng = random.Random(1)
    runs = [run_of([(rng.random() < 0.7, rng.random(), 1.0) for _ in range(50)], f"run-{number}") for number in range(3)]
    two, three = compared(*runs[:2]), compared(*runs)
    assert (two.level, three.level) == (0.95, 0.975)
    for name in ("pass_rate", "cost_per_ticket"):
        narrow, wide = getattr(two.others[0], name), getattr(three.others[0], name)
        assert wide.high - wide.low > narrow.high - narrow.low


def test_too_few_tickets_have_no_range() -> None:
    rows = [(True, float(at), 1.0 + at) for at in range(9)]
    found = only(run_of(rows), run_of(list(reversed(rows))))
    for part in (found.pass_rate, found.cost_per_ticket, found.cost_per_resolved, found.seconds_per_ticket):
        assert (part.low is None and part.told_apart is None and "9 tickets" in part.why) or "fewer than 10" in part.why


def test_no_spread_is_no_certainty() -> None:
    found = only(run_of([(True, 1.0, 1.0)] * 30), run_of([(True, 2.0, 1.0)] * 30))
    assert found.cost_per_ticket.low is None and found.cost_per_ticket.why == "every ticket differs by the same amount"


def test_an_unknown_cost_makes_the_difference_unknown() -> None:
    rows = [(True, 1.0 + at, 1.0) for at in range(20)]
    found = only(run_of(rows), changed(run_of(rows), 3, dollars=None))
    assert found.cost_per_ticket.value is None and found.cost_per_ticket.why == "the cost of 1 ticket is unknown"
    assert found.cost_per_resolved.value is None and found.pass_rate.value == 0


def test_nothing_resolved_is_no_ratio() -> None:
    found = only(run_of([(False, 1.0, 1.0)] * 20), run_of([(True, 1.0, 1.0)] * 20))
    assert found.cost_per_resolved.value is None and found.cost_per_resolved.why == "one of them resolved nothing"


def test_other_samples_are_said_and_only_common_tickets_count() -> None:
    rows = [(True, 1.0 + at, 1.0) for at in range(30)]
    found = only(run_of(rows), run_of(rows[:20], sample_digest="sha256:other"))
    assert not found.same_sample and found.common_tickets == 20
    assert any("samples differ" in note for note in found.notes)
    apart = only(run_of(rows), RunResult(info(), "finished", (attempt("elsewhere"),), "pass"))
    assert apart.pass_rate.value is None and apart.pass_rate.why == "no ticket counts in both runs"
    assert apart.cost_per_ticket.value is None and apart.seconds_per_ticket.value is None


def test_infrastructure_and_quarantine_do_not_count() -> None:
    rows = [(True, 1.0 + at, 1.0) for at in range(30)]
    lost = changed(run_of(rows), 0, cause=Cause.SANDBOX_FAILED, passed=False)
    assert only(run_of(rows), lost).common_tickets == 29 and only(run_of(rows), lost).pass_rate.value == 0
    aside = run_of(rows, quarantine={"T-1": Quarantined("me", "flaky", "2030-01-01")})
    found = only(run_of(rows), changed(aside, 1, passed=False))
    assert found.common_tickets == 29 and found.pass_rate.value == 0 and found.same_sample


def test_one_run_is_no_comparison() -> None:
    with pytest.raises(ValueError, match="two runs"):
        compared(run_of([(True, 1.0, 1.0)]))
