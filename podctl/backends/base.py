"""What a backend must do. The core asks for capabilities and never for a backend's name.

A pod is desired as resources with generations (`podctl.pods.plan`); `observe` says what exists,
`apply` does one step. Deleting is idempotent and needs nothing but the pod's id.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from psycopg import AsyncConnection

from podctl.data.catalog import Catalog
from podctl.data.statements import LoggedStatement
from podctl.gateway.client import Door
from podctl.grading.sqlref import GradedDatabase
from podctl.pods.plan import PodSpec, Resource, Step
from podctl.scans.leavings import Leavings, Listening
from podctl.spec.bundle import Bundle
from podctl.spec.models import TableRule


@dataclass(frozen=True)
class Finding:
    """One ability of this machine. ``no`` carries what to type; ``required``: for an untrusted agent."""

    name: str
    state: Literal["yes", "no", "partly"]
    detail: str
    remedy: str = ""
    required: bool = True


class PodDatabase(GradedDatabase, Protocol):
    """One database of one pod, seen from outside it as its superuser."""

    async def grant_agent(self, role: str, rules: Mapping[str, TableRule]) -> str:
        """Make the role with exactly these rights; returns its password."""

    async def grant_approved(self, rules: Mapping[str, TableRule]) -> str:
        """Make the role that writes what is approved, with these rights; how the gateway connects as it, password and all. Raises
        `EnvironmentProblem` where there are no sessions."""

    async def revoke_agent(self, role: str) -> None:
        """End the role's sessions and drop it; nothing to do where there is none."""

    async def changes(self) -> list[dict[str, Any]]:
        """Row changes since the last reset or call, in commit order, as ``row.change`` data."""

    async def statements(self) -> list[LoggedStatement]:
        """Statements since the last reset or call."""

    async def beside(self) -> AsyncConnection[tuple[Any, ...]]:
        """A session of podctl's own as superuser, for the caller to close. Raises `EnvironmentProblem` where there are none."""

    @property
    def catalog(self) -> Catalog:
        """What the database held when its attempt began."""

    @property
    def statements_dropped(self) -> int:
        """How many more there were than were kept."""

    @property
    def changes_dropped(self) -> int:
        """How many row changes there were beyond those that `changes` gave."""


@dataclass(frozen=True)
class Command:
    """One program in a sandbox of a pod: an agent, or a grader's.

    ``files`` are in the workspace before it starts; ``environment`` is all it gets.
    Limits are in seconds, bytes and cores; ``output`` bounds stdout and stderr each.
    ``record``: whether its processes are recorded; where they cannot be, a ``required`` record stops the command
    before it begins, and without a ``wanted`` one it runs and `Recording.refused` says so. ``leavings``: what it leaves is
    handed out for a scan, where the backend can.
    """

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    read_only: tuple[Path, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    collect: tuple[str, ...] = ()
    collect_bytes: int = 2**20
    wall_s: float = 120.0
    memory: int = 512 * 2**20
    cpu: float = 1.0
    processes: int = 64
    disk: int = 64 * 2**20
    output: int = 2**20
    record: Literal["required", "wanted", ""] = "wanted"
    leavings: bool = False


@dataclass(frozen=True)
class Image:
    """A program that a process executed. ``argv`` holds its first bytes when it is ``cut``; ``exe`` is the file."""

    t: int
    argv: tuple[str, ...]
    exe: str = ""
    cut: bool = False


@dataclass(frozen=True)
class Process:
    """One process of a command, from its fork to its end; times in ns since the epoch, pids as the sandbox numbers them.

    ``parent`` forked it; None of the command's own process, and of one whose parent was killed in the act.
    ``images`` are the first programs it executed, none of one that only forked; ``executed`` is how many there were.
    ``cpu_s`` includes the children that it waited for.
    """

    pid: int | None
    parent: int | None
    started_ns: int
    ended_ns: int
    code: int | None
    signal: int | None
    images: tuple[Image, ...] = ()
    executed: int = 0
    cpu_s: float | None = None
    own: bool = False


@dataclass(frozen=True)
class Recording:
    """The processes of a command by their start, bwrap's and podctl's own left out.

    ``total`` counts all of them, ``kept`` are the first. ``refused`` says why nothing was recorded. ``listening``: sockets
    that took connections, seen when a process ended and 20 times a second; None: nobody looked.
    """

    kept: tuple[Process, ...] = ()
    total: int = 0
    refused: str = ""
    listening: tuple[Listening, ...] | None = None


NOT_RECORDED = Recording(refused="not asked for")


@dataclass(frozen=True)
class ServiceProcess:
    """A service or database of the pod while a command ran. ``argv`` is the spec's, placeholders not filled in.

    ``ended_ns`` is None while it lives; otherwise ``code`` or ``signal`` says how it ended.
    """

    kind: Literal["service", "database"]
    name: str
    argv: tuple[str, ...]
    started_ns: int
    ended_ns: int | None = None
    code: int | None = None
    signal: int | None = None


@dataclass(frozen=True)
class Exit:
    """How a command ended, and what it left. ``limit`` names the limit that ended it, if one did."""

    code: int | None
    signal: int | None
    limit: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_rss: int = 0
    stdout: bytes = b""
    stderr: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    refused_files: Mapping[str, str] = field(default_factory=dict)  # name -> why it was not read
    recording: Recording = NOT_RECORDED
    services: tuple[ServiceProcess, ...] = ()
    leavings: Leavings | None = None  # None: the backend does not hand them out, or was not asked to


@dataclass(frozen=True)
class PodRef:
    """A pod that exists, whoever made it."""

    id: str
    run: str
    owner_alive: bool
    created_ns: int
    expires_ns: int
    directory: str = ""
    kept: bool = False


@dataclass(frozen=True)
class Removal:
    """One line of a receipt."""

    pod: str
    what: str
    gone: bool
    detail: str = ""


class Backend(Protocol):
    name: str
    #: Whether services may run from images of their own.
    runs_images: bool

    async def check(self) -> list[Finding]: ...

    def isolation(self) -> str:
        """One line: what isolation is in effect, for reports."""

    async def prepare(self, bundle: Bundle) -> dict[str, str]:
        """Build or find the templates that the topology's databases are cloned from; each one's server version, where known."""

    async def observe(self, pod: str) -> dict[Resource, int]: ...

    async def apply(self, spec: PodSpec, step: Step) -> None: ...

    async def execute(self, pod: str, command: Command) -> Exit:
        """Run a command; returns only when its whole process tree is dead. Raises `EnvironmentProblem` also when the
        record of its processes was lost on the way: the command was ended then."""

    async def interrupt(self, pod: str, reason: str) -> None:
        """End the command that runs in the pod; its `Exit.limit` is the reason."""

    def doors(self, pod: str, holder: int) -> tuple[list[Door], socket.socket | None]:
        """The gateway's listeners in the pod, and where it gets sockets of the pod's inner network.

        ``holder`` is the pid of the gateway: when podctl is killed, whoever removes the pod ends that process too.
        """

    def database(self, pod: str, name: str) -> PodDatabase: ...

    async def logs(self, pod: str, service: str) -> bytes: ...

    async def delete(self, pod: str) -> list[Removal]: ...

    async def list(self) -> list[PodRef]: ...

    async def close(self) -> None:
        """Let go of everything this process holds; pods that remain are the reaper's."""
