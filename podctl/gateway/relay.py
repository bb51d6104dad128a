"""Raw TCP between a pod's door and its target, e.g. to PostgreSQL."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from podctl.gateway.contract import Target
from podctl.gateway.dialer import Dialer

_CHUNK = 1 << 16


async def connect(
    target: Target, dialer: Dialer | None, timeout: float, limit: int = _CHUNK
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the target, inside the pod's network when there is a dialer; lines of up to ``limit`` bytes. Raises OSError."""
    if isinstance(target, str):
        async with asyncio.timeout(timeout):
            return await asyncio.open_unix_connection(target, limit=limit)
    if dialer is None:
        async with asyncio.timeout(timeout):
            return await asyncio.open_connection(*target, limit=limit)
    sock = await dialer.take()
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException:
        sock.close()
        raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return await asyncio.open_connection(sock=sock, limit=limit)


async def relay(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: Target,
    dialer: Dialer | None,
    timeout: float,
    look: Callable[[bytes], None] | None = None,
    hold: Callable[[bytes], Awaitable[None]] | None = None,
) -> None:
    """Until both sides have ended, or one broke; cancelling cuts both at once. ``look`` is shown what goes to the target, and
    ``hold`` says when it may."""
    far: asyncio.StreamWriter | None = None
    try:
        far_reader, far = await connect(target, dialer, timeout)
        await asyncio.gather(_pump(reader, far, look, hold), _pump(far_reader, writer))
        writer.close()
        far.close()
    except (OSError, TimeoutError):
        _abort(writer, far)
    except asyncio.CancelledError:
        _abort(writer, far)
        raise


def _abort(*sides: asyncio.StreamWriter | None) -> None:
    for side in sides:
        if side is not None:
            side.transport.abort()


async def _pump(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    look: Callable[[bytes], None] | None = None,
    hold: Callable[[bytes], Awaitable[None]] | None = None,
) -> None:
    while data := await source.read(_CHUNK):
        if look is not None:
            look(data)
        if hold is not None:
            await hold(data)
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
