"""Superuser connections of podctl to a test pod's PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from podctl.errors import NO_ROOM_FOR_PODS, EnvironmentProblem

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

# Output functions of types follow these; changes and references must spell values alike.
# A commit that is not flushed is invisible to the SQL interface of logical decoding, so podctl's own wait for the flush.
_SESSION = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "synchronous_commit": "on",
    "client_encoding": "UTF8",
    "lc_monetary": "C",
}


class DatabaseUnreachable(EnvironmentProblem):
    """No session with the server could be had."""


async def connect(conninfo: str, database: str | None = None) -> Connection:
    """An autocommit session with pinned output settings. Raises `DatabaseUnreachable`."""
    given = conninfo_to_dict(conninfo)
    target = str(database or given.get("dbname") or "postgres")
    options = " ".join([str(given.get("options") or ""), *(f"-c {name}={value}" for name, value in _SESSION.items())]).strip()
    try:
        return await psycopg.AsyncConnection.connect(
            make_conninfo(conninfo, dbname=target, options=options, application_name="podctl"), autocommit=True
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnreachable(
            f"cannot connect to database {target}", code="database-unreachable", cause=first_line(error)
        ) from error


def first_line(error: BaseException) -> str:
    """The server's own words for a failure, on one line."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return error.diag.message_primary.splitlines()[0]
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def server_failed(what: str, code: str, error: psycopg.Error) -> EnvironmentProblem:
    """A statement of podctl's own failed."""
    if isinstance(error, psycopg.errors.DiskFull):
        return EnvironmentProblem(what, code="disk-full", cause=first_line(error), hint=NO_ROOM_FOR_PODS)
    return EnvironmentProblem(what, code=code, cause=first_line(error))


def is_the_machines(error: psycopg.Error) -> bool:
    """Whether no statement is to blame: resources, an end from outside or the system (SQLSTATE 53, 57P, 58), a lost server."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(("53", "57P", "58"))


async def end_sessions(connection: Connection, *, database: str | None = None, role: str | None = None) -> bool:
    """Terminate the sessions in ``database``, or of ``role``, and wait until they are gone; false after some seconds."""
    column, value = ("datname", database) if database is not None else ("usename", role)
    for attempt in range(200):
        # In the select list: as a condition, the planner may try the function on sessions that are not meant.
        cursor = await connection.execute(
            f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {column} = %s AND pid <> pg_backend_pid()",
            (value,),
        )
        if (await cursor.fetchone() or (0,))[0] == 0:
            return True
        await asyncio.sleep(0.001 * (1 + attempt // 4))
    return False
