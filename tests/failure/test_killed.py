"""podctl, or a part of it, is killed with SIGKILL: nothing is left, and the run finishes as if nothing had been."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from killing import CLEAN, RESUME, RUN, Ground, assert_nothing_lost, killing_project, same_as_ever
from project import Project

from podctl.clock import SystemClock
from podctl.evidence.audit_check import check_log, check_run, entries_of
from podctl.evidence.store import Store
from podctl.faults import POINTS

ROOT = Path(__file__).parents[2]
#: One amid an attempt and one at the end in the quick suite; the campaign walks all of them.
QUICK = ("attempt.agent-running", "run.judged")


def has_run(project: Project) -> bool:
    if not (project.store / "store.db").exists():
        return False
    store = Store.open(project.store, SystemClock())
    try:
        return bool(store.list_runs())
    finally:
        store.close()


def finish(here: Ground, project: Project, whole: dict[str, Any]) -> None:
    """Resume what there is, or run what there is not, to the same end as without a kill."""
    done = here.podctl(project, *(RESUME if has_run(project) else RUN))
    assert done.returncode == 0, done.stdout + done.stderr
    assert same_as_ever(project.run()) == whole
    assert (project.store / "runs" / project.run().info.id / "report.html").exists()
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN
    store = Store.open(project.store, SystemClock())
    try:
        log, run = check_log(store), check_run(store, store.find_run("latest"))
        assert log.problems == () and run.intact and len(run.attempts) == len(project.run().attempts)
        told = [entry["kind"] for entry in entries_of(store, run.run)]
        assert told[0] == "run.begun" and told[-1] == "run.judged" and told.count("run.judged") == 1
        assert told.count("attempt.sealed") == len(run.attempts)
    finally:
        store.close()


def killed_and_cleaned(here: Ground, project: Project, point: str, *command: str) -> None:
    here.kill_at(point, project, *(command or RUN))
    here.gc(project)
    assert here.holdings() == CLEAN, "gc left something"
    assert here.gc(project) == [], "a second gc found something"


# ---- the points ----


def test_every_point_is_named_once_and_every_name_is_a_point() -> None:
    sources = [path.read_text() for path in (ROOT / "podctl").rglob("*.py") if path.name != "faults.py"]
    steps = {f"pod.{action}-{kind}" for action, kind in STEPS}
    placed = [name for source in sources for name in re.findall(r'\bpoint\(\s*"([^"]+)"', source)]
    assert sorted(placed) == sorted(set(placed) | set()), "a name stands for two places"
    assert {*placed, *steps, *(f"{step}.done" for step in steps)} == set(POINTS)


STEPS = [
    *(("make", kind) for kind in ("directory", "network", "database", "service", "door")),
    ("remove", "service"),
    ("reset", "database"),
]


@pytest.mark.parametrize("point", QUICK)
def test_podctl_killed_at_a_point(here: Ground, whole: dict[str, Any], tmp_path: Path, point: str) -> None:
    project = killing_project(tmp_path / "p")
    killed_and_cleaned(here, project, point)
    finish(here, project, whole)


# ---- the campaign: every point ----

#: How to come to the points that a first run does not: the points that lie in gc and in a resumed run.
IN_GC = [name for name in POINTS if name.startswith(("gc.", "reap."))]
ONLY_RESUMING = ("resume.checked", "resume.taken-over", "resume.abandoned", "try.set-aside")
#: No part of every run: test_killed_approvals.py, test_killed_early.py, tests/unit and tests/cli have them.
ELSEWHERE = ("approval.", "early.", "pull.", "capture.", "merge.")
IN_RUN = [name for name in POINTS if name not in ONLY_RESUMING and not name.startswith(ELSEWHERE)]
IN_RESUME = [name for name in POINTS if name != "run.stored" and not name.startswith(("template.", *ELSEWHERE))]


@pytest.mark.campaign
@pytest.mark.parametrize("point", [point for point in IN_RUN if point not in QUICK])
def test_podctl_killed_at_every_point(here: Ground, whole: dict[str, Any], tmp_path: Path, point: str) -> None:
    project = killing_project(tmp_path / "p")
    if point.startswith("template."):
        shutil.rmtree(here.state / "templates")
    killed_and_cleaned(here, project, point)
    finish(here, project, whole)


@pytest.mark.campaign
@pytest.mark.parametrize("point", IN_GC)
def test_gc_killed_at_every_point(here: Ground, whole: dict[str, Any], tmp_path: Path, point: str) -> None:
    project = killing_project(tmp_path / "p")
    here.kill_at("attempt.agent-running", project, *RUN)
    killed_and_cleaned(here, project, point, "gc")
    finish(here, project, whole)


@pytest.mark.campaign
@pytest.mark.parametrize("point", IN_RESUME)
def test_a_run_killed_twice(here: Ground, whole: dict[str, Any], tmp_path: Path, point: str) -> None:
    """Kill, resume, kill somewhere else, resume, without a gc between them."""
    project = killing_project(tmp_path / "p")
    here.kill_at("attempt.graded:2", project, *RUN)
    here.kill_at(point, project, *RESUME)
    finish(here, project, whole)
    assert here.gc(project) == []
