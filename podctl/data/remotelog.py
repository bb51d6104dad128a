"""A server's log where podctl cannot open its file: copied, piece by piece, through a session of the superuser."""

from __future__ import annotations

from pathlib import Path

import psycopg

from podctl.data.connect import Connection, first_line
from podctl.errors import EnvironmentProblem

_PIECE = 4 * 2**20


class RemoteLog:
    """``path`` grows as the server's ``name``, relative to its data directory, does; what was skipped is not in it."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._name = name
        self._offset = 0

    async def skip(self, connection: Connection) -> None:
        """What is in the log by now is not wanted. Raises `EnvironmentProblem`."""
        try:
            cursor = await connection.execute("SELECT coalesce((pg_stat_file(%s, true)).size, 0)", (self._name,))
        except psycopg.Error as error:
            raise _unreadable(error) from error
        self._offset = int((await cursor.fetchone() or (0,))[0])

    async def fetch(self, connection: Connection) -> None:
        """Bring the copy up to date. Raises `EnvironmentProblem`."""
        while True:
            try:
                cursor = await connection.execute(
                    "SELECT pg_read_binary_file(%s, %s, %s, true)", (self._name, self._offset, _PIECE), binary=True
                )
            except psycopg.Error as error:
                raise _unreadable(error) from error
            piece = (await cursor.fetchone() or (b"",))[0] or b""
            if not piece:
                return
            with open(self.path, "ab") as copy:
                copy.write(piece)
            self._offset += len(piece)


def _unreadable(error: psycopg.Error) -> EnvironmentProblem:
    return EnvironmentProblem("the server's log could not be read", code="capture-log", cause=first_line(error))
