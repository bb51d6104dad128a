"""A stopped server's data directory, out of one container and into others. A plain script.

``copying.py out DIRECTORY``      writes it to standard output
``copying.py in PORT DIRECTORY``  takes it from the first connection to 127.0.0.1:PORT: says ``send``, reads its length in
                                  8 bytes and then it, and says ``done``
"""

from __future__ import annotations

import socket
import struct
import sys
import tarfile
from pathlib import Path
from typing import BinaryIO

#: Enough for what is mostly zeros and repeats, and quick.
_LEVEL = 1
_STALE = ("postmaster.pid", "postmaster.opts")


def pack(directory: Path, into: BinaryIO) -> None:
    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name in _STALE or member.name.startswith("log/") else member

    with tarfile.open(mode="w:gz", fileobj=into, compresslevel=_LEVEL) as archive:
        for path in sorted(directory.iterdir()):
            archive.add(path, path.name, filter=kept)


def unpack(source: BinaryIO, directory: Path) -> None:
    directory.mkdir(mode=0o700)
    with tarfile.open(mode="r|gz", fileobj=source) as archive:
        archive.extractall(directory)  # noqa: S202  # podctl's own, from a server of its own


def receive(port: int, directory: Path) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        connection, _ = listener.accept()
    with connection, connection.makefile("rb") as source:
        connection.sendall(b"send\n")
        (length,) = struct.unpack("!Q", source.read(8))
        unpack(_Bounded(source, length), directory)  # type: ignore[arg-type]
        connection.sendall(b"done\n")


class _Bounded:
    """The connection stays open after the archive: who reads to its end would wait."""

    def __init__(self, source: BinaryIO, length: int) -> None:
        self._source, self._left = source, length

    def read(self, size: int) -> bytes:
        data = self._source.read(min(size, self._left))
        self._left -= len(data)
        return data


if __name__ == "__main__":
    if sys.argv[1] == "out":
        pack(Path(sys.argv[2]), sys.stdout.buffer)
    else:
        receive(int(sys.argv[2]), Path(sys.argv[3]))
