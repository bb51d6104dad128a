"""Remove a pod by what the machine says of it: no spec, no store, no process that made it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

from podctl.backends.base import Removal
from podctl.backends.local import cgroups
from podctl.backends.local.init_client import is_init_of
from podctl.backends.local.state import UID_BLOCK, Owner, PodRecord, State
from podctl.faults import point

PATIENCE_S = 10.0


async def reap(state: State, pod: str, *, orphaned: bool = False) -> list[Removal]:
    """End and remove everything a pod holds; a receipt line for each. Idempotent.

    ``orphaned``: the podctl that made it is dead, and what it started beside the pod is ended too.
    """
    directory = state.directory(pod)
    if not directory.exists():
        return []
    record = state.read(pod)
    receipt = []
    for what, owner in _processes(directory, record, orphaned):
        receipt.append(Removal(pod, f"process {owner.pid} ({what})", await end(owner)))
    point("reap.processes-ended")
    receipt += _freed(pod, directory, record)
    for path in group_directories(state, pod):
        receipt.append(Removal(pod, f"cgroup {path}", await remove_group(path)))
    point("reap.groups-removed")
    sockets = _sockets(directory)
    try:
        await asyncio.to_thread(state.remove, pod)
        detail = ""
    except OSError as error:
        detail = str(error)
    point("reap.removed")
    receipt += [Removal(pod, f"socket {path}", not path.exists()) for path in sockets]
    if record is not None and record.base_uid is not None:
        # The directory is the claim to them: without it they are anybody's again.
        receipt.append(Removal(pod, f"uids {record.base_uid}-{record.base_uid + UID_BLOCK - 1}", not directory.exists()))
    receipt.append(Removal(pod, f"directory {directory}", not directory.exists() and not detail, detail))
    return receipt


def _processes(directory: Path, record: PodRecord | None, orphaned: bool) -> list[tuple[str, Owner]]:
    """What must end for the pod to end; with each what it is."""
    inits = {owner for pid in _pids() if is_init_of(pid, directory) and (owner := Owner.of(pid)) is not None}
    if record is not None and record.init is not None:
        inits.add(record.init)
    found = [("init, and everything in its namespaces", owner) for owner in sorted(inits, key=lambda owner: owner.pid)]
    if orphaned and record is not None and record.gateway is not None:
        found.append(("gateway of its run", record.gateway))
    return found


def _freed(pod: str, directory: Path, record: PodRecord | None) -> list[Removal]:
    """What the kernel frees with the last process that is in it."""
    inside = _inside(directory)
    detail = f"process {inside[0]} is in it" if inside else ""
    networks = "" if record is None else ", ".join(record.networks)
    receipt = [Removal(pod, f"mounts beneath {directory}", not inside, detail)]
    if networks:
        receipt.insert(0, Removal(pod, f"network namespaces {networks}", not inside, detail))
    return receipt


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _inside(directory: Path) -> list[int]:
    """Processes that have a mount beneath the directory, each pod's own having some."""
    needle = f" {_as_in_mountinfo(str(directory))}/"
    known: dict[str, bool] = {}
    found = []
    for pid in _pids():
        try:
            namespace = str(Path(f"/proc/{pid}/ns/mnt").readlink())
            if namespace not in known:
                known[namespace] = needle in Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")
        except OSError:  # it has ended, or is another user's and so no pod of this one
            continue
        if known[namespace]:
            found.append(pid)
    return found


def _as_in_mountinfo(path: str) -> str:
    return "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in path)


def _sockets(directory: Path) -> list[Path]:
    """Unix sockets of a pod: its keeper's and its databases'."""
    candidates = [*directory.glob("*.sock"), *directory.glob("sock/*/.s.*")]
    return [path for path in sorted(candidates) if stat.S_ISSOCK(path.lstat().st_mode)]


async def end(owner: Owner) -> bool:
    """Kill this very process, by pidfd so that a reused pid is never hit, and wait until it is gone."""
    try:
        handle = os.pidfd_open(owner.pid)
    except ProcessLookupError:
        return True
    try:
        if owner.alive():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        for _ in range(int(PATIENCE_S / 0.005)):
            if not owner.alive():
                return True
            await asyncio.sleep(0.005)
        return False
    finally:
        os.close(handle)


def group_directories(state: State, pod: str) -> list[Path]:
    """The pod's control groups, innermost first."""
    roots = {path.parent for path in cgroups.paths(state.scope, pod, "any")}
    return [path for root in sorted(roots) if root.exists() for path in (*sorted(root.iterdir()), root) if path.is_dir()]


async def remove_group(path: Path) -> bool:
    for _ in range(200):
        try:
            path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            await asyncio.sleep(0.005)
        else:
            return True
    return not path.exists()
