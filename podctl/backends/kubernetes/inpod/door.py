"""Runs in a test pod's door: the agent's only way out, and podctl's way in. ``door.py PORT…``

Connections to the ports go to podctl over standard output; podctl's go from here to services and databases.
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


async def dial(info: dict[str, Any]) -> Pair:
    host, port = info["to"]
    try:
        async with asyncio.timeout(CONNECT_S):
            return await asyncio.open_connection(host, port)
    except TimeoutError as error:
        raise ConnectionError(f"no answer from {host}:{port} within {CONNECT_S:g} s") from error


async def main(ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    incoming = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(incoming), os.fdopen(0, "rb", 0))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(os.dup(1), "wb", 0))
    outgoing = asyncio.StreamWriter(transport, protocol, None, loop)

    async def write(data: bytes) -> None:
        outgoing.write(data)
        await outgoing.drain()

    mux = Mux(lambda: incoming.read(1 << 16), write, dial, even=False)
    for port in ports:

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> Any:
            return mux.bridge({"port": port}, reader, writer)

        await asyncio.start_server(accepted, "0.0.0.0", port, backlog=256)
    await mux.note({"ready": ports})
    await mux.run()


if __name__ == "__main__":
    asyncio.run(main([int(port) for port in sys.argv[1:]]))
