"""Connections over one stream: whole, independent of one another, bounded, and cut when something is wrong."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from podctl.backends.inpod.mux import MAX_CHANNELS, WINDOW, Lost, Mux, Pair


class Ends:
    """Two ends over a socket pair; the far one dials ``info["to"]`` on loopback."""

    def __init__(self) -> None:
        self.sockets = socket.socketpair()
        self.notes: list[dict[str, Any]] = []

    async def __aenter__(self) -> Ends:
        self.near_pair = await asyncio.open_connection(sock=self.sockets[0])
        self.far_pair = await asyncio.open_connection(sock=self.sockets[1])
        self.near = self._end(self.near_pair, self._nowhere, True)
        self.far = self._end(self.far_pair, self._dial, False)
        self.running = [asyncio.create_task(end.run()) for end in (self.near, self.far)]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for _, writer in (self.near_pair, self.far_pair):
            writer.close()
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    def _end(self, pair: Pair, accept: Callable[[dict[str, Any]], Awaitable[Pair]], even: bool) -> Mux:
        reader, writer = pair

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        return Mux(lambda: reader.read(1 << 16), write, accept, even=even, noted=self.notes.append)

    async def _dial(self, info: dict[str, Any]) -> Pair:
        return await asyncio.open_connection("127.0.0.1", info["to"])

    async def _nowhere(self, info: dict[str, Any]) -> Pair:
        raise ConnectionRefusedError("nothing here")

    async def connect(self, port: int) -> Pair:
        """A connection that goes through the stream to a port."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=theirs)
        self.bridging = asyncio.create_task(self.near.bridge({"to": port}, reader, writer))
        return await asyncio.open_connection(sock=ours)


async def echo_server() -> tuple[asyncio.Server, int]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


def within(work: Callable[[Ends], Awaitable[None]]) -> None:
    async def go() -> None:
        async with asyncio.timeout(20), Ends() as ends:
            await work(ends)

    asyncio.run(go())


def test_many_connections_are_whole_and_end_when_both_sides_have_ended() -> None:
    async def one(ends: Ends, port: int, payload: bytes) -> None:
        reader, writer = await ends.connect(port)

        async def send() -> None:
            writer.write(payload)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read() == payload
        await sending
        writer.close()

    async def work(ends: Ends) -> None:
        server, port = await echo_server()
        async with server:
            payloads = [os.urandom(size) for size in (0, 1, 100_000, 3_000_000, 3_000_000)]
            await asyncio.gather(*(one(ends, port, payload) for payload in payloads))

    within(work)


def test_one_that_nobody_reads_holds_up_no_other() -> None:
    async def work(ends: Ends) -> None:
        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while True:
                    writer.write(b"x" * 65536)
                    await writer.drain()

        flooding = await asyncio.start_server(flood, "127.0.0.1", 0)
        server, port = await echo_server()
        async with server, flooding:
            _, stuck = await ends.connect(flooding.sockets[0].getsockname()[1])
            await asyncio.sleep(0.3)
            reader, writer = await ends.connect(port)
            writer.write(b"still here")
            assert await asyncio.wait_for(reader.read(10), 2) == b"still here"
            writer.close()
            stuck.close()

    within(work)


def test_a_refused_connection_is_cut_and_its_reason_told() -> None:
    async def work(ends: Ends) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        reader, _ = await ends.connect(port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
            await ends.near.probe({"to": port})

    within(work)


def test_notes_arrive() -> None:
    async def work(ends: Ends) -> None:
        await ends.far.note({"ready": [1, 2]})
        while not ends.notes:
            await asyncio.sleep(0.001)
        assert ends.notes == [{"ready": [1, 2]}]

    within(work)


def frame(kind: int, number: int, payload: bytes) -> bytes:
    return bytes([kind]) + number.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload


@pytest.mark.parametrize(
    "data",
    [
        frame(4, 2, b"")[:5] + (2**31).to_bytes(4, "big"),  # a frame beyond the limit
        frame(1, 2, b'{"to": 1}'),  # a channel of the other end's numbers
        frame(1, 1, b'{"to": 9}') + frame(4, 1, b"x" * 60_000) * (WINDOW // 60_000 + 1),  # more than the window
    ],
    ids=["huge frame", "foreign channel", "window ignored"],
)
def test_nonsense_from_the_pod_ends_the_stream(data: bytes) -> None:
    async def forever(info: dict[str, Any]) -> Pair:
        await asyncio.sleep(60)
        raise AssertionError

    async def work() -> None:
        incoming = asyncio.StreamReader()
        incoming.feed_data(data)

        async def write(data: bytes) -> None:
            pass

        with pytest.raises(Lost):
            async with asyncio.timeout(5):
                await Mux(lambda: incoming.read(1 << 16), write, forever, even=True).run()

    asyncio.run(work())


def test_a_lost_stream_cuts_what_is_open_and_refuses_what_comes() -> None:
    async def work(ends: Ends) -> None:
        server, port = await echo_server()
        async with server:
            reader, writer = await ends.connect(port)
            writer.write(b"a")
            assert await reader.read(1) == b"a"
            ends.far_pair[1].transport.abort()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            with pytest.raises(ConnectionError):
                await ends.near.probe({"to": port})

    within(work)


def test_connections_beyond_the_bound_are_refused_and_the_stream_goes_on() -> None:
    """How many there are is the agent's doing: it must not be able to end the stream by it."""

    async def forever(info: dict[str, Any]) -> Pair:
        await asyncio.sleep(60)
        raise AssertionError

    async def work() -> list[bytes]:
        incoming, answers = asyncio.StreamReader(), []

        async def write(data: bytes) -> None:
            answers.append(data)

        running = asyncio.create_task(Mux(lambda: incoming.read(1 << 16), write, forever, even=True).run())
        for number in range(MAX_CHANNELS + 2):
            incoming.feed_data(frame(1, 2 * number + 1, b'{"to": 9}'))
        async with asyncio.timeout(10):
            while len(answers) < 2:
                await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return answers

    refused = [frame(3, 2 * number + 1, b"too many connections at once") for number in (MAX_CHANNELS, MAX_CHANNELS + 1)]
    assert asyncio.run(work()) == refused
