"""What an agent left: files, ports it listened on, and what it wrote to rows and services. PURE."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LeftFile:
    """``content`` has a regular file's first bytes, ``size`` all of them; ``mode`` as the kernel tells it."""

    path: str
    mode: int
    size: int
    content: bytes = b""

    @property
    def regular(self) -> bool:
        return stat.S_ISREG(self.mode)


@dataclass(frozen=True, order=True)
class Listening:
    """A TCP socket on which the agent took connections."""

    address: str
    port: int


@dataclass(frozen=True)
class Leavings:
    """``more``: files and directories that were not looked at."""

    files: tuple[LeftFile, ...] = ()
    more: int = 0


def leavings(index: Mapping[str, Any], content: bytes) -> Leavings:
    """As a pod's init tells them: an index, and the bytes of all files in its order."""
    files, at = [], 0
    for told in index["files"]:
        taken = told["taken"]
        files.append(LeftFile(told["path"], told["mode"], told["size"], content[at : at + taken]))
        at += taken
    return Leavings(tuple(files), index["more"])
