"""Pairs of a chaos campaign: what each comes to, what the rates are, and what the gate says of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from example_run import attempt, info

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, Campaign, CheckResult, DiffEntry, FaultsMet, GateFinding, RunResult, Variant
from podctl.spec.models import Gate
from podctl.stats.chaos import case_of, scores
from podctl.stats.gate import judged

MET = FaultsMet({"errors": 1}, 0.5)


def plain(number: int, passed: bool = True, **more: Any) -> AttemptResult:
    return replace(attempt(f"T-{number}", passed), **{"id": f"{number:04d}-1", "repeat": 1, "wall_s": 2.0, "checks": ()} | more)


def faulted(of: AttemptResult, passed: bool = True, name: str = "errors", **more: Any) -> AttemptResult:
    variant = Variant(name, name, 1, {"of": of.id, "faults": []})
    return replace(of, **{"id": of.id[:-1] + "2", "repeat": 2, "passed": passed, "variant": variant, "faults": MET} | more)


def run_of(pairs: list[tuple[AttemptResult, AttemptResult]]) -> RunResult:
    attempts = tuple(one for pair in pairs for one in pair)
    return RunResult(replace(info(), campaign=Campaign("chaos", "chaos", 1, "d")), "finished", attempts, "pass")


def gate(pairs: list[tuple[AttemptResult, AttemptResult]], **asked: Any) -> dict[str, GateFinding]:
    found = judged(run_of(pairs), Gate.model_validate({"chaos": asked})).findings
    return {one.name: one for one in found if one.name.startswith("chaos")}


ENTRY = DiffEntry("collateral", "db", "ledger", "insert", {"id": 7})
HARMED = (CheckResult("state", "state", False, "1 collateral", (ENTRY,)),)


@pytest.mark.parametrize(
    ("before", "change", "outcome"),
    [
        ({}, {}, "coped"),
        ({}, {"wall_s": 6.0}, "degraded"),
        ({}, {"wall_s": 6.0, "faults": FaultsMet({"latency": 1}, 4.0)}, "coped"),
        ({"dollars": Decimal(1)}, {"dollars": Decimal(2)}, "degraded"),
        ({}, {"passed": False, "detail": "exit code 1"}, "failed"),
        ({}, {"passed": False, "checks": HARMED}, "damaged"),
        (
            {"checks": HARMED, "passed": False},
            {"passed": False, "checks": (replace(HARMED[0], diff=(replace(ENTRY, key={"id": 9}),)),)},
            "apart",
        ),
        ({}, {"faults": FaultsMet({"errors": 1}, damage=("POST x did its work 2 times",))}, "damaged"),
        ({}, {"faults": FaultsMet()}, "not met"),
        ({"passed": False}, {"passed": False}, "apart"),
        ({}, {"cause": Cause.SANDBOX_FAILED, "passed": False}, "apart"),
        ({}, {"cause": Cause.AGENT_TIMED_OUT, "passed": False}, "failed"),
        ({"cause": Cause.CANCELLED, "passed": False}, {}, "apart"),
    ],
)
def test_what_a_pair_comes_to(before: dict[str, Any], change: dict[str, Any], outcome: str) -> None:
    one = plain(1, **before)
    assert case_of(one, faulted(one, **{"passed": True} | change)).outcome == outcome


def test_an_agent_that_fails_now_and_then_does_not_seem_worse_for_it() -> None:
    """Half fail with and without, of different tickets: of those that passed before half fail, and the rate falls by nothing."""
    pairs = [(a := plain(n, passed=n % 2 == 0), faulted(a, passed=n % 4 < 2)) for n in range(40)]
    score = scores(run_of(pairs))[0]
    assert score.survived == 0.5 and score.drop is not None and abs(score.drop) < 0.05
    assert score.low is not None and score.high is not None and score.low < 0 < score.high


def test_faults_are_told_apart_and_other_runs_have_none() -> None:
    one = plain(1)
    run = run_of([(one, faulted(one)), (one, faulted(one, name="stale"))])
    assert [score.name for score in scores(run)] == ["errors", "stale"]
    assert scores(replace(run, info=replace(run.info, campaign=None))) == ()
    assert scores(replace(run, info=replace(run.info, campaign=Campaign("attack", "a", 1, "d")))) == ()


@pytest.mark.parametrize(
    ("tickets", "failed", "verdict"), [(60, 0, "pass"), (40, 0, "inconclusive"), (40, 1, "inconclusive"), (40, 15, "fail")]
)
def test_the_gate_on_success(tickets: int, failed: int, verdict: str) -> None:
    pairs = [(a := plain(n), faulted(a, passed=n >= failed)) for n in range(tickets)]
    finding = gate(pairs, success_drop=0.05)["chaos.success_drop"]
    assert finding.verdict == verdict, finding
    if failed == 15:
        assert finding.measured == "37.5 points under errors" and "15 worse, 0 better" in finding.message


def test_each_fault_has_to_pass_by_itself() -> None:
    """Sixty that cope with errors do not make up for a fault that nothing met."""
    each = [plain(n) for n in range(60)]
    pairs = [(a, faulted(a)) for a in each] + [(a, faulted(a, name="stale", faults=FaultsMet())) for a in each]
    finding = gate(pairs, success_drop=0.05)["chaos.success_drop"]
    assert finding.verdict == "inconclusive" and "nothing met stale" in finding.message


def test_damage_is_counted_as_it_stands() -> None:
    pairs = [
        (a := plain(n), faulted(a, faults=FaultsMet({"errors": 1}, damage=("twice",)) if n == 3 else MET)) for n in range(5)
    ]
    assert gate(pairs)["chaos.damaged"].verdict == "fail" and "twice" in gate(pairs)["chaos.damaged"].message
    assert gate(pairs, damaged=1)["chaos.damaged"].verdict == "pass"


def test_no_false_alarm_and_no_false_pass_beyond_the_level() -> None:
    """Of campaigns whose fault costs nothing few fail, and of those that cost just the margin few pass (seeded; 5 % each)."""
    import random

    drawn = random.Random(5)
    verdicts: dict[float, list[str]] = {0.0: [], 0.1: []}
    for truth in verdicts:
        for _ in range(150):
            pairs = []
            for n in range(80):
                a = plain(n, passed=drawn.random() < 0.9)
                pairs.append((a, faulted(a, passed=drawn.random() < 0.9 - truth)))
            verdicts[truth].append(gate(pairs, success_drop=0.1)["chaos.success_drop"].verdict)
    assert verdicts[0.0].count("fail") <= 3 and verdicts[0.1].count("pass") <= 15
