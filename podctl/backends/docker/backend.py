"""Test pods on a Docker engine: a network each."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import time
from collections.abc import Mapping

from podctl import __version__
from podctl.backends.base import Command, Exit, Finding, PodDatabase, PodRef, Removal
from podctl.backends.containers.scratch import Scratch
from podctl.backends.containers.trial import try_seeds
from podctl.backends.directory import state_directory
from podctl.backends.docker import objects
from podctl.backends.docker.check import findings
from podctl.backends.docker.engine import Engine
from podctl.backends.docker.leftovers import list_pods, remove_pod
from podctl.backends.docker.objects import Addresses, Place, Settings
from podctl.backends.docker.pod import DockerPod
from podctl.backends.docker.problems import DockerProblem
from podctl.backends.escape.level import Ledger
from podctl.evidence.owner import Owner
from podctl.gateway.client import Door
from podctl.pods.plan import PodSpec, Resource, Step, advance
from podctl.spec.bundle import Bundle
from podctl.spec.topology import by_image

IMAGE = "PODCTL_IMAGE"
RUNTIME = "PODCTL_DOCKER_RUNTIME"
SUBNETS = "PODCTL_DOCKER_SUBNETS"


class DockerBackend:
    """``settings.image`` has python3, PostgreSQL 15 or later, a shell, and what agents and services import."""

    name = "docker"
    runs_images = True

    def __init__(self, engine: Engine, settings: Settings, *, ttl_s: float = 4 * 3600, kept: bool = False) -> None:
        self.engine = engine
        self.settings = settings
        self._ttl_s = ttl_s
        self._kept = kept
        self.owner = Owner.current()
        self._pods: dict[str, DockerPod] = {}
        self._scratch = Scratch()
        self._proof = "the agent's container was not tried"
        self._proven = "escape suite not looked for"
        self._background: set[asyncio.Task[list[Removal]]] = set()

    @staticmethod
    async def open(environment: Mapping[str, str], *, ttl_s: float = 4 * 3600, kept: bool = False) -> DockerBackend:
        """The engine of DOCKER_HOST. Raises `DockerProblem`."""
        image = environment.get(IMAGE, "")
        if not image:
            raise DockerProblem(
                "no image is named for the containers",
                code="image-unset",
                cause=f"{IMAGE} is not set",
                hint=f"set {IMAGE} to an image with python3, PostgreSQL 15 or later and what agents import: docs/docker.md",
            )
        settings = Settings(image, environment.get(RUNTIME, ""), environment.get(SUBNETS, objects.SUBNETS))
        return DockerBackend(await Engine.open(), settings, ttl_s=ttl_s, kept=kept)

    def held(self) -> list[str]:
        """The pods that this process made and did not remove."""
        return list(self._pods)

    async def check(self) -> list[Finding]:
        place = self.place(f"probe-{secrets.token_hex(4)}", "doctor")
        found = await findings(self.engine, self.settings, place)
        self._proof = next((one.detail for one in found if one.name == "agent" and one.state == "yes"), self._proof)
        ledger = await self.ledger()
        self._proven = ledger.proven()
        return [*found, ledger.finding()]

    async def ledger(self) -> Ledger:
        """What the escape suite proved for this engine, and where that is kept."""
        info = await self.engine.call("the engine's facts", self.engine.client.info)
        engine = str(info.get("ID"))
        here = {
            "engine": engine,
            "version": f"{info.get('ServerVersion')} on {info.get('KernelVersion')} {info.get('Architecture')}",
            "podctl": __version__,
            "image": self.settings.image,
            "runtime": self.settings.runtime,
        }
        file = state_directory() / f"escape-docker-{hashlib.sha256(engine.encode()).hexdigest()[:16]}.json"
        return Ledger(file, here, "podctl doctor --escape --backend docker")

    def isolation(self) -> str:
        runtime = f"runtime {self.settings.runtime}" if self.settings.runtime else "the engine's own runtime"
        return f"docker: a container without a network for the agent, an internal network for services, {runtime}; {self._proof}; {self._proven}"

    async def prepare(self, bundle: Bundle) -> dict[str, str]:
        """See that services' images are there. Then try the seeds and the boundary on a pod that has the databases alone."""
        for name in by_image(bundle.topology):
            await self.engine.image(str(bundle.topology.services[name].image))

        def remove(pod: str) -> None:
            # Nobody waits for it: `close` does.
            task = asyncio.ensure_future(self.delete(pod))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        return await try_seeds(bundle, self.apply, lambda pod: self._pods[pod].facts, remove)

    async def observe(self, pod: str) -> dict[Resource, int]:
        held = self._pods.get(pod)
        if held is not None:
            return await held.observe()
        return {Resource("directory"): 1} if any(ref.id == pod for ref in await self.list()) else {}

    async def apply(self, spec: PodSpec, step: Step) -> None:
        resource = step.resource
        if resource.kind == "directory":
            place = self.place(spec.id, spec.run)
            made = DockerPod(self.engine, spec, place, self.settings, self._scratch.path / spec.id)
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
                await pod.make_service(resource.name, step.generation)
            case ("remove", "service"):
                await pod.remove_service(resource.name)
            case ("make", "door"):
                await pod.make_door()
            case _:
                raise DockerProblem(
                    f"a pod on a Docker engine cannot {step}",
                    code="pod-step",
                    hint="podctl gc --backend docker removes the pod",
                )
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

    def addresses(self, pod: str) -> Addresses:
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
        return await remove_pod(self.engine, pod)

    async def list(self) -> list[PodRef]:
        return await list_pods(self.engine)

    async def close(self) -> None:
        await asyncio.gather(*self._background, return_exceptions=True)
        for pod in list(self._pods.values()):
            await pod.close()
        self._pods.clear()
        await self.engine.close()
        self._scratch.close()

    def place(self, pod: str, run: str) -> Place:
        now = time.time_ns()
        return Place(pod, run, self.owner, now, now + int(self._ttl_s * 1e9), self._kept)

    def _held(self, pod: str) -> DockerPod:
        if pod not in self._pods:
            raise DockerProblem(f"no pod {pod} is held by this process", code="pod-unknown", hint="podctl get pods")
        return self._pods[pod]
