"""The runner and the controller over the memory backend: order, retries, stopping, what is kept."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from project import make_project, ticket

from podctl.backends.memory import Call, MemoryBackend, Program, Refused
from podctl.clock import SystemClock
from podctl.controller.run import RunController, prepare
from podctl.errors import EnvironmentProblem
from podctl.evidence.causes import Cause
from podctl.evidence.reading import read_attempt
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.runs.runner import plan_attempts
from podctl.spec.load import load_bundle
from podctl.tickets.types import Ticket

SEED = {"main-db": {"items": {1: {"id": 1, "label": "item 1"}}}}


async def finish(call: Call) -> int:
    call.files["result.json"] = b'{"status": "done"}'
    return 0


def run(root: Path, program: Program, *, scenario: dict[str, Any] | None = None, **more: Any) -> tuple[RunResult, Store]:
    tickets = [ticket(f"t{number}") for number in range(6)]
    project = make_project(root / "p", agent="", tickets=tickets, command=["work"], scenario=scenario)
    prepared = prepare(load_bundle(project.root / "scenario.yaml"))
    store = Store.open(project.store, SystemClock())
    backend = MemoryBackend({"work": program}, SEED, isolates=True, **more)
    result = asyncio.run(RunController(store, backend).reconcile(prepared, "r-1"))
    assert asyncio.run(backend.list()) == [], "pods are left"
    return result, store


def test_every_attempt_is_made_once_and_kept(tmp_path: Path) -> None:
    result, store = run(tmp_path, finish, scenario={"run": {"pods": 3, "repeats": 2}})
    assert (result.status, result.verdict) == ("finished", "pass")
    assert sorted(attempt.id for attempt in result.attempts) == sorted({attempt.id for attempt in result.attempts})
    assert len(result.attempts) == 12
    assert store.load_run(result.info.id) == result


def test_an_infrastructure_failure_is_tried_again_and_counted(tmp_path: Path) -> None:
    result, store = run(tmp_path, finish, scenario={"run": {"pods": 1}}, faults={"execute": 2})
    assert all(attempt.passed for attempt in result.attempts)
    assert sum(attempt.tries for attempt in result.attempts) == 8
    failed = [each for each in store.tries(result.info.id) if each.cause is Cause.SANDBOX_FAILED]
    assert len(failed) == 2


def test_a_machine_that_makes_no_pods_stops_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as raised:
        run(tmp_path, finish, scenario={"run": {"pods": 1}}, faults={"apply": 100})
    assert raised.value.code == "memory-fault"


def test_an_untrusted_agent_is_refused_where_nothing_isolates_it(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("t1")], command=["work"])
    prepared = prepare(load_bundle(project.root / "scenario.yaml"))
    store = Store.open(project.store, SystemClock())
    with pytest.raises(EnvironmentProblem) as raised:
        asyncio.run(RunController(store, MemoryBackend({"work": finish})).reconcile(prepared, "r-1"))
    assert raised.value.code == "not-isolated"
    assert store.list_runs() == []


def test_a_refused_write_is_a_boundary_attempt_and_the_gate_fails(tmp_path: Path) -> None:
    async def trespass(call: Call) -> int:
        try:
            call.databases["main-db"].update(call.role, "items", 1, {"secret": "x"})
        except Refused:
            pass
        return await finish(call)

    result, _ = run(tmp_path, trespass)
    assert [attempt.boundary_attempts for attempt in result.attempts] == [1] * 6
    assert all(attempt.passed for attempt in result.attempts)
    assert result.verdict == "fail"


def test_an_interrupt_keeps_what_is_finished_and_a_resume_makes_the_rest(tmp_path: Path) -> None:
    made: list[str] = []
    project = make_project(
        tmp_path / "p", agent="", tickets=[ticket(f"t{n}") for n in range(6)], command=["work"], scenario={"run": {"pods": 1}}
    )
    prepared = prepare(load_bundle(project.root / "scenario.yaml"))
    store = Store.open(project.store, SystemClock())

    async def interrupted() -> RunResult:
        async def work(call: Call) -> int:
            made.append(json.loads(call.files["ticket.json"])["id"])
            if len(made) == 3:
                await controller.interrupt()
                await asyncio.sleep(60)
            return await finish(call)

        controller = RunController(store, MemoryBackend({"work": work}, SEED, isolates=True))
        return await controller.reconcile(prepared, "r-1")

    first = asyncio.run(interrupted())
    assert (first.status, first.verdict, len(first.attempts)) == ("interrupted", "inconclusive", 2)

    async def rest() -> RunResult:
        async def work(call: Call) -> int:
            made.append(json.loads(call.files["ticket.json"])["id"])
            return await finish(call)

        return await RunController(store, MemoryBackend({"work": work}, SEED, isolates=True)).reconcile(prepared, "r-1")

    second = asyncio.run(rest())
    assert (second.status, second.verdict, len(second.attempts)) == ("finished", "pass", 6)
    before = {attempt.id: attempt for attempt in first.attempts}
    assert all(before.get(attempt.id, attempt) == attempt for attempt in second.attempts)
    assert len(made) == 7, "an attempt that had ended was made again, or one was lost"
    assert made[2] == made[3]
    assert second.spent_dollars == Decimal(0)


def test_the_order_is_the_seeds_and_repeats_are_spread_out() -> None:
    tickets = [Ticket(str(number), "", "q", {}) for number in range(10)]
    first, again, other = (plan_attempts(tickets, 2, seed) for seed in (1, 1, 2))
    assert first == again != other
    assert [attempt.repeat for attempt in first] == [1] * 10 + [2] * 10
    assert {attempt.id for attempt in first} == {f"{position:04d}-{repeat}" for position in range(1, 11) for repeat in (1, 2)}


class JumpyClock(SystemClock):
    """Set back by an hour and ahead by a day in turns, as by a time service on a bad day."""

    def __init__(self) -> None:
        self._asked = 0

    def wall_ns(self) -> int:
        self._asked += 1
        return super().wall_ns() + (self._asked % 3 - 1) * 3600 * 10**9 * (24 if self._asked % 2 else 1)


def test_a_wall_clock_that_jumps_breaks_neither_order_nor_limits(tmp_path: Path) -> None:
    async def work(call: Call) -> int:
        await asyncio.sleep(30 if b'"t2"' in call.files["ticket.json"] else 0)
        return await finish(call)

    project = make_project(
        tmp_path / "p",
        agent="",
        tickets=[ticket(f"t{n}") for n in range(4)],
        command=["work"],
        scenario={"limits": {"wall": "1s"}},
    )
    store = Store.open(project.store, JumpyClock())
    backend = MemoryBackend({"work": work}, SEED, isolates=True)
    began = time.monotonic()
    result = asyncio.run(
        RunController(store, backend, clock=JumpyClock()).reconcile(prepare(load_bundle(project.root / "scenario.yaml")), "r-1")
    )
    assert time.monotonic() - began < 10
    assert sorted(attempt.cause for attempt in result.attempts) == [Cause.AGENT_TIMED_OUT, *[Cause.COMPLETED] * 3]
    for attempt in result.attempts:
        assert attempt.ended_ns >= attempt.started_ns
        kinds = [record.kind for record in read_attempt(store.attempt_directory(result.info.id, attempt.id))]
        assert (kinds[0], kinds[-1]) == ("attempt.start", "attempt.end"), kinds
        assert kinds.index("process.start") < kinds.index("process.exit")


@pytest.mark.parametrize("older", [True, False])
def test_a_run_that_began_before_routes_were_decided_goes_on_as_it_began_and_says_so(tmp_path: Path, older: bool) -> None:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("t1"), ticket("t2")], command=["work"])
    prepared = prepare(load_bundle(project.root / "scenario.yaml"))
    store = Store.open(project.store, SystemClock())

    async def worked(interrupt: bool) -> RunResult:
        async def work(call: Call) -> int:
            if interrupt:
                await controller.interrupt()
                await asyncio.sleep(60)
            return await finish(call)

        controller = RunController(store, MemoryBackend({"work": work}, SEED, isolates=True))
        return await controller.reconcile(prepared, "r-1")

    assert asyncio.run(worked(True)).status == "interrupted"
    if older:
        with sqlite3.connect(project.store / "store.db") as database:
            (info,) = database.execute("SELECT info FROM runs").fetchone()
            told = json.loads(info)
            del told["settings"]["boundary_spec"]
            database.execute("UPDATE runs SET info = ?", (json.dumps(told),))
    result = asyncio.run(worked(False))
    assert result.status == "finished" and len(result.attempts) == 2
    assert any("began before boundaries decided" in note for note in result.notes) is older
