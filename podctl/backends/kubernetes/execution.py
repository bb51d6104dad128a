"""One command in a test pod: a Job with its keeper, watched from outside, and what it left."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from podctl.backends import base
from podctl.backends.base import Command, Exit, Recording
from podctl.backends.containers.keeping import Collected, collected, request
from podctl.backends.containers.tunnel import Tunnel
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Cluster, Object
from podctl.backends.kubernetes.objects import AGENT, KEEPER, AgentRun, Place, Program, Settings
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.backends.kubernetes.watching import Watched, container_state, ending, ready

_START_S = 120.0
_END_S = 60.0
NOT_RECORDED = "nothing records them in a cluster"
#: Added to the wall limit for the deadline that the cluster itself keeps.
_DEADLINE_S = 180
_KEEPER = ("python3", "-I", "/podctl/scripts/keeper.py")


class Execution:
    """``interrupt`` ends it from outside."""

    def __init__(
        self,
        cluster: Cluster,
        watched: Watched,
        tunnel: Tunnel,
        place: Place,
        settings: Settings,
        name: str,
        command: Command,
    ) -> None:
        self._cluster = cluster
        self._watched = watched
        self._tunnel = tunnel
        self._place = place
        self._settings = settings
        self._name = name
        self._command = command
        self._pod = ""
        self._stop = asyncio.Event()
        self._reason = ""
        self._started: float | None = None
        self._ended: float | None = None
        self._began = 0.0
        self._full = asyncio.Event()
        self._running = asyncio.Event()
        self._gate = ""

    def interrupt(self, reason: str) -> None:
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    async def run(
        self,
        program: Program,
        environment: Mapping[str, bytes],
        aliases: Sequence[Object],
        *,
        control: tuple[str, int],
        forbidden: Sequence[tuple[str, int]],
    ) -> Exit:
        """Returns only when the agent's container is known to have ended. Raises `ClusterProblem` when it cannot start."""
        command = self._command
        if command.record == "required":
            raise ClusterProblem(
                "the command was not started: its processes cannot be recorded",
                code="not-recorded",
                cause=NOT_RECORDED,
                hint="use the local backend, or set run.processes: recorded",
            )
        given = {f"f{number}": name for number, name in enumerate(command.files)}
        keeper = {"control": control, "forbidden": list(forbidden), "files": list(command.files), "output": command.output}
        run = AgentRun(
            self._name,
            program,
            command.processes,
            command.disk,
            command.output,
            math.ceil(command.wall_s) + _DEADLINE_S,
            given,
            keeper,
        )
        files = {key: command.files[name] for key, name in given.items()}
        watching: asyncio.Task[None] | None = None
        try:
            await asyncio.gather(
                self._cluster.apply(objects.secret(self._place, self._name, environment)),
                self._cluster.apply(objects.secret(self._place, f"{self._name}-files", files)),
            )
            await self._cluster.apply(objects.agent_job(self._place, run, aliases, self._settings))
            if not await self._starts():
                return Exit(None, None, self._reason)
            watching = asyncio.create_task(self._follow())
            limit = await self._watch()
            if self._tunnel.lost.is_set() and not limit:
                raise self._tunnel.problem()
            pod = self._watched.pods.get(self._pod)
            # Whoever reached the wall limit on a node that is not heard of may have ended long ago.
            if pod is None or (limit == "wall" and not ready(pod)):
                raise ClusterProblem(
                    "the agent's Pod was lost", code="pod-lost", cause="somebody deleted it, or its node does not answer"
                )
            with suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await asyncio.shield(watching)
            left = await self._collect()
            if limit:
                pod = await self._end() or pod
            return self._exit(pod, limit, left)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await asyncio.shield(self._clean())

    async def _starts(self) -> bool:
        """Whether the keeper runs; false when it was interrupted before. Raises `ClusterProblem`."""
        kept = asyncio.ensure_future(self._until_kept())
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({kept, stop}, return_when=asyncio.FIRST_COMPLETED)
            if kept.done():
                kept.result()
            return not stop.done()
        finally:
            kept.cancel()
            stop.cancel()
            await asyncio.gather(kept, stop, return_exceptions=True)

    async def _until_kept(self) -> None:
        """Until the keeper runs: it has the agent wait for its word."""

        def kept(pods: Mapping[str, Object]) -> bool:
            for name, pod in pods.items():
                if name.startswith(f"{self._name}-") and "running" in container_state(pod, KEEPER):
                    self._pod = name
                    return True
            return False

        await self._watched.until("the agent's Pod did not start", kept, self._name, _START_S)

    async def _follow(self) -> None:
        """What the keeper says, as it happens; a connection that breaks is made again."""
        seen = 0
        while True:
            lines = 0
            buffer = b""
            with suppress(ClusterProblem, OSError):
                async with self._cluster.exec(self._place.namespace, self._pod, KEEPER, [*_KEEPER, "watch"]) as running:
                    while data := await running.read():
                        buffer += data
                        *whole, buffer = buffer.split(b"\n")
                        for line in whole:
                            lines += 1
                            if lines > seen:
                                seen = lines
                                self._hear(json.loads(line))
            if self._gate or self._ended is not None:
                return
            await asyncio.sleep(0.2)

    def _hear(self, event: Mapping[str, Any]) -> None:
        if "gate" in event:
            self._gate = str(event["gate"])
            self._running.set()
        elif "started" in event:
            self._started, self._began = float(event["started"]), time.monotonic()
            self._running.set()
        elif "full" in event:
            self._full.set()
        elif "ended" in event:
            self._ended = float(event["ended"])

    async def _watch(self) -> str:
        """Wait for the end or for a limit; the limit's name, or nothing."""
        ended = asyncio.ensure_future(self._until_ended())
        stop = asyncio.ensure_future(self._stop.wait())
        lost = asyncio.ensure_future(self._tunnel.lost.wait())
        running = asyncio.ensure_future(self._running.wait())
        full = asyncio.ensure_future(self._full.wait())
        try:
            await asyncio.wait({ended, stop, lost, running}, return_when=asyncio.FIRST_COMPLETED)
            if self._gate:
                raise ClusterProblem(
                    "the agent was not started: its network is not closed",
                    code="network-not-enforced",
                    cause=self._gate,
                    hint="podctl doctor --backend kubernetes says what the cluster enforces",
                )
            wall = asyncio.ensure_future(asyncio.sleep(self._command.wall_s))
            try:
                await asyncio.wait({ended, stop, lost, wall, full}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                wall.cancel()
            if stop.done():
                return self._reason
            if full.done():
                return "output"
            if ended.done():
                ended.result()
                return ""
            return "" if lost.done() else "wall"
        finally:
            for wait in (ended, stop, lost, running, full):
                wait.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    async def _until_ended(self) -> None:
        def over(pods: Mapping[str, Object]) -> bool:
            pod = pods.get(self._pod)
            return pod is None or "terminated" in container_state(pod, AGENT)

        await self._watched.until("the agent did not end", over, self._name, self._command.wall_s + _DEADLINE_S)

    async def _collect(self) -> Collected:
        asked, most = request(self._command)
        return collected(await self._cluster.run(self._place.namespace, self._pod, KEEPER, [*_KEEPER, "collect", asked], most))

    async def _end(self) -> Object | None:
        """Have the Pod deleted and wait until its node says that it is over; the last that was seen of it."""
        last: Object | None = None
        await self._cluster.delete("Pod", self._pod, self._place.namespace)

        def gone(pods: Mapping[str, Object]) -> bool:
            nonlocal last
            last = pods.get(self._pod, last)
            return self._pod not in pods or "terminated" in container_state(pods[self._pod], AGENT)

        await self._watched.until("the agent did not end", gone, "\0", _END_S)
        return last

    async def _clean(self) -> None:
        for kind, name in (("Job", self._name), ("Secret", self._name), ("Secret", f"{self._name}-files")):
            with suppress(ClusterProblem):
                await self._cluster.delete(kind, name, self._place.namespace)

    def _exit(self, pod: Object, limit: str, left: Collected) -> Exit:
        ended = container_state(pod, AGENT).get("terminated") or {}
        code, number = (None, None) if limit else ending(ended)
        if not limit and ended.get("reason") == "OOMKilled":
            limit = "memory"
        return Exit(
            code=code,
            signal=number,
            limit=limit,
            wall_s=self._wall(ended),
            stdout=left.stdout[: self._command.output],
            stderr=left.stderr[: self._command.output],
            files=left.files,
            refused_files=left.refused,
            recording=Recording(refused=NOT_RECORDED) if self._command.record else base.NOT_RECORDED,
        )

    def _wall(self, ended: Mapping[str, Any]) -> float:
        """By the keeper's clock, from its word to go until nobody could write output any more.

        The agent decides when it closes its output, so the kubelet's times, which are whole seconds, have to agree.
        """
        since = time.monotonic() - self._began if self._started is not None else 0.0
        if self._started is None or self._ended is None:
            return since
        by_keeper = self._ended - self._started
        first = objects.parse_time(str(ended.get("startedAt", ""))) / 1e9
        last = objects.parse_time(str(ended.get("finishedAt", ""))) / 1e9
        if first and last and abs((last - first) - by_keeper) > 2.0 + (self._started - first):
            return max(by_keeper, last - max(first, self._started))
        return by_keeper
