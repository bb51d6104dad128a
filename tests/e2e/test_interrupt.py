"""Stopping a run at any moment: nothing is left, and --resume finishes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from project import Project, make_project, relabel, ticket, traces_of

from podctl.backends.local.state import State
from podctl.errors import PodctlError

AGENT = r"""
import json, os, time, psycopg
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("update items set label = 'seen' where id = 1")
time.sleep(0.2)
json.dump({"status": "done", "output": {"id": ticket["id"]}}, open("result.json", "w"))
"""


TICKETS = 6


@pytest.fixture
def project(tmp_path: Path) -> Project:
    tickets = [ticket(f"t{number}", changes=[relabel(1, "seen")]) for number in range(TICKETS)]
    return make_project(tmp_path / "p", agent=AGENT, tickets=tickets, scenario={"run": {"pods": 2, "seed": 3}})


def ended(project: Project) -> int:
    """Attempts that the store says have ended; 0 while there is no run yet."""
    if not (project.store / "store.db").exists():
        return 0
    try:
        return len(project.run().attempts)
    except PodctlError:
        return 0


def wait_for_ended(project: Project, count: int) -> None:
    deadline = time.monotonic() + 60
    while ended(project) < count:
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.05)


def listens(process: subprocess.Popen[str]) -> bool:
    """Whether it has got as far as handling ^C: before that, on a busy machine, the interpreter is not up."""
    caught = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> signal.SIGINT - 1 & 1)


@pytest.mark.parametrize(("number", "after"), [(signal.SIGINT, 0.0), (signal.SIGINT, 1.2), (signal.SIGTERM, 2.5)])
def test_the_first_signal_tears_down(project: Project, number: signal.Signals, after: float) -> None:
    running = project.start("run", "scenario.yaml", "-q")
    deadline = time.monotonic() + 30
    while not (project.store / "store.db").exists() if after > 0 else not listens(running):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(after or 0.6)
    running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert "Traceback" not in said
    if (project.store / "store.db").exists() and project.podctl("get", "runs", "-o", "name").stdout:
        assert traces_of(project.run()) == []


@pytest.mark.campaign
def test_a_run_under_nohup_outlives_its_terminal(project: Project) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as from nohup
    try:
        running = project.start("run", "scenario.yaml", "-q")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for_ended(project, 1)
    running.send_signal(signal.SIGHUP)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 0, said
    assert len(project.run().attempts) == TICKETS


def test_a_killed_run_is_swept_and_resumed_without_doing_anything_twice(project: Project) -> None:
    running = project.start("run", "scenario.yaml", "-q")
    wait_for_ended(project, 3)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    began = project.run()
    before = {attempt.id: attempt for attempt in began.attempts}
    assert 3 <= len(before) < TICKETS
    mine = [record.id for record in State.open().records() if record.run == project.run().info.id]
    assert mine, "the kill left pods behind: otherwise this test proves nothing"

    resumed = project.podctl("run", "scenario.yaml", "-q", "--resume", "latest")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "a dead run had left" in resumed.stderr
    result = project.run()
    assert result.status == "finished"
    assert (began.info.resumed, result.info.resumed) == (False, True)
    assert result.info.controls == began.info.controls != {}
    assert set(result.info.digests) == {"scenario", "topology", "tickets", "boundary"}
    assert len({attempt.id for attempt in result.attempts}) == len(result.attempts) == TICKETS
    for name, attempt in before.items():
        assert next(a for a in result.attempts if a.id == name) == attempt, "an attempt that had ended was made again"
    assert traces_of(result) == []
    assert project.podctl("audit", "verify", "latest").returncode == 0

    again = project.podctl("run", "scenario.yaml", "-q", "--resume", "latest")
    assert again.returncode == 0
    assert "has finished" in again.stderr
    assert project.run() == result, "what had finished was made again"


@pytest.mark.campaign
def test_a_run_is_not_resumed_with_another_agent(project: Project) -> None:
    running = project.start("run", "scenario.yaml", "-q")
    wait_for_ended(project, 1)
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    (project.root / "agent" / "main.py").write_text(AGENT + "\n# changed\n")
    refused = project.podctl("run", "scenario.yaml", "-q", "--resume", "latest")
    assert refused.returncode == 2
    assert "the agent changed" in refused.stderr


@pytest.mark.campaign
def test_gc_removes_a_dead_runs_pods_once_and_leaves_living_ones(project: Project) -> None:
    living = project.start("run", "scenario.yaml", "-q")
    wait_for_ended(project, 1)
    run = project.run().info.id
    receipt = json.loads(project.podctl("gc", "-o", "json").stdout)
    assert all(not item["pod"].startswith(run[-6:]) for item in receipt["items"])
    _, said = living.communicate(timeout=60)
    assert living.returncode == 0, said

    dead = project.start("run", "scenario.yaml", "-q", "--store", str(project.root / "other"))
    deadline = time.monotonic() + 30
    while not (pods := [r.id for r in State.open().records() if r.owner.pid == dead.pid and r.run != "doctor"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(dead.pid, signal.SIGKILL)
    dead.communicate()
    shown = project.podctl("gc")
    assert shown.returncode == 0, shown.stderr
    for pod in pods:
        assert f"{pod}  directory" in shown.stdout
        assert not State.open().directory(pod).exists()
    assert "0 pods removed" in project.podctl("gc").stdout
