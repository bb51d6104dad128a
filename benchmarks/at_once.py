"""Many test pods at once in the cluster of KUBECONFIG, beside the same objects applied by kubectl, and what the API server says
of its work for each. The cluster has to be idle otherwise: the server counts what everybody does.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

from benchmarks.cluster import Kubectl, beside, by_hand, new_name, opened, recorded
from benchmarks.cluster_meter import look, told
from benchmarks.effort import Effort
from benchmarks.pods import bring, timed
from benchmarks.projects import make_project
from benchmarks.table import Row
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle

AT_ONCE = 30
#: How long pods are held that nothing happens to: leases are renewed, and the server measures its objects once a minute.
_HELD_S = 75.0


def measure(effort: Effort) -> list[Row]:
    bundle = load_bundle(make_project(effort.directory / "p", services=1).scenario)
    return asyncio.run(_measure(bundle, Kubectl(effort.directory), effort.pick(2, 10, AT_ONCE)))


async def _measure(bundle: Bundle, kubectl: Kubectl, number: int) -> list[Row]:
    found: dict[str, list[float]] = defaultdict(list)
    cluster, backend = await opened()
    await backend.prepare(bundle)
    same = await recorded(bundle)
    specs = [PodSpec(new_name(), "bench", bundle.topology) for _ in range(number)]
    before, calls = await look(cluster), Counter(cluster.calls)
    found["ready"].append(await timed(asyncio.gather(*(bring(backend, spec, found) for spec in specs))))
    calls = cluster.calls - calls
    made = (await look(cluster)).since(before)
    beats = -cluster.calls["patch", "leases"]
    await asyncio.sleep(_HELD_S)
    beats += cluster.calls["patch", "leases"]
    held = (await look(cluster)).since(before)
    watched = cluster.watched_bytes.total()
    gone = Counter(cluster.calls)
    found["teardown"].append(await timed(asyncio.gather(*(backend.delete(spec.id) for spec in specs))))
    gone = cluster.calls - gone
    await backend.close()
    await by_hand(kubectl, same, number, found, "many")

    def row(name: str, amount: float, unit: str, beside: str = "") -> Row:
        return Row(f"  {name}, a pod", [amount / number], unit, beside)

    applied = sum(count for (verb, _), count in calls.items() if verb == "apply")
    checked = sum(count for (verb, *_), count in made.requests.items() if verb == "APPLY")
    return [
        beside(f"{number} at once ready, a database, a service", found, "ready", "many ready", 1.5),
        beside("  teardown", found, "teardown", "many gone", 1.3),
        row("podctl's calls to make it", calls.total(), "", told(calls, number)),
        row("  objects applied", applied, "", f"by the server's count {checked / number:.1f}"),
        row("podctl's calls to remove it", gone.total(), "", told(gone, number)),
        row("everybody's calls to make it", made.requests.total(), "", told(made.requests, number)),
        row("requests that stay open", made.open.total(), "", told(made.open, number)),
        row(
            "podctl's watches, KiB",
            watched / 1024,
            "",
            told(Counter({(kind,): size for kind, size in cluster.watched_bytes.items()}), number, 1024),
        ),
        row("everybody's watches, KiB", made.watched.total() / 1024, "", told(made.watched, number, 1024)),
        row("live objects in etcd, KiB", held.stored.total() / 1024, "", told(held.stored, number, 1024)),
        row("etcd with what it keeps of earlier versions, KiB", made.etcd / 1024, ""),
        row("lease renewals a minute", beats * 60 / _HELD_S, ""),
    ]
