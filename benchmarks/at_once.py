"""Many test pods at once in the cluster of KUBECONFIG, beside the same objects applied by kubectl, and what the API server says
of its work for each. The cluster has to be idle otherwise: the server counts what everybody does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.cluster import Kubectl, Recording, beside, by_hand, new_name, opened, recorded
from benchmarks.cluster_meter import Look, look, stored, told
from benchmarks.effort import Effort
from benchmarks.pods import bring, timed
from benchmarks.projects import make_project
from benchmarks.table import Row
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.objects import PREFIX
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle

AT_ONCE = 30
#: How long pods are held that nothing happens to, and leases are renewed.
_HELD_S = 30.0


def measure(effort: Effort) -> list[Row]:
    bundle = load_bundle(make_project(effort.directory / "p", services=1).scenario)
    return asyncio.run(_measure(bundle, Kubectl(effort.directory), effort.pick(2, 10, AT_ONCE)))


@dataclass
class _Found:
    """What podctl and the server counted while pods were made, held and removed."""

    seconds: dict[str, list[float]]
    calls: Counter[tuple[str, str]]
    gone: Counter[tuple[str, str]]
    made: Look
    stored: Counter[tuple[str, ...]]
    removed: Look
    worked_s: float
    beats: int
    watched: Counter[tuple[str, ...]]


async def _measure(bundle: Bundle, kubectl: Kubectl, number: int) -> list[Row]:
    cluster, backend = await opened()
    specs = [PodSpec(new_name(), "bench", bundle.topology) for _ in range(number)]
    try:
        await backend.prepare(bundle)
        same = await recorded(bundle)
        found = await _found(cluster, backend, specs)
    finally:
        await asyncio.gather(*(backend.delete(spec.id) for spec in specs))
        await backend.close()
    await by_hand(kubectl, same, number, found.seconds, "many")
    return _rows(found, number)


async def _found(cluster: Recording, backend: KubernetesBackend, specs: Sequence[PodSpec]) -> _Found:
    seconds: dict[str, list[float]] = defaultdict(list)
    first, calls, worked = await look(cluster), Counter(cluster.calls), time.process_time()
    seconds["ready"].append(await timed(asyncio.gather(*(bring(backend, spec, seconds) for spec in specs))))
    calls, worked = cluster.calls - calls, time.process_time() - worked
    made, beats = await look(cluster), cluster.calls["patch", "leases"]
    await asyncio.sleep(_HELD_S)
    held, beats = await look(cluster), cluster.calls["patch", "leases"] - beats
    objects_of_one = stored(PREFIX + specs[0].id)
    watched: Counter[tuple[str, ...]] = Counter({(kind,): size for kind, size in cluster.watched_bytes.items()})
    gone = Counter(cluster.calls)
    seconds["teardown"].append(await timed(asyncio.gather(*(backend.delete(spec.id) for spec in specs))))
    gone = cluster.calls - gone
    removed = (await look(cluster)).since(held)
    return _Found(seconds, calls, gone, made.since(first), objects_of_one, removed, worked, beats, watched)


def _rows(found: _Found, number: int) -> list[Row]:
    def row(name: str, amount: float, unit: str, beside: str = "") -> Row:
        return Row(f"  {name}, a pod", [amount / number], unit, beside)

    calls, made = found.calls, found.made
    applied = sum(count for (verb, _), count in calls.items() if verb == "apply")
    checked = sum(count for (verb, *_), count in made.requests.items() if verb == "APPLY")
    return [
        beside(f"{number} at once ready, a database, a service", found.seconds, "ready", "many ready", 1.5),
        beside("  teardown", found.seconds, "teardown", "many gone", 1.3),
        row("podctl's calls to make it", calls.total(), "", told(calls, number)),
        row("  objects applied", applied, "", f"by the server's count {checked / number:.1f}"),
        row("podctl's calls to remove it", found.gone.total(), "", told(found.gone, number)),
        row("everybody's calls to make it", made.requests.total(), "", told(made.requests, number)),
        row("everybody's calls to remove it", found.removed.requests.total(), "", told(found.removed.requests, number)),
        row("podctl's processor time to make it", found.worked_s, "s"),
        row("requests that stay open", made.open.total(), "", told(made.open, number)),
        row("podctl's watches, KiB", found.watched.total() / 1024, "", told(found.watched, number, 1024)),
        row("everybody's watches, KiB", made.watched.total() / 1024, "", told(made.watched, number, 1024)),
        Row("  live objects in etcd, KiB, a pod", [found.stored.total() / 1024], "", told(found.stored, 1, 1024)),
        row("etcd with what it keeps of earlier versions, KiB", made.etcd / 1024, ""),
        row("lease renewals a minute", found.beats * 60 / _HELD_S, ""),
    ]
