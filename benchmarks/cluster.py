"""What a test pod costs in the cluster of KUBECONFIG, beside the same objects applied by kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kubernetes.aio.client import Configuration

from benchmarks.effort import Effort
from benchmarks.pods import bring, timed
from benchmarks.projects import make_project
from benchmarks.table import Row, spread
from podctl.backends.base import Command
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Cluster, Object
from podctl.backends.kubernetes.backend import IMAGE, RUNTIME_CLASS, KubernetesBackend
from podctl.backends.kubernetes.objects import Settings
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle

_PATIENCE = "600s"


class Recording(Cluster):
    """Keeps what is applied, for kubectl to do the same."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        self.applied: list[Object] = []

    async def apply(self, body: Object) -> Object:
        self.applied.append(body)
        return await super().apply(body)


def measure(effort: Effort) -> list[Row]:
    return asyncio.run(_measure(effort))


async def _measure(effort: Effort) -> list[Row]:
    bundle = load_bundle(make_project(effort.directory / "p").scenario)
    return await _one(effort, bundle, Kubectl(effort.directory))


async def opened() -> tuple[Recording, KubernetesBackend]:
    cluster = await Recording.open()
    settings = Settings(image=os.environ[IMAGE], runtime_class=os.environ.get(RUNTIME_CLASS, ""))
    return cluster, KubernetesBackend(cluster, settings)


async def _one(effort: Effort, bundle: Bundle, kubectl: Kubectl) -> list[Row]:
    found: dict[str, list[float]] = defaultdict(list)
    _, backend = await opened()
    found["prepare"].append(await timed(backend.prepare(bundle)))
    same = await recorded(bundle)
    command = Command(argv=("/bin/true",), environment={}, directory=bundle.agent.directory)
    for _ in range(effort.times(15)):
        spec = PodSpec(new_name(), "bench", bundle.topology)
        found["ready"].append(await timed(bring(backend, spec, found)))
        for generation in range(2, 5):
            spec = replace(spec, generation=generation)
            found["renewed"].append(await timed(bring(backend, spec, found)))
        for _ in range(2):
            found["execute"].append(await timed(backend.execute(spec.id, command)))
        found["teardown"].append(await timed(backend.delete(spec.id)))
        await by_hand(kubectl, same, 1, found, "one")
    await backend.close()
    parts = [Row(f"  of it {key}", found[key], "s") for key in found if key.startswith("make ")]
    return [
        Row("databases prepared, once a run", found["prepare"], "s"),
        beside("test pod ready, a database, two services", found, "ready", "one ready", 1.25),
        *parts,
        Row("  databases reset", found["reset"], "s"),
        Row("  with services restarted, as before each attempt", found["renewed"], "s", "", 1.0),
        Row("  agent: /bin/true, Job made to Job removed", found["execute"], "s"),
        beside("  teardown", found, "teardown", "one gone"),
    ]


def new_name() -> str:
    return f"bench-{secrets.token_hex(4)}"


def beside(name: str, found: dict[str, list[float]], ours: str, floor: str, target: float | None = None) -> Row:
    """The target is a multiple of the floor's median in the same run."""
    beside = Row("", found[floor], "s")
    most = None if target is None else round(target * beside.median, 2)
    ratio = Row("", found[ours], "s").median / beside.median
    return Row(name, found[ours], "s", f"by kubectl: {spread(found[floor], 's')}, {ratio:.2f} times that", most)


async def recorded(bundle: Bundle) -> tuple[str, list[Object]]:
    """A pod's name and its objects, of a pod whose server makes its own data directory: kubectl has nothing to send it."""
    cluster, backend = await opened()
    spec = PodSpec(new_name(), "recorded", bundle.topology)
    await bring(backend, spec, defaultdict(list))
    await backend.delete(spec.id)
    await backend.close()
    return spec.id, cluster.applied


async def by_hand(
    kubectl: Kubectl, recorded: tuple[str, list[Object]], number: int, found: dict[str, list[float]], kind: str
) -> None:
    """The same objects by kubectl in as many namespaces, ready as ``kubectl wait`` says it, and gone as ``kubectl delete`` does."""
    name, bodies = recorded
    run = new_name()
    text = json.dumps(bodies).replace('"recorded"', f'"{run}"')
    with kubectl.files([json.loads(text.replace(name, f"{run}-{place}")) for place in range(number)]) as files:
        every = ("-l", f"{objects.RUN}={run}")
        try:
            began = time.perf_counter()
            await asyncio.gather(*(kubectl("apply", "--server-side", "--field-manager=podctl", "-f", file) for file in files))
            await kubectl("wait", "--for=condition=Ready", "pod", "-A", *every, f"--timeout={_PATIENCE}")
            found[f"{kind} ready"].append(time.perf_counter() - began)
        finally:
            began = time.perf_counter()
            await kubectl("delete", "namespace", *every, f"--timeout={_PATIENCE}")
            found[f"{kind} gone"].append(time.perf_counter() - began)


class Kubectl:
    """Raises `RuntimeError` with what it said."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._turn = asyncio.Semaphore(4)  # more than there are processors only makes it slower
        if shutil.which("kubectl") is None:
            raise RuntimeError("kubectl, beside which podctl is measured, is not on PATH")

    @contextmanager
    def files(self, lists: list[list[Object]]) -> Iterator[list[Path]]:
        """One a namespace: applied together they would wait for kubectl's own limit of calls a second."""
        made = []
        for number, items in enumerate(lists):
            made.append(self._directory / f"objects-{number}.json")
            made[-1].write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        yield made
        for path in made:
            path.unlink()

    async def __call__(self, *arguments: str | Path) -> None:
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                "kubectl", *map(str, arguments), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
            )
            _, said = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"kubectl {arguments[0]}: {said.decode()[-2000:]}")
