"""What the escape suite needs of a backend beside its pods: what lies in its world for an agent to find."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypedDict

from podctl.backends.base import Backend
from podctl.backends.escape.checks import Control
from podctl.backends.escape.traps import Traps
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle

Place = tuple[str, int]


class OfMachine(TypedDict):
    """What an attacker could wish to know of the machine that pods are on. Places are (address, port); all may be empty.

    ``names`` are those of something that is there, for whoever can ask a name server.
    """

    outside: list[Place]
    host_tcp: list[Place]
    host_udp: list[Place]
    host_abstract: list[str]
    host_sockets: list[str]
    host_pids: list[int]
    nameservers: list[str]
    names: list[str]
    engine_sockets: list[str]
    engine_ports: list[Place]


class OfSandbox(TypedDict):
    """What an agent's sandbox looks like from inside.

    ``mounts``: where something may be mounted, when everything else is one too many. ``nosuid``: setuid programs are on mounts
    that do not honour them. ``output_pipes``: what its output may be, beside a pipe.
    """

    host_files: list[str]
    host_directories: dict[str, list[str]]
    state_files: list[str]
    mounts: list[str]
    interpreter: list[str]
    nosuid: bool
    output_pipes: list[str]


_MOUNTS = ["/", "/proc", "/sys", "/dev", "/tmp", "/workspace", "/agent", "/podctl/io"]
#: In a container of any kind: what an engine or a kubelet mounts, podctl's volumes, and the image's own files.
CONTAINER: OfSandbox = {
    "host_files": [],
    "host_directories": {},
    "state_files": [],
    "mounts": [*_MOUNTS, *(f"/etc/{name}" for name in ("hosts", "hostname", "resolv.conf"))],
    "interpreter": [],
    "nosuid": False,
    "output_pipes": ["/podctl/io/"],
}


class Knowledge(OfMachine, OfSandbox):
    """And of the pods themselves.

    ``addresses``: name of the topology -> address as the agent has it. ``no_doors``: where something else listens beside the doors. ``doors_here``: the doors listen in the agent's own
    network. ``routed``: that network has a route, and rules keep what is sent from arriving.
    """

    addresses: dict[str, str]
    doors_here: bool
    no_doors: list[Place]
    routed: bool
    past_door: list[Place]
    api_server: list[Place]
    neighbour_service: list[Place]
    neighbour_database: list[Place]
    other_databases: list[str]


class World(Protocol):
    """``not_applicable``: check -> why there is no such thing. ``unseen``: check -> why it cannot be decided here."""

    backend: Backend
    not_applicable: Mapping[str, str]
    unseen: Mapping[str, str]

    async def plant(self, run: str, traps: Traps, bundle: Bundle) -> None:
        """What stands in this world beside the pods, before there are any; ``run`` names it."""

    async def clear(self) -> None:
        """Remove what `plant` made. Idempotent."""

    async def knowledge(self, pod: PodSpec, other: PodSpec) -> Knowledge: ...

    async def controls(self, known: Mapping[str, Any]) -> dict[str, Control]:
        """What an agent is denied, tried from where it must work."""

    async def host_calls(self) -> dict[str, str]:
        """The system calls of `probes_kernel` made where the pods' kernel is, unfiltered: check -> what they answered."""

    async def datagrams(self) -> bytes:
        """What arrived at this world's own listeners for datagrams."""

    async def processes_with(self, word: str) -> int:
        """How many processes of the pods' machine have this word in their arguments."""

    def conninfo(self, pod: str) -> str:
        """Of a new session of podctl's with the pod's database, as its superuser."""
