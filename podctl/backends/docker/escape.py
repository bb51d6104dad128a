"""The escape suite's world on a Docker engine: a container on the machine's own network, without a filter, is its trap and its eyes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from podctl.backends.containers.launch import SCRIPTS, TEMPLATE_DATABASE
from podctl.backends.docker import objects
from podctl.backends.docker.backend import DockerBackend
from podctl.backends.docker.engine import Answers
from podctl.backends.docker.leftovers import remove_pod
from podctl.backends.docker.objects import Box, Place
from podctl.backends.escape import probes_kernel, trap
from podctl.backends.escape.checks import Control
from podctl.backends.escape.traps import Traps, nameservers
from podctl.backends.escape.world import CONTAINER, Knowledge, OfMachine
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle
from podctl.spec.models import Resources

_NO_CLUSTER = "there is no cluster"
_SOCKETS = ("/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock")
_PORTS = (2375, 2376, 2377, 4243)
_TRAP = ("python3", "-I", f"{SCRIPTS}/trap.py")
_START_S = 20.0


def trap_box(place: Place, image_options: dict[str, Any], traps: Traps) -> Box:
    """A user without rights, where nothing is closed: what it can do, only a pod's walls deny."""
    unfiltered = ["no-new-privileges", "seccomp=unconfined", "apparmor=unconfined"]
    options = {**image_options, "security_opt": unfiltered, "pid_mode": "host"}
    scripts = {"trap.py": Path(trap.__file__).read_bytes(), "probes_kernel.py": Path(probes_kernel.__file__).read_bytes()}
    argv = (*_TRAP, "listen", traps.sentinel)
    environment = {"PODCTL_ESCAPE_CANARY": traps.canary}
    return Box(place.name("trap"), argv, place.labels("trap"), options, environment, {SCRIPTS: scripts}, {}, "host")


class DockerWorld:
    not_applicable: Mapping[str, str] = {
        "api-server": _NO_CLUSTER,
        "account-token": _NO_CLUSTER,
        "unrecorded": "nothing records processes on a Docker engine",
    }
    unseen: Mapping[str, str] = {}

    def __init__(self, backend: DockerBackend) -> None:
        self.backend = backend
        self._engine = backend.engine
        self._place: Place | None = None
        self._trap = ""
        self._told: dict[str, Any] = {}

    async def plant(self, run: str, traps: Traps, bundle: Bundle | None = None) -> None:
        self._place = self.backend.place(f"{run}t", run)
        options = objects.hardened(self.backend.settings, self._place.uid, Resources(memory=128 * 2**20, processes=64))
        ready = Answers([*_TRAP, "told"], _START_S)
        self._trap = await self._engine.start(trap_box(self._place, options, traps), ready)
        self._told = await self._ask("told")

    async def clear(self) -> None:
        if self._place is not None:
            await remove_pod(self._engine, self._place.pod)

    async def knowledge(self, pod: PodSpec, other: PodSpec) -> Knowledge:
        own, others = self.backend.addresses(pod.id), self.backend.addresses(other.id)
        beacon = next(iter(other.topology.services))
        ports = {name: service.ports[0] for name, service in pod.topology.services.items()}
        ports |= {name: database.port for name, database in pod.topology.databases.items()}
        next_door = {"db": other.topology.databases["db"].port, beacon: other.topology.services[beacon].ports[0]}
        neighbours = {
            name: [(where[name], port) for where in (others.inside, others.outside)] for name, port in next_door.items()
        }
        return {
            **await self.of_machine([f"{objects.PREFIX}{one.id}-{objects.DOOR}" for one in (pod, other)]),
            **CONTAINER,
            "addresses": dict(own.outside),
            "doors_here": True,
            "no_doors": [],
            "routed": False,
            "past_door": [(own.inside[name], port) for name, port in ports.items()],
            "api_server": [],
            "neighbour_service": neighbours[beacon],
            "neighbour_database": neighbours["db"],
            "other_databases": ["postgres", TEMPLATE_DATABASE],
        }

    async def of_machine(self, containers: Sequence[str] = ()) -> OfMachine:
        """What is known of the engine's machine, and names of containers on it."""
        machine: list[str] = self._told["addresses"]
        where = self._engine.address
        sockets = [*_SOCKETS, *([where] if isinstance(where, str) else [])]
        named = [] if isinstance(where, str) else [where]
        state = await self._engine.state(self._trap)
        return {
            "outside": [(address, self._told["tcp"]) for address in machine],
            "host_tcp": [("127.0.0.1", self._told["tcp"])],
            "host_udp": [(address, self._told["udp"]) for address in ("127.0.0.1", *machine)],
            "host_abstract": [self._told["abstract"]],
            "host_sockets": sockets,
            "host_pids": [int(state["Pid"])],
            "nameservers": [*nameservers(), *self._told["nameservers"]],
            "names": [*containers, "host.docker.internal", "gateway.docker.internal"],
            "engine_sockets": sockets,
            "engine_ports": [*((address, port) for address in ("127.0.0.1", *machine) for port in _PORTS), *named],
        }

    async def controls(self, known: Mapping[str, Any]) -> dict[str, Control]:
        """On the machine's network everything answers; on a pod's own network its services do."""
        controls = await self.controls_of_machine(known)
        controls["past-door"] = await self._from_door(known["pod"], known["past_door"])
        for name in ("neighbour-service", "neighbour-database"):
            places = [place for place in known[name.replace("-", "_")] if not place[0].startswith("127.")]
            controls[name] = await self._from_door(known["other_pod"], places)
        return controls

    async def controls_of_machine(self, known: Mapping[str, Any]) -> dict[str, Control]:
        loopback = ("127.0.0.1", self._told["tcp"])
        tcp, abstract = await self._ask("reach", json.dumps([loopback, [self._told["abstract"]]]))
        await self._ask("send", "127.0.0.1", str(self._told["udp"]))
        arrived = b"control" in await self.datagrams()
        sentinel = await self.processes_with(known["sentinel"])
        own = known["environment_canary"] in (await self._ask("told"))["environ"]
        controls = {
            "host-loopback": Control(tcp, "a container on the machine's network connects"),
            "host-abstract-socket": Control(abstract, "a container on the machine's network connects"),
            "udp-outside": Control(arrived, "a datagram on the machine's network arrives"),
            "host-processes": Control(sentinel > 0, "a container that sees the machine's processes finds it"),
            "host-environment": Control(own, "a container of the machine's finds it in its own"),
            "engine": Control(await self._engine.answers(), f"podctl reaches the engine at {self._engine.host}"),
        }
        if known["outside"]:
            reached = await self._ask("reach", json.dumps(known["outside"]))
            controls["outside"] = Control(all(reached), "a container on the machine's network reaches its addresses")
        return controls

    async def _from_door(self, pod: str, places: list[Any]) -> Control:
        """From the gateway's side of a pod, where its services and databases are."""
        named = [f"{host}:{port}" for host, port in places]
        door = objects.Place(pod, "", self.backend.owner).name(objects.DOOR)
        argv = ["python3", "-I", f"{SCRIPTS}/probe.py", *named]
        told = json.loads(await self._engine.run(door, argv, 10_000))
        works = bool(named) and all(told[place] for place in named)
        return Control(works, f"from the pod's own door: {'connected' if works else told}")

    async def host_calls(self) -> dict[str, str]:
        answers = await self._engine.run(self._trap, ["python3", "-I", "-S", f"{SCRIPTS}/probes_kernel.py"], 10_000)
        return dict(json.loads(answers))

    async def datagrams(self) -> bytes:
        await asyncio.sleep(0.1)
        told: str = (await self._ask("told"))["datagrams"]
        return told.encode("latin-1")

    async def processes_with(self, word: str) -> int:
        return int(await self._ask("processes", word))

    def conninfo(self, pod: str) -> str:
        return self.backend.conninfo(pod, "db")

    async def _ask(self, *arguments: str) -> Any:
        return json.loads(await self._engine.run(self._trap, [*_TRAP, *arguments], 2**20))
