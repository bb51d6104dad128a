"""Files of runs in a store that machines share: sent as they grow, and brought back where they are read.

An attempt's files are written on the machine that makes it, as everywhere. `SharedFiles.keep` sends what is new since the
last time; `SharedFiles.fetch` writes what the store has into the directory of a machine that does not have it.
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sqlalchemy import Connection, delete, func, insert, select

from podctl.evidence.schema import files
from podctl.evidence.store_problems import StoreProblem

PIECE = 1 << 20


class SharedFiles:
    """Safe for threads. What it has sent it remembers by inode: a file that was replaced is sent anew."""

    def __init__(self) -> None:
        self._sent: dict[tuple[str, str, str], int] = {}
        self._whole: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
        self._lock = threading.Lock()

    def keep(self, connection: Connection, run: str, attempt: str, directory: Path) -> None:
        """The store's files of the attempt become those of ``directory``; of what only grew, the new end is sent.

        Nothing is asked of the store where nothing changed since the last time. `forget` when the transaction fails.
        """
        with self._lock:
            present = dict(_files(directory))
            now = {path: (found.st_ino, found.st_size) for path, found in present.items()}
            if self._whole.get((run, attempt)) == now:
                return
            stored = _stored(connection, run, attempt)
            for path in stored.keys() - present.keys():
                _drop(connection, run, attempt, path)
            for path, found in present.items():
                had = stored.get(path, 0)
                grew = self._sent.get((run, attempt, path)) == found.st_ino and found.st_size >= had
                if path in stored and (not grew or not had):
                    if grew and not found.st_size:
                        continue
                    _drop(connection, run, attempt, path)
                    had = 0
                    del stored[path]
                if found.st_size > had or path not in stored:
                    _send(connection, run, attempt, path, directory / path, had, found.st_size)
                self._sent[(run, attempt, path)] = found.st_ino
            self._whole[run, attempt] = now

    def forget(self, run: str) -> None:
        with self._lock:
            self._whole = {key: files for key, files in self._whole.items() if key[0] != run}
            self._sent = {key: inode for key, inode in self._sent.items() if key[0] != run}


def fetch(connection: Connection, run: str, attempt: str, directory: Path) -> None:
    """Make ``directory`` what the store has. Raises `StoreProblem` for a stored path that leads out of it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    of_attempt = select(files.c.path, files.c.content).where(files.c.run == run, files.c.attempt == attempt)
    for path, content in connection.execute(of_attempt.order_by(files.c.path, files.c.start)):
        _append(directory, path, content)


def _files(directory: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files by their path below ``directory``; links are not followed."""
    waiting = [directory]
    while waiting:
        here = waiting.pop()
        try:
            entries = list(os.scandir(here))
        except FileNotFoundError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield str(Path(entry.path).relative_to(directory)), found


def _stored(connection: Connection, run: str, attempt: str) -> dict[str, int]:
    """Path -> bytes."""
    size = func.sum(func.length(files.c.content))
    of_attempt = select(files.c.path, size).where(files.c.run == run, files.c.attempt == attempt).group_by(files.c.path)
    return {path: int(length) for path, length in connection.execute(of_attempt)}


def _drop(connection: Connection, run: str, attempt: str, path: str) -> None:
    connection.execute(delete(files).where(files.c.run == run, files.c.attempt == attempt, files.c.path == path))


def _send(connection: Connection, run: str, attempt: str, path: str, source: Path, start: int, end: int) -> None:
    """Bytes ``start`` to ``end``, in pieces; an empty file is one empty piece. A file that is gone is left to the next time."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return
        file.seek(start)
        pieces = iter(lambda: file.read(max(0, min(PIECE, end - file.tell()))), b"")
        for content in pieces if end else [b""]:
            row = {"run": run, "attempt": attempt, "path": path, "start": start, "content": content}
            connection.execute(insert(files), row)
            start += len(content)


def _append(directory: Path, path: str, content: bytes) -> None:
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        what = "the store has a file that leads out of its attempt's directory"
        raise StoreProblem(what, code="store-path", cause=repr(path)[:200], unchanged="it was not written")
    target = directory / relative
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(target, "ab", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        file.write(content)
