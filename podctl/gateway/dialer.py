"""Unconnected TCP sockets of a pod's network namespace, made by a helper inside it and kept ready here."""

from __future__ import annotations

import asyncio
import contextvars
import os
import socket
from collections import deque
from typing import Any

from podctl.gateway.channel import ready

#: One request asks for at most this many sockets.
BATCH = 16
_LOW = 4
_READY = 8


class Lease:
    """One socket for the one request made in a context; whoever connects it closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock: socket.socket | None = sock

    def take(self) -> socket.socket:
        if self._sock is None:
            raise OSError("the request's socket is already used")
        sock, self._sock = self._sock, None
        return sock

    def end(self) -> None:
        if self._sock is not None:
            self._sock.close()


leased: contextvars.ContextVar[Lease] = contextvars.ContextVar("leased")


def leased_socket(_address: Any) -> socket.socket:
    """A socket factory for an HTTP client: the current context's leased socket."""
    return leased.get().take()


class DialerLost(OSError):
    """The helper is gone: nothing in the pod can be reached any more."""


class Dialer:
    """Protocol: send the count in ASCII, receive one message carrying that many sockets (SCM_RIGHTS).

    The helper's end is a Unix SOCK_SEQPACKET socket; what comes back is non-blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._ready: deque[socket.socket] = deque()
        self._waiting: deque[asyncio.Future[socket.socket]] = deque()
        self._refill: asyncio.Task[None] | None = None
        self._lost = False

    def start(self) -> None:
        """Begin to fill the pool."""
        self._want()

    async def take(self) -> socket.socket:
        """A socket the caller owns. Raises `DialerLost`."""
        if self._ready:
            sock = self._ready.popleft()
            self._want()
            return sock
        if self._lost:
            raise DialerLost("the pod's dialer is gone")
        waiter: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._want()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._ready.append(waiter.result())
            raise

    def _want(self) -> None:
        if not self._lost and self._refill is None and (self._waiting or len(self._ready) < _LOW):
            self._refill = asyncio.get_running_loop().create_task(self._fetch())

    async def _fetch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting or len(self._ready) < _LOW:
                count = max(1, min(BATCH, len(self._waiting) + _READY - len(self._ready)))
                await loop.sock_sendall(self._sock, b"%d" % count)
                for sock in await self._receive(count):
                    self._hand_out(sock)
        except OSError:
            self._fail()
        finally:
            self._refill = None

    async def _receive(self, count: int) -> list[socket.socket]:
        while True:
            try:
                data, fds, flags, _ = socket.recv_fds(self._sock, 64, BATCH, socket.MSG_CMSG_CLOEXEC)
                break
            except BlockingIOError:
                await ready(self._sock, write=False)
        if not data or flags & socket.MSG_CTRUNC or len(fds) != count:
            for fd in fds:
                os.close(fd)
            raise DialerLost("the pod's dialer did not answer with the sockets asked for")
        sockets = [socket.socket(fileno=fd) for fd in fds]
        for sock in sockets:
            sock.setblocking(False)
        return sockets

    def _hand_out(self, sock: socket.socket) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(sock)
                return
        self._ready.append(sock)

    def _fail(self) -> None:
        self._lost = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(DialerLost("the pod's dialer is gone"))

    def close(self) -> None:
        self._fail()
        if self._refill is not None:
            self._refill.cancel()
        self._sock.close()
        while self._ready:
            self._ready.popleft().close()
