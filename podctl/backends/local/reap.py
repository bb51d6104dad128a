"""Remove a pod by what the machine says of it: no spec, no store, no process that made it."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

from podctl.backends.base import Removal
from podctl.backends.local import cgroups
from podctl.backends.local.pod import remove_tree
from podctl.backends.local.state import Owner, State

PATIENCE_S = 10.0


async def reap(state: State, pod: str) -> list[Removal]:
    """End and remove everything a pod holds; a receipt line for each. Idempotent."""
    directory = state.directory(pod)
    if not directory.exists():
        return []
    record = state.read(pod)
    receipt = []
    owners = [] if record is None else [owner for owner in (record.init, *record.processes) if owner is not None]
    for owner in owners:
        receipt.append(Removal(pod, f"process {owner.pid} and everything in its namespaces", await end(owner)))
    for path in group_directories(state, pod):
        receipt.append(Removal(pod, f"cgroup {path}", await remove_group(path)))
    try:
        await asyncio.to_thread(remove_tree, directory)
        receipt.append(Removal(pod, f"directory {directory}", not directory.exists()))
    except OSError as error:
        receipt.append(Removal(pod, f"directory {directory}", False, str(error)))
    return receipt


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
