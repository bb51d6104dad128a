"""What cuts a run off from outside: a full disk, a CI system that ends it or stops listening, a machine that sleeps."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import CLEAN, RESUME, RUN, Ground, agent_runs, assert_nothing_lost, find, killing_project, same_as_ever
from machine import wait_until
from project import Project
from world import CAMPAIGN, ROOT_ONLY, fill, runs_of, shell, small_disk, trust_agent, understood

from podctl.evidence.reading import verify

MIB = 2**20

# ---- disks ----


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = killing_project(tmp_path / "p")
    trust_agent(made)  # where less than a gibibyte is free no other one runs
    return made


@pytest.fixture
def small(here: Ground) -> Iterator[Ground]:
    """Pods and templates on a disk where one template and one pod just have room."""
    with small_disk(here.state.parent / "d", "160m") as place:
        yield Ground(place, here.temporary)


def assert_same_attempts(project: Project, whole: dict[str, Any]) -> None:
    result = project.run()
    assert same_as_ever(result)["attempts"] == whole["attempts"]
    assert_nothing_lost(project)
    for attempt in result.attempts:
        directory = project.store / "runs" / result.info.id / "attempts" / attempt.id
        assert verify(directory, attempt.evidence_root).intact


@CAMPAIGN
@ROOT_ONLY
def test_an_untrusted_agent_is_refused_before_the_disk_is_full(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    with small_disk(here.state.parent / "d", "8m") as place:
        small = Ground(place, here.temporary)
        understood(small.podctl(project, *RUN), 3, "[not-isolated]", "GiB free in", "nothing was made", "PODCTL_STATE")
        understood(small.podctl(project, "doctor"), 3, "NO  disk", "free some disk, or set PODCTL_STATE to a larger one")
        assert small.holdings() == CLEAN
    assert runs_of(here, project) == []


@ROOT_ONLY
@pytest.mark.parametrize("room", [8, *(pytest.param(room, marks=CAMPAIGN) for room in (0, 1, 16, 24, 28, 30, 31, 32, 33, 34))])
def test_a_disk_that_is_full_while_a_template_is_made(here: Ground, small: Ground, project: Project, room: int) -> None:
    """No run has begun, no half template is left, and the same command works when there is room."""
    ballast = fill(small.state, room * MIB)
    refused = small.podctl(project, *RUN)
    ballast.unlink()
    assert small.holdings() == CLEAN
    if refused.returncode == 0:
        assert room >= 32, "there was room: this proves nothing"
        return
    understood(refused, 3, "[disk-full]", "podctl gc", "PODCTL_STATE")
    assert list((small.state / "templates").glob("*")) == []
    assert runs_of(small, project) == []
    understood(small.podctl(project, *RUN), 0)


@ROOT_ONLY
@pytest.mark.parametrize("room", [pytest.param(room, marks=CAMPAIGN) for room in (0, 1, 16, 20, 24)])
def test_a_disk_that_is_full_while_a_pod_is_made(
    here: Ground, small: Ground, project: Project, whole: dict[str, Any], room: int
) -> None:
    understood(small.podctl(project, "run", "scenario.yaml", "-q", "--store", str(project.root / "first")), 0)
    ballast = fill(small.state, room * MIB)
    failed = small.podctl(project, *RUN, PODCTL_DATA="disk")
    understood(failed, 3, "[disk-full]", "No space left on device", "podctl gc", "PODCTL_STATE")
    ballast.unlink()
    assert small.holdings() == CLEAN
    begun = runs_of(small, project)
    assert bool(begun) == ("is kept as far as it came: --resume" in failed.stderr) == (room > 0)
    understood(small.podctl(project, *(RESUME if begun else RUN), PODCTL_DATA="disk"), 0)
    assert_same_attempts(project, whole)
    assert small.holdings() == CLEAN


#: KiB that are left for the store, from none to enough for all.
ROOMS = (*range(0, 248, 8), 512)


@ROOT_ONLY
@pytest.mark.parametrize("room", [pytest.param(room, marks=CAMPAIGN) for room in ROOMS])
def test_a_disk_that_is_full_while_a_run_is_recorded(here: Ground, project: Project, whole: dict[str, Any], room: int) -> None:
    """Wherever it is met: said in words, nothing left, and the run is finished when there is room."""
    with small_disk(project.store, "32m"):
        ballast = fill(project.store, room * 1024)
        failed = here.podctl(project, *RUN)
        assert here.holdings() == CLEAN
        ballast.unlink()
        begun = runs_of(here, project)
        if failed.returncode == 0:
            assert room != 176, "there was room for all: this proves nothing"
        else:
            assert room < max(ROOMS)
            understood(failed, 3)
            assert "No space left on device" in failed.stderr or "[disk-full]" in failed.stderr, failed.stderr
            assert ("--resume" in failed.stderr) == bool(begun), failed.stderr
        understood(here.podctl(project, *(RESUME if begun else RUN)), 0)
        assert_same_attempts(project, whole)
        assert here.holdings() == CLEAN


@CAMPAIGN
@ROOT_ONLY
def test_a_disk_that_is_full_while_a_pod_is_made_to_be_kept(small: Ground, project: Project) -> None:
    understood(small.podctl(project, *RUN), 0)
    ballast = fill(small.state, 8192)
    understood(small.podctl(project, "up", "scenario.yaml"), 3, "[disk-full]", "No space left on device", "PODCTL_STATE")
    ballast.unlink()
    wait_until(lambda: small.holdings() == CLEAN, "something is left")


@ROOT_ONLY
def test_a_disk_that_is_full_while_a_report_is_written(here: Ground, project: Project) -> None:
    """The verdict stands in the store, and what writes the report again is said."""
    with small_disk(project.root / "it's out", "1m") as out:
        ballast = fill(out, 4096)
        failed = here.podctl(project, *RUN, "--html", str(out / "report.html"))
        run = project.run()
        kept = f"run {run.info.id} and its evidence are kept; its verdict is {run.verdict}"
        understood(failed, 3, "[report-unwritten]", "No space left on device", kept)
        assert run.status == "finished"
        assert [path.name for path in out.iterdir()] == ["ballast"], "half a report was left"
        ballast.unlink()
        again = shlex.split(failed.stderr.rpartition("when that is mended: podctl ")[2])
        understood(here.podctl(project, *again), 0)
        assert "<html" in (out / "report.html").read_text()
    assert here.holdings() == CLEAN


def test_a_full_disk_behind_stdout_is_said(here: Ground, project: Project) -> None:
    understood(here.podctl(project, "--help", through=shell("exec > /dev/full")), 3, "no space is left on a disk [disk-full]")


# ---- signals, streams, sleep ----

PAUSE = 1.0


def at_work(here: Ground, tmp_path: Path, through: list[str] | None = None) -> tuple[Project, subprocess.Popen[str]]:
    project = killing_project(tmp_path / "p", pause=PAUSE)
    running = here.start(project, *RUN, through=through or ())
    wait_until(agent_runs, "no agent runs")
    return project, running


def finish(here: Ground, project: Project, whole: dict[str, Any]) -> None:
    understood(here.podctl(project, *RESUME), 0)
    assert same_as_ever(project.run())["attempts"] == whole["attempts"]
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=CAMPAIGN) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
)
def test_a_run_that_is_told_to_end_cleans_up_and_is_resumed(
    here: Ground, whole: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    project, running = at_work(here, tmp_path)
    running.send_signal(number)
    out, said = running.communicate(timeout=30)
    assert running.returncode == 130, out + said
    assert "stopping: ending what runs" in said and "Traceback" not in said
    run = project.run()
    assert f"finish it with: podctl run scenario.yaml --resume {run.info.id}" in said
    assert run.status == "interrupted"
    assert here.holdings() == CLEAN
    finish(here, project, whole)


@CAMPAIGN
def test_a_second_signal_leaves_at_once_and_says_what_is_left(here: Ground, whole: dict[str, Any], tmp_path: Path) -> None:
    project, running = at_work(here, tmp_path)
    os.kill(running.pid, signal.SIGSTOP)  # both are there when it looks
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGINT)
    began = time.monotonic()
    os.kill(running.pid, signal.SIGCONT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130, said
    assert time.monotonic() - began < 2
    assert "left with 1 pods not removed" in said and "podctl gc removes them" in said
    assert here.gc(project)
    assert here.holdings() == CLEAN
    finish(here, project, whole)


@CAMPAIGN
def test_nobody_listens_any_more(here: Ground, whole: dict[str, Any], tmp_path: Path) -> None:
    """The reader of stdout and stderr is gone: the exit code still says the verdict."""
    project = killing_project(tmp_path / "p")
    running = here.start(project, "run", "scenario.yaml")
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    running.stderr.close()
    assert running.wait(timeout=60) == 0
    assert same_as_ever(project.run()) == whole
    assert here.holdings() == CLEAN


@CAMPAIGN
def test_a_run_ends_in_order_when_its_terminal_is_gone(here: Ground, whole: dict[str, Any], tmp_path: Path) -> None:
    """SIGHUP with stderr closed, as when the connection breaks: what it says goes nowhere, what it does is done."""
    project, running = at_work(here, tmp_path)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    running.stderr.close()
    running.send_signal(signal.SIGHUP)
    assert running.wait(timeout=30) == 130
    assert here.holdings() == CLEAN
    finish(here, project, whole)


def test_streams_that_were_never_open(here: Ground, whole: dict[str, Any], tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    understood(here.podctl(project, "run", "scenario.yaml", through=shell("exec <&- >&- 2>&-")), 0)
    assert same_as_ever(project.run()) == whole
    store = (project.store / "store.db").read_bytes()
    assert store.startswith(b"SQLite format 3\0"), "what was to be printed went into the store"
    assert here.holdings() == CLEAN


@CAMPAIGN
@pytest.mark.parametrize("agent_too", [True, False])
def test_a_machine_that_sleeps_in_the_middle_of_an_attempt(
    here: Ground, whole: dict[str, Any], tmp_path: Path, agent_too: bool
) -> None:
    """podctl, its gateway and the agent are stopped for longer than the agent's limit: that time is not the agent's."""
    project = killing_project(tmp_path / "p", pause=PAUSE)
    scenario = project.root / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("wall: 20s", "wall: 4s"))
    assert "wall: 4s" in scenario.read_text()
    running = here.start(project, *RUN)
    wait_until(agent_runs, "no agent runs")
    stopped = [running.pid, find("gateway", lambda process, mine: process.says("podctl.gateway.process"))]
    if agent_too:
        stopped.append(
            find("agent", lambda process, mine: process.command[-1:] == ("/agent/main.py",) and not process.says("--args"))
        )
    for pid in reversed(stopped):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    out, said = running.communicate(timeout=60)
    assert running.returncode == 0, out + said
    result = project.run()
    assert same_as_ever(result)["attempts"] == whole["attempts"], "falsely failed, or made twice"
    assert [attempt.tries for attempt in result.attempts] == [1, 1, 1]
    assert max(attempt.wall_s for attempt in result.attempts) < 4
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN
