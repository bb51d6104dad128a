"""Orphans of dead runs in a cluster: found by their labels, told from living ones by their owner's lease."""

from __future__ import annotations

from podctl.backends.base import PodRef, Removal
from podctl.backends.containers.scratch import sweep_scratch
from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.namespaces import list_pods, remove_namespace
from podctl.controller.sweep import Receipt


async def cluster_orphans(cluster: Cluster) -> tuple[list[PodRef], list[PodRef]]:
    """Pods that nobody has renewed the lease of and kept pods whose time is over; and the pods that are somebody's."""
    dead: list[PodRef] = []
    living: list[PodRef] = []
    for pod in await list_pods(cluster):
        over = pod.kept and cluster.now_ns() >= pod.expires_ns
        (living if pod.owner_alive and not over else dead).append(pod)
    return dead, living


async def cluster_sweep(cluster: Cluster) -> Receipt:
    """Remove every orphan of the cluster, and what dead processes left here. Idempotent; the living are never touched."""
    dead, living = await cluster_orphans(cluster)
    removals = [Removal("this machine", f"directory {path}", True) for path in sweep_scratch()]
    for pod in dead:
        removals += await remove_namespace(cluster, pod.id)
    return Receipt(tuple(removals), tuple(living))
