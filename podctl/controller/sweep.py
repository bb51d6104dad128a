"""Find what dead runs left on this machine, and remove it: needs no spec, no store and no run that lives."""

from __future__ import annotations

import time
from dataclasses import dataclass

from podctl.backends.base import PodRef, Removal
from podctl.backends.local import cgroups
from podctl.backends.local.reap import group_directories, reap, remove_group
from podctl.backends.local.state import State


@dataclass(frozen=True)
class Receipt:
    """What was removed and what was left alone, with why."""

    removals: tuple[Removal, ...]
    living: tuple[PodRef, ...]

    @property
    def complete(self) -> bool:
        return all(removal.gone for removal in self.removals)


def orphans(state: State, now_ns: int) -> tuple[list[str], list[PodRef]]:
    """Pods that nobody owns any more and kept pods whose time is over; and the pods that are somebody's."""
    dead: list[str] = []
    living: list[PodRef] = []
    for name in state.names():
        record = state.read(name)
        if record is None:
            dead.append(name)
            continue
        # A living run looks after its own pods, however long it takes; a kept pod's time is its owner's promise.
        over = record.kept and now_ns >= record.expires_ns
        if record.owner.alive() and not over:
            living.append(
                PodRef(
                    record.id, record.run, True, record.created_ns, record.expires_ns, str(state.directory(name)), record.kept
                )
            )
        else:
            dead.append(name)
    return dead, living


async def sweep(state: State, now_ns: int | None = None) -> Receipt:
    """Remove every orphan. Idempotent; a living run's pods are never touched."""
    removals: list[Removal] = []
    with state.locked("sweep"):
        dead, living = orphans(state, time.time_ns() if now_ns is None else now_ns)
        for pod in dead:
            removals += await reap(state, pod)
        known = set(state.names())
        for pod in stray_groups(state):
            if pod not in known:
                for path in group_directories(state, pod):
                    removals.append(Removal(pod, f"cgroup {path}", await remove_group(path)))
        cgroups.remove_scope(state.scope)
    return Receipt(tuple(removals), tuple(living))


def stray_groups(state: State) -> list[str]:
    """Pods that have control groups."""
    roots = {path.parent.parent for path in cgroups.paths(state.scope, "any", "any")}
    return sorted({entry.name for root in roots if root.exists() for entry in root.iterdir() if entry.is_dir()})
