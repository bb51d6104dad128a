"""Where two runs differ, and how that is said."""

from __future__ import annotations

from dataclasses import replace

import pytest
from example_run import attempt, example_comparison, info

from podctl.evidence import codec
from podctl.evidence.causes import Cause
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult, Change, CheckResult, Comparison, DiffEntry, RunResult
from podctl.evidence.uses import with_uses
from podctl.reports.markdown import render_markdown
from podctl.reports.model import build_report
from podctl.reports.wording import attribution_lines
from podctl.stats.attribution import attribute, failure
from podctl.stats.compare import compare


def run(made: list[AttemptResult], **fields: object) -> RunResult:
    return RunResult(info(**fields), "finished", tuple(made), "pass")


def wrong(*classes: str) -> tuple[CheckResult, ...]:
    diff = tuple(DiffEntry(one, "db", "t", "update", {"id": 7}) for one in classes)  # type: ignore[arg-type]
    return (CheckResult("state", "state", False, "", diff), CheckResult("answer", "output", True))


def test_failures_of_a_kind_are_alike_whatever_the_ticket() -> None:
    assert failure(attempt("A")) == ""
    assert failure(attempt("A", False, checks=wrong("missing", "intended", "collateral"))) == "state (collateral, missing)"
    assert failure(attempt("A", False, checks=(CheckResult("tone", "command", False),))) == "tone"
    assert failure(attempt("A", cause=Cause.AGENT_TIMED_OUT, detail="no result after 120.4 s")) == "agent timed out"
    assert failure(attempt("A", False)) == "wrong result"


def test_what_changed_between_two_runs() -> None:
    before = [
        attempt(f"r{n}", stratum="refund", uses={"GET orders /o/{}": 1}, http_calls=1, tokens=Tokens(input=100))
        for n in range(10)
    ] + [attempt(f"c{n}", n > 0, stratum="cancel", checks=wrong("missing") if n == 0 else ()) for n in range(10)]
    after = [
        replace(a, passed=n >= 4, checks=wrong("collateral") if n < 4 else (), uses={"GET orders /o/{}": 3}, http_calls=3)
        for n, a in enumerate(before[:10])
    ] + [replace(a, passed=True, checks=()) for a in before[10:]]
    found = attribute(run(before), run(after))
    assert found is not None
    refund, cancel = found.strata
    assert (refund.stratum, refund.worse, refund.better, refund.baseline_rate, refund.rate) == ("refund", 4, 0, 1.0, 0.6)
    assert refund.part_of_fall == pytest.approx(0.2) and cancel.part_of_fall == pytest.approx(-0.05)
    assert refund.chance == pytest.approx(2 / 16), "corrected for two strata"
    assert found.reasons == (Change("state (collateral)", 0.0, 0.2), Change("state (missing)", 0.05, 0.0))
    assert found.uses == (Change("GET orders /o/{}", 0.5, 1.5),)
    assert {one.name: (one.before, one.now) for one in found.totals} == {"tokens": (50, 50), "calls to services": (0.5, 1.5)}
    assert attribution_lines(found) == [
        "kinds of tickets: refund 100 % → 60 % (4 worse, 0 better), cancel 90 % → 100 % (0 worse, 1 better)",
        "failures, of 100 attempts: state (collateral) 0 → 20, state (missing) 5 → 0",
        "calls, of 100 attempts: GET orders /o/{} 50 → 150",
        "for an attempt: calls to services 0.5 → 1.5",
    ]
    comparison = compare(run(before), run(after))
    assert comparison.attribution == found
    assert {flip.ticket: flip.failure for flip in comparison.flips} == {
        "c0": "state (missing)",
        **{f"r{n}": "state (collateral)" for n in range(4)},
    }
    assert codec.from_json(Comparison, codec.to_json(comparison)) == comparison


def test_infrastructure_and_tickets_of_one_run_are_no_change() -> None:
    before = [attempt("A"), attempt("B"), attempt("only before", False)]
    after = [attempt("A"), attempt("B", cause=Cause.SANDBOX_FAILED), attempt("only now", False)]
    found = attribute(run(before), run(after))
    assert found is not None and found.reasons == () and [one.tickets for one in found.strata] == [1]
    assert attribute(run([attempt("A")]), run([attempt("B")])) is None
    assert attribution_lines(None) == []


def test_reports_say_it() -> None:
    text = render_markdown(build_report(example_comparison()))
    assert "kinds of tickets: " in text and "failures, of 100 attempts" in text


def test_what_an_agent_used_is_bounded_and_without_names_of_single_things() -> None:
    uses: dict[str, int] = {}
    for path in ("/orders/A1105?x=1", "/orders/77", "/orders/0b0c3c5e-1f0f-4f7c-9d0f-aaaaaaaaaaaa/items"):
        uses = with_uses(uses, "http.call", {"service": "orders", "method": "GET", "path": path})
    assert uses == {"GET orders /orders/{}": 2, "GET orders /orders/{}/items": 1}
    call = {"call_id": "1", "status": "started", "tool_calls": [{"name": "refund"}]}
    assert with_uses({}, "model.call", call) == {}
    assert with_uses({}, "model.call", {**call, "status": 200}) == {"tool refund": 1}
    assert with_uses({}, "model.call", {"tool_calls": ["no", None, {}]}) == {"tool ": 3}
    assert with_uses({}, "http.call", {"service": "model-provider", "method": "POST", "path": "/v1"}) == {}
    for number in range(500):
        uses = with_uses(
            uses,
            "http.call",
            {"service": "s", "method": "GET", "path": "/" + "x" * 30 + "abcdefgh"[number % 8] + "/y" * number},
        )
    assert len(uses) <= 61 and all(len(name) <= 80 for name in uses)
    assert sum(uses.values()) == 503
