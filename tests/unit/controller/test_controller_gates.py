"""Runs that end early, baselines by branch, tickets in quarantine: over the memory backend and real git."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from project import make_project, ticket

from podctl.backends.memory import Call, MemoryBackend
from podctl.clock import SystemClock
from podctl.controller.revision import Revision, revision_of
from podctl.controller.run import RunController, load_baseline, prepare
from podctl.errors import SpecError
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.spec.load import load_bundle

SEED = {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}
TICKETS = 14


class World:
    def __init__(self, root: Path, scenario: dict[str, Any]) -> None:
        tickets = [ticket(f"t{number}") for number in range(TICKETS)]
        self.project = make_project(root / "p", agent="", tickets=tickets, command=["work"], scenario=scenario)
        self.store = Store.open(self.project.store, SystemClock())
        self.made = 0

    def run(
        self, run: str, *, passes: bool = True, until: int = TICKETS, revision: Revision | None = None, **how: Any
    ) -> RunResult:
        """``until``: the run is interrupted when so many attempts have been made."""

        async def work(call: Call) -> int:
            self.made += 1
            if self.made > until:
                await controller.interrupt()
                await asyncio.sleep(60)
            call.files["result.json"] = b'{"status": "done"}' if passes else b'{"status": "failed"}'
            return 0

        self.made = 0
        prepared = prepare(load_bundle(self.project.root / "scenario.yaml"))
        backend = MemoryBackend({"work": work}, SEED, isolates=True)
        controller = RunController(self.store, backend, revision=revision)
        result = asyncio.run(controller.reconcile(prepared, run, **how))
        assert asyncio.run(backend.list()) == [], "pods are left"
        return result


FAST = {"run": {"pods": 1, "fail_fast": True}, "gate": {"regression": 0.05}}


def test_a_run_ends_when_its_version_is_worse_for_certain(tmp_path: Path) -> None:
    world = World(tmp_path, FAST)
    first = world.run("r-0")
    assert "there is no baseline" in first.notes[0] and len(first.attempts) == TICKETS
    result = world.run("r-1", passes=False, baseline="r-0")
    # 2^7 of evidence take seven tickets; an eighth may have been begun.
    assert (result.status, result.verdict, len(result.attempts)) == ("finished", "fail", 7)
    assert result.comparison is not None and result.comparison.early_stop is not None
    stop = result.comparison.early_stop
    assert (stop.worse, stop.better, stop.attempts_not_made, stop.dollars_saved) == (7, 0, 7, 0)
    assert world.store.load_run("r-1") == result
    assert world.run("r-1", passes=False, baseline="r-0") == result, "a run that ended early has finished"


def test_a_run_that_was_killed_after_it_was_certain_ends_when_it_is_gone_on_with(tmp_path: Path) -> None:
    world = World(tmp_path, FAST)
    world.run("r-0")
    cut = world.run("r-1", passes=False, until=9)  # without a baseline nobody looked
    assert (cut.status, len(cut.attempts)) == ("interrupted", 9)
    result = world.run("r-1", baseline="r-0")
    assert world.made == 0, "it was certain before"
    assert (result.status, result.verdict, len(result.attempts)) == ("finished", "fail", 9)
    assert result.comparison is not None and result.comparison.early_stop is not None
    assert (result.comparison.early_stop.worse, result.comparison.early_stop.attempts_not_made) == (7, 5)


def test_it_never_passes_early_and_goes_on_where_it_is_not_certain(tmp_path: Path) -> None:
    world = World(tmp_path, FAST)
    world.run("r-0")
    cut = world.run("r-1", passes=False, until=3, baseline="r-0")
    assert (cut.status, cut.verdict, len(cut.attempts)) == ("interrupted", "inconclusive", 3)
    result = world.run("r-1", baseline="r-0")
    assert (result.status, len(result.attempts)) == ("finished", TICKETS)
    assert result.comparison is not None and result.comparison.early_stop is None


def git(root: Path, *arguments: str) -> None:
    user = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *user, "-C", str(root), *arguments], check=True, capture_output=True)


def test_what_git_says_of_a_scenario(tmp_path: Path) -> None:
    file = tmp_path / "specs" / "scenario.yaml"
    file.parent.mkdir()
    file.write_text("a")
    assert revision_of(file) == Revision(), "no work tree"
    git(tmp_path, "init", "-q", "-b", "trunk")
    assert revision_of(file) == Revision(), "no commit"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    found = revision_of(file)
    assert (found.branch, len(found.commit), found.dirty) == ("trunk", 40, False)
    file.write_text("b")
    assert revision_of(file).dirty
    git(tmp_path, "checkout", "-q", "--detach")
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin"}
    assert revision_of(file, environment).branch == ""
    assert revision_of(file, environment | {"GITHUB_HEAD_REF": "topic", "GITHUB_REF_NAME": "12/merge"}).branch == "topic"
    assert revision_of(file, {"PATH": str(tmp_path)}) == Revision(), "git is missing"
    assert revision_of(tmp_path / "gone" / "scenario.yaml") == Revision()


def test_a_branch_is_its_latest_finished_run_of_the_scenario(tmp_path: Path) -> None:
    world = World(tmp_path, {"run": {"pods": 2}, "gate": {"pass_rate": 1.0}})
    for run in ("r-1", "r-2"):
        assert world.run(run, revision=Revision("trunk", "c0ffee", True)).info.branch == "trunk"
    world.run("r-3", revision=Revision("topic", "beef"))
    world.run("r-4", until=2, revision=Revision("trunk", "dead"))
    assert load_baseline(world.store, "trunk", "small").info.id == "r-2"
    assert load_baseline(world.store, "trunk", "small", besides="r-2").info.id == "r-1"
    assert load_baseline(world.store, "r-3", "small").info.revision == "beef"
    for name, scenario, said in (
        ("main", "small", "branches with runs: topic, trunk"),
        ("trunk", "other", "no run was started"),
    ):
        with pytest.raises(SpecError) as raised:
            load_baseline(world.store, name, scenario)
        assert raised.value.code == "no-baseline" and said in raised.value.hint
    with pytest.raises(SpecError, match="a certificate has no attempts"):
        load_baseline(world.store, "release.json", "small")


def quarantine(world: World, **entries: str) -> None:
    tickets = {one: {"owner": "ana", "reason": "its seed is flaky", "expires": day} for one, day in entries.items()}
    body = {"apiVersion": "podctl/v1", "kind": "Quarantine", "name": "flaky", "tickets": tickets}
    (world.project.root / "quarantine.yaml").write_text(yaml.safe_dump(body))


def test_quarantined_tickets_are_worked_and_do_not_count(tmp_path: Path) -> None:
    world = World(tmp_path, {"quarantine": "quarantine.yaml", "gate": {"pass_rate": 0.5, "quarantined": 0.2}})
    quarantine(world, t3="2999-12-31", t5="2999-12-31", elsewhere="2999-12-31")
    result = world.run("r-1")
    assert len(result.attempts) == TICKETS and sorted(result.info.quarantine) == ["t3", "t5"]
    said = {finding.name: finding.message for finding in result.findings}
    assert said["pass_rate"].startswith("12 of 12 passed") and "2 quarantined tickets" in said["quarantined"]
    assert "elsewhere" in " ".join(result.notes)
    assert world.store.load_run("r-1") == result


def test_a_quarantine_that_has_ended_is_a_mistake(tmp_path: Path) -> None:
    world = World(tmp_path, {"quarantine": "quarantine.yaml"})
    quarantine(world, t3="2020-02-29", t4="2999-02-30")
    with pytest.raises(SpecError) as raised:
        world.run("r-1")
    text = raised.value.render()
    assert "the quarantine of ticket t3 ended on 2020-02-29" in text and "remove the entry, and the ticket counts again" in text
    assert "there is no day 2999-02-30" in text
    assert not world.store.has_run("r-1")
