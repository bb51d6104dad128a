"""podctl, or a part of it, is killed with SIGKILL: nothing is left, and the run finishes as if nothing had been."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from killing import CLEAN, Ground, assert_nothing_lost, ground, killing_project, same_as_ever
from machine import adopting
from project import Project

from podctl.faults import POINTS

ROOT = Path(__file__).parents[2]
RESUME = ("run", "scenario.yaml", "-q", "--resume", "latest")
RUN = ("run", "scenario.yaml", "-q")

#: One of each stage in the quick suite; the campaign walks all of them.
QUICK = ("run.stored", "pod.init-started", "attempt.agent-running", "attempt.merged", "run.judged")


@pytest.fixture(scope="module", autouse=True)
def _adopting() -> Iterator[None]:
    with adopting():
        yield


@pytest.fixture(scope="module")
def here() -> Iterator[Ground]:
    with ground() as made:
        yield made


@pytest.fixture(scope="module")
def whole(here: Ground, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run comes to when nobody kills it."""
    project = killing_project(tmp_path_factory.mktemp("whole") / "p")
    done = here.podctl(project, *RUN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN
    result = project.run()
    assert [attempt.passed for attempt in result.attempts].count(True) == 2
    return same_as_ever(result)


def has_run(project: Project) -> bool:
    return (project.store / "store.db").exists() and bool(project.podctl("get", "runs", "-o", "name").stdout)


def finish(here: Ground, project: Project, whole: dict[str, Any]) -> None:
    """Resume what there is, or run what there is not, to the same end as without a kill."""
    done = here.podctl(project, *(RESUME if has_run(project) else RUN))
    assert done.returncode == 0, done.stdout + done.stderr
    assert same_as_ever(project.run()) == whole
    assert (project.store / "runs" / project.run().info.id / "report.html").exists()
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN
    assert here.podctl(project, "verify", "latest").returncode == 0


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
