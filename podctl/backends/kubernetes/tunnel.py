"""podctl's end of a test pod's door: the gateway listens here for what arrives there, and dials from there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from podctl.backends.kubernetes.api import Cluster, Forward
from podctl.backends.kubernetes.inpod.mux import Lost, Mux, Pair
from podctl.backends.kubernetes.objects import DOOR, DoorPort
from podctl.backends.kubernetes.problems import ClusterProblem

_START_S = 20.0
_PING_S = 20.0


class Tunnel:
    """One connection to the door's Pod for as long as the test pod is held. ``lost`` is set when it is gone."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._directory = directory
        self._mux: Mux | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._servers: list[asyncio.Server] = []
        self.lost = asyncio.Event()
        self.why = ""

    async def open(self, ports: Sequence[DoorPort]) -> None:
        """Raises `ClusterProblem` when the door does not answer."""
        self._task = asyncio.create_task(self._run([str(port.listens) for port in ports]))
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.shield(self._ready)
        except TimeoutError as error:
            await self.close()
            raise ClusterProblem("the door did not open", code="door", cause=f"no word from it in {_START_S:g} s") from error

    def listener(self, port: DoorPort) -> socket.socket:
        """Where the gateway accepts what the agent sends to this port of the door."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(self._socket(port.listens)))
        listening.listen(256)
        return listening

    async def forwarder(self, name: str, host: str, port: int) -> Path:
        """A Unix socket here; each connection to it becomes one from the door to ``host``:``port``."""
        path = self._directory / f"to-{name}-{port}"
        path.unlink(missing_ok=True)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if self._mux is None:
                writer.transport.abort()
                return
            await self._mux.bridge({"to": [host, port]}, reader, writer)

        self._servers.append(await asyncio.start_unix_server(accepted, str(path), backlog=256))
        return path

    async def reaches(self, host: str, port: int, timeout_s: float) -> None:
        """Wait until the door can connect there. Raises `ClusterProblem`."""
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
        raise ClusterProblem(f"the door does not reach {host}:{port}", code="not-ready", cause=cause)

    def problem(self) -> ClusterProblem:
        return ClusterProblem(
            "the connection to the test pod was lost",
            code="tunnel-lost",
            cause=self.why or "the cluster ended it",
            hint="the attempt is made again; if it happens often, look at what stands between podctl and the API server",
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
            async with self._cluster.exec(self._namespace, DOOR, DOOR, argv, stdin=True) as running:
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
        except (OSError, ClusterProblem, ValueError, KeyError, TypeError) as error:
            self.why = error.cause if isinstance(error, ClusterProblem) else str(error)
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


class Forwarded:
    """A Unix socket of this machine that leads to a port of a Pod's loopback, a connection at a time."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str, port: int, path: Path) -> None:
        self._cluster, self._namespace, self._pod, self._port, self._path = cluster, namespace, pod, port, path
        self._server: asyncio.Server | None = None
        self._work: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accepted, str(self._path))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._work.add(task)
        try:
            async with self._cluster.forward(self._namespace, self._pod, self._port) as far:
                # A half-closed connection cannot be told to the other side: the first end ends both.
                halves = [asyncio.ensure_future(self._send(reader, far)), asyncio.ensure_future(self._receive(far, writer))]
                try:
                    await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for half in halves:
                        half.cancel()
                    await asyncio.gather(*halves, return_exceptions=True)
        except (OSError, ClusterProblem, asyncio.CancelledError):
            pass  # whoever connected learns it from the connection's end
        finally:
            self._work.discard(task)
            writer.transport.abort()

    @staticmethod
    async def _send(reader: asyncio.StreamReader, far: Forward) -> None:
        while data := await reader.read(1 << 16):
            await far.write(data)

    @staticmethod
    async def _receive(far: Forward, writer: asyncio.StreamWriter) -> None:
        while data := await far.read():
            writer.write(data)
            await writer.drain()
