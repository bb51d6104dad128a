"""podctl is killed while a run ends early, because its version is worse for certain: resumed, it comes to the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from killing import CLEAN, Ground, same_as_ever
from project import Project, make_project, relabel, ticket

AGENT = """
import json, os, psycopg
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("update items set label = %s where id = 1", (json.load(open(os.environ["PODCTL_TICKET"]))["text"] + WORSE,))
json.dump({"status": "done"}, open("result.json", "w"))
"""
FAST = ("run", "scenario.yaml", "-q", "--fail-fast", "--baseline", "first")
TICKETS, ENOUGH = 10, 7
#: What a run comes to from the attempt that makes it certain, in the order in which it does.
ENDING = (
    "attempt.graded:7", "attempt.sealed:7", "early.certain", "try.stored:7", "early.told", "pod.closed", "reap.processes-ended",
    "reap.removed", "run.attempts-made", "run.gateway-stopped", "run.pods-removed", "run.judged", "run.finished", "report.drafted",
    "run.reported",
)  # fmt: skip
RESUMED = (
    "resume.checked",
    "resume.taken-over",
    "run.gateway-started",
    "early.found",
    "run.attempts-made",
    "run.judged",
    "run.finished",
)


@pytest.fixture(scope="module")
def certain(here: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A store with a run of a version that does everything right, and the spec of one that does nothing right."""
    wanted = [ticket(f"t{n}", f"word{n}", changes=[relabel(1, f"word{n}")]) for n in range(TICKETS)]
    settings = {"run": {"pods": 1, "seed": 5}, "gate": {"regression": 0.05, "pass_rate": 0.5}}
    project = make_project(
        tmp_path_factory.mktemp("certain") / "p", agent=AGENT.replace("WORSE", "''"), tickets=wanted, scenario=settings
    )
    done = here.podctl(project, "run", "scenario.yaml", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    (project.root / "agent" / "main.py").write_text(AGENT.replace("WORSE", "'!'"))
    yield project


def another(certain: Project, directory: Path) -> tuple[Project, tuple[str, ...]]:
    """A copy of it, and the command that ends early."""
    shutil.copytree(certain.root, directory / "p")
    return Project(directory / "p"), tuple(certain.run().info.id if word == "first" else word for word in FAST)


@pytest.fixture(scope="module")
def ended(here: Ground, certain: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What it comes to when nobody kills it."""
    project, fast = another(certain, tmp_path_factory.mktemp("ended"))
    done = here.podctl(project, *fast)
    assert done.returncode == 100, done.stdout + done.stderr
    result = project.run()
    assert (result.verdict, len(result.attempts)) == ("fail", ENOUGH) and result.comparison is not None
    assert result.comparison.early_stop is not None and result.comparison.early_stop.attempts_not_made == TICKETS - ENOUGH
    return same_as_ever(result)


def finish(here: Ground, project: Project, fast: tuple[str, ...], ended: dict[str, object]) -> None:
    done = here.podctl(project, *fast, "--resume", "latest")
    assert done.returncode == 100, done.stdout + done.stderr
    assert same_as_ever(project.run()) == ended
    assert (project.store / "runs" / project.run().info.id / "report.html").exists()
    assert here.holdings() == CLEAN


@pytest.mark.campaign
@pytest.mark.parametrize("point", ENDING)
def test_killed_while_it_ends_early(
    here: Ground, certain: Project, ended: dict[str, object], tmp_path: Path, point: str
) -> None:
    project, fast = another(certain, tmp_path)
    here.kill_at(point, project, *fast)
    here.gc(project)
    assert here.holdings() == CLEAN
    finish(here, project, fast, ended)


@pytest.mark.campaign
@pytest.mark.parametrize("point", RESUMED)
def test_killed_again_while_it_is_resumed(
    here: Ground, certain: Project, ended: dict[str, object], tmp_path: Path, point: str
) -> None:
    """Without a gc between them."""
    project, fast = another(certain, tmp_path)
    here.kill_at("early.certain", project, *fast)
    here.kill_at(point, project, *fast, "--resume", "latest")
    finish(here, project, fast, ended)


@pytest.mark.campaign
@pytest.mark.parametrize("point", ["early.certain", "early.told", "run.attempts-made"])
def test_killed_beside_another_pod_that_works(here: Ground, certain: Project, tmp_path: Path, point: str) -> None:
    """The attempt in the other pod may or may not have ended; the verdict is the same."""
    project, fast = another(certain, tmp_path)
    here.kill_at(point, project, *fast, "--pods", "2")
    done = here.podctl(project, *fast, "--pods", "2", "--resume", "latest")
    result = project.run()
    assert (done.returncode, result.verdict) == (100, "fail"), done.stdout + done.stderr
    assert result.comparison is not None and result.comparison.early_stop is not None
    assert (result.comparison.early_stop.worse, result.comparison.early_stop.better) == (ENOUGH, 0)
    assert len(result.attempts) in (ENOUGH, ENOUGH + 1)
    assert here.holdings() == CLEAN
