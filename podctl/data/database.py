"""One database of one test pod, seen from outside it as its superuser."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
from psycopg import generators
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus

from podctl.approvals.rows import APPROVED_ROLE
from podctl.data.catalog import Catalog, Kind, read_catalog
from podctl.data.changes import CaptureProblem, ChangeAssembler, read_changes
from podctl.data.connect import Connection, connect, first_line, server_failed
from podctl.data.lockdown import CHECK_ROLE
from podctl.data.remotelog import RemoteLog
from podctl.data.roles import (
    apply,
    drop_role,
    grants_for_agent,
    grants_for_approved,
    open_to_services,
    scram_verifier,
    service_role,
    statements_for_agent,
    statements_for_service,
)
from podctl.data.sqltext import bind_names
from podctl.data.statements import LoggedStatement, StatementLog
from podctl.data.states import apply_state
from podctl.data.template import clone, drop
from podctl.errors import EnvironmentProblem, PodctlError
from podctl.faults import point
from podctl.spec.models import TableRule
from podctl.tickets.states import DatabaseState

_LOG_WAIT_S = 10.0
#: What agent and services together may make a server write in one attempt, in bytes: WAL, which grows with every row
#: (the slot keeps 1 GB of it), and log.
MAX_WAL = 256 * 2**20
MAX_LOG = 128 * 2**20
_LOG_BYTES = "coalesce((pg_stat_file(pg_current_logfile('jsonlog'), true)).size, 0)"
_WAL_BYTES = "(pg_current_wal_lsn() - '0/0')::bigint"
_PATIENCE_S = 60.0
_CANCEL_S = 5.0
#: Each round commits, so that no snapshot is held while it sleeps.
_UNTIL_WRITTEN = f"""\
DO $$ BEGIN
  LOOP
    EXIT WHEN {_LOG_BYTES} > {{log}} OR {_WAL_BYTES} > {{wal}};
    COMMIT;
    PERFORM pg_sleep(0.5);
  END LOOP;
END $$"""


class QueryProblem(EnvironmentProblem):
    """A check's query failed."""


class ReferenceProblem(PodctlError):
    """The SQL of a reference resolution failed."""


class PostgresDatabase:
    """A clone of ``template`` called ``database`` on the server of ``conninfo``, known as ``name`` in the topology.

    One a server, because services' roles are the server's. Open it once per pod, `reset` before every attempt. Order at an attempt's end: `revoke_agent` (its sessions
    end and what they had not committed is gone), then `changes` and `statements`. Not for concurrent use.
    """

    def __init__(self, name: str, conninfo: str, template: str, database: str, log: Path | RemoteLog) -> None:
        self.name = name
        self.database = database
        self.conninfo = conninfo
        self.catalog = Catalog()
        self.service_passwords: dict[str, str] = {}
        #: Rows changed since the reset that `changes` did not return because there were too many.
        self.changes_dropped = 0
        self.reset_phases: dict[str, float] = {}  # seconds of the last reset's steps
        self._template = template
        self._state: DatabaseState = ()
        self._remote = log if isinstance(log, RemoteLog) else None
        self._log_path = log.path if isinstance(log, RemoteLog) else log
        self._admin: Connection | None = None
        self._clone: Connection | None = None
        self._assembler: ChangeAssembler | None = None
        self._log = StatementLog(self._log_path)
        self._written_before = (0, 0)  # log and WAL, in bytes, at the reset

    @staticmethod
    async def open(
        name: str, conninfo: str, template: str, database: str, log: Path | RemoteLog, services: Iterable[str] = ()
    ) -> PostgresDatabase:
        """Connect, make the services' roles, and `reset`. ``log`` is the server's JSON log.

        Raises `DatabaseUnreachable` or `RoleProblem`.
        """
        self = PostgresDatabase(name, conninfo, template, database, log)
        self._admin = await connect(conninfo, "postgres")
        try:
            self._log = StatementLog(self._log_path, ignored=[self._admin.info.user, APPROVED_ROLE])
            for service in services:
                password = secrets.token_urlsafe(24)
                role = service_role(service)
                await drop_role(self._admin, role)
                await apply(self._admin, statements_for_service(role, scram_verifier(password)))
                self.service_passwords[service] = password
            await self.reset()
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def _slot(self) -> str:
        return "podctl_" + hashlib.sha256(self.database.encode()).hexdigest()[:24]

    async def reset(self, state: DatabaseState = ()) -> None:
        """Replace the database by a fresh clone, in ``state``; every session in it ends, and capture starts anew.

        What brings the clone to its state is no row change of anybody's. Raises `StateProblem`.
        """
        admin, clock = self._admin_connection(), time.monotonic
        marks = [("", clock())]
        await self.rest()
        self._assembler = None
        try:
            await drop(admin, self.database)
            point("pod.clone-dropped")
            marks.append(("drop", clock()))
            await clone(admin, self._template, self.database)
            marks.append(("clone", clock()))
            self._clone = await connect(self.conninfo, self.database)
            if not self.catalog.tables:
                self.catalog = await read_catalog(self._clone)
            marks.append(("connect", clock()))
            self._state = state
            if state:
                await apply_state(self._clone, state)
                marks.append(("state", clock()))
            await _create_slot(self._clone, self._slot)
            marks.append(("slot", clock()))
            await apply(admin, open_to_services(self.database))
            marks.append(("grant", clock()))
            if self._remote is not None:
                await self._remote.skip(admin)
            self._log.start_anew()
            self._written_before = await _written(self._clone)
        except psycopg.Error as error:
            raise server_failed(f"database {self.database} could not be reset", "reset-failed", error) from error
        self._assembler = ChangeAssembler(self.catalog, self.name)
        self.changes_dropped = 0
        self.reset_phases = {phase: after - before for (_, before), (phase, after) in pairwise(marks)}

    async def grant_agent(self, role: str, rules: Mapping[str, TableRule]) -> str:
        """Make the agent's role with exactly these rights; returns its password. Raises `BoundaryProblem`."""
        password = await self._make_role(role, grants_for_agent(role, rules, self.catalog))
        self._log.agents.add(role)
        return password

    async def grant_approved(self, rules: Mapping[str, TableRule]) -> str:
        """Make the role that writes what is approved, with these rights (`podctl.boundary.rows.approvable`); how to connect as it, password
        and all. `revoke_agent` removes it. Raises `BoundaryProblem`."""
        password = await self._make_role(APPROVED_ROLE, grants_for_approved(rules, self.catalog))
        return make_conninfo(self.conninfo, dbname=self.database, user=APPROVED_ROLE, password=password)

    async def _make_role(self, role: str, grants: list[str]) -> str:
        password = secrets.token_urlsafe(24)
        verifier = await asyncio.to_thread(scram_verifier, password)
        # In the session that stays: a new one, as the clone's is, would first learn what roles are, which takes longer.
        await drop_role(self._admin_connection(), role, await self._clone_connection())
        await apply(self._admin_connection(), statements_for_agent(role, verifier, self.database))
        if grants:
            await apply(await self._clone_connection(), grants)
        return password

    async def rest(self) -> None:
        """Hold one session instead of two until the other is needed again: far away, each is a connection of its own."""
        if self._clone is not None:
            await self._clone.close()
            self._clone = None

    async def beside(self) -> Connection:
        """One session more, as superuser; its sessions end with the reset."""
        return await connect(self.conninfo, self.database)

    async def revoke_agent(self, role: str) -> None:
        """End the role's sessions and remove it, with whatever password or settings it gave itself."""
        await drop_role(self._admin_connection(), role, await self._clone_connection())

    async def flooded(self) -> str:
        """Wait until more than `MAX_LOG` or `MAX_WAL` was written since the reset; which. Empty when the server is gone.

        The administrator's session is busy with it until then, or until this is cancelled.
        """
        admin = self._admin_connection()
        most_log, most_wal = self._written_before[0] + MAX_LOG, self._written_before[1] + MAX_WAL
        # The server itself looks: asked twice a second, many servers far away would keep this process busy.
        looking = asyncio.ensure_future(_execute_long(admin, _UNTIL_WRITTEN.format(log=most_log, wal=most_wal)))
        try:
            await asyncio.shield(looking)
            logged, _ = await _written(admin)
        except asyncio.CancelledError:
            await self._look_no_more(looking, admin.info.backend_pid)
            raise
        except psycopg.Error:
            return ""
        return "database log" if logged > most_log else "database writes"

    async def _look_no_more(self, looking: asyncio.Future[Any], backend: int) -> None:
        with contextlib.suppress(psycopg.Error, EnvironmentProblem, TimeoutError):
            async with asyncio.timeout(_CANCEL_S):
                while not looking.done():  # a statement that has not begun yet cannot be cancelled
                    await (await self._clone_connection()).execute("SELECT pg_cancel_backend(%s)", (backend,))
                    await asyncio.wait({looking}, timeout=0.25)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)

    async def changes(self) -> list[dict[str, Any]]:
        """``row.change`` data of everything committed since the reset or the last call, in commit order.

        Raises `CaptureProblem`.
        """
        connection = await self._clone_connection()
        assert self._assembler is not None
        changes = await read_changes(connection, self._slot, self._assembler)
        self.changes_dropped = self._assembler.dropped
        return changes

    @property
    def statements_dropped(self) -> int:
        return self._log.dropped

    async def statements(self) -> list[LoggedStatement]:
        """What agent and services ran since the reset or the last call. Raises `CaptureProblem`."""
        # The log is written by another process: a line of our own, after all that matters, says how far it got.
        mark = f"podctl-mark-{secrets.token_hex(8)}"
        seen: list[bool] = []
        user = self._admin_connection().info.user

        def look(entry: dict[str, Any]) -> None:
            if entry.get("message") == mark and entry.get("user") == user:
                seen.append(True)

        try:
            await self._admin_connection().execute(f"DO $$BEGIN RAISE LOG '{mark}'; END$$".encode())
        except psycopg.Error as error:
            raise CaptureProblem("statements could not be read", code="capture-failed", cause=first_line(error)) from error
        found: list[LoggedStatement] = []
        deadline = time.monotonic() + _LOG_WAIT_S
        while not seen:
            if self._remote is not None:
                await self._remote.fetch(self._admin_connection())
            found += await asyncio.to_thread(self._log.read, look)
            if not seen and time.monotonic() > deadline:
                raise CaptureProblem(
                    "the server's log is incomplete",
                    code="capture-log",
                    cause=f"{self._log_path} did not get a line written {_LOG_WAIT_S:.0f} s ago",
                )
            if not seen:
                await asyncio.sleep(0.002)
        return [_renamed(statement, self.database, self.name) for statement in found]

    async def query(
        self, statement: str, parameters: Mapping[str, Any] | None = None, timeout_s: float = 10.0
    ) -> list[tuple[Any, ...]]:
        """The rows of one read-only query; ``:name`` stands for ``parameters[name]``. Raises `QueryProblem`."""
        connection = await self._clone_connection()
        given = dict(parameters or {})
        try:
            async with connection.transaction():
                await connection.execute(
                    "SET TRANSACTION READ ONLY;"
                    f" SET LOCAL ROLE {CHECK_ROLE}; SET LOCAL search_path = pg_catalog, public, pg_temp;"
                    f" SET LOCAL statement_timeout = {int(timeout_s * 1000)}".encode()
                )
                # With parameters the extended protocol is used, which takes one statement only.
                cursor = await connection.execute(bind_names(statement, given).encode(), given, prepare=True)
                return await cursor.fetchall()
        except (psycopg.Error, ValueError) as error:
            raise QueryProblem("a query failed", code="query-failed", cause=first_line(error)) from error

    async def reference_changes(self, script: str) -> list[dict[str, Any]]:
        """``row.change`` data of running ``script`` as superuser in a clone of its own, of the same state, as one transaction.

        Raises `ReferenceProblem`; the pod's database is not touched.
        """
        admin = self._admin_connection()
        database = f"podctl_reference_{secrets.token_hex(8)}"
        connection: Connection | None = None
        try:
            await clone(admin, self._template, database)
            connection = await connect(self.conninfo, database)
            await apply_state(connection, self._state)
            await _create_slot(connection, database)
            try:
                await connection.execute(script.encode())
            except psycopg.Error as error:
                raise ReferenceProblem(
                    f"the reference's SQL for {self.name} failed", code="reference-sql", cause=first_line(error)
                ) from error
            assembler = ChangeAssembler(self.catalog, self.name)
            changes = await read_changes(connection, database, assembler)
            if assembler.dropped:
                raise ReferenceProblem(
                    f"the reference's SQL for {self.name} changes too many rows",
                    code="reference-size",
                    cause=f"{assembler.dropped} rows beyond the limit",
                )
            return changes
        except psycopg.Error as error:
            raise server_failed(f"no clone of {self.name} for the reference", "reference-clone", error) from error
        finally:
            if connection is not None:
                await connection.close()
            with contextlib.suppress(psycopg.Error):  # it goes with its server at the latest
                await drop(admin, database)

    def kinds(self) -> dict[str, dict[str, Kind]]:
        """table -> column -> how its values compare."""
        return self.catalog.kinds()

    def generated(self) -> dict[str, frozenset[str]]:
        """table -> columns that a new row gets by itself."""
        return self.catalog.generated()

    async def close(self) -> None:
        """Close the connections; the database stays, it goes with its server."""
        for connection in (self._clone, self._admin):
            if connection is not None:
                await connection.close()
        self._clone = self._admin = self._assembler = None

    def _admin_connection(self) -> Connection:
        if self._admin is None:
            raise EnvironmentProblem(f"database {self.database} is closed", code="database-closed")
        return self._admin

    async def _clone_connection(self) -> Connection:
        """Opened again after a `rest`: of a database's sessions the server keeps some for its superuser."""
        if self._assembler is None:
            raise EnvironmentProblem(f"database {self.database} is not there", code="database-closed", hint="reset it")
        if self._clone is None:
            self._clone = await connect(self.conninfo, self.database)
        return self._clone


async def _create_slot(connection: Connection, slot: str) -> None:
    await connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


async def _execute_long(connection: Connection, statement: str) -> None:
    """What may last as long as an attempt: `Connection.execute` wakes up ten times a second while it waits."""
    async with connection.lock:
        connection.pgconn.send_query(statement.encode())
        for result in await connection.wait(generators.execute(connection.pgconn), interval=_PATIENCE_S):
            if result.status == ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result)


async def _written(connection: Connection) -> tuple[int, int]:
    """Bytes of log, and of WAL, that the server ever wrote."""
    cursor = await connection.execute(f"SELECT {_LOG_BYTES}, {_WAL_BYTES}".encode())
    logged, written = await cursor.fetchone() or (0, 0)
    return int(logged), int(written)


def _renamed(statement: LoggedStatement, database: str, name: str) -> LoggedStatement:
    """In evidence a database has the topology's name."""
    if statement.data["database"] == database:
        statement.data["database"] = name
    return statement


async def end_floods(databases: Mapping[str, PostgresDatabase], interrupt: Callable[[str], None]) -> None:
    """Wait until one of them passes a limit, and interrupt with it (`PostgresDatabase.flooded`).

    Whoever writes without end is to be ended before the disk is full and the server dies.
    """
    looking = [asyncio.create_task(database.flooded()) for database in databases.values()]
    try:
        for found in asyncio.as_completed(looking):
            if limit := await found:
                interrupt(limit)
                return
    finally:
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
