"""What a test pod is made of on a Docker engine: facts in, plain values out. PURE.

A test pod is one internal network, on which its services and databases are, and a name space without any network at all in which
agents are. Two containers stand for the door: the *porch* on the agents' side, the *door* on the services'. Nothing connects the two
but podctl.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podctl.backends.containers.doors import DoorPort, door_ports, listeners
from podctl.backends.containers.launch import BECOME_AGENT, SCRIPTS, confined
from podctl.backends.containers.server import START, server_files
from podctl.evidence.owner import Owner
from podctl.spec.models import Resources, Topology
from podctl.spec.topology import service_order

Options = dict[str, Any]

PREFIX = "podctl-"
POD, RUN, PURPOSE = "podctl.dev/pod", "podctl.dev/run", "podctl.dev/purpose"
OWNER, CREATED, EXPIRES, KEPT = "podctl.dev/owner", "podctl.dev/created", "podctl.dev/expires", "podctl.dev/kept"
DOOR, PORCH, KEEPER, AGENT = "door", "porch", "keeper", "agent"
WAIT = ("python3", "-I", "-S", "-c", "import time\nwhile True: time.sleep(3600)")

#: Of the bridge itself: the host has no address on a test pod's network, so that nothing on it is the host.
NO_HOST = "com.docker.network.bridge.inhibit_ipv4"
#: Networks of test pods are cut from here; nothing outside of them ever gets to know the addresses.
SUBNETS = "10.211.0.0/16"
#: An image of any kind has this user, and PostgreSQL wants one that has a name.
NOBODY = 65534
_SMALL = Resources(memory=128 * 2**20, cpu=0.5, processes=64)
_DATABASE = Resources(memory=512 * 2**20, cpu=1.0, processes=128)
#: A server's data is in memory, and no more of it than this.
DATA_BYTES = 2 * 2**30
TMP_BYTES = 64 * 2**20
#: Files, not only bytes: each takes a kilobyte of the machine's memory.
_TMP = f"size={TMP_BYTES},nr_inodes=16384,mode=1777,nosuid,nodev,exec"


@dataclass(frozen=True)
class Settings:
    """``image`` has python3, PostgreSQL 15 or later and a shell. ``runtime`` is one that the engine knows, such as runsc."""

    image: str
    runtime: str = ""
    subnets: str = SUBNETS


@dataclass(frozen=True)
class Place:
    """Which test pod something belongs to, and whose that is: on everything, so that it is found by it."""

    pod: str
    run: str
    owner: Owner
    created_ns: int = 0
    expires_ns: int = 0
    kept: bool = False

    @property
    def network(self) -> str:
        return PREFIX + self.pod

    @property
    def uid(self) -> int:
        """Of the processes in it that are not PostgreSQL: one a test pod."""
        return 1_000_000 + zlib.crc32(self.network.encode()) % 1_000_000_000

    def name(self, part: str) -> str:
        return f"{PREFIX}{self.pod}-{part}"

    def labels(self, purpose: str) -> dict[str, str]:
        return {
            POD: self.pod,
            RUN: self.run,
            PURPOSE: purpose,
            OWNER: json.dumps([self.owner.pid, self.owner.start, self.owner.boot_id, self.owner.host]),
            CREATED: str(self.created_ns),
            EXPIRES: str(self.expires_ns),
            KEPT: str(self.kept).lower(),
        }


def place_of(labels: Mapping[str, str]) -> Place:
    """The place that `Place.labels` describes. Raises `ValueError` when they are somebody else's."""
    try:
        pid, start, boot_id, host = json.loads(labels[OWNER])
        owner = Owner(int(pid), str(start), str(boot_id), str(host))
        times = int(labels[CREATED]), int(labels[EXPIRES])
        return Place(labels[POD], labels[RUN], owner, *times, labels[KEPT] == "true")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"labels of no test pod: {error}") from error


# ---- networks ----


@dataclass(frozen=True)
class Addresses:
    """Of the names of a topology on the services' network, and in the agents' name space."""

    inside: Mapping[str, str]
    outside: Mapping[str, str]
    door: str
    #: Other name -> name.
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, str]:
        """Every name by which something is known to services -> its address."""
        return {**self.inside, **{alias: self.inside[name] for alias, name in self.aliases.items()}}

    @property
    def named_outside(self) -> dict[str, str]:
        """The same for agents."""
        known = {alias: self.outside[name] for alias, name in self.aliases.items() if name in self.outside}
        return {**self.outside, **known}


def subnets(place: Place, topology: Topology, within: str = SUBNETS) -> Iterator[ipaddress.IPv4Network]:
    """Networks just large enough for the pod, each once, in an order that two pods seldom share."""
    # Its own address, the broadcast's, the bridge's and the door's come on top of what listens.
    needed = len(listeners(topology)) + 4
    prefix = min(28, 32 - (needed - 1).bit_length())
    room = ipaddress.IPv4Network(within)
    count = 1 << (prefix - room.prefixlen)
    first = int.from_bytes(hashlib.sha256(place.pod.encode()).digest()[:8], "big")
    for number in range(count):
        start = int(room.network_address) + ((first + number) % count) * (1 << (32 - prefix))
        yield ipaddress.IPv4Network((start, prefix))


def addresses(subnet: ipaddress.IPv4Network, topology: Topology) -> Addresses:
    """The bridge's own is the first of the subnet; the door has the second."""
    names = [name for _, name, _ in listeners(topology)]
    inside = {name: str(subnet[3 + number]) for number, name in enumerate(names)}
    outside = {
        name: f"127.0.1.{1 + number}" for number, name in enumerate(dict.fromkeys(door.name for door in door_ports(topology)))
    }
    aliases = {alias: name for name in service_order(topology) for alias in topology.services[name].aliases}
    return Addresses(inside, outside, str(subnet[2]), aliases)


def porch_ports(topology: Topology, outside: Mapping[str, str]) -> list[DoorPort]:
    """Each name has an address of its own there, so its ports are production's."""
    return [replace(door, at=f"{outside[door.name]}:{door.port}") for door in door_ports(topology)]


def network(place: Place, subnet: ipaddress.IPv4Network) -> Options:
    """What the engine's client is given, but for the addresses."""
    return {
        "driver": "bridge",
        "internal": True,
        "enable_ipv6": False,
        "options": {NO_HOST: "true"},
        "labels": place.labels("network"),
        "subnet": str(subnet),
    }


# ---- containers ----


@dataclass(frozen=True)
class Memory:
    """A directory in memory that several containers share: ``name`` is its volume's; ``size`` bytes, so many files."""

    name: str
    size: int
    files: int

    def options(self, place: Place) -> Options:
        how = f"size={self.size},nr_inodes={self.files},uid={place.uid},gid={place.uid},mode=0700,nosuid,nodev"
        return {"driver": "local", "driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": how}}


@dataclass(frozen=True)
class Box:
    """A container. ``files``: mount point -> path -> content, read-only to whoever is not root, and nobody is root there.

    ``shared``: mount point -> memory. ``address`` is the one it has on its network.
    """

    name: str
    argv: tuple[str, ...]
    labels: Mapping[str, str]
    options: Options
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    shared: Mapping[str, Memory] = field(default_factory=dict)
    network: str = "none"
    address: str = ""
    #: In place of the image's entry point; empty leaves it, and None makes ``argv`` the whole command.
    entry: tuple[str, ...] | None = None
    #: Mount points of ``files`` where what the image has there stays beside them.
    kept: frozenset[str] = frozenset()


def hardened(
    settings: Settings, uid: int, resources: Resources, *, room: int = 0, scratch: Mapping[str, str] | None = None
) -> Options:
    """Of every container: no capability, no way to get one, nothing to write but memory, the engine's own seccomp profile.

    ``room`` is memory for the directories in it, beside that of the programs.
    """
    memory = resources.memory + room
    made: Options = {
        "image": settings.image,
        "user": f"{uid}:{uid}",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "privileged": False,
        "pids_limit": resources.processes,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": round(resources.cpu * 1e9),
        "ipc_mode": "private",
        "ulimits": {"core": 0, "nofile": 4096},
        "tmpfs": {"/tmp": _TMP, "/dev/shm": _TMP, **(scratch or {})},
        "log_config": {"type": "json-file", "config": {"max-size": "4m", "max-file": "2"}},
        "healthcheck": {"test": ["NONE"]},
        "restart_policy": {"Name": "no"},
        "stdin_open": False,
        "tty": False,
    }
    if settings.runtime:
        made["runtime"] = settings.runtime
    return made


def door(place: Place, settings: Settings, scripts: Mapping[str, bytes], where: Addresses) -> Box:
    """On the services' side: the gateway's calls come out here."""
    options = {**hardened(settings, place.uid, _SMALL), "dns": ["127.0.0.1"], "hostname": DOOR}
    files = {SCRIPTS: scripts}
    return Box(place.name(DOOR), WAIT, place.labels(DOOR), options, {}, files, {}, place.network, where.door)


def porch(place: Place, settings: Settings, scripts: Mapping[str, bytes], where: Addresses) -> Box:
    """On the agents' side: a name space with a loopback and nothing else, where every name leads to podctl."""
    options = {
        **hardened(settings, place.uid, _SMALL),
        "dns": ["127.0.0.1"],
        "extra_hosts": where.named_outside,
        "hostname": "pod",
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": "0"},
    }
    return Box(place.name(PORCH), WAIT, place.labels(PORCH), options, {}, {SCRIPTS: scripts})


def database(
    place: Place, name: str, port: int, password: str, settings: Settings, scripts: Mapping[str, bytes], where: Addresses
) -> Box:
    """A PostgreSQL server. Its superuser is reachable from its own loopback only, where podctl's program in it dials."""
    data = {"/data": f"size={DATA_BYTES},uid={NOBODY},gid={NOBODY},mode=0700,nosuid,nodev"}
    options = {**hardened(settings, NOBODY, _DATABASE, room=DATA_BYTES, scratch=data), "dns": ["127.0.0.1"], "hostname": name}
    if port < 1024:
        options["sysctls"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    given = {f"server/{file}": content for file, content in server_files(port, NOBODY).items()}
    given["secret/password"] = password.encode()
    given |= {f"scripts/{file}": content for file, content in scripts.items()}
    return Box(
        place.name(f"db-{name}"),
        ("/bin/sh", "-c", START),
        place.labels(f"database/{name}"),
        options,
        {"PGDATA": "/data/pg", "PATH": "/usr/local/bin:/usr/bin:/bin"},
        {"/podctl": given},
        {},
        place.network,
        where.inside[name],
    )


@dataclass(frozen=True)
class Program:
    """What a service's or an agent's container runs."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    files: Mapping[str, Mapping[str, bytes]]
    resources: Resources
    kept: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Image:
    """An image that a service runs from. ``entry`` stands in place of its entry point unless it is empty."""

    name: str
    user: int
    entry: tuple[str, ...]
    writable: Mapping[str, int]


def service(
    place: Place,
    name: str,
    generation: int,
    ports: Sequence[int],
    program: Program,
    settings: Settings,
    scripts: Mapping[str, bytes],
    where: Addresses,
    image: Image | None = None,
) -> Box:
    """Others are known to it by their real addresses; nobody is asked for a name. ``program.argv`` are arguments alone for an
    image whose entry point stays; podctl's scripts are not given to an image of somebody else's.
    """
    base = hardened(settings, place.uid, program.resources) if image is None else _foreign(settings, program.resources, image)
    options = {
        **base,
        "dns": ["127.0.0.1"],
        "hostname": name,
        "extra_hosts": {other: address for other, address in where.named.items() if other != name},
    }
    if program.directory:
        options["working_dir"] = program.directory
    if any(port < 1024 for port in ports):
        options["sysctls"] = {"net.ipv4.ip_unprivileged_port_start": "0"}
    return Box(
        place.name(f"svc-{name}-{generation}"),
        program.argv,
        place.labels(f"service/{name}"),
        options,
        program.environment,
        {**program.files, **({SCRIPTS: scripts} if image is None else {})},
        {},
        place.network,
        where.inside[name],
        None if image is None else image.entry,
        program.kept,
    )


def _foreign(settings: Settings, resources: Resources, image: Image) -> Options:
    """What it may write to is in memory and counts beside what its programs may use."""
    owner = f"uid={image.user},gid={image.user}"
    own = {path: f"size={size},{owner},mode=0755,nosuid,nodev,exec" for path, size in image.writable.items()}
    room = sum(image.writable.values())
    # Some runtimes give it the mode of what the image has there: it has to be the user's own.
    scratch = {"/tmp": f"{_TMP},{owner}", **own}
    return {**hardened(settings, image.user, resources, room=room, scratch=scratch), "image": image.name}


#: Waits for the keeper, then becomes the agent.
_AGENT_WRAPPER = f"""\
while [ ! -p /podctl/io/go ]; do sleep 0.01; done
read -r go </podctl/io/go
{BECOME_AGENT}"""


@dataclass(frozen=True)
class AgentRun:
    """One command in a container of its own, and the keeper's configuration for it. ``given`` are files of the workspace."""

    name: str
    program: Program
    disk: int
    output: int
    given: Mapping[str, bytes]
    keeper: Options


def agent(place: Place, run: AgentRun, porch_id: str, settings: Settings) -> Box:
    """Nothing of podctl's is in it but the pipes to its keeper."""
    options = {
        **hardened(settings, place.uid, run.program.resources),
        "working_dir": run.program.directory,
        # What it prints goes to the keeper; the engine keeps none of it.
        "log_config": {"type": "none", "config": {}},
    }
    argv = ("/bin/sh", "-c", _AGENT_WRAPPER, "sh", *confined(run.program.argv))
    return Box(
        place.name(run.name),
        argv,
        place.labels(AGENT),
        options,
        run.program.environment,
        run.program.files,
        _shared(place, run),
        f"container:{porch_id}",
    )


def keeper(place: Place, run: AgentRun, porch_id: str, settings: Settings, scripts: Mapping[str, bytes]) -> Box:
    """Lets the agent go, keeps its output and hands out its files: out of its reach, but for a directory and three pipes."""
    kept = 2 * run.output + 2**20
    state = {"/podctl/state": f"size={kept},uid={place.uid},gid={place.uid},mode=0700,nosuid,nodev"}
    options = hardened(settings, place.uid, _SMALL, room=kept + 2 * run.output, scratch=state)
    argv = ("python3", "-I", f"{SCRIPTS}/keeper.py", "run", json.dumps(run.keeper))
    files = {SCRIPTS: scripts, "/podctl/given": run.given}
    name = place.name(f"{run.name}-keeper")
    return Box(name, argv, place.labels(KEEPER), options, {}, files, _shared(place, run), f"container:{porch_id}")


def _shared(place: Place, run: AgentRun) -> dict[str, Memory]:
    return {
        "/workspace": Memory(place.name(f"{run.name}-workspace"), run.disk, 20_000),
        "/podctl/io": Memory(place.name(f"{run.name}-io"), 2**20, 64),
    }
