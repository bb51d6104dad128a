"""Orphans of dead runs in a cluster or on a Docker engine: the backend tells its pods, found by their labels, and removes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from podctl.backends.base import PodRef, Removal
from podctl.backends.containers.scratch import sweep_scratch
from podctl.controller.sweep import Receipt


def orphans_among(pods: Sequence[PodRef], now_ns: int) -> tuple[list[PodRef], list[PodRef]]:
    """Pods that nobody owns any more and kept pods whose time is over by the clock that counts there; and the pods that are somebody's."""
    dead: list[PodRef] = []
    living: list[PodRef] = []
    for pod in pods:
        over = pod.kept and now_ns >= pod.expires_ns
        (living if pod.owner_alive and not over else dead).append(pod)
    return dead, living


async def sweep_among(pods: Sequence[PodRef], now_ns: int, remove: Callable[[str], Awaitable[list[Removal]]]) -> Receipt:
    """Remove every orphan, and what dead processes left here. Idempotent; the living are never touched."""
    dead, living = orphans_among(pods, now_ns)
    removals = [Removal("this machine", f"directory {path}", True) for path in sweep_scratch()]
    for pod in dead:
        removals += await remove(pod.id)
    return Receipt(tuple(removals), tuple(living))
