"""Whole runs through the command line: the same scenario on this machine and on an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from both_places import AGENT, TICKETS, on_both
from project import make_project
from worked_examples import RETAIL, needs_retail, prepare

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]


@pytest.mark.campaign
def test_a_run_ends_alike_here_and_there(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario={"run": {"pods": 1}})
    local, there = on_both(project, "docker", "scenario.yaml", 170)
    assert {name: attempt["passed"] for name, attempt in local.items()} == {"1": True, "2": False, "3": False}
    assert local["3"]["counts"][3] == 1, "the crossing is counted"
    assert there == local
    warnings = [record["data"]["body"] for record in project.records("1", "log")]
    assert "processes were not recorded: nothing records them on a Docker engine" in warnings
    assert project.podctl("audit", "verify", "latest").returncode == 0
    left = project.podctl("gc", "--dry-run", "--backend", "docker")
    assert left.stdout.startswith("0 to remove"), left.stdout


@pytest.mark.campaign
def test_a_record_of_processes_that_cannot_be_kept_is_refused_before_the_run(tmp_path: Path) -> None:
    required = {"run": {"pods": 1, "processes": "required"}}
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario=required)
    refused = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker")
    assert refused.returncode == 3, refused.stdout + refused.stderr
    assert "[not-recorded]" in refused.stderr and "nothing records them on a Docker engine" in refused.stderr
    assert project.podctl("get", "runs").stdout.count("\n") <= 1, "no run was begun"


def test_the_engine_is_tried_and_an_image_that_it_does_not_have_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS)
    tried = project.podctl("doctor", "--backend", "docker")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "ok  agent" in tried.stdout and "ok  network" in tried.stdout
    missing = project.podctl("doctor", "--backend", "docker", PODCTL_IMAGE="localhost:1/nobody-has:1")
    assert missing.returncode == 3 and "localhost:1/nobody-has:1" in missing.stdout, missing.stdout


@needs_retail
@pytest.mark.campaign
def test_retail_ends_alike_ticket_by_ticket(tmp_path: Path) -> None:
    local, there = on_both(prepare("retail", RETAIL, tmp_path / "retail"), "docker", "retail-exact.yaml", 1800)
    assert len(local) == 114
    assert {name: there[name] for name in local if there[name] != local[name]} == {}
