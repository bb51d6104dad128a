"""A run cut off anywhere, any number of times, and resumed comes to what it comes to when nobody cuts it off."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import same_as_ever
from project import Project, make_project, relabel, ticket

from podctl.backends.memory import Call, MemoryBackend
from podctl.clock import SystemClock
from podctl.controller.run import RunController, prepare
from podctl.evidence.causes import Cause
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.faults import SETTING
from podctl.spec.load import load_bundle

SEED = {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}
#: More places than a run of this size comes to, so that some draws are not cut off at all.
PLACES = 100


def project_in(root: Path, failures: int) -> Project:
    """Three tickets, one of which is not passed; as many infrastructure failures are forgiven as there will be."""
    return make_project(
        root / "p",
        agent="",
        tickets=[ticket(f"t{n}", changes=[relabel(1, "seen" if n != 1 else "other")]) for n in range(3)],
        command=["work"],
        scenario={"run": {"pods": 1, "seed": 2, "retries": failures}},
    )


async def work(call: Call) -> int:
    call.databases["main-db"].update(call.role, "items", 1, {"label": "seen"})
    call.files["result.json"] = b'{"status": "done", "confidence": 0.5}'
    return 0


def make(project: Project) -> None:
    """One podctl's share of the run: the first command in a pod fails by the machine's fault."""
    prepared = prepare(load_bundle(project.root / "scenario.yaml"))
    store = Store.open(project.store, SystemClock())
    backend = MemoryBackend({"work": work}, SEED, isolates=True, faults={"execute": 1})
    asyncio.run(RunController(store, backend).reconcile(prepared, "r-1"))
    store.close()


def make_until(project: Project, place: int) -> bool:
    """In a process of its own, killed at the place-th point it comes to; whether it came so far."""
    child = os.fork()
    if child == 0:
        try:
            os.environ[SETTING] = f"kill:*:{place}"
            make(project)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), f"it failed: {os.waitstatus_to_exitcode(status)}"
    return status == signal.SIGKILL


def result_of(project: Project) -> RunResult:
    store = Store.open(project.store, SystemClock())
    try:
        run = store.find_run("latest")
        failed = [made for made in store.tries(run) if made.cause is Cause.SANDBOX_FAILED]
        assert failed, "no failure was forgiven"
        assert [state.state for state in store.planned(run)] == ["ended"] * 3
        return store.load_run(run)
    finally:
        store.close()


def cut_off_at(*places: int) -> None:
    with tempfile.TemporaryDirectory() as whole, tempfile.TemporaryDirectory() as cut:
        uninterrupted, project = (project_in(Path(root), len(places) + 1) for root in (whole, cut))
        make_until(uninterrupted, 10**6)
        for place in places:
            make_until(project, place)
        make_until(project, 10**6)
        expected, got = same_as_ever(result_of(uninterrupted)), same_as_ever(result_of(project))
        assert got == expected
        assert [attempt.passed for attempt in result_of(project).attempts].count(True) == 2


def test_a_run_cut_off_twice_and_resumed_is_the_whole_run() -> None:
    cut_off_at(31, 17)


@pytest.mark.campaign
@pytest.mark.parametrize("place", range(1, PLACES + 1))
def test_a_run_cut_off_at_each_place_is_the_whole_run(place: int) -> None:
    cut_off_at(place)


@pytest.mark.campaign
@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, PLACES), min_size=2, max_size=4))
def test_a_run_cut_off_many_times_is_the_whole_run(places: list[int]) -> None:
    cut_off_at(*places)
