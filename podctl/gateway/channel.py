"""The control channel: JSON lines over a Unix stream socket, file descriptors beside them (SCM_RIGHTS)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any

#: The kernel passes at most 253 descriptors with one message (SCM_MAX_FD).
MAX_FDS = 250
_CHUNK = 1 << 16


class Channel:
    """Both ends use it. A message announces how many descriptors belong to it under ``fds``."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = bytearray()
        self._fds: deque[int] = deque()
        self._sending = asyncio.Lock()

    async def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Raises OSError when the other end is gone."""
        if len(fds) > MAX_FDS:
            raise ValueError(f"at most {MAX_FDS} descriptors fit in one message")
        line = json.dumps({**message, "fds": len(fds)}, separators=(",", ":")).encode() + b"\n"
        loop = asyncio.get_running_loop()
        async with self._sending:
            sent = 0
            while fds and not sent:
                try:
                    sent = socket.send_fds(self._sock, [line], fds)
                except BlockingIOError:
                    await ready(self._sock, write=True)
            await loop.sock_sendall(self._sock, memoryview(line)[sent:])

    async def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next message and its descriptors, which the caller owns; None at the end of the channel."""
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data, fds, _, _ = socket.recv_fds(self._sock, _CHUNK, MAX_FDS, socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                await ready(self._sock, write=False)
                continue
            except OSError:
                return None
            self._fds.extend(fds)
            if not data:
                return None
            self._buffer += data
        message = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        return message, [self._fds.popleft() for _ in range(message.pop("fds"))]

    def close(self) -> None:
        self._sock.close()
        while self._fds:
            os.close(self._fds.popleft())


async def ready(sock: socket.socket, *, write: bool) -> None:
    """Until the socket can be written or read."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(sock.fileno(), wake)
    try:
        await waiter
    finally:
        if sock.fileno() >= 0:
            remove(sock.fileno())
