"""The escape suite's world on this machine: podctl and the pods share it, and everything on it is the host's."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from podctl.backends.escape import probes_kernel
from podctl.backends.escape.bench import NEIGHBOUR_PORTS
from podctl.backends.escape.checks import Control
from podctl.backends.escape.traps import Traps, host_addresses, host_directories, nameservers
from podctl.backends.escape.world import Knowledge
from podctl.backends.local import cgroups, sandbox
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.files import PodFiles
from podctl.backends.local.network import addresses
from podctl.backends.local.pod import TEMPLATE_DATABASE
from podctl.backends.local.state import State
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle

_NO_CLUSTER = "there is no cluster"
_UNGROUPED = "not limited here: podctl may not make cgroups"


class LocalWorld:
    not_applicable: Mapping[str, str] = {
        "past-door": "a name has the same address on both sides of the gateway: only-doors sees who listens",
        "engine": "no engine runs local pods",
        "api-server": _NO_CLUSTER,
        "account-token": _NO_CLUSTER,
        "keeper": "the pod's init holds output and files: host-processes, ptrace",
    }

    def __init__(self, state: State) -> None:
        self.backend = LocalBackend(state, ttl_s=900)
        grouped = bool(cgroups.version())
        self.unseen = {} if grouped else {"memory-tree": f"{_UNGROUPED}; each process is limited", "cpu": _UNGROUPED}
        self._state = state

    async def plant(self, run: str, traps: Traps, bundle: Bundle) -> None:
        await self.backend.prepare(bundle)

    async def clear(self) -> None:
        pass

    async def knowledge(self, pod: PodSpec, other: PodSpec) -> Knowledge:
        files = PodFiles(self._state.directory(pod.id))
        port = pod.topology.databases["db"].port
        bound = [*sandbox.interpreter_paths(), sandbox.bwrap_path()]
        root = self._state.root
        near = ["127.0.0.1", *(f"127.0.1.{number}" for number in range(1, 12))]
        secret = [root / "pods", root / "templates", *(self._state.directory(one.id) / "pod.json" for one in (pod, other))]
        return Knowledge(
            addresses=addresses(pod.topology),
            doors_here=True,
            no_doors=[],
            routed=False,
            outside=[(address, 443) for address in host_addresses()],
            host_tcp=[],
            host_udp=[],
            host_abstract=[],
            host_sockets=[
                str(files.sockets("db") / f".s.PGSQL.{port}"),
                "/run/docker.sock",
                "/run/dbus/system_bus_socket",
            ],
            host_pids=[],
            host_files=["/etc/shadow", "/etc/machine-id", "/etc/resolv.conf"],
            host_directories=host_directories([path.resolve() for path in bound] + bound),
            state_files=[str(path) for path in (*secret, files.data("db"))],
            mounts=[],
            interpreter=[str(path) for path in sandbox.interpreter_paths()],
            nosuid=True,
            output_pipes=[],
            nameservers=nameservers(),
            names=[],
            past_door=[],
            engine_sockets=[],
            engine_ports=[],
            api_server=[],
            neighbour_service=[(address, NEIGHBOUR_PORTS["service"]) for address in near],
            neighbour_database=[(address, NEIGHBOUR_PORTS["database"]) for address in near],
            other_databases=["postgres", TEMPLATE_DATABASE],
        )

    async def controls(self, known: Mapping[str, Any]) -> dict[str, Control]:
        return {}

    async def host_calls(self) -> dict[str, str]:
        return await asyncio.to_thread(host_calls)

    async def datagrams(self) -> bytes:
        return b""

    async def processes_with(self, word: str) -> int:
        found = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    found += word.encode() in (entry / "cmdline").read_bytes()
                except OSError:
                    continue
        return found

    def conninfo(self, pod: str) -> str:
        known = self.backend.conninfo(pod, "db")
        return make_conninfo(dbname=known.pop("database"), **known)


def host_calls() -> dict[str, str]:
    """The probes' system calls made on this machine, by another process of this user."""
    script = str(probes_kernel.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, timeout=60, cwd="/")
    try:
        answers: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        return {}
    return answers
