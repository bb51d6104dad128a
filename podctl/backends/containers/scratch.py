"""What this process keeps on its own machine for pods in containers elsewhere: sockets, and copies of servers' logs.

A directory belongs to the process that holds its lock; the kernel lets go of it whatever ends the process.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "podctl-pods-"
_LOCK = "owner"


class Scratch:
    """A private directory with a short path, which Unix sockets need."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        # It gets its name once it is held: a sweep must not find one that nobody holds yet.
        unnamed = self.path / f"{_LOCK}.new"
        self._lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def sweep_scratch() -> list[Path]:
    """Remove what dead processes of this user left here; the directories that are gone."""
    removed = []
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        facts = directory.lstat()
        if facts.st_uid != os.getuid() or directory.is_symlink():
            continue
        try:
            lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue  # just being made
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
            removed.append(directory)
        except BlockingIOError:
            continue  # its process lives
        finally:
            os.close(lock)
    return removed
