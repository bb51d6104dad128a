"""One local test pod while this process holds it."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import os
import shlex
import shutil
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from psycopg.conninfo import make_conninfo

from podctl.backends import seccomp
from podctl.backends.base import Command, Exit, ServiceProcess
from podctl.backends.local import cgroups, postgres, sandbox
from podctl.backends.local.execute import Capture, Execution, sandbox_ending
from podctl.backends.local.files import PodFiles
from podctl.backends.local.init_client import InitClient, Launch, PodProblem, program_failed
from podctl.backends.local.network import GATEWAY, GATEWAY_PORT, addresses, hosts_file, placeholders
from podctl.backends.local.readiness import ServiceProbe, database_probe, pauses
from podctl.backends.local.state import PodRecord, State
from podctl.backends.servicing import behind_port, stub_argv
from podctl.data.connect import first_line
from podctl.data.database import PostgresDatabase, end_floods
from podctl.data.roles import service_role
from podctl.data.settings import settings_for
from podctl.errors import NO_ROOM_FOR_PODS, PodctlError
from podctl.faults import point
from podctl.gateway.client import Door
from podctl.gateway.contract import DOOR_KINDS
from podctl.pods.plan import Resource
from podctl.spec.models import Service, Topology
from podctl.spec.placeholders import expand
from podctl.spec.topology import databases, readiness, service_order
from podctl.tickets.states import DatabaseState

_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TZ": "UTC"}
#: Bytes of a Unix socket's path.
_SOCKET_PATH = 107
#: Of each process of a server: a query that asks for more memory fails instead of taking the machine's, and a file (a
#: table's segments are 1 GiB) does not grow beyond.
_SERVER_LIMITS = {"CORE": 0, "AS": 1 << 30, "FSIZE": 1 << 30}
#: Seconds between two looks at how much the databases were made to write.
_LOG_BYTES = 64 * 2**20


#: The template's name inside a prepared data directory.
TEMPLATE_DATABASE = "podctl_template"


class Runtime:
    """Host paths that pods read, the same for every pod of a run."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = sandbox.minimal(path.resolve() for path in paths)
        self._located: dict[Path, tuple[Path | None, Path]] = {}

    def target(self, path: Path, bound: dict[Path, Path]) -> str:
        """``path`` as the pod sees it, given where each of ``paths`` was bound."""
        source, rest = self._located.get(path) or self._locate(path)
        return str(rest if source is None else bound[source] / rest)

    def _locate(self, path: Path) -> tuple[Path | None, Path]:
        """Which of ``paths`` it lies beneath, and where; looked up once, as every launch asks for the same few."""
        resolved = path.resolve()
        source = next((source for source in self.paths if resolved == source or source in resolved.parents), None)
        self._located[path] = source, resolved if source is None else resolved.relative_to(source)
        return self._located[path]


class LocalPod:
    def __init__(
        self,
        state: State,
        record: PodRecord,
        topology: Topology,
        runtime: Runtime,
        templates: dict[str, Path],
        data_bytes: int | None = None,
    ) -> None:
        """``data_bytes``: keep the databases' files in memory, at most this many bytes; None keeps them on disk."""
        self.id = record.id
        self.record = record
        self.files = PodFiles(state.directory(record.id))
        self.init: InitClient | None = None
        self.generations: dict[Resource, int] = {Resource("directory"): 1}
        self.doors: list[Door] = []
        self.databases: dict[str, PostgresDatabase] = {}
        self.execution: Execution | None = None
        self._state = state
        self._topology = topology
        self._runtime = runtime
        self._templates = templates
        self._data_bytes = data_bytes
        self._bound: dict[Path, Path] = {}
        self._pids: dict[Resource, int] = {}
        self._started: dict[Resource, tuple[tuple[str, ...], int]] = {}  # argv as it may be shown, wall ns
        self._groups: dict[str, cgroups.Group] = {}
        self._addresses = addresses(topology)
        self._took: dict[str, float] = {}  # seconds until it was ready, the last time

    # ---- steps ----

    async def make_network(self) -> None:
        self.files.lay_out(hosts_file(self._addresses))
        for number, source in enumerate(self._runtime.paths):
            self._bound[source] = self.files.runtime_target(source, number)
        for name in databases(self._topology):
            self._refuse_long_socket(name)
            own = [self.files.sockets(name), self.files.server_log(name)]
            if self._data_bytes is None:
                own.append(self.files.data(name))
            else:
                self.files.data(name).parent.mkdir(exist_ok=True)
            for directory in own:
                directory.mkdir(mode=0o700, parents=True)
                directory.parent.chmod(0o711)
                if self.record.base_uid is not None:
                    os.chown(directory, self.record.base_uid + 1, self.record.base_uid + 1)
        binds = [(str(source), str(target)) for source, target in [*self._bound.items(), *self.files.etc_binds()]]
        self.init = await InitClient.start(
            self.id,
            self.files.root,
            self.record.base_uid,
            binds,
            databases=databases(self._topology),
            data_bytes=self._data_bytes,
        )
        point("pod.init-started")
        self.note(init=self.init.init, networks=self.init.networks)

    def note(self, **facts: Any) -> None:
        """Keep in the pod's record, before it is used, what outlives this process."""
        self.record = replace(self.record, **facts)
        self._state.write(self.record)

    def _refuse_long_socket(self, name: str) -> None:
        path = self.files.sockets(name) / f".s.PGSQL.{self._topology.databases[name].port}"
        beyond = len(os.fsencode(path)) - _SOCKET_PATH
        if beyond > 0:
            more = "1 byte" if beyond == 1 else f"{beyond} bytes"
            raise PodProblem(
                f"the path for the server of {name} is too long",
                code="path-too-long",
                cause=f"its socket {path} takes {more} more than the {_SOCKET_PATH} that Linux allows",
                hint=f"set PODCTL_STATE to a path at least {more} shorter",
            )

    async def make_database(self, name: str) -> None:
        template = self._templates[name]
        data = self.files.data(name)
        source = self._runtime.target(template / "data", self._bound)
        copy = await self._plain(["/bin/cp", "-R", f"{source}/.", str(data)])
        if copy.code != 0:
            raise program_failed(f"the template of {name} could not be copied", "database-copy", copy.stderr)
        point("pod.database-copied")
        try:
            conninfo = await self.start_server(name, (template / "password").read_text())
        except (PodProblem, FileNotFoundError) as error:
            what, cause = (error.what, error.cause) if isinstance(error, PodProblem) else ("a template is damaged", str(error))
            hint = f"if its template is damaged, this has it made again: rm -r {shlex.quote(str(template))}"
            raise PodProblem(what, code="database-start", cause=cause, hint=hint) from error
        point("pod.server-started")
        self.databases[name] = await PostgresDatabase.open(
            name,
            conninfo,
            TEMPLATE_DATABASE,
            self._topology.databases[name].name,
            self.files.server_log(name) / "postgresql.json",
            service_order(self._topology),
        )

    async def initialise_server(self, name: str, password: str) -> None:
        """An empty data directory, its superuser with a password, everybody else refused until told otherwise."""
        data = self.files.data(name)
        password_file = self.files.sockets(name) / "password"
        password_file.write_text(password)
        if self.record.base_uid is not None:
            os.chown(password_file, self.record.base_uid + 1, self.record.base_uid + 1)
        made = await self._plain(postgres.initdb_command(self._programs("bin"), str(data), str(password_file)))
        password_file.unlink()
        if made.code != 0:
            raise program_failed("initdb failed", "initdb", made.stderr)
        (data / "pg_hba.conf").write_text(postgres.HBA)

    async def start_server(self, name: str, password: str) -> str:
        """Start it and wait until it answers; how to connect to it as its superuser."""
        database = self._topology.databases[name]
        data = self.files.data(name)
        command = postgres.server_command(
            self._programs("bin"),
            str(data),
            host=self._addresses[name],
            port=database.port,
            socket_directory=str(self.files.sockets(name)),
            settings={
                **settings_for(postgres.programs().major),
                **postgres.shared_memory(),
                "log_directory": str(self.files.server_log(name)),
            },
        )
        pid = await self._start(Resource("database", name), command, "postgres", str(data), shown=["postgres"])
        conninfo = make_conninfo(host=str(self.files.sockets(name)), port=database.port, user="postgres", password=password)
        probe = database_probe(conninfo, self.files.sockets(name) / f".s.PGSQL.{database.port}")
        await self._until_ready(f"database {name}", pid, probe, 30)
        return conninfo

    def database_problem(self, name: str, what: str, error: Exception) -> PodProblem:
        """Why the server failed. What it says to a session is not always that its disk is full: its log says so, or the disk."""
        cause = error.cause if isinstance(error, PodctlError) else first_line(error)
        logs = (self.files.server_log(name) / "postgresql.json", self.files.logs / f"database-{name}.log")
        said = b"".join(log.read_bytes()[-65536:] for log in logs if log.exists())
        if os.strerror(errno.ENOSPC).encode() in said or shutil.disk_usage(self.files.root).free < 2**20:
            return PodProblem(what, code="disk-full", cause=cause, hint=NO_ROOM_FOR_PODS)
        return PodProblem(what, code="database-failed", cause=cause)

    def conninfo(self, name: str) -> dict[str, str]:
        database = self._topology.databases[name]
        return {
            "host": str(self.files.sockets(name)),
            "port": str(database.port),
            "user": "postgres",
            "password": (self._templates[name] / "password").read_text(),
            "database": database.name,
        }

    async def stop_server(self, name: str, number: int) -> None:
        assert self.init is not None
        pid = self._pids[Resource("database", name)]
        await self.init.kill(pid, number)
        await self.init.ended(pid)

    def _programs(self, part: str) -> str:
        return self._runtime.target(postgres.programs().root / part, self._bound)

    async def reset_database(self, name: str, state: DatabaseState) -> None:
        await self.databases[name].reset(state)

    async def make_service(self, name: str) -> None:
        service = self._topology.services[name]
        environment, argv, directory = self._service_launch(name, service)
        binds = [(self._runtime.target(path, self._bound), str(path)) for path in self._service_paths(service)]
        box = self._sandbox(binds, str(directory), workspace=None)
        limits = {"CORE": 0, "NPROC": service.resources.processes, "FSIZE": _LOG_BYTES, "NOFILE": 1024}
        group = self._group(f"service-{name}", service.resources.memory, service.resources.cpu, service.resources.processes)
        if group is None:
            limits["AS"] = max(service.resources.memory * 4, 1 << 30)
        resource = Resource("service", name)
        pid = await self._start(
            resource, argv, "service", "/", environment, limits, box, group, append=True, shown=service.command
        )
        point("pod.service-started")
        ready = readiness(service)
        probe = ServiceProbe(self._inner_socket, self._addresses[name], ready.port, ready.path or None)
        try:
            await self._until_ready(f"service {name}", pid, probe, ready.timeout)
        finally:
            probe.close()

    async def remove_service(self, name: str) -> None:
        assert self.init is not None
        pid = self._pids.pop(Resource("service", name), None)
        if pid is not None and self.init.running(pid):
            await self.init.kill(pid, signal.SIGKILL)
            await self.init.ended(pid)

    async def make_door(self) -> None:
        """The gateway's listeners: one for itself, one in place of each service and database."""
        assert self.init is not None
        wanted: list[tuple[str, str, int]] = [("gateway", GATEWAY, GATEWAY_PORT)]
        wanted += [("tcp", name, self._topology.databases[name].port) for name in databases(self._topology)]
        for name in service_order(self._topology):
            service = self._topology.services[name]
            wanted += [(DOOR_KINDS[service.protocol], name, port) for port in service.ports]
        places = [(self._addresses[name], port) for _, name, port in wanted]
        _, fds = await self.init.request("listen", {"addresses": places})
        for (kind, name, port), fd in zip(wanted, fds, strict=True):
            target = None if kind == "gateway" else (self._addresses[name], port)
            self.doors.append(Door(kind=kind, name=name, listener=socket.socket(fileno=fd), target=target))  # type: ignore[arg-type]

    def observe(self) -> dict[Resource, int]:
        """What runs, by generation; a server or service that died is not there."""
        if self.init is None or self.init.lost.done():
            return {Resource("directory"): 1}
        dead = {resource for resource, pid in self._pids.items() if not self.init.running(pid)}
        return {resource: generation for resource, generation in self.generations.items() if resource not in dead}

    # ---- commands ----

    async def execute(self, command: Command) -> Exit:
        assert self.init is not None
        group = self._group("agent", command.memory, command.cpu, command.processes)
        limits = {
            "CORE": 0,
            "NPROC": command.processes,
            "NOFILE": 1024,
            "FSIZE": command.disk,
            "MEMLOCK": 65536,
            "MSGQUEUE": 0,
        }
        if group is None:
            limits["AS"] = command.memory
        paths = [(path, str(path)) for path in (*command.read_only, *sandbox.interpreter_paths())]
        binds = [(self._runtime.target(path, self._bound), target) for path, target in paths]
        binds.append((self._runtime.target(command.directory, self._bound), "/agent"))
        box = self._sandbox(binds, "/workspace", workspace=str(self.files.work))
        launch = Launch(
            argv=[expand(part, {"python": sys.executable}) for part in command.argv],
            who="agent",
            net="door",
            directory="/",
            environment={**_ENVIRONMENT, "HOME": "/workspace", **command.environment},
            rlimits=limits,
            sandbox=box,
            record=command.record,
            record_cores=command.cpu,
        )
        self.execution = Execution(self.init, command, group)
        watching = asyncio.create_task(end_floods(self.databases, self.execution.interrupt))
        try:
            exit_ = await self.execution.run(launch)
            return replace(exit_, services=self._service_processes())
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.execution = None
            if group is not None:
                self._drop_group("agent")

    async def close(self) -> None:
        for handle in self.databases.values():
            await handle.close()
        for door in self.doors:
            door.listener.close()
        if self.init is not None:
            self.init.close()

    async def gone(self) -> None:
        """Wait until the pod's init is dead, and with it everything in the pod."""
        while self.record.init is not None and self.record.init.alive():
            await asyncio.sleep(0.002)

    # ---- helpers ----

    def _group(self, part: str, memory: int, cpu: float, processes: int) -> cgroups.Group | None:
        if not cgroups.version():
            return None
        self._groups[part] = cgroups.make(self._state.scope, self.id, part, memory=memory, cpu=cpu, processes=processes + 4)
        return self._groups[part]

    def _service_processes(self) -> tuple[ServiceProcess, ...]:
        assert self.init is not None
        found = []
        for resource, pid in self._pids.items():
            argv, started = self._started[resource]
            ended = self.init.ending(pid)
            how = (ended.t, *sandbox_ending(ended)) if ended else (None, None, None)
            kind: Literal["service", "database"] = "database" if resource.kind == "database" else "service"
            found.append(ServiceProcess(kind, resource.name, argv, started, *how))
        return tuple(found)

    def _drop_group(self, part: str) -> None:
        group = self._groups.pop(part, None)
        if group is not None:
            for _ in range(50):
                try:
                    group.remove()
                    return
                except OSError:
                    time.sleep(0.002)

    def _service_paths(self, service: Service) -> list[Path]:
        own = [service.directory] if service.directory else []
        return [*own, *service.read_only, *sandbox.interpreter_paths()]

    def _service_launch(self, name: str, service: Service) -> tuple[dict[str, str], list[str], Path]:
        if service.mode == "stubbed":
            return dict(_ENVIRONMENT), stub_argv(service, sys.executable, "/", self._addresses[name]), Path("/")
        credentials = {
            database: (service_role(name), handle.service_passwords[name]) for database, handle in self.databases.items()
        }
        values = placeholders(self._topology, sys.executable, credentials)
        environment = {**_ENVIRONMENT, "HOST": self._addresses[name], "PORT": str(service.ports[0])}
        environment |= {key: expand(value, values) for key, value in service.environment.items()}
        command = [expand(part, values) for part in service.command]
        argv = behind_port(service, command, sys.executable, "/", self._addresses[name])
        return environment, argv, service.directory or Path("/")

    def _sandbox(self, binds: list[tuple[str, str]], working: str, *, workspace: str | None) -> dict[str, Any]:
        scripts = self.files.scripts if workspace is None else {}
        box = sandbox.Sandbox(
            etc=str(self.files.etc),
            binds=(*binds, *((str(path), place) for place, path in scripts.items())),
            working_directory=working,
            workspace=workspace,
            scratch=None if workspace is None else str(self.files.scratch),
            hidden=sandbox.hidden(),
        )
        return {
            "bwrap": self._runtime.target(sandbox.bwrap_path(), self._bound),
            "arguments": sandbox.arguments(box),
            "seccomp": base64.b64encode(seccomp.program()).decode(),
        }

    async def _start(
        self,
        resource: Resource,
        argv: list[str],
        who: str,
        directory: str,
        environment: dict[str, str] | None = None,
        limits: dict[str, int] | None = None,
        box: dict[str, Any] | None = None,
        group: cgroups.Group | None = None,
        append: bool = False,
        shown: Sequence[str] | None = None,
    ) -> int:
        """``shown`` stands in records for an ``argv`` that holds secrets."""
        assert self.init is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_APPEND if append else os.O_TRUNC)
        log = os.open(self.files.logs / f"{resource.kind}-{resource.name}.log", flags, 0o600)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        entries = group.entries() if group else []
        launch = Launch(argv, who, "inner", directory, environment or _ENVIRONMENT, limits or _SERVER_LIMITS, box)
        try:
            pid = await self.init.spawn(launch, [null, log, log], entries)
        finally:
            for fd in (log, null, *entries):
                os.close(fd)
        self._pids[resource] = pid
        self._started[resource] = (tuple(argv if shown is None else shown), time.time_ns())
        return pid

    async def _inner_socket(self) -> socket.socket:
        """An unconnected TCP socket of the pod's inner network."""
        assert self.init is not None
        _, fds = await self.init.request("sockets", {"count": 1})
        return socket.socket(fileno=fds[0])

    async def _plain(self, argv: list[str]) -> Exit:
        """A short helper program of ours in the pod, its errors captured."""
        assert self.init is not None
        # Read while it runs: one that complains of every file of a full disk would wait for a reader of its pipe.
        said = Capture(65536)
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        environment = {**_ENVIRONMENT, "LD_LIBRARY_PATH": self._programs("lib")}
        try:
            pid = await self.init.spawn(
                Launch(argv, "postgres", "inner", "/", environment, _SERVER_LIMITS), [null, null, said.write_fd]
            )
        finally:
            said.start()
            os.close(null)
        ended = await self.init.ended(pid)
        await said.done.wait()
        return Exit(code=ended.code, signal=ended.signal, stderr=bytes(said.kept))

    def _last_of_server_log(self, name: str) -> str:
        """What a server said after it had begun its own log."""
        log = self.files.server_log(name) / "postgresql.json"
        lines = log.read_bytes()[-65536:].splitlines()[-3:] if log.exists() else []
        said = []
        for line in lines:
            try:
                entry = json.loads(line)
                said.append(f"\n{entry['error_severity']}: {entry['message']}")
            except (ValueError, KeyError, TypeError):
                continue
        return "".join(said)

    async def _until_ready(self, what: str, pid: int, probe: Callable[[], Awaitable[bool]], timeout: float) -> None:
        """Poll until the probe succeeds. Raises `PodProblem` with the log's tail when it dies or takes too long."""
        assert self.init is not None
        deadline = time.monotonic() + timeout
        began = time.monotonic()
        for pause in pauses(self._took.get(what, 0.0)):
            await asyncio.sleep(pause)
            if await probe():
                self._took[what] = time.monotonic() - began
                return
            died = not self.init.running(pid)
            if died or time.monotonic() > deadline:
                kind, name = what.split(" ", 1)
                tail = (self.files.logs / f"{kind}-{name}.log").read_bytes()[-2000:].decode("utf-8", "replace").strip()
                if kind == "database":
                    tail += self._last_of_server_log(name)
                raise PodProblem(
                    f"{what} {'died while starting' if died else f'was not ready within {timeout:g} s'}",
                    code="not-ready",
                    cause=tail or "it printed nothing",
                )
