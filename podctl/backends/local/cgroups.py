"""Control groups where podctl may make them: version 2, or the version 1 controllers of older hosts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_V1 = ("memory", "pids", "cpu")


@dataclass(frozen=True)
class Group:
    """One control group: a directory in version 2, one a controller in version 1."""

    paths: tuple[Path, ...]

    def entries(self) -> list[int]:
        """Descriptors that move the process which writes ``0`` to them into the group."""
        return [os.open(path / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC) for path in self.paths]

    def out_of_memory(self) -> bool:
        for path in self.paths:
            for name in ("memory.events", "memory.oom_control"):
                if _counter(path / name, "oom_kill") > 0:
                    return True
        return False

    def remove(self) -> None:
        for path in self.paths:
            try:
                path.rmdir()
            except FileNotFoundError:
                continue


def _counter(path: Path, name: str) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(name + " ")), 0)


@cache
def version() -> int:
    """2, 1, or 0 where podctl may not make groups."""
    if (ROOT / "cgroup.controllers").exists():
        controllers = set((ROOT / "cgroup.controllers").read_text().split())
        enabled = set((ROOT / "cgroup.subtree_control").read_text().split()) if os.access(ROOT, os.W_OK) else set()
        return 2 if os.access(ROOT, os.W_OK) and {"memory", "pids", "cpu"} <= controllers | enabled else 0
    usable = all(os.access(ROOT / controller, os.W_OK) for controller in _V1)
    return 1 if usable else 0


def paths(scope: str, pod: str, part: str) -> tuple[Path, ...]:
    """Where a pod's group would be; its parent is the pod's own, and that one's the state directory's."""
    kind = version()
    if kind == 2:
        return (ROOT / scope / pod / part,)
    return tuple(ROOT / controller / scope / pod / part for controller in _V1) if kind == 1 else ()


def make(scope: str, pod: str, part: str, *, memory: int, cpu: float, processes: int) -> Group:
    """A group with these limits. Raises OSError where the kernel refuses."""
    group = Group(paths(scope, pod, part))
    for path in group.paths:
        _make_directory(path)
    if version() == 2:
        path = group.paths[0]
        for parent in (ROOT, path.parent.parent, path.parent):
            (parent / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        (path / "memory.max").write_text(str(memory))
        _try(path / "memory.swap.max", "0")
        (path / "memory.oom.group").write_text("1")
        (path / "pids.max").write_text(str(processes))
        (path / "cpu.max").write_text(f"{int(cpu * 100_000)} 100000")
        return group
    by_controller = dict(zip(_V1, group.paths, strict=True)) if group.paths else {}
    if by_controller:
        (by_controller["memory"] / "memory.limit_in_bytes").write_text(str(memory))
        _try(by_controller["memory"] / "memory.memsw.limit_in_bytes", str(memory))
        (by_controller["pids"] / "pids.max").write_text(str(processes))
        (by_controller["cpu"] / "cpu.cfs_period_us").write_text("100000")
        (by_controller["cpu"] / "cpu.cfs_quota_us").write_text(str(int(cpu * 100_000)))
    return group


def _make_directory(path: Path) -> None:
    for _ in range(5):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:
            continue  # another podctl has just removed the empty parent
        else:
            return
    path.mkdir(parents=True)


def remove_scope(scope: str) -> None:
    """Remove the state directory's own group when no pod is in it."""
    for path in {path.parent.parent for path in paths(scope, "any", "any")}:
        try:
            path.rmdir()
        except OSError:
            continue


def _try(path: Path, value: str) -> None:
    # Swap accounting is a kernel option; without it the memory limit still holds.
    try:
        path.write_text(value)
    except OSError:
        pass
