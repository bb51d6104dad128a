"""When a service counts as ready: real sockets, real servers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from podctl.backends.local.readiness import ServiceProbe, pauses


class Sockets:
    """Makes TCP sockets and keeps them, to be counted."""

    def __init__(self) -> None:
        self.made: list[socket.socket] = []

    async def __call__(self) -> socket.socket:
        self.made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        return self.made[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


def test_knocking_until_somebody_listens_takes_one_socket() -> None:
    async def knock() -> tuple[list[bool], int]:
        sockets, port = Sockets(), free_port()
        probe = ServiceProbe(sockets, "127.0.0.1", port, None)
        looks = [await probe() for _ in range(20)]
        with socket.create_server(("127.0.0.1", port)):
            looks.append(await probe())
        probe.close()
        return looks, len(sockets.made)

    assert asyncio.run(knock()) == ([False] * 20 + [True], 1)


def test_a_probe_that_was_given_up_leaves_no_socket_open() -> None:
    async def give_up() -> bool:
        sockets = Sockets()
        probe = ServiceProbe(sockets, "127.0.0.1", free_port(), None)
        assert not await probe()
        probe.close()
        return sockets.made[0].fileno() == -1

    assert asyncio.run(give_up())


@pytest.mark.parametrize(
    ("answer", "hangs_up", "ready"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", True, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False, True),  # it was asked to hang up, and answered all the same
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000, True, True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", True, False),
        (b"SSH-2.0-OpenSSH\r\n", True, False),
        (b"", True, False),
    ],
)
def test_only_an_answer_of_success_is_ready(answer: bytes, hangs_up: bool, ready: bool) -> None:
    assert asyncio.run(asked(answer, hangs_up)) is ready


async def asked(answer: bytes, hangs_up: bool) -> bool:
    paths = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(answer)
        if not hangs_up:
            await asyncio.sleep(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        ready = await ServiceProbe(Sockets(), "127.0.0.1", server.sockets[0].getsockname()[1], "/healthz")()
    assert paths == [b"/healthz"]
    return ready


def test_looks_grow_rarer_but_never_rare() -> None:
    now = [0.0]
    found = pauses(0.5, clock(now))
    assert next(found) == 0.4
    looks = []
    while now[0] < 10:
        looks.append(next(found))
        now[0] += looks[-1]
    assert looks[0] == 0.004
    assert max(looks) == 0.1
    assert len([pause for pause in looks if pause < 0.1]) < 40


def clock(now: list[float]) -> Callable[[], float]:
    return lambda: now[0]
