"""The contract suite that every backend passes: run it against a backend of your own.

A *harness* gives the suite a backend, a topology with one database ``db`` that has a table ``items`` with a row
``id = 1, label = 'one'``, and the backend's way of saying a few programs. Known gaps are listed with reasons.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from podctl.backends.base import Backend, Command, Process
from podctl.gateway.client import Gateway
from podctl.gateway.contract import AttemptPass, GatewayConfig
from podctl.pods.plan import PodSpec, steps
from podctl.spec.bundle import Bundle
from podctl.spec.models import TableRule
from podctl.spec.topology import databases, service_order
from podctl.tickets.states import TableState

RULES = {"items": TableRule(read=True, update=("label",))}


class Harness(Protocol):
    """What the suite needs to know of a backend under test."""

    bundle: Bundle
    gaps: Mapping[str, str]  # check -> why the backend does not pass it

    def backend(self) -> Backend: ...

    def program(self, name: str) -> Command:
        """``exit-3``, ``echo-ticket`` (copies ticket.json to result.json), ``sleep``, ``flood``, ``link-result``
        (leaves result.json as something that is no plain file), ``set-label`` and ``set-id`` (update the row's
        column through the database as the role in DATABASE_URL), ``family`` and ``crowd``.

        ``family`` makes, waits for, and exits 0: a child with the argument ``child`` that exits 7; ``brief``, which ends
        at once; ``killed``, ended by SIGKILL; one that is forked, executes nothing and exits 5; ``threaded``, made by
        another thread, which exits 8; and ``orphan``, made by a child of its own that is dead before ``orphan`` executes
        and exits 9. ``crowd`` forks 1,100 children one after the other."""


@dataclass
class Report:
    """``passed`` names, ``failed`` name -> what was wrong, ``gaps`` name -> why it was not tried."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)


async def run_contract(harness: Harness, wanted: Container[str] | None = None) -> Report:
    """Every check, or those ``wanted``, each on a pod of its own, which is removed while the next one works."""
    report = Report()
    removals: list[asyncio.Task[None]] = []
    backend = harness.backend()
    await backend.prepare(harness.bundle)
    gateway = await Gateway.start(GatewayConfig())

    async def remove(pod: str) -> None:
        await gateway.close_pod(pod)
        await backend.delete(pod)

    try:
        for number, (name, check) in enumerate(CHECKS.items()):
            if wanted is not None and name not in wanted:
                continue
            if name in harness.gaps:
                report.gaps[name] = harness.gaps[name]
                continue
            spec = PodSpec(f"contract-{number}", "contract", harness.bundle.topology)
            pod = Pod(harness, backend, gateway, spec)
            try:
                await check(pod)
                report.passed.append(name)
            except AssertionError as error:
                report.failed[name] = str(error)
            finally:
                removals.append(asyncio.ensure_future(remove(pod.spec.id)))
        await asyncio.gather(*removals)
    finally:
        await asyncio.gather(*removals, return_exceptions=True)
        await gateway.stop()
        await backend.close()
    return report


@dataclass
class Pod:
    harness: Harness
    backend: Backend
    gateway: Gateway
    spec: PodSpec

    async def up(self) -> None:
        """Make what is missing; a new pod's doors are opened."""
        plan = steps(self.spec, await self.backend.observe(self.spec.id))
        for step in plan:
            await self.backend.apply(self.spec, step)
        if any(step.resource.kind == "door" for step in plan):
            doors, dialer = self.backend.doors(self.spec.id, self.gateway.pid)
            await self.gateway.open_pod(self.spec.id, doors, dialer)
            with tempfile.NamedTemporaryFile() as evidence:
                granted = AttemptPass(attempt=self.spec.id, pod=self.spec.id, key="contract", evidence=Path(evidence.name))
                await self.gateway.open_attempt(granted)


def expect(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


async def _nothing_before(pod: Pod) -> None:
    expect(await pod.backend.observe(pod.spec.id) == {}, "a pod that was never made is observed")
    expect(await pod.backend.delete(pod.spec.id) == [], "deleting what is not there removed something")


async def _plan_is_empty_once_applied(pod: Pod) -> None:
    await pod.up()
    left = steps(pod.spec, await pod.backend.observe(pod.spec.id))
    expect(left == [], f"steps remain: {[str(step) for step in left]}")


async def _listed_with_owner(pod: Pod) -> None:
    await pod.up()
    mine = [ref for ref in await pod.backend.list() if ref.id == pod.spec.id]
    expect(len(mine) == 1 and mine[0].run == "contract" and mine[0].owner_alive, f"listed as {mine}")


async def _delete_is_complete_and_idempotent(pod: Pod) -> None:
    await pod.up()
    first = await pod.backend.delete(pod.spec.id)
    expect(bool(first) and all(removal.gone for removal in first), f"receipt: {first}")
    expect(await pod.backend.delete(pod.spec.id) == [], "the second delete removed something")
    expect(await pod.backend.observe(pod.spec.id) == {}, "something is left")


async def _delete_from_any_prefix(pod: Pod) -> None:
    plan = steps(pod.spec, {})
    for length in range(len(plan)):
        for step in plan[:length]:
            await pod.backend.apply(pod.spec, step)
        receipt = await pod.backend.delete(pod.spec.id)
        expect(all(removal.gone for removal in receipt), f"after {length} steps: {receipt}")
        expect(await pod.backend.observe(pod.spec.id) == {}, f"after {length} steps something is left")


async def _exit_code(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, pod.harness.program("exit-3"))
    expect(exit_.code == 3 and exit_.limit == "", f"ended as {exit_}")


async def _files_in_and_out(pod: Pod) -> None:
    await pod.up()
    command = replace(pod.harness.program("echo-ticket"), files={"ticket.json": b'{"id": "1"}'}, collect=("result.json",))
    exit_ = await pod.backend.execute(pod.spec.id, command)
    expect(exit_.files == {"result.json": b'{"id": "1"}'}, f"collected {exit_.files}, refused {exit_.refused_files}")


async def _workspace_is_fresh(pod: Pod) -> None:
    await _files_in_and_out(pod)
    exit_ = await pod.backend.execute(pod.spec.id, replace(pod.harness.program("exit-3"), collect=("result.json",)))
    expect(exit_.files == {}, f"an earlier command's file was there: {exit_.files}")


async def _wall_limit(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, replace(pod.harness.program("sleep"), wall_s=0.2))
    expect(exit_.limit == "wall" and exit_.wall_s < 5, f"ended as {exit_.limit!r} after {exit_.wall_s:.1f} s")


async def _output_limit(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, replace(pod.harness.program("flood"), output=4096, wall_s=20))
    expect(exit_.limit == "output" and len(exit_.stdout) <= 4096, f"{exit_.limit!r}, {len(exit_.stdout)} bytes kept")


async def _only_plain_files_are_collected(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, replace(pod.harness.program("link-result"), collect=("result.json",)))
    expect("result.json" in exit_.refused_files and not exit_.files, f"collected {exit_.files}")


async def _changes_are_seen_and_attributed(pod: Pod) -> None:
    await pod.up()
    database = pod.backend.database(pod.spec.id, "db")
    exit_ = await pod.backend.execute(pod.spec.id, await _with_role(pod, "set-label"))
    expect(exit_.code == 0, f"the allowed write failed: {exit_.stderr!r}")
    await database.revoke_agent("ag_contract")
    changes = await database.changes()
    expect(len(changes) == 1, f"{len(changes)} changes")
    change = changes[0]
    expect(change["op"] == "update" and change["user"] == "ag_contract", f"{change}")
    expect(change["old"]["label"] == "one" and change["new"]["label"] == "changed", f"{change}")
    expect(await database.changes() == [], "the same change was given twice")


async def _boundary_holds_and_is_recorded(pod: Pod) -> None:
    await pod.up()
    database = pod.backend.database(pod.spec.id, "db")
    exit_ = await pod.backend.execute(pod.spec.id, await _with_role(pod, "set-id"))
    expect(exit_.code != 0, "a write to an ungranted column succeeded")
    await database.revoke_agent("ag_contract")
    refusals = [entry for entry in await database.statements() if entry.boundary is not None]
    expect(len(refusals) == 1 and (refusals[0].boundary or {})["sqlstate"] == "42501", f"{refusals}")
    expect(await database.changes() == [], "a refused write changed something")


async def _next_generation_is_clean(pod: Pod) -> None:
    await _changes_are_seen_and_attributed(pod)
    pod.spec = replace(pod.spec, generation=2)
    await pod.up()
    database = pod.backend.database(pod.spec.id, "db")
    expect(steps(pod.spec, await pod.backend.observe(pod.spec.id)) == [], "steps remain after the reset")
    expect(await database.changes() == [], "an earlier attempt's changes are seen")
    exit_ = await pod.backend.execute(pod.spec.id, await _with_role(pod, "set-label"))
    expect(exit_.code == 0, f"the write after the reset failed: {exit_.stderr!r}")
    changes = await database.changes()
    expect(changes[0]["old"]["label"] == "one", f"the reset did not restore the row: {changes}")


async def _begins_with_a_state(pod: Pod) -> None:
    earlier = TableState("public", "items", ("id", "label"), ("id",), gone=(("1",),), rows=(("1", "earlier"),))
    for generation, (states, label) in enumerate(
        [({"db": (earlier,)}, "earlier"), ({}, "one"), ({"db": (earlier,)}, "earlier")]
    ):
        pod.spec = replace(pod.spec, generation=generation + 1, states=states)
        await pod.up()
        database = pod.backend.database(pod.spec.id, "db")
        expect(await database.changes() == [], "what brought the database to its state is told as somebody's change")
        exit_ = await pod.backend.execute(pod.spec.id, await _with_role(pod, "set-label"))
        await database.revoke_agent("ag_contract")
        old = [change["old"]["label"] for change in await database.changes()]
        expect(exit_.code == 0 and old == [label], f"generation {generation + 1}: the row was {old}, not {label!r}")


async def _interrupt_ends_a_command(pod: Pod) -> None:
    await pod.up()
    running = asyncio.ensure_future(pod.backend.execute(pod.spec.id, replace(pod.harness.program("sleep"), wall_s=60)))
    await asyncio.sleep(0.2)
    await pod.backend.interrupt(pod.spec.id, "cancelled")
    exit_ = await asyncio.wait_for(running, 10)
    expect(exit_.limit == "cancelled", f"ended as {exit_.limit!r}")


async def _processes_are_recorded(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, pod.harness.program("family"))
    expect(exit_.code == 0, f"ended as {exit_}")
    kept, total = exit_.recording.kept, exit_.recording.total
    own = [process for process in kept if process.own]
    expect(len(own) == 1 and own[0].code == 0 and own[0].parent is None, f"the command's own process: {own}")
    family = own[0].pid

    def ended(word: str, code: int | None, number: int | None = None) -> Process:
        found = [process for process in kept if any(word in image.argv for image in process.images) and not process.own]
        expect(len(found) == 1, f"{word} is recorded {len(found)} times")
        expect((found[0].code, found[0].signal) == (code, number), f"{word} ended as {found[0]}")
        return found[0]

    for process in (ended("child", 7), ended("brief", 0), ended("killed", None, 9), ended("threaded", 8)):
        expect(process.parent == family, f"the parent of {process} is {family}")
    forked = [process for process in kept if process.code == 5]
    expect(len(forked) == 1 and not forked[0].images and forked[0].parent == family, f"forked without exec: {forked}")
    between = next((process for process in kept if process.pid == ended("orphan", 9).parent), None)
    expect(between is not None and between.parent == family, f"the orphan's parent is {between}")
    expect(total == len(kept) == 8, f"{total} processes, {len(kept)} kept")
    expect(all(process.started_ns <= process.ended_ns for process in kept), "a process ended before it began")
    expect([process.started_ns for process in kept] == sorted(process.started_ns for process in kept), "not by their start")


async def _processes_kept_are_bounded(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, pod.harness.program("crowd"))
    expect(exit_.recording.total == 1101, f"{exit_.recording.total} processes of 1,101")
    expect(len(exit_.recording.kept) == 1000, f"{len(exit_.recording.kept)} kept, not the first 1,000")


async def _services_are_told_of(pod: Pod) -> None:
    await pod.up()
    exit_ = await pod.backend.execute(pod.spec.id, pod.harness.program("exit-3"))
    told = {(service.kind, service.name): service.ended_ns for service in exit_.services}
    wanted = {("database", name): None for name in databases(pod.spec.topology)}
    expect(told == wanted | {("service", name): None for name in service_order(pod.spec.topology)}, f"{told}")


async def _with_role(pod: Pod, program: str) -> Command:
    password = await pod.backend.database(pod.spec.id, "db").grant_agent("ag_contract", RULES)
    command = pod.harness.program(program)
    name = pod.harness.bundle.topology.databases["db"].name
    url = f"postgresql://ag_contract:{password}@db:5432/{name}"
    return replace(command, environment={**command.environment, "DATABASE_URL": url})


CHECKS: dict[str, Callable[[Pod], Awaitable[None]]] = {
    "nothing before": _nothing_before,
    "the plan is empty once applied": _plan_is_empty_once_applied,
    "listed with its owner": _listed_with_owner,
    "delete is complete and idempotent": _delete_is_complete_and_idempotent,
    "delete from any prefix of steps": _delete_from_any_prefix,
    "exit code": _exit_code,
    "files in and out": _files_in_and_out,
    "the workspace is fresh": _workspace_is_fresh,
    "wall limit": _wall_limit,
    "output limit": _output_limit,
    "only plain files are collected": _only_plain_files_are_collected,
    "changes are seen and attributed": _changes_are_seen_and_attributed,
    "the boundary holds and is recorded": _boundary_holds_and_is_recorded,
    "the next generation is clean": _next_generation_is_clean,
    "databases begin with their states": _begins_with_a_state,
    "an interrupt ends a command": _interrupt_ends_a_command,
    "every process is recorded": _processes_are_recorded,
    "processes kept are bounded, and all are counted": _processes_kept_are_bounded,
    "services are told of": _services_are_told_of,
}
