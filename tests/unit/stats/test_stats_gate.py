"""Verdicts: what fails, what passes, and when there is none to give."""

from __future__ import annotations

from decimal import Decimal

import pytest
from example_run import attempt, attempts, info

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, GateFinding, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.compare import compare
from podctl.stats.gate import judge
from podctl.stats.summary import summarize


def decide(made: list[AttemptResult], **gate: object) -> tuple[Verdict, dict[str, GateFinding]]:
    verdict, findings = judge(summarize(made), Gate(**gate))  # type: ignore[arg-type]
    return verdict, {finding.name: finding for finding in findings}


def run(made: list[AttemptResult], **fields: object) -> RunResult:
    return RunResult(info(**fields), "finished", tuple(made), "pass")


def test_the_point_estimate_decides_and_the_interval_is_said() -> None:
    verdict, findings = decide(attempts(11, 1), pass_rate=0.9)
    assert verdict == "pass"
    assert findings["pass_rate"].message == "11 of 12 passed; 95 % interval 65–99 %: the sample cannot tell"
    assert (findings["pass_rate"].measured, findings["pass_rate"].required) == ("91.7 %", "≥ 90 %")


def test_below_the_threshold_fails_and_a_clear_miss_is_not_called_doubtful() -> None:
    verdict, findings = decide(attempts(100, 100), pass_rate=0.9)
    assert verdict == "fail"
    assert "cannot tell" not in findings["pass_rate"].message


def test_exactly_the_threshold_is_met() -> None:
    assert decide(attempts(27, 3), pass_rate=0.9)[0] == "pass"
    assert decide(attempts(7, 3), pass_rate=0.7)[0] == "pass"


def test_a_boundary_crossed_fails_by_default_and_can_be_tolerated() -> None:
    made = [*attempts(9), attempt("T-x", boundary_attempts=3)]
    verdict, findings = decide(made)
    assert (verdict, findings["boundary_violations"].verdict) == ("fail", "fail")
    assert "3 times" in findings["boundary_violations"].message
    assert decide(made, boundary_violations=1)[0] == "pass"
    assert decide(made, boundary_violations=None)[0] == "pass"
    assert decide([*attempts(9), attempt("T-x", cause=Cause.BOUNDARY_VIOLATION)])[0] == "fail"


def test_too_much_infrastructure_failure_means_no_verdict() -> None:
    verdict, findings = decide(attempts(2, 8, infrastructure=2), pass_rate=0.9)
    assert verdict == "inconclusive"
    assert findings["infrastructure_failures"].verdict == "inconclusive"
    assert "16.7 % if all of those had failed, 33.3 % if all had passed" in findings["infrastructure_failures"].message
    assert decide(attempts(95, infrastructure=5), pass_rate=0.9)[0] == "pass"


def test_a_crossed_boundary_stands_even_without_a_verdict_on_the_rest() -> None:
    assert decide([*attempts(2, infrastructure=8), attempt("T-x", boundary_attempts=1)])[0] == "fail"


def test_a_run_cut_short_gets_no_verdict() -> None:
    verdict, findings = decide(attempts(3, cancelled=9), pass_rate=0.9)
    assert verdict == "inconclusive"
    assert "9 attempts of 12 did not run" in findings["completeness"].message
    assert decide(attempts(0, 3, cancelled=9), pass_rate=0.9)[0] == "inconclusive"


@pytest.mark.parametrize("made", [[], attempts(0, infrastructure=3), attempts(0, cancelled=3)])
def test_nothing_that_counts_gets_no_verdict(made: list[AttemptResult]) -> None:
    verdict, findings = decide(made, pass_rate=0.0, cost_per_ticket="1", seconds_per_ticket=9, infrastructure_failures=1.0)
    assert verdict == "inconclusive"
    assert findings["pass_rate"].verdict == findings["cost_per_ticket"].verdict == "inconclusive"


def test_cost_and_time() -> None:
    verdict, findings = decide(attempts(5), cost_per_ticket="0.02", seconds_per_ticket="4s")
    assert verdict == "pass"
    verdict, findings = decide(attempts(5), cost_per_ticket="0.0199")
    assert (verdict, findings["cost_per_ticket"].measured) == ("fail", "$0.02")
    assert decide(attempts(5), seconds_per_ticket=3.9)[0] == "fail"


def test_one_unknown_cost_makes_the_cost_inconclusive() -> None:
    made = [*attempts(5), attempt("T-x", dollars=None)]
    verdict, findings = decide(made, cost_per_ticket="0.05")
    assert verdict == "inconclusive"
    assert "1 attempt is unknown" in findings["cost_per_ticket"].message
    assert decide(made, pass_rate=0.9)[0] == "pass"
    assert decide([*made, attempt("T-y", passed=False)], cost_per_ticket="0.05", pass_rate=1.0)[0] == "fail"


def test_regression_needs_a_baseline() -> None:
    verdict, findings = decide(attempts(5), regression=0.05)
    assert (verdict, findings["regression"].verdict) == ("inconclusive", "inconclusive")


@pytest.mark.parametrize(("allowed", "verdict"), [(0.2, "pass"), (0.1, "pass"), (0.05, "fail")])
def test_regression_is_the_fall_on_common_tickets(allowed: float, verdict: Verdict) -> None:
    before, after = run(attempts(20)), run(attempts(18, 2))
    comparison = compare(before, after)
    got, findings = judge(summarize(after.attempts), Gate(regression=allowed), comparison)
    finding = next(f for f in findings if f.name == "regression")
    assert (got, finding.verdict) == (verdict, verdict)
    assert finding.measured == "−10 points"
    assert "2 worse, 0 better; chance of that by luck p = 0.250: the sample cannot tell" in finding.message


def test_a_fall_of_exactly_what_is_allowed_is_allowed() -> None:
    comparison = compare(run(attempts(16, 4)), run(attempts(14, 6)))
    assert comparison.baseline_rate - comparison.rate > 0.1  # 0.8 − 0.7 in floating point
    assert judge(summarize(attempts(14, 6)), Gate(regression=0.1), comparison)[0] == "pass"


def test_no_common_ticket_cannot_be_compared() -> None:
    comparison = compare(run([attempt("A")]), run([attempt("B")]))
    assert comparison.p_worse is None
    assert judge(summarize([attempt("B")]), Gate(regression=0.1), comparison)[0] == "inconclusive"


def test_flips_by_majority_and_ties_fail() -> None:
    def repeated(ticket: str, *outcomes: bool) -> list[AttemptResult]:
        return [attempt(ticket, ok, id=f"{ticket}-{i}", repeat=i) for i, ok in enumerate(outcomes)]

    before = run([*repeated("A", True, True), *repeated("B", True, False), *repeated("C", False, False), *repeated("D", True)])
    after = run(
        [
            *repeated("A", True, False),
            *repeated("B", True, True),
            *repeated("C", False, True),
            attempt("D", cause=Cause.SEED_FAILED),
        ]
    )
    comparison = compare(before, after)
    assert comparison.common_tickets == 3
    assert [(f.ticket, f.direction, f.passed, f.of) for f in comparison.flips] == [("A", "worse", 1, 2), ("B", "better", 2, 2)]
    assert comparison.p_worse == pytest.approx(0.75)
    assert comparison.baseline_rate == pytest.approx(0.5)
    assert comparison.rate == pytest.approx(2 / 3)


def test_costs_and_times_are_of_common_tickets_and_unknown_stays_unknown() -> None:
    before = run([attempt("A", dollars=Decimal("0.10"), wall_s=10), attempt("Z", dollars=Decimal(9), wall_s=900)])
    after = run([attempt("A", dollars=None, wall_s=5)])
    comparison = compare(before, after)
    assert comparison.baseline_dollars_per_ticket == Decimal("0.10")
    assert comparison.dollars_per_ticket is None
    assert (comparison.baseline_seconds_per_ticket, comparison.seconds_per_ticket) == (10, 5)


def test_what_else_differs_is_noted() -> None:
    made = attempts(2)
    same = compare(run(made, agent_digest="a"), run(made, agent_digest="b"))
    assert same.notes == ()
    other = compare(
        run(made, agent_digest="a"),
        run(
            made,
            agent_digest="a",
            sample_digest="x",
            topology="other",
            spec_digest="y",
            model_mode="replay",
            repeats=2,
            simulated=True,
        ),
    )
    assert len(other.notes) == 7
    assert "samples differ: 2 common tickets of 2" in other.notes[0]
