"""Whether what was started in a pod answers yet."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from podctl.data.connect import DatabaseUnreachable, connect

_ANSWER_S = 2.0
#: A server that keeps the connection open, although asked to close it, has answered all the same.
_DRAIN_S = 0.25


def pauses(expected: float = 0.0, clock: Callable[[], float] = time.monotonic) -> Iterator[float]:
    """Seconds before each look: most of what is ``expected``, then a few milliseconds, later a sixth of the time so far."""
    began = clock()
    yield expected * 0.8
    while True:
        yield min(0.1, max(0.004, (clock() - began) / 6))


class ServiceProbe:
    """Connects to an address and, with a path, asks for it: 2xx is ready. ``take`` makes an unconnected TCP socket."""

    def __init__(self, take: Callable[[], Awaitable[socket.socket]], host: str, port: int, path: str | None) -> None:
        self._take = take
        self._host, self._port, self._path = host, port, path
        self._socket: socket.socket | None = None

    async def __call__(self) -> bool:
        connection, self._socket = self._socket or await self._take(), None
        connection.setblocking(False)
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._connect(connection)
        except ConnectionRefusedError:
            self._socket = connection  # Linux lets it try again: the next look needs no other
            return False
        except (OSError, TimeoutError):
            connection.close()
            return False
        with connection:
            return self._path is None or await self._ask(connection, self._path)

    async def _connect(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_connect(connection, (self._host, self._port))
        except ConnectionAbortedError:  # said once for an earlier refusal, which leaves the socket as new
            await loop.sock_connect(connection, (self._host, self._port))

    async def _ask(self, connection: socket.socket, path: str) -> bool:
        loop = asyncio.get_running_loop()
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n\r\n"
        try:
            async with asyncio.timeout(_ANSWER_S):
                await loop.sock_sendall(connection, request.encode())
                status = await loop.sock_recv(connection, 64)
        except (OSError, TimeoutError):
            return False
        try:
            async with asyncio.timeout(_DRAIN_S):
                while await loop.sock_recv(connection, 4096):  # to the end: a reset would look like an error to it
                    pass
        except (OSError, TimeoutError):
            pass
        return status[:9] in (b"HTTP/1.1 ", b"HTTP/1.0 ") and status[9:10] == b"2"

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()


def database_probe(conninfo: str, socket_file: Path) -> Callable[[], Awaitable[bool]]:
    """Whether the server answers its superuser; as long as its socket is not there, it is not asked."""

    async def answers() -> bool:
        if not socket_file.exists():
            return False
        try:
            connection = await connect(conninfo, "postgres")
        except DatabaseUnreachable:
            return False
        await connection.close()
        return True

    return answers
