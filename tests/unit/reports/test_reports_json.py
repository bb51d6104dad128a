"""The report for programs."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from example_run import attempt, example_comparison, info, run_saying

from podctl.evidence.causes import Cause
from podctl.evidence.results import RunResult
from podctl.reports.jsonreport import render_json
from podctl.reports.model import build_report


def report(run: RunResult) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    value: dict[str, Any] = json.loads(render_json(build_report(run)), parse_constant=refuse)
    return value


def test_the_keys_that_programs_rely_on() -> None:
    value = report(example_comparison())
    assert (value["apiVersion"], value["kind"], value["verdict"], value["status"]) == (
        "podctl/v1",
        "RunReport",
        "fail",
        "finished",
    )
    assert value["run"]["agentVersion"] == "2.1.0"
    assert value["summary"]["rate"]["passed"] == 37
    assert value["summary"]["rate"]["interval"]["low"] < 0.804 < value["summary"]["rate"]["interval"]["high"]
    assert value["summary"]["causes"]["sandbox_failed"] == 2
    assert value["summary"]["countedDollars"]["unknownAttempts"] == 1
    assert value["comparison"]["flips"][0]["direction"] in ("worse", "better")
    assert len(value["attempts"]) == 48
    assert value["attempts"][0]["tokens"]["total"] > 0
    assert {e["class"] for a in value["attempts"] for c in a["checks"] for e in c["diff"]} >= {"missing", "forbidden"}


def test_money_is_exact_and_the_unknown_null() -> None:
    made = (attempt("A", dollars=Decimal("0.1")), attempt("B", dollars=None), attempt("C", dollars=Decimal("1E-7")))
    value = report(RunResult(info(), "finished", made, "pass", spent_dollars=None))
    assert [a["dollars"] for a in value["attempts"]] == ["0.1", None, "0.0000001"]
    assert value["spentDollars"] is None
    assert value["summary"]["costPerTicket"] is None


def test_what_json_cannot_say_becomes_null() -> None:
    value = report(RunResult(info(settings={"x": float("inf")}), "finished", (attempt("A", confidence=float("nan")),), "pass"))
    assert value["attempts"][0]["confidence"] is None
    assert value["run"]["settings"] == {"x": None}


def test_any_text_survives_unchanged() -> None:
    text = "\u202e\ud800\x00</script>"
    value = report(run_saying(text))
    assert value["run"]["agentName"] == text
    assert value["attempts"][0]["checks"][0]["diff"][0]["key"] == {text: text}


def test_the_same_run_gives_the_same_bytes() -> None:
    assert render_json(build_report(example_comparison())) == render_json(build_report(example_comparison()))


def test_causes_are_spelled_as_in_the_evidence() -> None:
    value = report(RunResult(info(), "finished", (attempt("A", cause=Cause.AGENT_TIMED_OUT),), "fail"))
    assert value["attempts"][0]["cause"] == "agent_timed_out"
