"""Pods that exist only in this process: for tests of everything above a backend, shipped with the package.

Programs are Python coroutines registered by name; databases are dictionaries. It isolates nothing, and says so:
an untrusted agent is refused on it.
"""

from __future__ import annotations

import asyncio
import copy
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from podctl.backends.base import NOT_RECORDED, Command, Exit, Finding, PodRef, Process, Recording, Removal, ServiceProcess
from podctl.data.catalog import Catalog
from podctl.data.statements import LoggedStatement
from podctl.errors import EnvironmentProblem
from podctl.gateway.client import Door
from podctl.pods.plan import PodSpec, Resource, Step, advance
from podctl.scans.leavings import Leavings, LeftFile
from podctl.spec.bundle import Bundle
from podctl.spec.models import TableRule
from podctl.tickets.states import DatabaseState, TableState

PROCESSES_KEPT = 1_000
#: table -> key -> row; every table's key column is ``id``.
Tables = dict[str, dict[Any, dict[str, Any]]]


class Refused(Exception):
    """The role may not do this: what a database says with SQLSTATE 42501."""


@dataclass
class MemoryDatabase:
    """Row changes are kept in the order made; rights are checked by table and column as in PostgreSQL."""

    name: str
    seed: Tables
    tables: Tables = field(default_factory=dict)
    roles: dict[str, Mapping[str, TableRule]] = field(default_factory=dict)
    _changes: list[dict[str, Any]] = field(default_factory=list)
    _statements: list[LoggedStatement] = field(default_factory=list)

    def reset(self, state: DatabaseState = ()) -> None:
        self.tables = copy.deepcopy(self.seed)
        for table in state:
            self._apply(table)
        self.roles.clear()
        self._changes.clear()
        self._statements.clear()

    def _apply(self, state: TableState) -> None:
        """Keys of rows are what their text says; other values stay text."""
        table = self.tables[state.name]
        gone = {key[0] for key in state.gone}
        for key in [key for key in table if str(key) in gone]:
            del table[key]
        for values in state.rows:
            row: dict[str, Any] = dict(zip(state.columns, values, strict=True))
            row["id"] = int(row["id"]) if row["id"].isdigit() else row["id"]
            table[row["id"]] = row

    def update(self, role: str, table: str, key: Any, values: Mapping[str, Any]) -> None:
        """Raises `Refused` for a column that the role may not update, KeyError for a row that is not there."""
        rule = self.roles.get(role, {}).get(table)
        allowed = rule.update if rule else False
        entry = {"database": self.name, "user": role, "statement": f"update {table} {key} {sorted(values)}", "ms": 0.0}
        if allowed is not True and not (allowed and set(values) <= set(allowed)):
            error = f"permission denied for table {table}"
            boundary = {"via": "sql", "target": f"table {table}", "detail": error, "sqlstate": "42501"}
            self._statements.append(LoggedStatement(time.time_ns(), entry | {"sqlstate": "42501", "error": error}, boundary))
            raise Refused(error)
        self._statements.append(LoggedStatement(time.time_ns(), entry))
        old = dict(self.tables[table][key])
        self.tables[table][key].update(values)
        self._changes.append(
            {
                "database": self.name,
                "table": table,
                "op": "update",
                "key": {"id": key},
                "old": old,
                "new": dict(self.tables[table][key]),
                "user": role,
                "statement": entry["statement"],
            }
        )

    async def grant_agent(self, role: str, rules: Mapping[str, TableRule]) -> str:
        self.roles[role] = rules
        return "memory"

    async def grant_approved(self, rules: Mapping[str, TableRule]) -> str:
        raise EnvironmentProblem(
            "the memory backend has no sessions", code="memory-sql", hint="recommend no write to a database"
        )

    async def revoke_agent(self, role: str) -> None:
        self.roles.pop(role, None)

    async def changes(self) -> list[dict[str, Any]]:
        taken, self._changes = self._changes, []
        return taken

    async def statements(self) -> list[LoggedStatement]:
        taken, self._statements = self._statements, []
        return taken

    async def beside(self) -> Any:
        raise EnvironmentProblem("the memory backend has no sessions", code="memory-sql")

    catalog = Catalog()
    statements_dropped = 0
    changes_dropped = 0

    def kinds(self) -> Mapping[str, Mapping[str, str]]:
        return {}

    def generated(self) -> Mapping[str, Set[str]]:
        return {}

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """``statement`` is a table's name: its keys and rows."""
        return list(self.tables[statement].items())

    async def reference_changes(self, script: str) -> list[dict[str, Any]]:
        raise EnvironmentProblem("the memory backend runs no SQL", code="memory-sql", hint="state the reference's changes")


@dataclass(frozen=True)
class Call:
    """What a program of the memory backend is given, and where it leaves its output, its processes and what befell services."""

    command: Command
    databases: Mapping[str, MemoryDatabase]
    files: dict[str, bytes]
    stdout: bytearray
    processes: list[Process]
    services: list[ServiceProcess]

    @property
    def role(self) -> str:
        """The agent's database role, from the URL in its environment."""
        return self.command.environment["DATABASE_URL"].split("//")[1].split(":")[0]


Program = Callable[[Call], Awaitable[int]]


@dataclass
class _Pod:
    spec: PodSpec
    databases: dict[str, MemoryDatabase]
    observed: dict[Resource, int] = field(default_factory=dict)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""


class MemoryBackend:
    name = "memory"
    runs_images = False

    def __init__(
        self,
        programs: Mapping[str, Program],
        seeds: Mapping[str, Tables] | None = None,
        *,
        isolates: bool = False,
        faults: Mapping[str, int] | None = None,
    ) -> None:
        """``isolates`` pretends that every control is there; ``faults``: method -> how many of its next calls fail."""
        self._isolates = isolates
        self._faults = dict(faults or {})
        self._programs = programs
        self._seeds = seeds or {}
        self._pods: dict[str, _Pod] = {}

    async def check(self) -> list[Finding]:
        if self._isolates:
            return []
        return [Finding("sandbox", "no", "the memory backend isolates nothing", "use the local backend")]

    def isolation(self) -> str:
        return "memory: no isolation; programs run inside podctl"

    async def prepare(self, bundle: Bundle) -> dict[str, str]:
        """Nothing: seeds were given at construction."""
        return {}

    async def observe(self, pod: str) -> dict[Resource, int]:
        return dict(self._pods[pod].observed) if pod in self._pods else {}

    async def apply(self, spec: PodSpec, step: Step) -> None:
        self._fault("apply")
        if step.resource.kind == "directory":
            databases = {name: MemoryDatabase(name, self._seeds.get(name, {})) for name in spec.topology.databases}
            self._pods[spec.id] = _Pod(spec, databases)
        pod = self._pod(spec.id)
        if step.resource.kind == "database" and step.action != "remove":
            pod.databases[step.resource.name].reset(spec.states.get(step.resource.name, ()))
        pod.observed = advance(pod.observed, step)

    async def execute(self, pod: str, command: Command) -> Exit:
        self._fault("execute")
        held = self._pod(pod)
        held.stop = asyncio.Event()
        files, stdout = dict(command.files), bytearray()
        processes: list[Process] = []
        services: list[ServiceProcess] = []
        program = self._programs[command.argv[0]]
        started = time.monotonic()
        work = asyncio.ensure_future(program(Call(command, held.databases, files, stdout, processes, services)))
        stopped = asyncio.ensure_future(held.stop.wait())
        await asyncio.wait([work, stopped], timeout=command.wall_s, return_when=asyncio.FIRST_COMPLETED)
        limit, code = "", None
        if work.done():
            code = 1 if work.exception() else work.result()
        else:
            limit = held.reason if held.stop.is_set() else "wall"
        if len(stdout) > command.output:
            limit = limit or "output"
        for task in (work, stopped):
            task.cancel()
        await asyncio.gather(work, stopped, return_exceptions=True)
        kept = {name: files[name] for name in command.collect if name in files and len(files[name]) <= command.collect_bytes}
        too_large = {name: "it is larger than the limit" for name in command.collect if name in files and name not in kept}
        wall = time.monotonic() - started
        return Exit(
            code,
            None,
            limit,
            wall,
            stdout=bytes(stdout[: command.output]),
            files=kept,
            refused_files=too_large,
            recording=Recording(tuple(processes[:PROCESSES_KEPT]), len(processes)) if command.record else NOT_RECORDED,
            services=tuple(services),
            leavings=_left(files) if command.leavings else None,
        )

    async def interrupt(self, pod: str, reason: str) -> None:
        held = self._pods.get(pod)
        if held is not None:
            held.reason = reason
            held.stop.set()

    def doors(self, pod: str, holder: int) -> tuple[list[Door], socket.socket | None]:
        return [], None

    def database(self, pod: str, name: str) -> MemoryDatabase:
        return self._pod(pod).databases[name]

    async def logs(self, pod: str, service: str) -> bytes:
        return b""

    async def delete(self, pod: str) -> list[Removal]:
        return [Removal(pod, "memory", True)] if self._pods.pop(pod, None) else []

    async def list(self) -> list[PodRef]:
        return [PodRef(name, pod.spec.run, True, 0, 0) for name, pod in self._pods.items()]

    async def close(self) -> None:
        self._pods.clear()

    def _fault(self, method: str) -> None:
        if self._faults.get(method, 0) > 0:
            self._faults[method] -= 1
            raise EnvironmentProblem(f"{method} failed", code="memory-fault", cause="a fault that was asked for")

    def _pod(self, pod: str) -> _Pod:
        if pod not in self._pods:
            raise EnvironmentProblem(f"no pod {pod}", code="pod-unknown")
        return self._pods[pod]


def _left(files: Mapping[str, bytes]) -> Leavings:
    return Leavings(tuple(LeftFile(name, 0o100644, len(content), content) for name, content in sorted(files.items())))
