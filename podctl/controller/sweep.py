"""Find what dead runs left on this machine, and remove it: needs no spec, no store and no run that lives."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from podctl.backends.base import PodRef, Removal
from podctl.backends.local import cgroups
from podctl.backends.local.files import remove_tree
from podctl.backends.local.reap import end, group_directories, reap, remove_group
from podctl.backends.local.state import State, since_boot_ns
from podctl.backends.local.templates import BUILDING, COLUMNS
from podctl.faults import point

#: Templates that no run has used for so long are removed; the next run that needs one builds it again.
UNUSED_DAYS = 30


@dataclass(frozen=True)
class Receipt:
    """What was removed and what was left alone, with why."""

    removals: tuple[Removal, ...]
    living: tuple[PodRef, ...]

    @property
    def complete(self) -> bool:
        return all(removal.gone for removal in self.removals)

    @property
    def pods(self) -> int:
        return len({removal.pod for removal in self.removals})


def orphans(state: State) -> tuple[list[str], list[PodRef]]:
    """Pods that nobody owns any more and kept pods whose time is over; and the pods that are somebody's."""
    dead: list[str] = []
    living: list[PodRef] = []
    for name in state.names():
        record = state.read(name)
        if record is None:
            dead.append(name)
            continue
        # A living run looks after its own pods, however long it takes; a kept pod's time is its owner's promise.
        over = record.kept and 0 < record.over_ns <= since_boot_ns()
        if record.owner.alive() and not over:
            living.append(
                PodRef(
                    record.id, record.run, True, record.created_ns, record.expires_ns, str(state.directory(name)), record.kept
                )
            )
        else:
            dead.append(name)
    return dead, living


async def sweep(state: State) -> Receipt:
    """Remove every orphan. Idempotent; a living run's pods are never touched."""
    removals: list[Removal] = []
    with state.locked("sweep"):
        dead, living = orphans(state)
        point("gc.listed")
        for pod in dead:
            record = state.read(pod)
            if record is not None and record.kept and record.owner.alive():
                removals.append(Removal(pod, f"process {record.owner.pid} (its keeper)", await end(record.owner)))
            removals += await reap(state, pod, orphaned=True)
        removals += await _remove_remains(state)
        removals += await _remove_templates(state)
        cgroups.remove_scope(state.scope)
        point("gc.finished")
    return Receipt(tuple(removals), tuple(living))


def remains(state: State) -> list[Path]:
    """Directories of what has no pod any more, or not yet: half-made, half-removed, and templates that nobody builds or uses."""
    drafts = [path for path in _drafts_of_templates(state) if not _is_being_built(state, path)]
    return [*state.half_done(), *drafts, *unused_templates(state)]


def unused_templates(state: State) -> list[Path]:
    """None while there are pods: one that lives may have a template's files for its next clone."""
    oldest = time.time() - UNUSED_DAYS * 86400
    if orphans(state)[1]:
        return []
    whole = (mark for mark in state.templates.glob(f"*/{COLUMNS}") if mark.parent.suffix != BUILDING)
    return sorted(mark.parent for mark in whole if mark.stat().st_mtime < oldest)


async def _remove_templates(state: State) -> list[Removal]:
    removals = []
    for path in unused_templates(state):
        with suppress(BlockingIOError), state.locked(path.name, wait=False):
            # Under a draft's name first: half a template must never be found by its own.
            draft = path.with_suffix(BUILDING)
            path.rename(draft)
            removals.append(await _remove(draft))
    return removals


def _drafts_of_templates(state: State) -> list[Path]:
    return sorted(state.templates.glob(f"*{BUILDING}"))


def _is_being_built(state: State, draft: Path) -> bool:
    try:
        with state.locked(draft.stem, wait=False):
            return False
    except BlockingIOError:
        return True


async def _remove_remains(state: State) -> list[Removal]:
    removals = [await _remove(path) for path in state.half_done()]
    # Groups first: a pod has its directory before it has groups.
    stray = stray_groups(state)
    known = set(state.names())
    for pod in stray:
        if pod not in known:
            for group in group_directories(state, pod):
                removals.append(Removal(pod, f"cgroup {group}", await remove_group(group)))
    for path in _drafts_of_templates(state):
        with suppress(BlockingIOError), state.locked(path.stem, wait=False):
            removals.append(await _remove(path))
    return removals


async def _remove(path: Path) -> Removal:
    what, pod = f"directory {path}", path.stem.removeprefix(".")
    try:
        await asyncio.to_thread(remove_tree, path)
    except OSError as error:
        return Removal(pod, what, False, str(error))
    return Removal(pod, what, not path.exists())


def stray_groups(state: State) -> list[str]:
    """Pods that have control groups."""
    roots = {path.parent.parent for path in cgroups.paths(state.scope, "any", "any")}
    return sorted({entry.name for root in roots if root.exists() for entry in root.iterdir() if entry.is_dir()})
