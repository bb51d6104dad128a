"""podctl's end of a test pod's door: the gateway listens here for what arrives there, and dials from there.

How the door's program is reached is the backend's: a `Stream` of its input and output.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from podctl.backends.containers.doors import DoorPort
from podctl.backends.inpod.mux import Lost, Mux, Pair
from podctl.errors import EnvironmentProblem

_START_S = 60.0
_PING_S = 20.0


class Stream(Protocol):
    """A running program's output and input; ``read`` gives nothing once it ended, ``said`` what it complained of."""

    async def read(self) -> bytes: ...

    async def write(self, data: bytes) -> None: ...

    def said(self) -> str: ...


#: Runs a program beside the pod's others; leaving the block ends the connection to it.
Start = Callable[[Sequence[str]], AbstractAsyncContextManager[Stream]]


class Tunnel:
    """One connection to a door for as long as the test pod is held. ``lost`` is set when it is gone.

    ``between`` is what stands between podctl and the door, for the hint of a problem.
    """

    def __init__(self, start: Start, directory: Path, between: str) -> None:
        self._start = start
        self._directory = directory
        self._between = between
        self._mux: Mux | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._servers: list[asyncio.Server] = []
        self.lost = asyncio.Event()
        self.why = ""

    async def open(self, ports: Sequence[DoorPort]) -> None:
        """Raises `EnvironmentProblem` when the door does not answer."""
        self._task = asyncio.create_task(self._run([port.argument for port in ports]))
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.shield(self._ready)
        except TimeoutError as error:
            await self.close()
            raise EnvironmentProblem(
                "the door did not open", code="door", cause=f"no word from it in {_START_S:g} s"
            ) from error

    def listener(self, port: DoorPort) -> socket.socket:
        """Where the gateway accepts what the agent sends to this port of the door."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self._socket(port.listens)))
        listening.listen(256)
        return listening

    async def forwarder(self, name: str, host: str | Callable[[], str], port: int, path: Path | None = None) -> Path:
        """A Unix socket here; each connection to it becomes one from the door to ``host``:``port``.

        A ``host`` that may change is asked for each time, and says nothing when there is none.
        """
        path = path or self._directory / f"to-{name}-{port}"
        path.unlink(missing_ok=True)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to = host if isinstance(host, str) else host()
            if self._mux is None or not to:
                writer.transport.abort()
                return
            await self._mux.bridge({"to": [to, port]}, reader, writer)

        self._servers.append(await asyncio.start_unix_server(accepted, str(path), backlog=256))
        return path

    async def reaches(self, host: str, port: int, timeout_s: float) -> None:
        """Wait until the door can connect there. Raises `EnvironmentProblem`."""
        cause = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        assert self._mux is not None
                        await self._mux.probe({"to": [host, port]})
                        return
                    except Lost:
                        raise self.problem() from None
                    except OSError as error:
                        cause = str(error)
                        await asyncio.sleep(0.02)
        raise EnvironmentProblem(f"the door does not reach {host}:{port}", code="not-ready", cause=cause)

    def problem(self) -> EnvironmentProblem:
        return EnvironmentProblem(
            "the connection to the test pod was lost",
            code="tunnel-lost",
            cause=self.why or "the other side ended it",
            hint=f"the attempt is made again; if it happens often, look at {self._between}",
        )

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _socket(self, port: int) -> Path:
        return self._directory / f"door-{port}"

    async def _accept(self, info: dict[str, Any]) -> Pair:
        return await asyncio.open_unix_connection(str(self._socket(int(info["port"]))))

    async def _run(self, ports: list[str]) -> None:
        argv = ["python3", "/podctl/scripts/door.py", *ports]
        try:
            async with self._start(argv) as running:
                mux = Mux(running.read, running.write, self._accept, even=True, noted=self._noted)
                pinging = asyncio.create_task(self._ping(mux))
                self._mux = mux
                try:
                    await mux.run()
                    self.why = running.said()
                finally:
                    pinging.cancel()
        except asyncio.CancelledError:
            raise
        except (OSError, EnvironmentProblem, ValueError, KeyError, TypeError) as error:
            self.why = error.cause if isinstance(error, EnvironmentProblem) else str(error)
        finally:
            self.lost.set()
            if not self._ready.done():
                self._ready.set_exception(self.problem())
                self._ready.exception()

    async def _ping(self, mux: Mux) -> None:
        """Something now and then, so that nobody on the way takes the connection for a forgotten one."""
        while True:
            await asyncio.sleep(_PING_S)
            with suppress(OSError):
                await mux.note({"ping": 1})

    def _noted(self, note: dict[str, Any]) -> None:
        if "ready" in note and not self._ready.done():
            self._ready.set_result(None)
