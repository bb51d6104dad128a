"""What a test pod costs in the cluster of KUBECONFIG, beside what a single Pod and a namespace cost there."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from dataclasses import replace

from benchmarks.effort import Effort
from benchmarks.pods import bring, timed
from benchmarks.projects import make_project
from benchmarks.table import Row, spread
from podctl.backends.base import Command
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.namespaces import remove_namespace
from podctl.backends.kubernetes.objects import Place, Settings
from podctl.backends.kubernetes.watching import Watched, ready
from podctl.pods.plan import PodSpec
from podctl.spec.load import load_bundle


def measure(effort: Effort) -> list[Row]:
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Row]:
    bundle = load_bundle(make_project(effort.directory / "p").scenario)
    found: dict[str, list[float]] = defaultdict(list)
    backend = await KubernetesBackend.open(os.environ)
    command = Command(argv=("/bin/true",), environment={}, directory=bundle.agent.directory)
    for number in range(effort.times(10)):
        spec = PodSpec(f"bench-{number}", "bench", bundle.topology)
        found["ready"].append(await timed(bring(backend, spec, found)))
        spec = replace(spec, generation=2)
        found["renewed"].append(await timed(bring(backend, spec, found)))
        for _ in range(3):
            found["execute"].append(await timed(backend.execute(spec.id, command)))
        found["teardown"].append(await timed(backend.delete(spec.id)))
        await _alone(backend, Place(f"bench-alone-{number}", "bench"), found)
    await backend.close()
    parts = [Row(f"  of it {key}", found[key], "s") for key in found if key.startswith("make ")]
    beside = {name: f"{name}: {spread(found[name], 's')}" for name in ("one Pod, made and ready", "a namespace with one Pod")}
    return [
        Row("test pod in a cluster ready, two services", found["ready"], "s", beside["one Pod, made and ready"]),
        *parts,
        Row("  state reset: databases", found["reset"], "s"),
        Row("  with services restarted", found["renewed"], "s"),
        Row("  agent: /bin/true, Job made to Job removed", found["execute"], "s", beside["one Pod, made and ready"]),
        Row("  teardown", found["teardown"], "s", beside["a namespace with one Pod"]),
    ]


async def _alone(backend: KubernetesBackend, place: Place, found: dict[str, list[float]]) -> None:
    """A namespace with a Pod that only waits: less cannot be had."""
    cluster, now = backend.cluster, backend.cluster.now_ns()
    await cluster.apply(objects.namespace(place, now, now + 600 * 10**9, kept=False))
    await cluster.apply(objects.lease(place, "bench", now))
    await cluster.apply(objects.account(place))
    await cluster.apply(objects.config_map(place, objects.SCRIPTS, {"none": b""}))
    watched = Watched(cluster, place.namespace)
    await watched.start()

    async def one_pod() -> None:
        await cluster.apply(objects.door_pod(place, Settings(image=os.environ["PODCTL_IMAGE"])))
        await watched.until("it was not ready", lambda pods: ready(pods.get(objects.DOOR)), objects.DOOR, 60)

    found["one Pod, made and ready"].append(await timed(one_pod()))
    await watched.close()
    found["a namespace with one Pod"].append(await timed(remove_namespace(cluster, place.pod)))
