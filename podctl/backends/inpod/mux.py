"""Many TCP connections over one byte stream, the same at both ends. Standard library only: pods run this file too.

A frame is a header (type, channel, length) and its payload. Either end opens channels: podctl even ones, the pod odd
ones. What a receiver has not yet passed on is bounded by a window for each channel, so one that is slow holds up no other.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_HEADER = struct.Struct("!BII")
_OPEN, _OPENED, _REFUSED, _DATA, _END, _RESET, _WINDOW, _NOTE = range(1, 9)
WINDOW = 256 * 1024
CHUNK = 32 * 1024
MAX_FRAME = 64 * 1024
MAX_CHANNELS = 1024


class Lost(ConnectionError):
    """The stream ended, or what came over it makes no sense."""


class _Channel:
    def __init__(self) -> None:
        self.credit = WINDOW
        self.credited = asyncio.Event()
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.unread = 0
        self.work: asyncio.Task[None] | None = None


class Mux:
    """``accept(info)`` connects what the other end opened, or raises OSError; ``noted`` gets the other end's notes."""

    def __init__(
        self,
        read: Callable[[], Awaitable[bytes]],
        write: Callable[[bytes], Awaitable[None]],
        accept: Callable[[dict[str, Any]], Awaitable[Pair]],
        *,
        even: bool,
        noted: Callable[[dict[str, Any]], None] = lambda note: None,
    ) -> None:
        self._read = read
        self._write = write
        self._accept = accept
        self._noted = noted
        self._next = 2 if even else 1
        self._channels: dict[int, _Channel] = {}
        self._sending = asyncio.Lock()
        self._lost = False

    async def run(self) -> None:
        """Until the stream ends. Raises `Lost` when it does not end between two frames or carries nonsense."""
        buffer = bytearray()
        try:
            while data := await self._read():
                buffer += data
                while len(buffer) >= _HEADER.size:
                    kind, number, length = _HEADER.unpack_from(buffer)
                    if length > MAX_FRAME:
                        raise Lost("a frame is larger than allowed")
                    if len(buffer) < _HEADER.size + length:
                        break
                    payload = bytes(buffer[_HEADER.size : _HEADER.size + length])
                    del buffer[: _HEADER.size + length]
                    await self._take(kind, number, payload)
            if buffer:
                raise Lost("the stream ended within a frame")
        finally:
            self._lost = True
            for channel in list(self._channels.values()):
                if not channel.opened.done():
                    channel.opened.set_exception(Lost("the stream is gone"))
                    channel.opened.exception()
                if channel.work is not None:
                    channel.work.cancel()

    async def bridge(self, info: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect this connection with what the other end finds for ``info``; cuts it when there is nothing.

        Made to be a server's callback: it never raises, and its task is cancelled to end it.
        """
        try:
            await self._bridge(info, reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    async def probe(self, info: dict[str, Any]) -> None:
        """Whether the other end can connect to what ``info`` names. Raises OSError with its words when it cannot."""
        number, _ = await self._open(info)
        self._channels.pop(number, None)
        await self._send(_RESET, number)

    async def note(self, message: dict[str, Any]) -> None:
        await self._send(_NOTE, 0, json.dumps(message).encode())

    async def _open(self, info: dict[str, Any]) -> tuple[int, _Channel]:
        if self._lost:
            raise Lost("the stream is gone")
        number, self._next = self._next, self._next + 2
        channel = self._channels[number] = _Channel()
        try:
            await self._send(_OPEN, number, json.dumps(info).encode())
            await channel.opened
        except BaseException:
            self._channels.pop(number, None)
            raise
        return number, channel

    async def _bridge(self, info: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, channel = await self._open(info)
        channel.work = asyncio.current_task()
        await self._pump(number, channel, reader, writer)

    async def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == _NOTE:
            self._noted(json.loads(payload))
            return
        if kind == _OPEN:
            if number in self._channels or number % 2 == self._next % 2:
                raise Lost("a channel cannot be opened")
            if len(self._channels) >= MAX_CHANNELS:
                # An agent decides how many connections it makes: too many are its own, not the end of the stream.
                await self._send(_REFUSED, number, b"too many connections at once")
                return
            channel = self._channels[number] = _Channel()
            channel.work = asyncio.create_task(self._serve(number, channel, json.loads(payload)))
            return
        known = self._channels.get(number)
        if known is None:
            return  # it was ended here while this was under way
        if kind == _DATA:
            known.unread += len(payload)
            if known.unread > WINDOW:
                raise Lost("a channel sent more than its window")
            known.inbox.put_nowait(payload)
        elif kind == _END:
            known.inbox.put_nowait(None)
        elif kind == _WINDOW:
            known.credit += int.from_bytes(payload, "big")
            known.credited.set()
        elif kind == _OPENED and not known.opened.done():
            known.opened.set_result(None)
        elif kind == _REFUSED and not known.opened.done():
            known.opened.set_exception(ConnectionRefusedError(payload.decode("utf-8", "replace")))
        elif kind == _RESET:
            self._channels.pop(number, None)
            if known.work is not None:
                known.work.cancel()

    async def _serve(self, number: int, channel: _Channel, info: dict[str, Any]) -> None:
        try:
            reader, writer = await self._accept(info)
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._channels.pop(number, None)
            with suppress(OSError):
                await self._send(_REFUSED, number, str(error).encode()[:1000])
            return
        try:
            await self._send(_OPENED, number)
            await self._pump(number, channel, reader, writer)
        except OSError:
            writer.transport.abort()
        except asyncio.CancelledError:
            writer.transport.abort()

    async def _pump(self, number: int, channel: _Channel, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both directions until both have ended; anything else resets the channel and cuts the connection."""
        halves = [
            asyncio.ensure_future(self._out(number, channel, reader)),
            asyncio.ensure_future(self._in(number, channel, writer)),
        ]
        try:
            await asyncio.gather(*halves)
            writer.close()
        except BaseException as error:
            writer.transport.abort()
            if number in self._channels and not self._lost:
                with suppress(OSError):
                    await self._send(_RESET, number)
            if not isinstance(error, OSError):
                raise
        finally:
            for half in halves:
                half.cancel()
            self._channels.pop(number, None)

    async def _out(self, number: int, channel: _Channel, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK):
            while channel.credit < len(data):
                channel.credited.clear()
                await channel.credited.wait()
            channel.credit -= len(data)
            await self._send(_DATA, number, data)
        await self._send(_END, number)

    async def _in(self, number: int, channel: _Channel, writer: asyncio.StreamWriter) -> None:
        while (data := await channel.inbox.get()) is not None:
            writer.write(data)
            await writer.drain()
            channel.unread -= len(data)
            await self._send(_WINDOW, number, len(data).to_bytes(4, "big"))
        if writer.can_write_eof():
            writer.write_eof()

    async def _send(self, kind: int, number: int, payload: bytes = b"") -> None:
        async with self._sending:
            await self._write(_HEADER.pack(kind, number, len(payload)) + payload)
