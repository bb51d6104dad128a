"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file, or leave what was there: killed at any moment it is one or the other. Raises OSError."""
    put(draft(path, [content]), path)


def draft(path: Path, pieces: Iterable[bytes], mode: int = 0o666) -> Path:
    """The pieces, safe on the disk, under another name beside ``path``; the next draft takes its place."""
    half = path.with_name(f".{path.name}.half")
    half.unlink(missing_ok=True)
    with open(half, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, mode)) as stream:
        stream.writelines(pieces)
        stream.flush()
        os.fsync(stream.fileno())
    return half


def put(half: Path, path: Path) -> None:
    """In its place; a rename survives the machine's crash only with its directory."""
    half.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
