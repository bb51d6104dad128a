"""One command in a test pod: the agent's container with its keeper, watched from outside, and what it left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from podctl.backends import base
from podctl.backends.base import Command, Exit, Recording
from podctl.backends.containers.keeping import Collected, collected, request
from podctl.backends.containers.launch import SCRIPTS, exit_or_signal
from podctl.backends.containers.tunnel import Tunnel
from podctl.backends.docker import objects
from podctl.backends.docker.engine import Engine
from podctl.backends.docker.objects import AgentRun, Place, Program, Settings
from podctl.backends.docker.problems import DockerProblem

NOT_RECORDED = "nothing records them on a Docker engine"
_KEEPER = ("python3", "-I", f"{SCRIPTS}/keeper.py")
_START_S = 60.0


def engine_time(text: str) -> int:
    """Nanoseconds since the epoch of the engine's times, exact to microseconds; 0 for none."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    try:
        whole = datetime.fromisoformat(f"{head}.{(fraction + '000000')[:6]}+00:00")
    except ValueError:
        return 0
    return max(0, int(whole.timestamp() * 1e6)) * 1000 if whole.year > 1 else 0


class Execution:
    """``interrupt`` ends it from outside."""

    def __init__(
        self, engine: Engine, tunnels: Sequence[Tunnel], place: Place, settings: Settings, name: str, command: Command
    ) -> None:
        self._engine = engine
        self._tunnels = tunnels
        self._place = place
        self._settings = settings
        self._name = name
        self._command = command
        self._stop = asyncio.Event()
        self._reason = ""
        self._events = asyncio.Condition()
        self._heard: dict[str, Any] = {}  # the keeper's events: gate, started, full, ended

    def interrupt(self, reason: str) -> None:
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    async def run(
        self,
        program: Program,
        porch: str,
        scripts: Mapping[str, bytes],
        *,
        control: tuple[str, int],
        forbidden: Sequence[tuple[str, int]],
    ) -> Exit:
        """Returns only when every process of the agent's container is dead. Raises `DockerProblem` when it cannot start."""
        command = self._command
        if command.record == "required":
            raise DockerProblem(
                "the command was not started: its processes cannot be recorded",
                code="not-recorded",
                cause=NOT_RECORDED,
                hint="use the local backend, or set run.processes: recorded",
            )
        config = {"control": control, "forbidden": list(forbidden), "files": list(command.files), "output": command.output}
        run = AgentRun(self._name, program, command.disk, command.output, command.files, config)
        agent_box = objects.agent(self._place, run, porch, self._settings)
        keeper_box = objects.keeper(self._place, run, porch, self._settings, scripts)
        watching: asyncio.Task[None] | None = None
        try:
            for memory in agent_box.shared.values():
                await self._engine.volume(memory.name, agent_box.labels, memory.options(self._place))
            agent, keeper = await asyncio.gather(self._engine.start(agent_box), self._engine.start(keeper_box))
            watching = asyncio.create_task(self._follow(keeper))
            limit = await self._watch(agent)
            if limit:
                await self._engine.kill(agent)
            state = await self._engine.ended(agent)
            lost = next((tunnel for tunnel in self._tunnels if tunnel.lost.is_set()), None)
            if lost is not None and limit == _LOST:
                raise lost.problem()
            with suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await self._until("ended")
            left = await self._collect(keeper)
            return self._exit(state, limit, left)
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await asyncio.shield(self._clean(agent_box, keeper_box))

    async def _follow(self, keeper: str) -> None:
        """What the keeper says, as it happens."""
        buffer = b""
        async with self._engine.exec(keeper, [*_KEEPER, "watch"]) as running:
            while data := await running.read():
                buffer += data
                *whole, buffer = buffer.split(b"\n")
                async with self._events:
                    for line in whole:
                        self._heard |= json.loads(line)
                    self._events.notify_all()

    async def _until(self, *any_of: str) -> None:
        async with self._events:
            await self._events.wait_for(lambda: any(event in self._heard for event in any_of))

    async def _watch(self, agent: str) -> str:
        """Wait for the end or for a limit; the limit's name, or nothing."""
        waits = {
            "ended": asyncio.ensure_future(self._engine.ended(agent)),
            "stop": asyncio.ensure_future(self._stop.wait()),
            "full": asyncio.ensure_future(self._until("full")),
            **{f"lost {n}": asyncio.ensure_future(tunnel.lost.wait()) for n, tunnel in enumerate(self._tunnels)},
        }
        begun = asyncio.ensure_future(self._until("started", "gate"))
        try:
            await asyncio.wait({begun, *waits.values()}, return_when=asyncio.FIRST_COMPLETED, timeout=_START_S)
            if "gate" in self._heard:
                raise DockerProblem(
                    "the agent was not started: its network is not what it should be",
                    code="network-not-enforced",
                    cause=str(self._heard["gate"]),
                    hint="podctl doctor --backend docker says what the engine does",
                )
            if not begun.done() and not any(wait.done() for wait in waits.values()):
                raise DockerProblem(
                    "the agent did not start", code="not-ready", cause=f"no word of its keeper in {_START_S:g} s"
                )
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED, timeout=self._command.wall_s)
            done = {name for name, wait in waits.items() if wait.done()}
            if "stop" in done:
                return self._reason
            if "full" in done:
                return "output"
            if "ended" in done:
                waits["ended"].result()
                return ""
            return _LOST if done else "wall"
        finally:
            for wait in (begun, *waits.values()):
                wait.cancel()
            await asyncio.gather(begun, *waits.values(), return_exceptions=True)

    async def _collect(self, keeper: str) -> Collected:
        asked, most = request(self._command)
        return collected(await self._engine.run(keeper, [*_KEEPER, "collect", asked], most))

    async def _clean(self, *boxes: objects.Box) -> None:
        for box in boxes:
            with suppress(DockerProblem):
                await self._engine.remove(box.name)
        volumes = {f"{box.name}-{number}" for box in boxes for number in range(len(box.files))}
        for volume in {memory.name for box in boxes for memory in box.shared.values()} | volumes:
            with suppress(DockerProblem):
                await self._engine.remove_volume(volume)

    def _exit(self, state: Mapping[str, Any], limit: str, left: Collected) -> Exit:
        code, number = (None, None) if limit else exit_or_signal(int(state.get("ExitCode", 0)))
        if not limit and state.get("OOMKilled") and code != 0:
            limit = "memory"
        started = float(self._heard.get("started", 0.0))
        ended = engine_time(str(state.get("FinishedAt", ""))) / 1e9
        return Exit(
            code=code,
            signal=number,
            limit=limit,
            # Both clocks are the engine's.
            wall_s=max(0.0, ended - started) if started else 0.0,
            stdout=left.stdout[: self._command.output],
            stderr=left.stderr[: self._command.output],
            files=left.files,
            refused_files=left.refused,
            recording=Recording(refused=NOT_RECORDED) if self._command.record else base.NOT_RECORDED,
        )


_LOST = "lost"
