"""One test pod in a cluster while this process holds it."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from podctl.backends.base import Command, Exit, ServiceProcess
from podctl.backends.containers.doors import GATEWAY, GATEWAY_PORT, DoorPort, door_ports, listeners
from podctl.backends.containers.launch import ENVIRONMENT, PYTHON, SERVER_LOG, TEMPLATE_DATABASE, service_launch, until_answers
from podctl.backends.containers.trial import TEMPLATE_RUN
from podctl.backends.containers.tunnel import Stream, Tunnel
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Cluster, Object
from podctl.backends.kubernetes.execution import Execution
from podctl.backends.kubernetes.files import Bundle, bundle
from podctl.backends.kubernetes.forwarded import Forwarded
from podctl.backends.kubernetes.objects import Files, Place, Program, Settings
from podctl.backends.kubernetes.prepared import MOST_BYTES, Prepared, pack, send
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.backends.kubernetes.supervised import Supervised
from podctl.backends.kubernetes.watching import Streams, Watched, container_state, ending, ready
from podctl.data.database import PostgresDatabase, end_floods
from podctl.data.remotelog import RemoteLog
from podctl.data.template import TemplateFacts, build_template, trim
from podctl.gateway.client import Door
from podctl.pods.plan import Kind, PodSpec, Resource
from podctl.spec.models import Resources, Topology
from podctl.spec.placeholders import expand
from podctl.spec.topology import databases, readiness, service_order
from podctl.tickets.states import DatabaseState

_QUOTA_S = 30.0
_POD_S = 120.0


class KubernetesPod:
    """``directory`` is private to this process: sockets, and copies of servers' logs. It goes when the pod is let go."""

    def __init__(
        self,
        cluster: Cluster,
        spec: PodSpec,
        settings: Settings,
        agent: Resources,
        directory: Path,
        streams: Streams,
        prepared: Mapping[str, Prepared],
        *,
        ttl_s: float,
        kept: bool,
    ) -> None:
        self.place = Place(spec.id, spec.run, settings.owner)
        self.generations: dict[Resource, int] = {}
        self.databases: dict[str, PostgresDatabase] = {}
        self.facts: dict[str, TemplateFacts] = {}
        self.doors: list[Door] = []
        self.execution: Execution | None = None
        self._cluster = cluster
        self._topology: Topology = spec.topology
        self._settings = settings
        self._agent = agent
        self._prepared = {name: one for name, one in prepared.items() if one.database == spec.topology.databases.get(name)}
        self._for_others = spec.run == TEMPLATE_RUN
        self._directory = directory
        self._ttl_s = ttl_s
        self._kept = kept
        self._holder = f"podctl-{secrets.token_hex(6)}"
        self._addresses: dict[str, str] = {}
        self._tunnel: Tunnel | None = None
        self._forwarded: dict[str, Forwarded] = {}
        self._services: dict[str, Supervised] = {}
        self._service_pods = 0
        self._starting: dict[str, asyncio.Task[None]] = {}
        self._passwords: dict[str, str] = {}
        self._bundles: dict[tuple[Path, str], Files] = {}
        self._given: set[str] = set()
        self._watched = Watched(cluster, self.namespace, streams)
        self._heart: asyncio.Task[None] | None = None
        self._commands = 0

    @property
    def namespace(self) -> str:
        return self.place.namespace

    @property
    def addresses(self) -> Mapping[str, str]:
        """Of the Services: ``s-NAME`` leads to what has the name, ``d-NAME`` to the door in its place."""
        return self._addresses

    # ---- steps ----

    async def make_fence(self) -> None:
        """The namespace, closed before anything is in it. Nothing goes on before its quota is in force."""
        self._directory.mkdir(mode=0o700, parents=True)
        now = self._cluster.now_ns()
        made = [
            objects.namespace(self.place, now, now + int(self._ttl_s * 1e9), self._kept),
            objects.lease(self.place, self._holder, now),
            objects.default_deny(self.place),
            *objects.allows(self.place, self._topology),
            objects.quota(self.place, self._topology, self._agent),
            objects.limit_range(self.place),
            objects.account(self.place),
            objects.script_files(self.place),
        ]
        await self._cluster.apply(made[0])
        self._heart = asyncio.create_task(self._beat())
        await asyncio.gather(*(self._cluster.apply(body) for body in made[1:]))
        deadline = time.monotonic() + _QUOTA_S
        pause = 0.02
        while True:
            quota = await self._cluster.get("ResourceQuota", objects.QUOTA, self.namespace)
            if ((quota or {}).get("status") or {}).get("hard"):
                break
            if time.monotonic() > deadline:
                raise ClusterProblem(
                    f"the quota of {self.namespace} is not in force",
                    code="quota-not-in-force",
                    cause=f"its status.hard is still empty after {_QUOTA_S:g} s",
                    hint="is the cluster's controller manager running?",
                )
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.5)

    async def make_network(self) -> None:
        """Addresses for every name, every Pod of the test pod, and podctl's connection to the door's.

        Databases and services start while their Pods are not needed yet: the steps that follow find them there.
        A pod that lost them is not mended: the gateway has its old doors. Another is made in its place.
        """
        if self._tunnel is not None:
            raise self._tunnel.problem()
        await self._watched.start()
        # Nothing of a database needs an address of another: each goes its own way until its step asks for it.
        for name in databases(self._topology):
            self._starting[name] = asyncio.create_task(self._start_database(name))
        made = await asyncio.gather(*(self._cluster.apply(body) for body in objects.services(self.place, self._topology)))
        self._addresses = {body["metadata"]["name"]: body["spec"]["clusterIP"] for body in made}
        await asyncio.gather(
            self._cluster.apply(objects.door_pod(self.place, self._settings)),
            *(self._place_service(name) for name in service_order(self._topology)),
        )
        await self._until_ready(objects.DOOR)
        self._tunnel = Tunnel(self._door, self._directory, "what stands between podctl and the API server")
        await self._tunnel.open(door_ports(self._topology))

    async def make_database(self, name: str) -> None:
        """A server, its template, copied or made from the seed, and the first clone of it."""
        starting = self._starting.pop(name, None)
        if starting is not None:
            await starting
            return
        await self._close_database(name)
        await self._remove_pod(f"db-{name}")
        await self._start_database(name)
        await self._until_ready(f"db-{name}")

    async def _start_database(self, name: str) -> None:
        database = self._topology.databases[name]
        pod = f"db-{name}"
        await self._place_database(name)
        password = self._passwords[name]
        await self._watched.until(f"database {name} did not start", _runs(pod, "postgres"), pod, _POD_S)
        if name in self._prepared:
            await self._unless_trouble(pod, send(self._cluster, self.namespace, pod, self._prepared[name]))
        sockets = self._directory / f"sql-{name}"
        sockets.mkdir(mode=0o700, exist_ok=True)
        forwarded = Forwarded(self._cluster, self.namespace, pod, database.port, sockets / f".s.PGSQL.{database.port}")
        await forwarded.start()
        self._forwarded[name] = forwarded
        conninfo = f"host={sockets} port={database.port} user=postgres password={password}"
        await self._unless_trouble(pod, until_answers(name, conninfo, _POD_S))
        if name in self._prepared:
            self.facts[name] = self._prepared[name].facts
        else:
            self.facts[name] = await build_template(conninfo, TEMPLATE_DATABASE, database.seed)
        if self._for_others:
            await trim(conninfo, password)
            return
        log = RemoteLog(self._directory / f"log-{name}-{secrets.token_hex(3)}.json", SERVER_LOG)
        self.databases[name] = await PostgresDatabase.open(
            name, conninfo, TEMPLATE_DATABASE, database.name, log, service_order(self._topology)
        )

    async def _place_database(self, name: str) -> None:
        """A Pod in which its server starts."""
        pod, port = f"db-{name}", self._topology.databases[name].port
        how: objects.How = "copied" if name in self._prepared else "kept" if self._for_others else "own"
        if how == "copied":
            self._passwords[name] = self._prepared[name].password
        else:
            password = self._passwords.setdefault(name, secrets.token_urlsafe(24))
            await asyncio.gather(
                self._cluster.apply(objects.secret(self.place, pod, {"password": password.encode()})),
                self._cluster.apply(objects.database_files(self.place, name, port)),
            )
        await self._cluster.apply(objects.database_pod(self.place, name, port, self._settings, how))

    async def pack_databases(self) -> dict[str, Prepared]:
        """What other pods can copy, of a pod that was made for it; its servers end. Raises `ClusterProblem`."""
        found = {}
        for name, facts in self.facts.items():
            if facts.size_bytes <= MOST_BYTES:
                database = self._topology.databases[name]
                made = await pack(self._cluster, self.namespace, f"db-{name}", database, self._passwords[name], facts)
                found[name] = made
        return found

    async def reset_database(self, name: str, state: DatabaseState) -> None:
        await self.databases[name].reset(state)

    async def make_service(self, name: str) -> None:
        """Started in the Pod that is there; in a new one where a Pod that had been used before has trouble."""
        if name not in self._services:
            await self._place_service(name)
        used = self._services[name].used
        try:
            await self._start_service(name)
        except ClusterProblem:
            if not used:
                raise
            await self._replace_service(name)
            await self._start_service(name)

    async def _start_service(self, name: str) -> None:
        service = self._topology.services[name]
        supervised = self._services[name]
        assert self._tunnel is not None
        await self._until_ready(supervised.pod, f"the Pod of service {name}")
        own = self._address_of(supervised.pod)
        ready = readiness(service)
        for database in databases(self._topology):
            await self._tunnel.reaches(self._addresses[f"s-{database}"], self._topology.databases[database].port, _POD_S)
        launch = service_launch(self._topology, name, self.databases)
        await supervised.start(launch, (f"{own}:{ready.port}", ready.path), max(ready.timeout, 5.0))
        depended_on = any(name in other.depends_on for other in self._topology.services.values())
        # Its own address answers at once; the one that other services use follows when the nodes have heard of it.
        await self._tunnel.reaches(self._addresses[f"s-{name}"] if depended_on else own, service.ports[0], _POD_S)

    async def remove_service(self, name: str) -> None:
        """Its processes and what it wrote; its Pod too when it cannot be shown that nothing is left there."""
        supervised = self._services.get(name)
        if supervised is not None and await supervised.clear():
            await self._replace_service(name)

    async def _replace_service(self, name: str) -> None:
        gone = self._services.pop(name)
        await asyncio.gather(self._remove_pod(gone.pod), self._place_service(name))

    async def _place_service(self, name: str) -> None:
        """A Pod in which the service can be started."""
        service = self._topology.services[name]
        paths = [(path, str(path)) for path in service.read_only]
        if service.directory:
            paths.append((service.directory, str(service.directory)))
        files = await self._give(paths)
        names = objects.aliases(self._addresses, "s-", leave_out=name)
        self._service_pods += 1
        body = objects.service_pod(self.place, name, self._service_pods, service, files, names, self._settings)
        await self._cluster.apply(body)
        self._services[name] = Supervised(self._cluster, self.namespace, name, body["metadata"]["name"], service.ports)

    async def make_door(self) -> None:
        """The gateway's listeners, and its ways to services and databases."""
        assert self._tunnel is not None
        for name in databases(self._topology):
            await self._until_ready(f"db-{name}")  # which the kubelet finds out up to a second after podctl
        for port in door_ports(self._topology):
            target = None
            if port.kind != "gateway":
                target = str(await self._tunnel.forwarder(port.name, self._where(port), port.port))
            self.doors.append(Door(kind=port.kind, name=port.name, listener=self._tunnel.listener(port), target=target))

    def _door(self, argv: Sequence[str]) -> AbstractAsyncContextManager[Stream]:
        return self._cluster.exec(self.namespace, objects.DOOR, objects.DOOR, argv, stdin=True)

    def _where(self, port: DoorPort) -> Callable[[], str]:
        """The address of its Pod, which may be another after each attempt; a Service's follows a second later."""
        kind: Kind = "database" if port.name in self._topology.databases else "service"
        return lambda: self._address_of(self._pod_of(Resource(kind, port.name)))

    def observe(self) -> dict[Resource, int]:
        """What is there and works, by generation."""
        if self._tunnel is None or self._tunnel.lost.is_set():
            return {Resource("directory"): 1}
        pods = self._watched.pods
        found = {}
        for resource, generation in self.generations.items():
            if resource.kind not in ("database", "service") or ready(pods.get(self._pod_of(resource))):
                found[resource] = generation
        return found

    # ---- commands ----

    async def execute(self, command: Command) -> Exit:
        assert self._tunnel is not None
        self._commands += 1
        name = f"agent-{self._commands}-{secrets.token_hex(3)}"
        paths = [(command.directory, "/agent"), *((path, str(path)) for path in command.read_only)]
        files = await self._give(paths)
        argv = tuple(expand(part, {"python": PYTHON}) for part in command.argv)
        resources = Resources(memory=command.memory, cpu=command.cpu, processes=command.processes)
        environment = {**ENVIRONMENT, "HOME": "/workspace", **command.environment}
        self.execution = Execution(self._cluster, self._watched, self._tunnel, self.place, self._settings, name, command)
        await asyncio.gather(*(database.rest() for database in self.databases.values()))
        watching = asyncio.create_task(end_floods(self.databases, self.execution.interrupt))
        try:
            exit_ = await self.execution.run(
                Program(argv, name, "/workspace", files, resources),
                _environment(environment),
                objects.aliases(self._addresses, "d-"),
                control=(self._addresses[f"d-{GATEWAY}"], GATEWAY_PORT),
                forbidden=self._forbidden(),
            )
            return replace(exit_, services=self._service_processes())
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            self.execution = None

    def _forbidden(self) -> list[tuple[str, int]]:
        """What an agent must not reach past the door: the first database or service by its own address."""
        places = []
        for _, name, ports in listeners(self._topology):
            pod = next((pod for pod in self._watched.pods.values() if _purpose(pod) == name and ready(pod)), None)
            if pod is not None:
                places.append((str(pod["status"]["podIP"]), ports[0]))
        return places

    def _service_processes(self) -> tuple[ServiceProcess, ...]:
        """Services' starts by their supervisors; the rest by the kubelet's clock, which tells whole seconds."""
        found = []
        for resource in self.generations:
            kind = resource.kind
            if kind == "database" or kind == "service":
                argv = ("postgres",) if kind == "database" else self._topology.services[resource.name].command
                container = "postgres" if kind == "database" else "service"
                state = container_state(self._watched.pods.get(self._pod_of(resource)), container)
                ended = state.get("terminated")
                started = objects.parse_time(str((ended or state.get("running") or {}).get("startedAt", "")))
                if resource.name in self._services:
                    started = self._services[resource.name].started_ns
                how: tuple[int | None, int | None, int | None] = (None, None, None)
                if ended:
                    how = (max(started, objects.parse_time(str(ended.get("finishedAt", "")))), *ending(ended))
                found.append(ServiceProcess(kind, resource.name, argv, started, *how))
        return tuple(found)

    async def logs(self, name: str) -> bytes:
        for pod, body in self._watched.pods.items():
            if _purpose(body) == name and not body["metadata"].get("deletionTimestamp"):
                return await self._cluster.log(self.namespace, pod)
        raise ClusterProblem(f"pod {self.place.pod} has no logs of {name}", code="no-such-log")

    async def close(self) -> None:
        """Let go; what is in the cluster stays."""
        if self._heart is not None:
            self._heart.cancel()
            await asyncio.gather(self._heart, return_exceptions=True)
        for task in self._starting.values():
            task.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        for name in list(self.databases):
            await self._close_database(name)
        for forwarded in self._forwarded.values():
            await forwarded.close()
        for door in self.doors:
            door.listener.close()
        if self._tunnel is not None:
            await self._tunnel.close()
        await self._watched.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    # ---- helpers ----

    async def _beat(self) -> None:
        """Say that the owner lives, until the pod is let go."""
        while True:
            await asyncio.sleep(objects.LEASE_S / 4)
            with suppress(ClusterProblem):
                now = objects.rfc3339(self._cluster.now_ns())
                await self._cluster.patch("Lease", objects.LEASE, self.namespace, {"spec": {"renewTime": now}})

    async def _close_database(self, name: str) -> None:
        handle = self.databases.pop(name, None)
        if handle is not None:
            await handle.close()
        forwarded = self._forwarded.pop(name, None)
        if forwarded is not None:
            await forwarded.close()

    async def _until_ready(self, pod: str, what: str = "", timeout_s: float = _POD_S) -> None:
        await self._watched.until(f"{what or pod} was not ready", lambda pods: ready(pods.get(pod)), pod, timeout_s)

    async def _unless_trouble(self, pod: str, work: Coroutine[Any, Any, None]) -> None:
        """Do it, and give it up as soon as the Pod is known to be in trouble. Raises `ClusterProblem`."""
        working = asyncio.ensure_future(work)
        looking = asyncio.ensure_future(self._watched.until(f"{pod} did not answer", lambda _: working.done(), pod, 2 * _POD_S))
        try:
            await asyncio.wait({working, looking}, return_when=asyncio.FIRST_COMPLETED)
            await (working if working.done() else looking)
        finally:
            working.cancel()
            looking.cancel()
            await asyncio.gather(working, looking, return_exceptions=True)

    async def _remove_pod(self, pod: str) -> None:
        """Ask for its end and wait until the node says that its processes are dead."""
        if await self._cluster.delete("Pod", pod, self.namespace):
            await self._watched.until(f"Pod {pod} did not end", lambda pods: pod not in pods, "\0", _POD_S)

    def _pod_of(self, resource: Resource) -> str:
        if resource.kind == "database":
            return f"db-{resource.name}"
        supervised = self._services.get(resource.name)
        return supervised.pod if supervised is not None else ""

    def _address_of(self, pod: str) -> str:
        """Nowhere when the Pod is gone."""
        return str(((self._watched.pods.get(pod) or {}).get("status") or {}).get("podIP", ""))

    async def _give(self, paths: list[tuple[Path, str]]) -> tuple[Files, ...]:
        """See that the directories are in the namespace; how they are mounted."""
        result = []
        for source, target in paths:
            if (source, target) not in self._bundles:
                made: Bundle = await asyncio.to_thread(bundle, source, target)
                for name, content in made.parts.items():
                    if name not in self._given:
                        await self._cluster.apply(objects.config_map(self.place, name, content))
                        self._given.add(name)
                self._bundles[(source, target)] = made.files
            result.append(self._bundles[(source, target)])
        return tuple(result)


def _runs(pod: str, container: str) -> Callable[[Mapping[str, Object]], bool]:
    return lambda pods: "running" in container_state(pods.get(pod), container)


def _environment(values: Mapping[str, str]) -> dict[str, bytes]:
    return {key: value.encode() for key, value in values.items()}


def _purpose(pod: Object) -> Any:
    return pod["metadata"]["labels"].get(objects.PURPOSE)
