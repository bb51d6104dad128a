"""Whole runs through the command line: the same scenario on this machine and in a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from project import Project, make_project, relabel, ticket
from worked_examples import RETAIL, needs_retail, prepare

from podctl.evidence.results import AttemptResult

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

AGENT = """
import json, os, sys, urllib.request
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
seen = json.load(urllib.request.urlopen("http://counter:8080/look"))["seen"]
assert seen == 1, "the service starts anew for each attempt"
try:
    import psycopg
except ImportError:
    import psycopg2 as psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    cursor = connection.cursor()
    if ticket["text"] == "cross":
        cursor.execute("update items set secret = 'x' where id = 1")
    cursor.execute("update items set label = %s where id = %s", (ticket["text"], int(ticket["id"])))
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""
TICKETS = [
    ticket("1", "right", [relabel(1, "right")]),
    ticket("2", "wrong", [relabel(2, "other")]),
    ticket("3", "cross", [relabel(3, "cross")]),
]


def told(attempt: AttemptResult) -> dict[str, Any]:
    """What must not depend on where an attempt was made."""
    checks = [(check.name, check.passed, list(check.diff)) for check in attempt.checks]
    counts = (attempt.statements, attempt.changes, attempt.http_calls, attempt.boundary_attempts)
    return {"cause": attempt.cause, "passed": attempt.passed, "checks": checks, "counts": counts}


def on_both(project: Project, scenario: str, timeout: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """By ticket: on this machine, and in the cluster."""
    found = []
    for backend in ("local", "kubernetes"):
        done = project.podctl("run", scenario, "-q", "--backend", backend, timeout=timeout)
        assert done.returncode in (0, 100), done.stdout + done.stderr
        found.append({name: told(attempt) for name, attempt in project.attempts().items()})
    return found[0], found[1]


def test_a_run_ends_alike_here_and_there(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario={"run": {"pods": 1}})
    local, there = on_both(project, "scenario.yaml", 170)
    assert {name: attempt["passed"] for name, attempt in local.items()} == {"1": True, "2": False, "3": False}
    assert local["3"]["counts"][3] == 1, "the crossing is counted"
    assert there == local
    kinds = {record["kind"] for record in project.records("1")}
    assert {"process.start", "process.exit", "http.call", "sql.statement", "row.change"} <= kinds
    warnings = [record["data"]["body"] for record in project.records("1", "log")]
    assert "processes were not recorded: nothing records them in a cluster" in warnings
    assert project.podctl("verify", "latest").returncode == 0
    left = project.podctl("gc", "--dry-run", "--backend", "kubernetes")
    assert left.stdout.startswith("0 to remove"), left.stdout


@pytest.mark.campaign
def test_a_record_of_processes_that_cannot_be_kept_is_refused_before_the_run(tmp_path: Path) -> None:
    required = {"run": {"pods": 1, "processes": "required"}}
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario=required)
    refused = project.podctl("run", "scenario.yaml", "-q", "--backend", "kubernetes")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "[not-recorded]" in refused.stderr and "nothing records them in a cluster" in refused.stderr
    assert project.podctl("get", "runs").stdout.count("\n") <= 1, "no run was begun"


@needs_retail
@pytest.mark.campaign
@pytest.mark.parametrize("variant", ["exact", "omit-last-write", "extra-write"])
def test_retail_ends_alike_ticket_by_ticket(tmp_path: Path, variant: str) -> None:
    """The image needs psycopg 3, which the example's service imports."""
    local, there = on_both(prepare("retail", RETAIL, tmp_path / "retail"), f"retail-{variant}.yaml", 1800)
    assert len(local) == 114
    assert {name: there[name] for name in local if there[name] != local[name]} == {}
