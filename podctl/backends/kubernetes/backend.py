"""Test pods in a Kubernetes cluster: a namespace each."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Mapping
from typing import Any

from podctl import __version__
from podctl.backends.base import Command, Exit, Finding, PodDatabase, PodRef, Removal
from podctl.backends.containers.scratch import Scratch
from podctl.backends.containers.trial import try_seeds
from podctl.backends.directory import state_directory
from podctl.backends.escape.level import Ledger
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.check import findings
from podctl.backends.kubernetes.namespaces import STUCK_S, list_pods, ours, remove_namespace
from podctl.backends.kubernetes.objects import Settings
from podctl.backends.kubernetes.pod import KubernetesPod
from podctl.backends.kubernetes.prepared import Prepared
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.backends.kubernetes.watching import Streams
from podctl.gateway.client import Door
from podctl.pods.plan import PodSpec, Resource, Step, advance
from podctl.spec.bundle import Bundle
from podctl.spec.models import Limits, Resources

IMAGE = "PODCTL_IMAGE"
RUNTIME_CLASS = "PODCTL_RUNTIME_CLASS"


class KubernetesBackend:
    """``image`` has python3, PostgreSQL 15 or later, a shell, and what agents and services import."""

    name = "kubernetes"
    runs_images = False

    def __init__(
        self, cluster: Cluster, settings: Settings, *, ttl_s: float = 4 * 3600, kept: bool = False, stuck_s: float = STUCK_S
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self._ttl_s = ttl_s
        self._kept = kept
        self._stuck_s = stuck_s
        self._pods: dict[str, KubernetesPod] = {}
        self._limits = Limits()
        self._scratch = Scratch()
        self._proof = "NetworkPolicy was not tried"
        self._proven = "escape suite not looked for"
        self._background: set[asyncio.Task[list[Removal]]] = set()
        self._streams: dict[str, asyncio.Task[Streams]] = {}
        self._prepared: dict[str, Prepared] = {}

    @staticmethod
    async def open(
        environment: Mapping[str, str],
        *,
        ttl_s: float = 4 * 3600,
        kept: bool = False,
        owner: Mapping[str, Any] | None = None,
    ) -> KubernetesBackend:
        """The cluster of KUBECONFIG. The cluster deletes pods together with their ``owner``. Raises `ClusterProblem`."""
        image = environment.get(IMAGE, "")
        if not image:
            raise ClusterProblem(
                "no image is named for the cluster's Pods",
                code="image-unset",
                cause=f"{IMAGE} is not set",
                hint=f"set {IMAGE} to an image with python3, PostgreSQL 15 or later and what agents import: docs/kubernetes.md",
            )
        settings = Settings(image=image, runtime_class=environment.get(RUNTIME_CLASS, ""), owner=owner)
        return KubernetesBackend(await Cluster.open(), settings, ttl_s=ttl_s, kept=kept)

    def held(self) -> list[str]:
        """The pods that this process made and did not remove."""
        return list(self._pods)

    async def check(self) -> list[Finding]:
        found = await findings(self.cluster, self.settings)
        self._proof = next((f"{one.name}: {one.detail}" for one in found if one.name == "network policy"), self._proof)
        ledger = await self.ledger()
        self._proven = ledger.proven()
        return [*found, ledger.finding()]

    async def ledger(self) -> Ledger:
        """What the escape suite proved for this cluster, and where that is kept."""
        version, system = await asyncio.gather(self.cluster.raw("/version"), self.cluster.get("Namespace", "kube-system"))
        # What a cluster is known by: it has this namespace from its beginning to its end.
        cluster = str((system or {"metadata": {"uid": self.cluster.host}})["metadata"]["uid"])
        here = {
            "cluster": cluster,
            "version": str(version.get("gitVersion")),
            "podctl": __version__,
            "image": self.settings.image,
            "runtime class": self.settings.runtime_class,
        }
        file = state_directory() / f"escape-kubernetes-{hashlib.sha256(cluster.encode()).hexdigest()[:16]}.json"
        return Ledger(file, here, "podctl doctor --escape --backend kubernetes")

    def isolation(self) -> str:
        runtime = f"runtime class {self.settings.runtime_class}" if self.settings.runtime_class else "the default runtime"
        return (
            f"kubernetes: a namespace, PodSecurity restricted, default-deny network, {runtime}; {self._proof}; {self._proven}"
        )

    async def prepare(self, bundle: Bundle) -> dict[str, str]:
        """Seed the databases once, for pods to copy, and try the boundary on them, before a run begins."""
        self._limits = bundle.scenario.limits

        def remove(pod: str) -> None:
            # Nobody waits for it: `close` does.
            task = asyncio.ensure_future(self.delete(pod))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        async def keep(pod: str) -> None:
            self._prepared = await self._pods[pod].pack_databases()

        self._prepared = {}
        return await try_seeds(bundle, self.apply, lambda pod: self._pods[pod].facts, remove, keep)

    async def observe(self, pod: str) -> dict[Resource, int]:
        namespace = await self.cluster.get("Namespace", objects.PREFIX + pod)
        if namespace is None or not ours(namespace):
            return {}
        held = self._pods.get(pod)
        return held.observe() if held is not None else {Resource("directory"): 1}

    async def apply(self, spec: PodSpec, step: Step) -> None:
        resource = step.resource
        if resource.kind == "directory":
            limits = self._limits
            agent = Resources(memory=limits.memory, cpu=limits.cpu, processes=limits.processes)
            directory = self._scratch.path / spec.id
            streams = await self._streams_of(spec.run)
            made = KubernetesPod(
                self.cluster,
                spec,
                self.settings,
                agent,
                directory,
                streams,
                self._prepared,
                ttl_s=self._ttl_s,
                kept=self._kept,
            )
            self._pods[spec.id] = made
            await made.make_fence()
            made.generations = advance(made.generations, step)
            return
        pod = self._held(spec.id)
        match (step.action, resource.kind):
            case ("make", "network"):
                await pod.make_network()
            case ("make", "database"):
                await pod.make_database(resource.name)
                if state := spec.states.get(resource.name):
                    await pod.reset_database(resource.name, state)
            case ("reset", "database"):
                await pod.reset_database(resource.name, spec.states.get(resource.name, ()))
            case ("make", "service"):
                await pod.make_service(resource.name)
            case ("remove", "service"):
                await pod.remove_service(resource.name)
            case ("make", "door"):
                await pod.make_door()
            case _:
                raise ClusterProblem(f"a pod in a cluster cannot {step}", code="pod-step", hint="podctl gc removes the pod")
        pod.generations = advance(pod.generations, step)

    async def execute(self, pod: str, command: Command) -> Exit:
        return await self._held(pod).execute(command)

    async def interrupt(self, pod: str, reason: str) -> None:
        execution = self._held(pod).execution
        if execution is not None:
            execution.interrupt(reason)

    def doors(self, pod: str, holder: int) -> tuple[list[Door], socket.socket | None]:
        return self._held(pod).doors, None

    def database(self, pod: str, name: str) -> PodDatabase:
        return self._held(pod).databases[name]

    def addresses(self, pod: str) -> Mapping[str, str]:
        return self._held(pod).addresses

    def conninfo(self, pod: str, name: str) -> str:
        """How podctl reaches a database of the pod as its superuser."""
        return self._held(pod).databases[name].conninfo

    async def logs(self, pod: str, service: str) -> bytes:
        return await self._held(pod).logs(service)

    async def delete(self, pod: str) -> list[Removal]:
        held = self._pods.pop(pod, None)
        if held is not None:
            await held.close()
        return await remove_namespace(self.cluster, pod, self._stuck_s)

    async def list(self) -> list[PodRef]:
        return await list_pods(self.cluster)

    async def close(self) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)
        for pod in list(self._pods.values()):
            await pod.close()
        self._pods.clear()
        for started in await asyncio.gather(*self._streams.values(), return_exceptions=True):
            if isinstance(started, Streams):
                await started.close()
        await self.cluster.close()
        self._scratch.close()

    async def _streams_of(self, run: str) -> Streams:
        """The watches of a run, which its pods share. Raises `ClusterProblem`; whoever asks next tries again."""

        async def start() -> Streams:
            streams = Streams(self.cluster, run=run)
            await streams.start()
            return streams

        known = self._streams.get(run)
        if known is None or (known.done() and (known.exception() is not None or known.result().over)):
            known = self._streams[run] = asyncio.ensure_future(start())
        return await asyncio.shield(known)

    def _held(self, pod: str) -> KubernetesPod:
        if pod not in self._pods:
            raise ClusterProblem(f"no pod {pod} is held by this process", code="pod-unknown", hint="podctl get pods")
        return self._pods[pod]
