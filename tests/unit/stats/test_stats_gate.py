"""Verdicts: what fails, what passes, and when there is none to give."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from example_run import attempt, attempts, info

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, EarlyStop, GateFinding, Quarantined, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.compare import compare
from podctl.stats.gate import judged


def decide(
    made: list[AttemptResult],
    before: list[AttemptResult] | None = None,
    /,
    fields: dict[str, object] | None = None,
    **gate: object,
) -> tuple[Verdict, dict[str, GateFinding]]:
    baseline = None if before is None else run(before)
    result = judged(run(made, **(fields or {})), Gate(**gate), baseline)  # type: ignore[arg-type]
    return result.verdict, {finding.name: finding for finding in result.findings}


def run(made: list[AttemptResult], **fields: object) -> RunResult:
    return RunResult(info(**fields), "finished", tuple(made), "pass")


@pytest.mark.parametrize(
    ("passed", "failed", "verdict"),
    # By the binomial: P(X ≥ 29 | 29, 0.9) = 0.047, P(X ≥ 28 | 28) = 0.052; P(X ≤ 23 | 30) = 0.026, P(X ≤ 24 | 30) = 0.073.
    [(29, 0, "pass"), (28, 0, "inconclusive"), (23, 7, "fail"), (24, 6, "inconclusive"), (27, 3, "inconclusive")],
)
def test_a_pass_rate_decides_where_luck_is_unlikely(passed: int, failed: int, verdict: Verdict) -> None:
    assert decide(attempts(passed, failed), pass_rate=0.9)[0] == verdict


def test_what_is_open_says_what_would_settle_it() -> None:
    verdict, findings = decide(attempts(11, 1), pass_rate=0.8)
    finding = findings["pass_rate"]
    assert verdict == "inconclusive"
    assert finding.message.startswith("11 of 12 passed; 90 % interval 66.1 % to 99.6 %: the sample cannot tell; about 47 more ")
    assert (finding.measured, finding.required, finding.more_tickets) == ("91.7 %", "≥ 80 %", 47)
    assert finding.more_dollars == Decimal("0.02") * 47
    # And it does: the same share of as many more settles it.
    assert decide(attempts(55, 5), pass_rate=0.8)[0] == "pass"


def test_at_the_threshold_itself_no_number_of_tickets_tells() -> None:
    finding = decide(attempts(270, 30), pass_rate=0.9)[1]["pass_rate"]
    assert (finding.verdict, finding.more_tickets) == ("inconclusive", None)
    assert "more tickets do not settle it" in finding.message


def test_a_population_that_has_too_few_is_said() -> None:
    finding = decide(attempts(11, 1), fields={"sample_size": 12, "population_size": 20}, pass_rate=0.8)[1]["pass_rate"]
    assert finding.message.endswith("and the population has only 8 more")
    none = decide(attempts(11, 1), fields={"sample_size": 12, "population_size": 12}, pass_rate=0.8)[1]["pass_rate"]
    assert none.message.endswith("and the population has no more")


def test_every_one_is_a_count() -> None:
    assert decide(attempts(3), pass_rate=1.0)[0] == "pass"
    assert decide(attempts(999, 1), pass_rate=1.0)[0] == "fail"
    assert decide(attempts(0, 3), pass_rate=0.0)[0] == "pass"


def test_several_requirements_share_the_chance_of_a_false_failure() -> None:
    """P(X ≤ 23 | 30, 0.9) = 0.026 fails alone; asked with another it is held to half of the 5 %."""
    made = attempts(23, 7)
    assert decide(made, pass_rate=0.9)[0] == "fail"
    verdict, findings = decide(made, made, pass_rate=0.9, regression=0.2)
    assert (verdict, findings["pass_rate"].verdict, findings["regression"].verdict) == ("inconclusive", "inconclusive", "pass")
    assert findings["pass_rate"].chance == pytest.approx(0.0516, abs=0.001)


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


def spread(amounts: list[str]) -> list[AttemptResult]:
    return [attempt(f"T-{i:03d}", dollars=Decimal(a), wall_s=float(a) * 100) for i, a in enumerate(amounts)]


def test_costs_and_times_that_do_not_vary_are_counts() -> None:
    assert decide(attempts(5), cost_per_ticket="0.02", seconds_per_ticket="4s")[0] == "pass"
    verdict, findings = decide(attempts(5), cost_per_ticket="0.0199")
    assert (verdict, findings["cost_per_ticket"].measured) == ("fail", "$0.02")
    assert decide(attempts(5), seconds_per_ticket=3.9)[0] == "fail"


def test_a_mean_decides_by_its_bounds() -> None:
    made = spread(["0.01", "0.02", "0.03"] * 20)  # mean 0.02, standard error 0.00106
    for most, verdict in (("0.0180", "fail"), ("0.0185", "inconclusive"), ("0.0215", "inconclusive"), ("0.0221", "pass")):
        assert decide(made, cost_per_ticket=most)[0] == verdict, most
        assert decide(made, seconds_per_ticket=float(most) * 100)[0] == verdict, most
    finding = decide(made, cost_per_ticket="0.0215")[1]["cost_per_ticket"]
    assert "90 % interval $0.0182 to $0.0218: the sample cannot tell" in finding.message
    assert finding.more_tickets == 127  # ((1.645 + 0.842) · 0.00823 / 0.0015)² is 187, less the 60


def test_few_cheap_tickets_do_not_pass_for_a_cheap_agent() -> None:
    """Student's t alone would pass this one: p = 0.048. The skewness says that dear tickets are missing."""
    made = spread(["0.01"] * 14 + ["0.02", "0.20"])
    finding = decide(made, cost_per_ticket="0.044")[1]["cost_per_ticket"]
    assert finding.verdict == "inconclusive"
    assert "low confidence: 16 tickets" in finding.message


def test_one_ticket_says_nothing_of_others() -> None:
    finding = decide(attempts(1), cost_per_ticket="0.05")[1]["cost_per_ticket"]
    assert (finding.verdict, finding.message) == ("inconclusive", "one ticket says nothing of others")


def test_one_unknown_cost_makes_the_cost_inconclusive() -> None:
    made = [*attempts(5), attempt("T-x", dollars=None)]
    verdict, findings = decide(made, cost_per_ticket="0.05")
    assert verdict == "inconclusive"
    assert "1 attempt is unknown" in findings["cost_per_ticket"].message
    assert decide(made)[0] == "pass"
    assert decide([*made, attempt("T-y", passed=False)], cost_per_ticket="0.05", pass_rate=1.0)[0] == "fail"


def test_what_the_run_may_cost_is_a_count_that_stands() -> None:
    spent = run(attempts(2, infrastructure=8))
    for most, verdict in (("0.20", "inconclusive"), ("0.19", "fail")):
        assert judged(replace(spent, spent_dollars=Decimal("0.20")), Gate(run_dollars=most)).verdict == verdict  # type: ignore[arg-type]
    unknown = replace(run([attempt("A", dollars=None), attempt("B", dollars=Decimal(3))]), spent_dollars=None)
    assert judged(unknown, Gate(run_dollars=Decimal(4))).verdict == "inconclusive"
    assert judged(unknown, Gate(run_dollars=Decimal(2))).verdict == "fail"


def test_costs_may_rise_by_so_much_over_the_baselines() -> None:
    before = spread(["0.01", "0.02", "0.03"] * 20)
    dearer = [replace(a, dollars=a.dollars * Decimal("1.2")) for a in before if a.dollars]
    assert decide(dearer, before, cost_rise=0.25)[0] == "pass"
    verdict, findings = decide(dearer, before, cost_rise=0.15)
    assert (verdict, findings["cost_rise"].measured) == ("fail", "+20.0 %")
    noisy = spread(["0.03", "0.02", "0.014"] * 20)
    assert decide(noisy, before, cost_rise=0.05)[0] == "inconclusive"
    assert decide([replace(a, dollars=None) for a in before], before, cost_rise=0.1)[0] == "inconclusive"


def test_regression_needs_a_baseline() -> None:
    verdict, findings = decide(attempts(5), regression=0.05)
    assert (verdict, findings["regression"].verdict) == ("inconclusive", "inconclusive")


def flipped(worse: int, better: int, same: int) -> tuple[list[AttemptResult], list[AttemptResult]]:
    """(before, after) of so many tickets."""
    outcomes = [(True, False)] * worse + [(False, True)] * better + [(True, True)] * same
    return tuple(
        [attempt(f"T-{i:04d}", pair[side], dollars=Decimal("0.02")) for i, pair in enumerate(outcomes)] for side in (0, 1)
    )  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("worse", "better", "same", "margin", "verdict"),
    [
        (5, 0, 55, 0.05, "fail"),  # 2^-5 = 0.031
        (4, 0, 56, 0.05, "inconclusive"),  # 2^-4 = 0.0625
        (13, 4, 183, 0.05, "fail"),  # 0.0245
        (3, 3, 54, 0.05, "inconclusive"),
        (3, 3, 54, 0.10, "pass"),
        (0, 0, 52, 0.05, "pass"),  # without a flip 52 tickets show a fall below 5 points, 51 do not
        (0, 0, 51, 0.05, "inconclusive"),
        (30, 10, 1960, 0.05, "pass"),  # certainly worse, and by less than is allowed
    ],
)
def test_regression_decides_where_luck_is_unlikely(worse: int, better: int, same: int, margin: float, verdict: Verdict) -> None:
    before, after = flipped(worse, better, same)
    assert decide(after, before, regression=margin)[0] == verdict


def test_an_open_regression_says_what_the_sample_can_find_and_what_settles_it() -> None:
    before, after = flipped(4, 3, 53)
    finding = decide(after, before, regression=0.05)[1]["regression"]
    assert finding.measured == "−1.7 points"
    assert finding.message == (
        "95 % → 93.3 % on 60 common tickets; 4 worse, 3 better; chance of that by luck p = 0.500; such a sample finds a fall"
        " of 11.6 points in 80 of 100 runs; about 670 more tickets, about $13.40, would settle it"
    )
    assert (finding.more_tickets, finding.detectable) == (670, pytest.approx(0.1163, abs=0.0005))


def test_who_watched_the_run_has_looked_before() -> None:
    before, after = flipped(5, 0, 55)
    assert decide(after, before, fields={"settings": {"run": {"fail_fast": True}}}, regression=0.05)[0] == "inconclusive"


def test_strata_are_held_to_the_margin_each_and_share_the_chance() -> None:
    def placed(stratum: str, *counts: int) -> tuple[list[AttemptResult], list[AttemptResult]]:
        return tuple([replace(a, ticket=stratum + a.ticket, stratum=stratum) for a in side] for side in flipped(*counts))  # type: ignore[return-value]

    a, b = placed("a", 0, 0, 100), placed("b", 6, 0, 94)  # 2^-6 = 0.016, twice that with two strata
    verdict, findings = decide(a[1] + b[1], a[0] + b[0], stratum_regression=0.05)
    assert (verdict, findings["stratum_regression"].measured) == ("fail", "−6 points in b")
    b = placed("b", 5, 0, 95)  # 0.031 alone would fail
    verdict, findings = decide(a[1] + b[1], a[0] + b[0], stratum_regression=0.05)
    assert verdict == "inconclusive" and "1 stratum of 2 cannot be told: b" in findings["stratum_regression"].message
    b = placed("b", 0, 0, 52)
    assert decide(a[1] + b[1], a[0] + b[0], stratum_regression=0.05)[0] == "pass"


def test_repeats_of_a_ticket_are_no_tickets_of_their_own() -> None:
    """Three tickets that fell with all of eight repeats are three tickets: 2^-3, not 2^-24."""
    before = [attempt(f"T-{t}", True, id=f"{t}-{r}", repeat=r) for t in range(30) for r in range(8)]
    after = [replace(a, passed=a.ticket not in ("T-1", "T-2", "T-3")) for a in before]
    comparison = compare(run(before), run(after))
    assert comparison.p_worse == pytest.approx(1 / 8)
    assert decide(after, before, regression=0.02)[0] == "inconclusive"


def test_passing_k_times_in_a_row() -> None:
    def repeated(always: int, half: int) -> list[AttemptResult]:
        return [
            attempt(f"T-{t:03d}", t < always or r % 2 == 0, id=f"{t}-{r}", repeat=r)
            for t in range(always + half)
            for r in range(4)
        ]

    verdict, findings = decide(repeated(50, 10), pass_hat={"k": 2, "share": 0.7})
    assert (verdict, findings["pass_hat"].measured) == ("pass", "86.1 %")  # (50 + 10 · C(2,2)/C(4,2)) / 60
    assert decide(repeated(50, 10), pass_hat={"k": 2, "share": 0.85})[0] == "inconclusive"
    assert decide(repeated(20, 40), pass_hat={"k": 2, "share": 0.7})[0] == "fail"
    assert "run with repeats of 5 or more" in decide(repeated(5, 5), pass_hat={"k": 5, "share": 0.7})[1]["pass_hat"].message


def test_quarantined_tickets_are_run_and_shown_and_do_not_count() -> None:
    made = attempts(40, 3)
    aside = {a.ticket: Quarantined("ana", "flaky", "2030-01-01") for a in made[-3:]}
    verdict, findings = decide(made, made, fields={"quarantine": aside}, pass_rate=0.9, regression=0.1)
    assert verdict == "pass"
    assert findings["pass_rate"].measured == "100 %" and "40 common" in findings["regression"].message
    assert "0 of 3 attempts on 3 quarantined tickets passed and none counts; with them the pass rate is 93 %" in (
        findings["quarantined"].message
    )
    crossed = [*made[:-1], replace(made[-1], boundary_attempts=1)]
    assert decide(crossed, fields={"quarantine": aside})[0] == "fail", "a boundary is crossed wherever it is"
    assert decide(made, fields={"quarantine": aside}, quarantined=0.05)[0] == "inconclusive"


def test_a_run_that_ended_early_failed_and_the_rest_of_it_is_no_sample() -> None:
    before, after = flipped(9, 0, 11)
    stop = EarlyStop(51.1, 9, 0, attempts_not_made=40, dollars_saved=Decimal("0.80"))
    result = judged(run(after), Gate(regression=0.05, pass_rate=0.9), run(before), stop)
    found = {finding.name: finding for finding in result.findings}
    assert (result.verdict, found["regression"].verdict) == ("fail", "fail")
    assert {found[name].verdict for name in ("pass_rate", "completeness")} == {"inconclusive"}, "it ended because of them"
    assert (
        "9 worse, 0 better, evidence 51 to 1 that it is worse; 40 attempts not made, about $0.80 saved"
        in found["regression"].message
    )
    assert result.comparison is not None and result.comparison.early_stop == stop


def test_no_common_ticket_cannot_be_compared() -> None:
    comparison = compare(run([attempt("A")]), run([attempt("B")]))
    assert comparison.p_worse is None
    verdict, findings = decide([attempt("B")], [attempt("A")], regression=0.1, stratum_regression=0.1, cost_rise=0.1)
    assert verdict == "inconclusive"
    assert all(
        "no ticket counts in both runs" in findings[n].message for n in ("regression", "stratum_regression", "cost_rise")
    )


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
    assert comparison.p_worse == pytest.approx(7 / 8)  # one fall and two rises of half a ticket: P(X ≥ 1 | 3)
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
