"""Where local pods live on this machine, and the write-ahead ledger of what each one holds.

Everything is beneath one directory, short enough for Unix sockets and the same from every project,
so that `gc` needs neither a spec nor a store. A pod's directory is made first and removed last, both by a
rename: what has a pod's name has a `pod.json`, which names the owner and the uids before any of them is used.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from podctl.backends.directory import own_directory, state_directory, unwritable
from podctl.backends.local.files import remove_tree
from podctl.errors import EnvironmentProblem
from podctl.faults import point

#: A pod's record, and the endings of the names of directories that are not a pod yet, or no longer.
RECORD = "pod.json"
DRAFT, REMAINS = ".new", ".old"
UID_BLOCK = 4
UID_FIRST, UID_LAST = 70_000, 79_999


@dataclass(frozen=True)
class Owner:
    """A process that cannot be mistaken for another that got its pid later."""

    pid: int
    start: int  # clock ticks after boot, /proc/PID/stat field 22
    boot: str

    @staticmethod
    def of(pid: int) -> Owner | None:
        start = start_ticks(pid)
        return None if start is None else Owner(pid, start, boot_id())

    @staticmethod
    def me() -> Owner:
        owner = Owner.of(os.getpid())
        assert owner is not None
        return owner

    def alive(self) -> bool:
        return self.boot == boot_id() and start_ticks(self.pid) == self.start


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def since_boot_ns() -> int:
    """Goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def start_ticks(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else int(fields[19])


@dataclass(frozen=True)
class PodRecord:
    id: str
    run: str
    owner: Owner
    created_ns: int
    expires_ns: int
    base_uid: int | None
    kept: bool = False
    init: Owner | None = None
    over_ns: int = 0  # the end of its time by the machine's clock since boot, which nobody sets; no owner outlives a boot
    networks: tuple[str, ...] = ()  # as /proc/PID/ns/net names them
    gateway: Owner | None = None  # the run's, which has sockets of those networks


class State:
    """The machine's pods of this user."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pods = root / "pods"
        self.templates = root / "templates"
        #: Names this directory where it must not be mistaken for another: control groups are the machine's.
        self.scope = f"podctl-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"

    @staticmethod
    def here(root: Path | None = None) -> State:
        """As it is, and nothing made: what is in it may be missing, or somebody else's."""
        return State(state_directory(root))

    @staticmethod
    def open(root: Path | None = None) -> State:
        """Raises `EnvironmentProblem` when the directory is somebody else's or cannot be made."""
        state = State.here(root)
        _refuse_unusable_path(state.root)
        own_directory(state.root)
        try:
            state.pods.mkdir(mode=0o711, exist_ok=True)
            state.pods.chmod(0o711)  # whatever the umask: a pod's users pass through
            state.templates.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise unwritable(state.root, error) from error
        return state

    def held(self, name: str) -> ExitStack:
        """A lock that is already held: acquire in a thread, release anywhere."""
        stack = ExitStack()
        stack.enter_context(self.locked(name))
        return stack

    @contextmanager
    def locked(self, name: str = "pods", *, wait: bool = True) -> Iterator[None]:
        """Raises BlockingIOError when somebody else has the lock and it is not to be waited for."""
        fd = os.open(self.root / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            yield
        finally:
            os.close(fd)

    def directory(self, pod: str) -> Path:
        return self.pods / pod

    def create(self, pod: str, run: str, *, owner: Owner, now_ns: int, ttl_s: float, kept: bool, own_uids: bool) -> PodRecord:
        """Claim the pod's directory and its uids. Raises `EnvironmentProblem` when none are left."""
        with self.locked():
            base = self._free_uids() if own_uids else None
            ttl_ns = int(ttl_s * 1e9)
            record = PodRecord(pod, run, owner, now_ns, now_ns + ttl_ns, base, kept, over_ns=since_boot_ns() + ttl_ns)
            draft = self.pods / f".{pod}{DRAFT}"
            try:
                draft.mkdir(mode=0o711)
                draft.chmod(0o711)
                _write(draft, record)
                point("pod.drafted")
                draft.rename(self.directory(pod))
            except OSError as error:
                remove_tree(draft)
                raise unwritable(self.root, error) from error
        return record

    def _free_uids(self) -> int:
        taken = {record.base_uid for record in self.records()}
        blocks = (UID_LAST - UID_FIRST) // UID_BLOCK
        # Another state directory on this machine begins elsewhere, so that uids are seldom shared.
        first = int.from_bytes(hashlib.sha256(str(self.root).encode()).digest()[:4]) % blocks
        for number in range(blocks):
            base = UID_FIRST + (first + number) % blocks * UID_BLOCK
            if base not in taken:
                return base
        raise EnvironmentProblem("no uids are left for another pod", code="uids-exhausted", hint="podctl gc")

    def write(self, record: PodRecord) -> None:
        _write(self.directory(record.id), record)

    def read(self, pod: str) -> PodRecord | None:
        """None when there is no such pod, or its record cannot be read."""
        try:
            value: dict[str, Any] = json.loads((self.directory(pod) / RECORD).read_text())
            # What another version of podctl added is not this one's business.
            known = {field.name: value[field.name] for field in fields(PodRecord) if field.name in value}
            for name in ("owner", "init", "gateway"):
                known[name] = Owner(**known[name]) if known.get(name) else None
            return PodRecord(**known | {"networks": tuple(known.get("networks", ()))})
        except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
            return None

    def remove(self, pod: str) -> None:
        """Remove the pod's directory, whose processes are dead; no error if there is none. Raises OSError."""
        aside = self.pods / f".{pod}{REMAINS}"
        try:
            self.directory(pod).rename(aside)
        except FileNotFoundError:
            return
        point("reap.moved")
        remove_tree(aside)

    def names(self) -> list[str]:
        """The pods there are; what else may lie in the directory is not podctl's."""
        return sorted(entry.name for entry in self.pods.iterdir() if entry.name[0] != "." and (entry / RECORD).exists())

    def half_done(self) -> list[Path]:
        """Pods' directories that a killed podctl was about to make or to remove: nothing else is held any more."""
        with self.locked():  # held by whoever has a draft under way
            return sorted(entry for entry in self.pods.glob(".*") if entry.suffix in (DRAFT, REMAINS) and entry.is_dir())

    def records(self) -> list[PodRecord]:
        return [record for name in self.names() if (record := self.read(name)) is not None]


def _write(directory: Path, record: PodRecord) -> None:
    path = directory / RECORD
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(record)))
    temporary.replace(path)


def _refuse_unusable_path(path: Path) -> None:
    """PostgreSQL's programs hand paths beneath it to a shell. Raises `EnvironmentProblem`."""
    odd = sorted(set(str(path)) & set("\"'$`\\,\n"))
    if odd:
        raise EnvironmentProblem(
            f"pods cannot be kept in {str(path)!r}",
            code="state-path",
            cause=f"its path has {' '.join(odd)!r} in it",
            unchanged="nothing was made",
            hint=f"set PODCTL_STATE to a plain path; not set, it is /var/tmp/podctl-{os.getuid()}",
        )
