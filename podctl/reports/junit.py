"""JUnit XML for continuous integration: one test case a ticket, one suite a stratum."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from xml.etree import ElementTree

from podctl.evidence.approvals import in_all
from podctl.evidence.results import AttemptResult
from podctl.reports.model import Outcome, Report, by_first_seen, outcome
from podctl.reports.text import visible
from podctl.reports.wording import cause_label, diff_line, reason
from podctl.stats.chaos import FaultScore
from podctl.stats.summary import crosses_boundary, is_infrastructure, is_pass
from podctl.stats.units import dollars

_DIFF_LINES = 100
_ELEMENT: dict[Outcome, str] = {"failed": "failure", "infrastructure": "error", "not run": "skipped"}


def render_junit(report: Report) -> str:
    """An agent's failure is a ``failure``, infrastructure's an ``error``, a ticket not run ``skipped``.

    A ticket with repeats goes by the majority of those that count; each repeat is in the test case's properties.
    """
    info = report.run.info
    strata: dict[str, dict[str, list[AttemptResult]]] = defaultdict(dict)
    for ticket, repeats in by_first_seen(report.run.plain.attempts).items():
        strata[repeats[0].stratum][ticket] = repeats
    root = ElementTree.Element("testsuites", name=visible(info.scenario, 200))
    totals: dict[Outcome, int] = defaultdict(int)
    for stratum in sorted(strata):
        suite = ElementTree.SubElement(root, "testsuite", name=visible(stratum, 200) or "(none)")
        _properties(
            suite,
            {
                "run": info.id,
                "agent": f"{info.agent_name} {info.agent_version}",
                "agent_digest": info.agent_digest,
                "verdict": report.run.verdict,
                "simulated": str(report.simulated).lower(),
                **_approvals(one for repeats in strata[stratum].values() for one in repeats),
            },
        )
        counts: dict[Outcome, int] = defaultdict(int)
        for ticket, repeats in strata[stratum].items():
            counts[_case(suite, f"{info.scenario}.{stratum}", ticket, repeats)] += 1
        _count(suite, counts, sum(a.wall_s for repeats in strata[stratum].values() for a in repeats))
        if info.started_ns:
            suite.set("timestamp", datetime.fromtimestamp(info.started_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
        for name, number in counts.items():
            totals[name] += number
    _attacked(root, report, totals)
    for score in report.chaos:
        for name, number in _faults(root, info.scenario, score).items():
            totals[name] += number
    _count(root, totals, report.summary.wall_s)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


_UNDER: dict[str, Outcome] = {"failed": "failed", "damaged": "failed", "not met": "not run", "apart": "not run"}


def _faults(root: ElementTree.Element, scenario: str, score: FaultScore) -> dict[Outcome, int]:
    """A suite for each fault of a chaos campaign; what did not meet it, or says nothing of it, is skipped."""
    suite = ElementTree.SubElement(root, "testsuite", name=f"under {visible(score.name, 80)}")
    counts: dict[Outcome, int] = defaultdict(int)
    for one in score.cases:
        case = ElementTree.SubElement(suite, "testcase", classname=f"{scenario}.{score.name}", name=visible(one.ticket, 200))
        _properties(case, {"attempt": one.attempt, "plain": one.plain, "outcome": one.outcome})
        result = _UNDER.get(one.outcome, "passed")
        if result in _ELEMENT:
            ElementTree.SubElement(case, _ELEMENT[result], message=visible(f"{one.outcome}: {one.why}", 400))
        counts[result] += 1
    _count(suite, counts, 0.0)
    return counts


def _approvals(attempts: Iterable[AttemptResult]) -> dict[str, str]:
    """What became of what the suite's attempts proposed; nothing where nobody answers proposals."""
    counts = in_all(one.approvals for one in attempts)
    return {} if counts is None else {f"approvals.{name}": f"{value:g}" for name, value in asdict(counts).items()}


def _case(suite: ElementTree.Element, class_name: str, ticket: str, repeats: Sequence[AttemptResult]) -> Outcome:
    result = outcome(repeats)
    case = ElementTree.SubElement(
        suite,
        "testcase",
        classname=visible(class_name, 300),
        name=visible(ticket, 200),
        time=f"{sum(a.wall_s for a in repeats):.3f}",
    )
    _properties(case, {f"repeat.{a.repeat}": _repeat(a) for a in repeats})
    if result in _ELEMENT:
        blamed = [a for a in repeats if _to_blame(a, result)]
        first = blamed[0]
        element = ElementTree.SubElement(case, _ELEMENT[result], message=visible(reason(first), 400))
        if result != "not run":
            element.set("type", str(first.cause))
            element.text = "\n".join(line for a in blamed for line in _explain(a))
    return result


def _attacked(root: ElementTree.Element, report: Report, totals: dict[Outcome, int]) -> None:
    """A suite more, a test case for each attempt with something planted: harm is a failure."""
    every = [one for one in report.run.attempts if one.variant is not None and one.attack is not None]
    attacked = [one for one in every if one.variant is not None and one.variant.kind == "attacked"]
    if not attacked:
        return
    suite = ElementTree.SubElement(root, "testsuite", name="attack")
    counts: dict[Outcome, int] = defaultdict(int)
    for one in attacked:
        assert one.variant is not None and one.attack is not None
        name = visible(f"{one.ticket}: {one.variant.name}", 300)
        case = ElementTree.SubElement(suite, "testcase", classname="attack", name=name, time=f"{one.wall_s:.3f}")
        told = visible("; ".join((*one.attack.done, *one.attack.stopped)), 600)
        _properties(case, {"attempt": one.id, "outcome": one.attack.outcome, "told": told})
        if is_infrastructure(one):
            result: Outcome = "infrastructure"
        else:
            result = "not run" if not one.cause.counts else "failed" if one.attack.outcome == "harmed" else "passed"
        if result in _ELEMENT:
            ElementTree.SubElement(case, _ELEMENT[result], message=told or visible(reason(one), 400))
        counts[result] += 1
        totals[result] += 1
    _count(suite, counts, sum(one.wall_s for one in attacked))


def _to_blame(attempt: AttemptResult, result: Outcome) -> bool:
    if result == "failed":
        return attempt.cause.counts and not is_pass(attempt)
    return result == "not run" or is_infrastructure(attempt)


def _repeat(attempt: AttemptResult) -> str:
    state = "passed" if is_pass(attempt) else cause_label(attempt.cause)
    cost = "cost unknown" if attempt.dollars is None else dollars(attempt.dollars)
    return f"attempt {attempt.id}: {state}, {attempt.wall_s:.1f} s, {cost}"


def _explain(attempt: AttemptResult) -> list[str]:
    lines = [f"attempt {attempt.id}: {cause_label(attempt.cause)}; {reason(attempt)}"]
    if crosses_boundary(attempt):
        lines.append(f"  tried to cross the boundary ({attempt.boundary_attempts})")
    lines += [f"  let a honeytoken out: {one}" for one in attempt.honeytokens or ()]
    if attempt.scan is not None:
        lines += [
            f"  left behind ({one.severity}): {one.where}: {one.what} ({one.rule})"
            for one in attempt.scan.findings[:_DIFF_LINES]
        ]
    for check in attempt.checks:
        if not check.passed:
            lines.append(f"  check {check.name}: {check.message or 'not as expected'}")
            lines += [f"    {diff_line(entry)}" for entry in check.diff[:_DIFF_LINES]]
            if len(check.diff) > _DIFF_LINES:
                lines.append(f"    and {len(check.diff) - _DIFF_LINES} more differences")
    return [visible(line, 600) for line in lines]


def _properties(parent: ElementTree.Element, values: dict[str, str]) -> None:
    element = ElementTree.SubElement(parent, "properties")
    for name, value in values.items():
        ElementTree.SubElement(element, "property", name=name, value=visible(value, 600))


def _count(element: ElementTree.Element, counts: dict[Outcome, int], wall_s: float) -> None:
    element.set("tests", str(sum(counts.values())))
    element.set("failures", str(counts["failed"]))
    element.set("errors", str(counts["infrastructure"]))
    element.set("skipped", str(counts["not run"]))
    element.set("time", f"{wall_s:.3f}")
