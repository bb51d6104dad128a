"""One test pod on a Docker engine while this process holds it."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import shutil
from collections.abc import Container, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from podctl.backends.base import Command, Exit, ServiceProcess
from podctl.backends.containers.contents import contents
from podctl.backends.containers.doors import GATEWAY, GATEWAY_PORT, door_ports, listeners
from podctl.backends.containers.launch import (
    ENVIRONMENT,
    PYTHON,
    SCRIPTS,
    SERVER_LOG,
    TEMPLATE_DATABASE,
    Launch,
    exit_or_signal,
    service_launch,
    until_answers,
)
from podctl.backends.containers.tunnel import Stream, Tunnel
from podctl.backends.docker import objects
from podctl.backends.docker.engine import Answers, Engine
from podctl.backends.docker.execution import Execution, engine_time
from podctl.backends.docker.networks import closed_network
from podctl.backends.docker.objects import Addresses, Image, Place, Program, Settings
from podctl.backends.docker.problems import DockerProblem
from podctl.backends.inpod import scripts
from podctl.data.database import PostgresDatabase, end_floods
from podctl.data.remotelog import RemoteLog
from podctl.data.template import TemplateFacts, build_template
from podctl.gateway.client import Door
from podctl.pods.plan import PodSpec, Resource
from podctl.spec.models import FileText, Resources, Service, Topology
from podctl.spec.placeholders import expand
from podctl.spec.topology import readiness, runs_image, service_order, shown_argv
from podctl.tickets.states import DatabaseState

_DATABASE_S = 60.0


class DockerPod:
    """``directory`` is private to this process: sockets, and copies of servers' logs. It goes when the pod is let go."""

    def __init__(self, engine: Engine, spec: PodSpec, place: Place, settings: Settings, directory: Path) -> None:
        self.place = place
        self.generations: dict[Resource, int] = {}
        self.databases: dict[str, PostgresDatabase] = {}
        self.facts: dict[str, TemplateFacts] = {}
        self.doors: list[Door] = []
        self.execution: Execution | None = None
        self._engine = engine
        self._topology: Topology = spec.topology
        self._settings = settings
        self._directory = directory
        self._scripts = scripts()
        self._where: Addresses | None = None
        self._ids: dict[str, str] = {}  # part -> its container
        self._porch: Tunnel | None = None
        self._door: Tunnel | None = None
        self._sessions: dict[str, Tunnel] = {}
        self._numbers = itertools.count(1)
        self._commands = itertools.count(1)

    # ---- steps ----

    async def make_fence(self) -> None:
        """The network of services, closed from the start; nothing is in it yet."""
        self._directory.mkdir(mode=0o700, parents=True)
        subnet = await closed_network(self._engine, self.place, self._topology, self._settings)
        self._where = objects.addresses(subnet, self._topology)

    async def make_network(self) -> None:
        """Both ends of the door. A pod that lost one is not mended: the gateway has its old doors."""
        for tunnel in (self._porch, self._door):
            if tunnel is not None:
                raise tunnel.problem()
        where = self.addresses
        door = objects.door(self.place, self._settings, self._scripts, where)
        porch = objects.porch(self.place, self._settings, self._scripts, where)
        self._ids[objects.DOOR], self._ids[objects.PORCH] = await asyncio.gather(
            self._engine.start(door), self._engine.start(porch)
        )
        self._door = self._tunnel(objects.DOOR)
        self._porch = self._tunnel(objects.PORCH)
        await asyncio.gather(self._door.open([]), self._porch.open(objects.porch_ports(self._topology, where.outside)))

    async def make_database(self, name: str) -> None:
        """A server, its template from the seed, and the first clone of it."""
        database = self._topology.databases[name]
        part = f"db-{name}"
        await self._close_database(name)
        await self._remove(part)
        password = secrets.token_urlsafe(24)
        box = objects.database(self.place, name, database.port, password, self._settings, self._scripts, self.addresses)
        self._ids[part] = await self._engine.start(
            box, Answers(_probe(self.addresses.inside[name], database.port), _DATABASE_S)
        )
        sockets = self._directory / f"sql-{next(self._numbers)}"
        sockets.mkdir(mode=0o700)
        session = self._sessions[name] = self._tunnel(part)
        await session.open([])
        await session.forwarder(name, "127.0.0.1", database.port, sockets / f".s.PGSQL.{database.port}")
        conninfo = f"host={sockets} port={database.port} user=postgres password={password}"
        await until_answers(name, conninfo)
        self.facts[name] = await build_template(conninfo, TEMPLATE_DATABASE, database.seed)
        log = RemoteLog(self._directory / f"log-{name}-{secrets.token_hex(3)}.json", SERVER_LOG)
        self.databases[name] = await PostgresDatabase.open(
            name, conninfo, TEMPLATE_DATABASE, database.name, log, service_order(self._topology)
        )

    async def reset_database(self, name: str, state: DatabaseState) -> None:
        await self.databases[name].reset(state)

    async def make_service(self, name: str, generation: int) -> None:
        service = self._topology.services[name]
        await self.remove_service(name)
        launch = service_launch(self._topology, name, self.databases)
        paths = [(path, str(path)) for path in service.read_only]
        if service.directory:
            paths.append((service.directory, launch.directory))
        paths += [(source, target) for target, source in service.files.items() if isinstance(source, Path)]
        files = await self._files(paths, launch.texts)
        single = {
            target.rpartition("/")[0]
            for target, source in service.files.items()
            if isinstance(source, FileText) or source.is_file()
        }
        image = await self._image(service, launch, files) if runs_image(service) else None
        argv = tuple(launch.argv if image is None else launch.argv[len(image.entry) :])
        program = Program(argv, launch.environment, launch.directory, files, service.resources, frozenset(single))
        box = objects.service(
            self.place, name, generation, service.ports, program, self._settings, self._scripts, self.addresses, image
        )
        self._ids[f"svc-{name}"] = await self._engine.start(box, self._ready(name, service, own=image is None))
        assert self._door is not None
        if service.ports:
            await self._door.reaches(self.addresses.inside[name], service.ports[0], 15.0)

    async def _image(self, service: Service, launch: Launch, files: Container[str]) -> Image:
        """An entry point that is not replaced stays the image's; what it declares as volumes is writable."""
        assert service.image is not None
        facts = await self._engine.image_facts(service.image)
        entry = tuple(launch.argv[: len(service.command)])
        volumes = {path: objects.TMP_BYTES for path in facts.volumes if path not in files}
        return Image(service.image, service.user or facts.user or self.place.uid, entry, {**volumes, **service.writable})

    def _ready(self, name: str, service: Service, own: bool) -> Answers | None:
        """An image of somebody else's has nothing to ask with: the door asks."""
        ready = readiness(service)
        timeout = max(ready.timeout, 5.0)
        if ready.command:
            return Answers(ready.command, timeout)
        if not ready.port:
            return None
        probe = _probe(self.addresses.inside[name], ready.port, ready.path)
        return Answers(probe, timeout, "" if own else self._ids[objects.DOOR])

    async def remove_service(self, name: str) -> None:
        await self._remove(f"svc-{name}")

    async def make_door(self) -> None:
        """The gateway's listeners, and its ways to services and databases."""
        assert self._porch is not None and self._door is not None
        for port in door_ports(self._topology):
            target = None
            if port.kind != "gateway":
                target = str(await self._door.forwarder(port.name, self.addresses.inside[port.name], port.port))
            self.doors.append(Door(kind=port.kind, name=port.name, listener=self._porch.listener(port), target=target))

    async def observe(self) -> dict[Resource, int]:
        """What is there and works, by generation."""
        tunnels = [tunnel for tunnel in (self._porch, self._door) if tunnel is not None]
        if any(tunnel.lost.is_set() for tunnel in tunnels):
            return {Resource("directory"): 1}
        states = await self._states()
        found = {}
        for resource, generation in self.generations.items():
            part = _part(resource)
            if not part or states.get(part, {}).get("Running"):
                found[resource] = generation
        return found

    # ---- commands ----

    async def execute(self, command: Command) -> Exit:
        where = self.addresses
        files = await self._files([(command.directory, "/agent"), *((path, str(path)) for path in command.read_only)])
        argv = tuple(expand(part, {"python": PYTHON}) for part in command.argv)
        resources = Resources(memory=command.memory, cpu=command.cpu, processes=command.processes)
        environment = {**ENVIRONMENT, "HOME": "/workspace", **command.environment}
        program = Program(argv, environment, "/workspace", files, resources)
        assert self._porch is not None and self._door is not None
        lost = (self._porch, self._door)
        self.execution = Execution(self._engine, lost, self.place, self._settings, f"agent-{next(self._commands)}", command)
        watching = asyncio.create_task(end_floods(self.databases, self.execution.interrupt))
        try:
            exit_ = await self.execution.run(
                program,
                self._ids[objects.PORCH],
                self._scripts,
                control=(where.outside[GATEWAY], GATEWAY_PORT),
                forbidden=[(where.inside[name], ports[0]) for _, name, ports in listeners(self._topology) if ports],
            )
            return replace(exit_, services=await self._service_processes())
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.execution = None

    async def _service_processes(self) -> tuple[ServiceProcess, ...]:
        states = await self._states()
        found = []
        for resource in self.generations:
            kind = resource.kind
            if kind == "database" or kind == "service":
                argv = ("postgres",) if kind == "database" else shown_argv(self._topology.services[resource.name])
                state = states.get(_part(resource), {})
                started = engine_time(str(state.get("StartedAt", "")))
                how: tuple[Any, ...] = (None, None, None)
                if not state.get("Running"):
                    ended = engine_time(str(state.get("FinishedAt", "")))
                    how = (ended, *exit_or_signal(int(state.get("ExitCode", 0))))
                found.append(ServiceProcess(kind, resource.name, argv, started, *how))
        return tuple(found)

    async def _states(self) -> dict[str, dict[str, Any]]:
        parts = [part for part in self._ids if part not in (objects.DOOR, objects.PORCH)]

        async def state(part: str) -> dict[str, Any]:
            try:
                return await self._engine.state(self._ids[part])
            except DockerProblem:
                return {}

        return dict(zip(parts, await asyncio.gather(*map(state, parts)), strict=True))

    async def logs(self, name: str) -> bytes:
        for part in (f"svc-{name}", f"db-{name}"):
            if part in self._ids:
                return await self._engine.call(f"logs of {name}", self._engine.client.api.logs, self._ids[part])
        raise DockerProblem(f"pod {self.place.pod} has no logs of {name}", code="no-such-log")

    async def close(self) -> None:
        """Let go; what is on the engine stays."""
        for name in list(self.databases):
            await self._close_database(name)
        for session in self._sessions.values():
            await session.close()
        for door in self.doors:
            door.listener.close()
        for tunnel in (self._porch, self._door):
            if tunnel is not None:
                await tunnel.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # ---- helpers ----

    @property
    def addresses(self) -> Addresses:
        """Of its names, once there is a network."""
        assert self._where is not None
        return self._where

    def _tunnel(self, part: str) -> Tunnel:
        def start(argv: Sequence[str]) -> AbstractAsyncContextManager[Stream]:
            return self._engine.exec(self._ids[part], argv)

        directory = self._directory / f"t{next(self._numbers)}"
        directory.mkdir(mode=0o700)
        return Tunnel(start, directory, "the Docker engine's own log")

    async def _close_database(self, name: str) -> None:
        handle = self.databases.pop(name, None)
        if handle is not None:
            await handle.close()
        session = self._sessions.pop(name, None)
        if session is not None:
            await session.close()

    async def _remove(self, part: str) -> None:
        container = self._ids.pop(part, None)
        if container is not None:
            await self._engine.remove(container)

    async def _files(
        self, paths: Sequence[tuple[Path, str]], texts: Mapping[str, str] | None = None
    ) -> dict[str, dict[str, bytes]]:
        """Mount point -> path -> content. A single file is given with the directory that it is in."""
        found: dict[str, dict[str, bytes]] = {}
        for source, target in paths:
            mount, _, name = target.rpartition("/") if source.is_file() else (target, "", "")
            given = await asyncio.to_thread(_read, source)
            found.setdefault(mount, {}).update({name: given[source.name]} if name else given)
        for target, text in (texts or {}).items():
            mount, _, name = target.rpartition("/")
            found.setdefault(mount, {})[name] = text.encode()
        return found


def _read(source: Path) -> dict[str, bytes]:
    return dict(contents(source))


def _part(resource: Resource) -> str:
    """The key of the container that stands for it, if one does."""
    return {"database": f"db-{resource.name}", "service": f"svc-{resource.name}"}.get(resource.kind, "")


def _probe(address: str, port: int, path: str = "") -> list[str]:
    """Asked by its own address: that is where others ask it."""
    return ["python3", "-I", f"{SCRIPTS}/probe.py", "until", f"{address}:{port}", path]
