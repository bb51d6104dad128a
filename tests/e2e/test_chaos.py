"""Chaos campaigns in real pods: who copes, who fails, who books twice; and the same seed does the same again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from chaotic import AGENT, SERVICE, TOOL_AGENT, TOOL_SERVER
from project import Project, make_project, relabel, ticket

from podctl.evidence.results import RunResult
from podctl.stats.chaos import scores

CHAOS = """
apiVersion: podctl/v1
kind: Chaos
name: losses
faults:
  lost-answers: {kind: timeouts, calls: [2], hold: 200ms, effect: after}
  refused: {kind: errors, calls: [2], effect: before, statuses: [503]}
  slow: {kind: latency, calls: [1], median: 100ms, spread: 0}
"""


def chaotic(root: Path, careful: bool) -> Project:
    booked = {"database": "main-db", "table": "ledger", "op": "insert", "key": {}, "values": {"amount": 5}}
    project = make_project(
        root,
        agent=AGENT,
        tickets=[ticket(f"T-{number}", "", [relabel(1, "done"), booked]) for number in range(2)],
        agent_spec={"environment": {"CAREFUL": "yes" if careful else "no"}},
        scenario={
            "checks": [{"kind": "state", "ignore": ["ledger.id"]}],
            "gate": {"chaos": {"success_drop": 0.1, "damaged": 0}},
        },
        service=SERVICE,
    )
    (project.root / "chaos.yaml").write_text(CHAOS)
    return project


def faults_of(project: Project, run: RunResult) -> dict[str, list[dict[str, Any]]]:
    """Attempt -> the faults that it met, in order, without times."""
    found = {}
    for attempt in run.attempts:
        path = project.store / "runs" / run.info.id / "attempts" / attempt.id / "evidence.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        found[attempt.id] = [one["data"] for one in records if one["kind"] == "fault"]
    return found


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    project = chaotic(tmp_path_factory.mktemp("chaos") / "p", careful=False)
    done = project.podctl("chaos", "scenario.yaml", "--file", "chaos.yaml", "--junit", "j.xml", "--json", "r.json", timeout=200)
    assert done.returncode == 100, done.stdout + done.stderr
    return project, done.stdout


def test_an_agent_that_asks_again_books_twice(careless: tuple[Project, str]) -> None:
    project, told = careless
    run = project.run()
    assert all(attempt.passed for attempt in run.plain.attempts) and len(run.attempts) == 8
    by_name = {score.name: score for score in scores(run)}
    assert by_name["lost-answers"].counts["damaged"] == 2 and by_name["lost-answers"].drop == 1.0
    assert by_name["lost-answers"].cases[0].why == "POST counter /ledger did its work 2 times"
    assert by_name["refused"].survived == by_name["slow"].survived == 1.0
    assert "damage under faults" in told and "did its work 2 times" in told
    page = (project.store / "runs" / run.info.id / "report.html").read_text()
    assert "Under faults" in page and "did its work 2 times" in page
    suites = {suite.get("name"): suite for suite in ElementTree.parse(project.root / "j.xml").getroot()}
    assert suites["under lost-answers"].get("failures") == "2" and suites["under slow"].get("failures") == "0"
    told_json = json.loads((project.root / "r.json").read_text())
    assert {one["name"]: one["counts"]["damaged"] for one in told_json["chaos"]} == {"lost-answers": 2, "refused": 0, "slow": 0}


def test_a_fault_is_podctls_own_and_stands_on_the_call(careless: tuple[Project, str]) -> None:
    project, _ = careless
    run = project.run()
    faulted = next(one for one in run.attempts if one.variant is not None and one.variant.name == "lost-answers")
    path = project.store / "runs" / run.info.id / "attempts" / faulted.id / "evidence.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [one["actor"] for one in records if one["kind"] == "fault"] == ["podctl"]
    call = next(one["data"] for one in records if one["kind"] == "http.call" and "fault" in one["data"])
    assert call["path"] == "/ledger" and call["status"] is None and call["fault"]["answered"] == 200
    assert faulted.tries == 1 and faulted.cause.counts, "an injected fault is never infrastructure's"


def test_the_same_seed_does_the_same_again_and_the_careful_agent_comes_through(
    careless: tuple[Project, str], tmp_path: Path
) -> None:
    project = chaotic(tmp_path / "p", careful=True)
    done = project.podctl("chaos", "scenario.yaml", "--file", "chaos.yaml", timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr  # two tickets cannot show the absence of a fall
    run, before = project.run(), careless[0].run()
    assert {score.name: (score.survived, score.of) for score in scores(run)} == dict.fromkeys(
        ("lost-answers", "refused", "slow"), (1.0, 2)
    )
    strip = {
        attempt: [(one["call"], one["kind"], one.get("status")) for one in each]
        for attempt, each in faults_of(project, run).items()
    }
    assert strip == {
        attempt: [(one["call"], one["kind"], one.get("status")) for one in each]
        for attempt, each in faults_of(careless[0], before).items()
    }
    assert run.info.campaign == before.info.campaign


@pytest.mark.campaign
def test_a_campaign_that_was_killed_goes_on_as_it_was(tmp_path: Path) -> None:
    project = chaotic(tmp_path / "p", careful=True)
    asked = ("chaos", "scenario.yaml", "--file", "chaos.yaml", "--sample", "1", "--fault", "slow", "-q")
    killed = project.podctl(*asked, PODCTL_FAULT="kill:try.stored")
    assert killed.returncode == -9
    other = project.podctl(*asked, "--chaos-seed", "9", "--resume", "latest")
    assert other.returncode == 2 and "the campaign changed since it began" in other.stderr
    done = project.podctl(*asked, "--resume", "latest")
    assert done.returncode == 0, done.stderr
    run = project.run()
    assert run.info.resumed and len(run.attempts) == 2 and run.info.campaign is not None
    assert run.info.campaign.name == "losses-part" and scores(run)[0].of == 1


TOOL_CHAOS = """
apiVersion: podctl/v1
kind: Chaos
name: tools
faults:
  lost-answers: {kind: timeouts, where: [desk], calls: [2], hold: 200ms, effect: after}
  refused: {kind: errors, calls: [1], effect: before, tool_errors: [protocol]}
  slow: {kind: latency, calls: [1], median: 100ms, spread: 0}
"""
#: Outcomes of the careless agent's pairs, and of the careful one's.
CARELESS = {"lost-answers": "damaged", "refused": "failed", "slow": "coped"}


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("careful", "outcomes"), [(False, CARELESS), (True, dict.fromkeys(CARELESS, "coped"))], ids=["careless", "careful"]
)
def test_calls_of_tools_meet_faults_as_those_of_services_do(tmp_path: Path, careful: bool, outcomes: dict[str, str]) -> None:
    booked = {"database": "main-db", "table": "ledger", "op": "insert", "key": {}, "values": {"amount": 5}}
    project = make_project(
        tmp_path / "p",
        agent=TOOL_AGENT,
        tickets=[ticket("T-0", "", [booked])],
        agent_spec={"environment": {"CAREFUL": "yes" if careful else "no"}},
        scenario={"checks": [{"kind": "state", "ignore": ["ledger.id"]}]},
    )
    (project.root / "service" / "desk.py").write_text(TOOL_SERVER)
    (project.root / "chaos.yaml").write_text(TOOL_CHAOS)
    topology = yaml.safe_load((project.root / "topology.yaml").read_text())
    desk = {"protocol": "mcp", "mcp": {"transport": "stdio"}, "command": ["${python}", "-B", "desk.py"], "directory": "service"}
    desk |= {"environment": {"DATABASE_URL": "${main-db.url}"}, "depends_on": ["main-db"]}
    (project.root / "topology.yaml").write_text(yaml.safe_dump(topology | {"services": {"desk": desk}}))
    boundary = {"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b"}
    tools = {"desk": {"book": "ai-writable", "entries": "read"}}
    (project.root / "boundary.yaml").write_text(yaml.safe_dump(boundary | {"tools": tools}))
    done = project.podctl("chaos", "scenario.yaml", "--file", "chaos.yaml", timeout=200)
    run = project.run()
    assert all(attempt.passed for attempt in run.plain.attempts), done.stdout + done.stderr
    assert all(attempt.tries == 1 and attempt.cause.counts for attempt in run.attempts)
    cases = {score.name: score.cases[0] for score in scores(run)}
    assert {name: case.outcome for name, case in cases.items()} == outcomes, done.stdout + done.stderr
    assert all(len(met) == 1 for attempt, met in faults_of(project, run).items() if attempt != "0001-1")
    if not careful:
        assert cases["lost-answers"].why == "CALL desk.book did its work 2 times"
        assert cases["refused"].why.startswith("exit code 1: OSError: {'jsonrpc'"), "not the frame of its group"
