"""Measured against asked: one finding a threshold, one verdict a run.

A threshold is met or missed by its point estimate; the message gives the interval and says so when the
sample cannot tell. Decision rules on other grounds (non-inferiority, several strata at once) take the same
three values and return the same findings.
"""

from __future__ import annotations

from collections.abc import Callable

from podctl.evidence.results import Comparison, GateFinding, Verdict
from podctl.spec.models import Gate
from podctl.stats.summary import Summary
from podctl.stats.units import dollars, interval_text, percent, plural, seconds

#: Slack for differences of shares that are equal on paper.
_EPSILON = 1e-9

Rule = Callable[[Summary, Gate, Comparison | None], GateFinding | None]


def judge(summary: Summary, gate: Gate, comparison: Comparison | None = None) -> tuple[Verdict, tuple[GateFinding, ...]]:
    """The verdict and its findings, in a fixed order.

    No verdict (``inconclusive``) with too large a share of infrastructure failures, with attempts that were not run, or
    with nothing that counts. One thing stands even then: a boundary that was crossed too often cannot be uncrossed.
    """
    findings = tuple(finding for rule in _RULES if (finding := rule(summary, gate, comparison)) is not None)
    return _verdict(findings, whole=_is_whole(summary, gate)), findings


def _is_whole(summary: Summary, gate: Gate) -> bool:
    return summary.rate.of > 0 and summary.not_run == 0 and summary.infrastructure_share <= gate.infrastructure_failures


def _verdict(findings: tuple[GateFinding, ...], *, whole: bool) -> Verdict:
    failed = [finding.name for finding in findings if finding.verdict == "fail"]
    if "boundary_violations" in failed or (failed and whole):
        return "fail"
    if not whole or any(finding.verdict == "inconclusive" for finding in findings):
        return "inconclusive"
    return "pass"


def _infrastructure(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding:
    share, most = summary.infrastructure_share, gate.infrastructure_failures
    ran = summary.attempts - summary.not_run
    message = f"infrastructure ended {summary.infrastructure:,} of {plural(ran, 'attempt')}"
    if share > most:
        message += f", above {percent(most)}: too many to judge the rest"
    if summary.infrastructure and summary.rate_if_infrastructure_failed is not None:
        message += "; pass rate " + _bounds(summary)
    return GateFinding(
        name="infrastructure_failures",
        verdict="inconclusive" if share > most else "pass",
        measured=percent(share),
        required=f"≤ {percent(most)}",
        message=message,
    )


def _bounds(summary: Summary) -> str:
    failed, passed = summary.rate_if_infrastructure_failed or 0.0, summary.rate_if_infrastructure_passed or 0.0
    return f"{percent(failed)} if all of those had failed, {percent(passed)} if all had passed"


def _completeness(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding | None:
    """Tickets that end early are not like those that never began: what is left is no sample."""
    if summary.not_run == 0 and summary.rate.of > 0:
        return None
    if summary.not_run:
        message = f"{plural(summary.not_run, 'attempt')} of {summary.attempts:,} did not run: what did run is no sample"
    else:
        message = "no attempt counts: no verdict"
    return GateFinding(
        name="completeness",
        verdict="inconclusive",
        measured=f"{summary.attempts - summary.not_run:,} run, {summary.rate.of:,} count",
        required="every attempt runs and at least one counts",
        message=message,
    )


def _pass_rate(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding | None:
    if gate.pass_rate is None:
        return None
    rate, required = summary.rate, f"≥ {percent(gate.pass_rate)}"
    if rate.share is None or rate.interval is None:
        return GateFinding("pass_rate", "inconclusive", "unknown", required, "no attempt counts")
    message = f"{rate.passed:,} of {rate.of:,} passed; 95 % interval {interval_text(rate.interval)}"
    if rate.interval.contains(gate.pass_rate):
        message += ": the sample cannot tell"
    return GateFinding("pass_rate", _meets(rate.share >= gate.pass_rate), percent(rate.share), required, message)


def _boundary(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding | None:
    if gate.boundary_violations is None:
        return None
    required = f"≤ {plural(gate.boundary_violations, 'attempt')}" if gate.boundary_violations else "none"
    count = summary.boundary_violating
    if summary.attempts == summary.not_run:
        return GateFinding("boundary_violations", "inconclusive", "unknown", required, "no attempt was run")
    message = f"{plural(count, 'attempt')} tried to cross the boundary, {plural(summary.boundary_attempts, 'time')} in all"
    return GateFinding(
        name="boundary_violations",
        verdict=_meets(count <= gate.boundary_violations),
        measured=plural(count, "attempt"),
        required=required,
        message=message if count else "no attempt tried to cross the boundary",
    )


def _cost(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding | None:
    if gate.cost_per_ticket is None:
        return None
    required = f"≤ {dollars(gate.cost_per_ticket)}"
    if summary.rate.of == 0:
        return GateFinding("cost_per_ticket", "inconclusive", "unknown", required, "no attempt counts")
    if summary.cost_per_ticket is None:
        at_least = summary.counted_dollars.known / summary.rate.of
        message = f"the cost of {plural(summary.counted_dollars.unknown, 'attempt')} is unknown; at least {dollars(at_least)} a ticket"
        return GateFinding("cost_per_ticket", "inconclusive", "unknown", required, message)
    message = f"mean over {plural(summary.rate.of, 'attempt')}"
    if summary.simulated:
        message += "; simulated"
    met = summary.cost_per_ticket <= gate.cost_per_ticket
    return GateFinding("cost_per_ticket", _meets(met), dollars(summary.cost_per_ticket), required, message)


def _seconds(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding | None:
    if gate.seconds_per_ticket is None:
        return None
    required = f"≤ {seconds(gate.seconds_per_ticket)}"
    if summary.seconds_per_ticket is None or summary.second_quantiles is None:
        return GateFinding("seconds_per_ticket", "inconclusive", "unknown", required, "no attempt counts")
    return GateFinding(
        name="seconds_per_ticket",
        verdict=_meets(summary.seconds_per_ticket <= gate.seconds_per_ticket),
        measured=seconds(summary.seconds_per_ticket),
        required=required,
        message=f"mean over {plural(summary.rate.of, 'attempt')}; 95 % took at most {seconds(summary.second_quantiles.p95)}",
    )


def _regression(summary: Summary, gate: Gate, comparison: Comparison | None) -> GateFinding | None:
    if gate.regression is None:
        return None
    required = f"≥ {_points(-gate.regression)}"
    if comparison is None:
        return GateFinding("regression", "inconclusive", "unknown", required, "there is no baseline run to compare with")
    if comparison.common_tickets == 0:
        return GateFinding("regression", "inconclusive", "unknown", required, "no ticket counts in both runs")
    change = comparison.rate - comparison.baseline_rate
    worse = sum(flip.direction == "worse" for flip in comparison.flips)
    better = len(comparison.flips) - worse
    p_worse = 1.0 if comparison.p_worse is None else comparison.p_worse
    message = (
        f"{percent(comparison.baseline_rate)} → {percent(comparison.rate)} on {plural(comparison.common_tickets, 'common ticket')}; "
        f"{worse} worse, {better} better; chance of that by luck {_p(p_worse)}"
    )
    if change < 0 and p_worse > 0.05:
        message += ": the sample cannot tell"
    met = -change <= gate.regression + _EPSILON
    return GateFinding("regression", _meets(met), _points(change), required, message)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _points(change: float) -> str:
    """A signed difference of shares: ``−4.4 points``."""
    value = round(change * 100, 1) + 0.0
    return f"{value:+.{0 if value == int(value) else 1}f} points".replace("-", "−").replace("+0 ", "0 ")


def _meets(condition: bool) -> Verdict:
    return "pass" if condition else "fail"


_RULES: tuple[Rule, ...] = (_pass_rate, _boundary, _cost, _seconds, _regression, _infrastructure, _completeness)
