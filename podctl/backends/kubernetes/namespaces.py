"""Test pods as a cluster has them: found by their labels, removed with nothing but their id."""

from __future__ import annotations

import asyncio
import time

from podctl.backends.base import PodRef, Removal
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Cluster, Object
from podctl.backends.kubernetes.problems import stuck_deletion

#: Deleting a namespace takes five seconds when all is well; a condition that lasts this long is why it does not end.
STUCK_S = 12.0
#: The controller of namespaces leaves one alone for its first five seconds.
_UNTOUCHED_S = 4.9
_GONE_S = 120.0


async def list_pods(cluster: Cluster) -> list[PodRef]:
    """Every test pod of the cluster, by its labels, also one that is being deleted; its owner lives while the lease is renewed."""
    namespaces, leases = await asyncio.gather(
        cluster.list("Namespace", selector=objects.EVERY_POD), cluster.list("Lease", selector=objects.EVERY_POD)
    )
    renewed = {lease["metadata"]["namespace"]: lease["spec"] for lease in leases}
    now = cluster.now_ns()
    found = []
    for namespace in namespaces:
        meta = namespace["metadata"]
        notes = meta.get("annotations") or {}
        spec = renewed.get(meta["name"]) or {}
        created = objects.parse_time(str(notes.get(objects.CREATED, "")))
        # Between the namespace and its lease a moment passes: the namespace's own time counts until then.
        heard = objects.parse_time(str(spec.get("renewTime", ""))) or created
        alive = now < heard + int(spec.get("leaseDurationSeconds", objects.LEASE_S)) * 1_000_000_000
        expires = objects.parse_time(str(notes.get(objects.EXPIRES, "")))
        labels = meta["labels"]
        found.append(
            PodRef(
                labels[objects.POD],
                labels.get(objects.RUN, ""),
                alive,
                created,
                expires,
                f"namespace {meta['name']}",
                notes.get(objects.KEPT) == "true",
            )
        )
    return found


async def remove_namespace(cluster: Cluster, pod: str, stuck_s: float = STUCK_S) -> list[Removal]:
    """Delete the pod's namespace and wait until it is gone, or known to be stuck. Idempotent; needs nothing but the id."""
    name = objects.PREFIX + pod
    namespace = await cluster.get("Namespace", name)
    if namespace is None:
        return []
    if not ours(namespace):
        return [Removal(pod, f"namespace {name}", False, "it does not carry podctl's labels: left alone")]
    uid = str(namespace["metadata"]["uid"])
    if not namespace["metadata"].get("deletionTimestamp"):
        await cluster.delete("Namespace", name, uid=uid)
        # Its Pods need not wait for what begins then.
        pods = await cluster.list("Pod", name)
        await asyncio.gather(*(cluster.delete("Pod", body["metadata"]["name"], name) for body in pods))
    began = time.monotonic()
    pause = 0.05
    while True:
        current = await cluster.get("Namespace", name)
        if current is None or current["metadata"]["uid"] != uid:
            return [Removal(pod, f"namespace {name}", True)]
        waited = time.monotonic() - began
        why = stuck_deletion(current, failing=waited > 4 * stuck_s)
        if (why and waited > stuck_s) or waited > _GONE_S:
            detail = why or f"still being deleted after {_GONE_S:g} s"
            return [Removal(pod, f"namespace {name}", False, detail)]
        await asyncio.sleep(min(1.0, _UNTOUCHED_S - waited) if waited < _UNTOUCHED_S else pause)
        if waited >= _UNTOUCHED_S:
            pause = min(waited / 8, pause * 1.3)


def ours(namespace: Object) -> bool:
    labels = namespace["metadata"].get("labels") or {}
    return labels.get(objects.MANAGED_BY) == "podctl" and objects.POD in labels
