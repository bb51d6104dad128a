"""Ports of a Pod's loopback: a database's as a Unix socket here, and those that answer a single question."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from podctl.backends.kubernetes.api import Cluster, Forward
from podctl.backends.kubernetes.problems import ClusterProblem

_CHUNK = 64 * 1024


async def ask(
    cluster: Cluster, namespace: str, pod: str, port: int, question: bytes, listens_s: float, *, greeted: bool = False
) -> bytes:
    """Send it all, once somebody listens there, which may take ``listens_s`` seconds; the line that comes back.

    ``greeted``: the other side says a line first. Raises OSError and `ClusterProblem`. A connection that breaks before the
    answer is made again: asking twice must do no harm.
    """
    deadline = time.monotonic() + listens_s
    pause = 0.05
    while True:
        try:
            async with cluster.forward(namespace, pod, port) as far:
                if greeted and not await _line(far):
                    raise ConnectionResetError("it ended before it said a word")
                for start in range(0, len(question), _CHUNK):
                    await far.write(question[start : start + _CHUNK])
                return await _line(far)
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(pause)
            pause = min(0.5, pause * 1.5)


async def _line(far: Forward) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (data := await far.read()):
        line += data
    return line


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
