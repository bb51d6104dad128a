"""What counts, what does not, and what is unknown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from example_run import attempt, attempts, example_run
from hypothesis import given
from hypothesis import strategies as st

from podctl.evidence.causes import Cause
from podctl.evidence.results import CheckResult, DiffEntry
from podctl.stats.calibration import calibrate
from podctl.stats.proportions import Interval, wilson
from podctl.stats.summary import summarize
from podctl.stats.units import dollars, interval_text, percent, seconds


def test_infrastructure_is_neither_failure_nor_success() -> None:
    summary = summarize(attempts(passed=8, failed=2, infrastructure=5, cancelled=3))
    assert (summary.rate.passed, summary.rate.of, summary.rate.share) == (8, 10, 0.8)
    assert summary.rate.interval == wilson(8, 10)
    assert (summary.infrastructure, summary.not_run) == (5, 3)
    assert summary.infrastructure_share == pytest.approx(5 / 15)
    assert summary.rate_if_infrastructure_failed == pytest.approx(8 / 15)
    assert summary.rate_if_infrastructure_passed == pytest.approx(13 / 15)


@pytest.mark.parametrize("cause", list(Cause))
def test_every_cause_lands_in_exactly_one_place(cause: Cause) -> None:
    summary = summarize([attempt(cause=cause)])
    assert summary.rate.of + summary.infrastructure + summary.not_run == 1
    assert summary.causes == {cause: 1}
    assert summary.rate.of == cause.counts


def test_a_pass_that_does_not_count_is_no_pass() -> None:
    odd = attempt("T-1")
    forged = type(odd)(**{**vars(odd), "cause": Cause.GRADER_FAILED})
    assert summarize([forged]).rate.passed == 0


def test_nothing_at_all() -> None:
    summary = summarize([])
    assert summary.rate.share is None
    assert summary.rate.interval is None
    assert summary.cost_per_ticket is None
    assert summary.dollar_quantiles is None
    assert summary.infrastructure_share == 0


def test_an_unknown_cost_is_counted_never_zero() -> None:
    summary = summarize([attempt("T-1", dollars=Decimal("0.10")), attempt("T-2", dollars=None)])
    assert summary.dollars.known == Decimal("0.10")
    assert summary.dollars.unknown == 1
    assert summary.dollars.total is None
    assert summary.cost_per_ticket is None
    assert summary.cost_per_resolved is None
    assert summary.dollar_quantiles is not None
    assert summary.dollar_quantiles.count == 1


def test_a_resolved_ticket_carries_the_cost_of_the_failed_ones() -> None:
    summary = summarize(attempts(passed=4, failed=6))
    assert summary.cost_per_ticket == Decimal("0.02")
    assert summary.cost_per_resolved == Decimal("0.05")
    assert summarize(attempts(passed=0, failed=2)).cost_per_resolved is None


def test_quantiles_are_values_that_were_observed() -> None:
    summary = summarize([attempt(f"T-{i}", wall_s=float(i)) for i in range(1, 101)])
    assert summary.second_quantiles is not None
    assert (summary.second_quantiles.p50, summary.second_quantiles.p95, summary.second_quantiles.max) == (50, 95, 100)
    assert summary.seconds_per_ticket == 50.5


def test_repeats_widen_the_interval_and_give_pass_hat_k() -> None:
    made = [attempt(f"T-{t}", passed=t < 6 or r == 0, id=f"{t}-{r}", repeat=r) for t in range(8) for r in range(4)]
    summary = summarize(made)
    assert (summary.rate.passed, summary.rate.of, summary.rate.tickets) == (26, 32, 8)
    naive = wilson(26, 32)
    assert summary.rate.interval is not None
    assert summary.rate.interval.low < naive.low
    assert summary.pass_hat[1] == pytest.approx(26 / 32)
    assert summary.pass_hat[4] == pytest.approx(6 / 8)
    assert summarize(attempts(3)).pass_hat == {}


def test_strata_add_up_to_the_whole() -> None:
    summary = summarize(example_run(scale=3, repeats=2).attempts)
    assert [s.name for s in summary.strata] == sorted(s.name for s in summary.strata)
    assert sum(s.rate.of for s in summary.strata) == summary.rate.of
    assert sum(s.rate.passed for s in summary.strata) == summary.rate.passed
    assert sum(s.infrastructure for s in summary.strata) == summary.infrastructure
    assert sum((s.dollars.known for s in summary.strata), Decimal(0)) == summary.counted_dollars.known


def test_a_forbidden_write_that_came_through_counts_as_crossing() -> None:
    forbidden = DiffEntry("forbidden", "shop", "payments", "update", {"id": 1})
    summary = summarize(
        [attempt("T-1", passed=False, checks=(CheckResult("state", "state", False, "", (forbidden,)),)), attempt("T-2")]
    )
    assert (summary.boundary_violating, summary.boundary_attempts) == (1, 0)


def test_calibration_bins_and_ignores_what_is_no_confidence() -> None:
    stated = [(0.95, True), (1.0, False), (0.81, True), (0.1, False), (float("nan"), True), (7.0, True), (None, True)]
    result = calibrate([attempt(f"T-{i}", ok, confidence=c) for i, (c, ok) in enumerate(stated)])
    assert result is not None
    assert (result.declared, result.undeclared) == (4, 3)
    assert [(b.low, b.attempts, b.passed) for b in result.bins] == [(0.0, 1, 0), (0.8, 3, 2)]
    assert calibrate(attempts(3)) is None


def test_rounding_keeps_certainty_out() -> None:
    assert percent(11 / 12) == "91.7 %"
    assert percent(0.5) == "50 %"
    assert percent(0.9999) == "> 99.9 %"
    assert percent(0.0001) == "< 0.1 %"
    assert (percent(0.0), percent(1.0)) == ("0 %", "100 %")
    assert interval_text(wilson(11, 12)) == "65–99 %"
    assert interval_text(Interval(0.913, 0.948)) == "91.3–94.8 %"


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0", "$0"), ("0.0423", "$0.0423"), ("0.5", "$0.50"), ("1.005", "$1.00"), ("1234.5", "$1,234.50"), ("0.0000314", "$0.0000314"),
     ("1e-12", "< $0.00000001"), ("0.9999", "$1.00")],
)  # fmt: skip
def test_dollars(amount: str, text: str) -> None:
    assert dollars(Decimal(amount)) == text


def test_durations() -> None:
    assert [seconds(s) for s in (0, 0.42, 0.9996, 12.34, 99.96, 245, 7625, float("nan"))] == [
        "0 ms", "420 ms", "1.0 s", "12.3 s", "1 min 40 s", "4 min 05 s", "2 h 07 min", "unknown",
    ]  # fmt: skip


@given(st.decimals(min_value=0, max_value=10**6, places=7))
def test_no_cost_reads_as_zero_unless_it_is(amount: Decimal) -> None:
    assert (dollars(amount) == "$0") == (amount == 0)
