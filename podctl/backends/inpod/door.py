"""Runs in a test pod's door: the agent's only way out, and podctl's way in. ``door.py PORT[=HOST:PORT]…``

Connections to the ports go to podctl over standard output; podctl's go from here to services and databases. The first
number is what podctl knows a port by; without a place of its own the door listens on the port of that number.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from mux import Mux, Pair  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

CONNECT_S = 5.0


def place(argument: str) -> tuple[int, str, int]:
    """(number, host, port) of ``PORT[=HOST:PORT]``."""
    number, _, at = argument.partition("=")
    host, _, port = at.rpartition(":")
    return int(number), host or "0.0.0.0", int(port or number)


async def dial(info: dict[str, Any]) -> Pair:
    host, port = info["to"]
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection(host, port)
    except TimeoutError as error:
        raise ConnectionError(f"no answer from {host}:{port} within {CONNECT_S:g} s") from error


async def main(ports: list[tuple[int, str, int]]) -> None:
    loop = asyncio.get_running_loop()
    incoming = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(incoming), os.fdopen(0, "rb", 0))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(os.dup(1), "wb", 0))
    outgoing = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write(data: bytes) -> None:
        outgoing.write(data)
        await outgoing.drain()

    mux = Mux(lambda: incoming.read(1 << 16), write, dial, even=False)
    for number, host, port in ports:

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int = number) -> Any:
            return mux.bridge({"port": number}, reader, writer)

        await asyncio.start_server(accepted, host, port, backlog=256)
    await mux.note({"ready": [number for number, _, _ in ports]})
    await mux.run()


if __name__ == "__main__":
    asyncio.run(main([place(argument) for argument in sys.argv[1:]]))
