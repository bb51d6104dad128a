"""What podctl holds on this machine, looked up without podctl's own code: kept honest by not asking the accused.

Processes are found by descent. A process whose parent died becomes a child of the nearest subreaper, so that with
`adopting` whatever a test started, directly or not, is a descendant of the test.
"""

from __future__ import annotations

import ctypes
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_LASTING = ("escape.json", "pods", "templates")  # and locks, which nobody may hold
_GROUPS = Path("/sys/fs/cgroup")


@contextmanager
def adopting() -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    command: tuple[str, ...]

    def says(self, text: str) -> bool:
        return any(text in part for part in self.command)


def processes() -> list[Process]:
    """Every living descendant of this process; what has ended is reaped."""
    found: dict[int, Process] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        except OSError:
            continue
        pid, parent = int(entry.name), int(text[1])
        if text[0] in "ZX":
            if parent == os.getpid():
                _reap(pid)
            continue
        found[pid] = Process(pid, parent, tuple(command))
    beneath = {os.getpid()}
    while True:
        more = {pid for pid, process in found.items() if process.parent in beneath and pid not in beneath}
        if not more:
            return [found[pid] for pid in sorted(beneath - {os.getpid()}) if pid in found]
        beneath |= more


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


@dataclass(frozen=True)
class Holdings:
    """Everything that a run takes of a machine, each thing by name; all empty is a clean machine."""

    processes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    uids: tuple[str, ...] = ()

    def minus(self, before: Holdings) -> Holdings:
        names = [field.name for field in fields(self)]
        return Holdings(*(tuple(x for x in getattr(self, name) if x not in getattr(before, name)) for name in names))

    def kinds(self) -> set[str]:
        return {field.name for field in fields(self) if getattr(self, field.name)}


def holdings(state: Path, temporary: Path, scope: str) -> Holdings:
    """``state`` is podctl's state directory, ``scope`` its name among control groups, ``temporary`` its TMPDIR."""
    mine = processes()
    host = _link(os.getpid(), "net")
    networks = {network for process in mine if (network := _link(process.pid, "net")) not in (host, "")}
    files = [path for path in _walk(state) if not _lasts(path, state)] + _walk(temporary)
    return Holdings(
        processes=tuple(f"{process.pid} {' '.join(process.command)[:120]}" for process in mine),
        networks=tuple(sorted(networks)),
        mounts=tuple(_mounts(state)),
        groups=tuple(_groups(scope)),
        files=tuple(str(path) for path in files),
        sockets=tuple(str(path) for path in files if _is_socket(path)),
        locks=tuple(_locks(state)),
        uids=tuple(sorted({str(uid) for process in mine for uid in _uids(process.pid) if uid != os.getuid()})),
    )


def _walk(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*")) if top.exists() else []


def _lasts(path: Path, state: Path) -> bool:
    """Templates are a cache, lock files are only names, and the directories for pods and templates stay."""
    parts = path.relative_to(state).parts
    if parts[0] == "templates" and len(parts) > 1:
        return parts[1].startswith("tpl_") and "." not in parts[1]
    return len(parts) == 1 and (parts[0] in _LASTING or (parts[0].startswith(".") and parts[0].endswith(".lock")))


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except OSError:
        return False


def _link(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")  # noqa: PTH115
    except OSError:
        return ""


def _uids(pid: int) -> list[int]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return []
    return [int(uid) for line in lines if line.startswith("Uid:") for uid in line.split()[1:]]


def _mounts(state: Path) -> list[str]:
    """Mount points beneath the state directory, in the mount table of any process on the machine."""
    found: set[str] = set()
    known: set[str] = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or (namespace := _link(int(entry.name), "mnt")) in known:
            continue
        known.add(namespace)
        try:
            lines = (entry / "mountinfo").read_text(errors="replace").splitlines()
        except OSError:
            continue
        found |= {f"{namespace} {line.split()[4]}" for line in lines if line.split()[4].startswith(f"{state}/")}
    return sorted(found)


def _groups(scope: str) -> list[str]:
    roots = [*_GROUPS.glob(scope), *_GROUPS.glob(f"*/{scope}")]
    return sorted(str(path) for root in roots for path in (root, *root.rglob("*")) if path.is_dir())


def _locks(state: Path) -> list[str]:
    held = {line.split()[5].rpartition(":")[2] for line in Path("/proc/locks").read_text().splitlines() if "->" not in line}
    return sorted(str(path) for path in state.glob(".*.lock") if str(path.stat().st_ino) in held)


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout:g} s: {what}"
        time.sleep(0.01)
