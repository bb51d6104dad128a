"""What an agent left in its workspace and temporary directories, taken for a scan. Runs in the pod's init: standard library only.

Everybody who could write there is dead. What they left is hostile all the same: links, pipes, sparse files, names that are no
text, more directories than anybody wants to read. Only regular files are opened, never through a link, and all is bounded.
"""

from __future__ import annotations

import json
import os
import stat
from typing import Any

#: Files that are taken, bytes of one and of all, and directories that are gone through, beneath one another at most `DEEPEST`.
FILES, FILE_BYTES, ALL_BYTES, DIRECTORIES, DEEPEST = 400, 256 * 1024, 8 * 2**20, 2_000, 24


class Gathering:
    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.content = os.memfd_create("leavings", os.MFD_CLOEXEC)
        self.bytes = 0
        self.directories = 0
        self.more = 0  # not looked at

    def walk(self, directory: int, prefix: str, depth: int = 0) -> None:
        """``directory`` is closed. By name, so that the same leavings are always taken alike."""
        self.directories += 1
        try:
            names = sorted(os.listdir(directory))
            for name in names:
                try:
                    self._look(directory, name, prefix, depth)
                except OSError:
                    self.more += 1
        finally:
            os.close(directory)

    def _look(self, directory: int, name: str, prefix: str, depth: int) -> None:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
        path = os.fsencode(prefix + name).decode("utf-8", "backslashreplace")
        if stat.S_ISDIR(facts.st_mode):
            if depth >= DEEPEST or self.directories >= DIRECTORIES:
                self.more += 1
                return
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            self.walk(below, f"{prefix}{name}/", depth + 1)
        elif len(self.told) >= FILES:
            self.more += 1
        else:
            self.told.append({"path": path[:1000], "mode": facts.st_mode, "size": facts.st_size, "taken": 0})
            if stat.S_ISREG(facts.st_mode):
                self.told[-1]["taken"] = self._take(directory, name)

    def _take(self, directory: int, name: str) -> int:
        """How many bytes of a file were taken: its first."""
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            left = most = min(FILE_BYTES, ALL_BYTES - self.bytes)
            while left > 0 and (chunk := os.read(fd, min(left, 1 << 18))):
                os.write(self.content, chunk)
                left -= len(chunk)
        finally:
            os.close(fd)
        self.bytes += most - left
        return most - left


def gather(roots: list[tuple[str, str]]) -> list[int]:
    """``roots``: directory, and what its files' paths begin with. Two descriptors: a JSON object, and the taken bytes in its order."""
    gathering = Gathering()
    for path, prefix in roots:
        gathering.walk(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), prefix)
    index = os.memfd_create("index", os.MFD_CLOEXEC)
    os.write(index, json.dumps({"files": gathering.told, "more": gathering.more}).encode())
    for fd in (index, gathering.content):
        os.lseek(fd, 0, os.SEEK_SET)
    return [index, gathering.content]
