"""Whole runs through the command line: the same scenario on this machine and in a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest
from both_places import AGENT, TICKETS, on_both
from project import make_project
from worked_examples import RETAIL, needs_retail, prepare

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]


@pytest.mark.campaign
def test_a_run_ends_alike_here_and_there(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario={"run": {"pods": 1}})
    local, there = on_both(project, "kubernetes", "scenario.yaml", 170)
    assert {name: attempt["passed"] for name, attempt in local.items()} == {"1": True, "2": False, "3": False}
    assert local["3"]["counts"][3] == 1, "the crossing is counted"
    assert there == local
    kinds = {record["kind"] for record in project.records("1")}
    assert {"process.start", "process.exit", "http.call", "sql.statement", "row.change"} <= kinds
    warnings = [record["data"]["body"] for record in project.records("1", "log")]
    assert "processes were not recorded: nothing records them in a cluster" in warnings
    assert project.podctl("audit", "verify", "latest").returncode == 0
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
    local, there = on_both(prepare("retail", RETAIL, tmp_path / "retail"), "kubernetes", f"retail-{variant}.yaml", 1800)
    assert len(local) == 114
    assert {name: there[name] for name in local if there[name] != local[name]} == {}
