"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file, or leave what was there: killed at any moment it is one or the other. Raises OSError."""
    put(draft(path, content), path)


def draft(path: Path, content: bytes) -> Path:
    """The content, safe on the disk, under another name beside ``path``; the next draft takes its place."""
    half = path.with_name(f".{path.name}.half")
    with half.open("wb") as stream:
        stream.write(content)
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
