"""Test pods on one Linux machine: namespaces, bubblewrap and PostgreSQL servers of their own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from podctl.backends.base import Command, Exit, Finding, PodDatabase, PodRef, Removal
from podctl.backends.local import cgroups, check, postgres, sandbox, templates
from podctl.backends.local.escape_level import ledger
from podctl.backends.local.files import PodFiles
from podctl.backends.local.init_client import PodProblem
from podctl.backends.local.pod import LocalPod, Runtime
from podctl.backends.local.reap import reap
from podctl.backends.local.state import Owner, State
from podctl.gateway.client import Door
from podctl.pods.plan import PodSpec, Resource, Step, advance
from podctl.spec.bundle import Bundle
from podctl.spec.models import CommandCheck, Database, Topology
from podctl.spec.tables import check_boundary, check_cases, check_scenario


class LocalBackend:
    name = "local"
    runs_images = False

    def __init__(self, state: State, *, ttl_s: float = 4 * 3600, kept: bool = False) -> None:
        self.state = state
        self._ttl_s = ttl_s
        self._kept = kept
        self._pods: dict[str, LocalPod] = {}
        self._templates: dict[str, Path] = {}
        self._runtime = Runtime([])
        self._data_bytes: int | None = None
        self._own_uids = os.getuid() == 0

    async def check(self) -> list[Finding]:
        return await check.findings(self.state)

    def isolation(self) -> str:
        uids = "own uids" if self._own_uids else "the caller's uid"
        groups = {2: "cgroups v2", 1: "cgroups v1", 0: "no cgroups (rlimits only)"}[cgroups.version()]
        proven = ledger(self.state).proven()
        return f"local: user, mount, pid, ipc, uts and network namespaces, seccomp, bubblewrap, {uids}, {groups}, one door; {proven}"

    async def prepare(self, bundle: Bundle) -> dict[str, str]:
        check.refuse_low_limits()
        paths = [*sandbox.interpreter_paths(), sandbox.bwrap_path(), postgres.programs().root, bundle.agent.directory]
        paths += bundle.agent.read_only
        for service in bundle.topology.services.values():
            paths += [service.directory] if service.directory else []
            paths += service.read_only
        paths += [check.directory for check in bundle.scenario.checks if isinstance(check, CommandCheck)]
        visible = [path for path in paths if not _in_system(path)]
        self._templates = await templates.prepare(self.state, bundle.topology, visible, self._own_uids)
        known = {name: templates.columns(template) for name, template in self._templates.items()}
        if bundle.scenario.boundary.is_file():  # a bundle put together in Python has none; its grants say what is wrong
            check_boundary(bundle.scenario.boundary, known)
        if bundle.path.is_file():
            check_scenario(bundle.path, known)
        check_cases(bundle.cases or (), known)
        self._runtime = Runtime([*visible, *self._templates.values()])
        self._data_bytes = data_in_memory(list(self._templates.values()), bundle.scenario.run.pods)
        return dict.fromkeys(self._templates, postgres.programs().version)

    async def template(self, name: str, database: Database) -> Path:
        """The directory of one database's template, built unless it is there. Raises `SeedProblem`, `EnvironmentProblem`."""
        topology = Topology(apiVersion="podctl/v1", kind="Topology", name=name, databases={name: database})
        needed = [*sandbox.interpreter_paths(), sandbox.bwrap_path(), postgres.programs().root]
        visible = [path for path in needed if not _in_system(path)]
        return (await templates.prepare(self.state, topology, visible, self._own_uids))[name]

    async def observe(self, pod: str) -> dict[Resource, int]:
        held = self._pods.get(pod)
        if held is not None:
            return held.observe()
        return {Resource("directory"): 1} if self.state.directory(pod).exists() else {}

    async def apply(self, spec: PodSpec, step: Step) -> None:
        resource = step.resource
        if resource.kind == "directory":
            record = self.state.create(
                spec.id,
                spec.run,
                owner=Owner.me(),
                now_ns=time.time_ns(),
                ttl_s=self._ttl_s,
                kept=self._kept,
                own_uids=self._own_uids,
            )
            self._pods[spec.id] = LocalPod(self.state, record, spec.topology, self._runtime, self._templates, self._data_bytes)
            return
        pod = self._held(spec.id)
        match (step.action, resource.kind):
            case ("make", "network"):
                await pod.make_network()
            case ("make", "database"):
                await pod.make_database(resource.name)
                if state := spec.states.get(resource.name):
                    await pod.reset_database(resource.name, state)
            case ("reset", "database"):
                await pod.reset_database(resource.name, spec.states.get(resource.name, ()))
            case ("make", "service"):
                await pod.make_service(resource.name)
            case ("remove", "service"):
                await pod.remove_service(resource.name)
            case ("make", "door"):
                await pod.make_door()
            case _:
                raise PodProblem(f"a local pod cannot {step}", code="pod-step", hint="podctl gc removes the pod")
        pod.generations = advance(pod.generations, step)

    async def execute(self, pod: str, command: Command) -> Exit:
        return await self._held(pod).execute(command)

    async def interrupt(self, pod: str, reason: str) -> None:
        execution = self._held(pod).execution
        if execution is not None:
            execution.interrupt(reason)

    def doors(self, pod: str, holder: int) -> tuple[list[Door], socket.socket | None]:
        held = self._held(pod)
        assert held.init is not None
        held.note(gateway=Owner.of(holder))
        return held.doors, held.init.dialer

    def database(self, pod: str, name: str) -> PodDatabase:
        return self._held(pod).databases[name]

    def conninfo(self, pod: str, name: str | None) -> dict[str, str]:
        """How to reach a database of the pod as its superuser, from this machine: host, port, user, password, database."""
        held = self._held(pod)
        chosen = name or next(iter(held.databases), "")
        if chosen not in held.databases:
            raise PodProblem(f"pod {pod} has no database {chosen!r}", code="no-such-database", hint=", ".join(held.databases))
        return held.conninfo(chosen)

    async def logs(self, pod: str, service: str) -> bytes:
        files = PodFiles(self.state.directory(pod))
        for kind in ("service", "database"):
            path = files.logs / f"{kind}-{service}.log"
            if path.exists():
                return path.read_bytes()
        raise PodProblem(f"pod {pod} has no logs of {service}", code="no-such-log")

    async def delete(self, pod: str) -> list[Removal]:
        held = self._pods.pop(pod, None)
        if held is not None:
            await held.close()
        return await reap(self.state, pod)

    async def list(self) -> list[PodRef]:
        return [
            PodRef(
                record.id,
                record.run,
                record.owner.alive(),
                record.created_ns,
                record.expires_ns,
                str(self.state.directory(record.id)),
                record.kept,
            )
            for record in self.state.records()
        ]

    async def close(self) -> None:
        for pod in self._pods.values():
            await pod.close()
        self._pods.clear()
        cgroups.remove_scope(self.state.scope)

    def _held(self, pod: str) -> LocalPod:
        if pod not in self._pods:
            raise PodProblem(f"no pod {pod} is held by this process", code="pod-unknown", hint="podctl get pods")
        return self._pods[pod]


def data_in_memory(prepared: Sequence[Path], pods: int) -> int | None:
    """The most that a pod's databases may take in memory, or None when they belong on disk.

    In memory while all pods' copies (each data directory holds the template and its clone) fit into a
    quarter of what is free; WAL and growth may take as much again.
    """
    size = 2 * sum(path.stat().st_size for template in prepared for path in template.rglob("*") if path.is_file())
    free = next(int(line.split()[1]) * 1024 for line in open("/proc/meminfo") if line.startswith("MemAvailable"))
    wanted = os.environ.get("PODCTL_DATA", "auto")
    if wanted == "disk" or (wanted == "auto" and size * pods > free // 4):
        return None
    return size + (2 << 30)


def _in_system(path: Path) -> bool:
    return Path("/usr") in path.resolve().parents
