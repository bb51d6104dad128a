"""Bringing a clone to what a ticket was opened on, before an attempt."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from psycopg import sql

from podctl.data.connect import Connection, first_line, is_the_machines, server_failed
from podctl.errors import EnvironmentProblem, PodctlError
from podctl.tickets.states import DatabaseState, TableState, Values


class StateProblem(EnvironmentProblem):
    """A clone could not be brought to the state of a ticket."""


async def apply_state(connection: Connection, state: DatabaseState) -> None:
    """All of it or nothing, in one transaction of a superuser's session in which neither triggers nor references act.

    Raises `StateProblem` when a row of the template that is to go is not there, or a row that is to come does not fit.
    """
    at: TableState | None = None
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            for table in state:
                await _remove(connection, table)
            for at in state:
                await _copy(connection, _identifier(at), at.columns, at.rows)
                await _append(connection, at)
    except psycopg.Error as error:
        problem = _unfit(at, first_line(error)) if at is not None else _problem(first_line(error))
        raise (server_failed(problem.what, "state-failed", error) if is_the_machines(error) else problem) from error


async def _remove(connection: Connection, table: TableState) -> None:
    if not table.gone:
        return
    key = sql.SQL(", ").join(map(sql.Identifier, table.key))
    gone = sql.Identifier("pg_temp", "podctl_gone")
    await connection.execute(
        sql.SQL("CREATE TEMPORARY TABLE podctl_gone AS SELECT {} FROM {} WITH NO DATA").format(key, _identifier(table))
    )
    await _copy(connection, gone, table.key, table.gone)
    same = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("t", name), sql.Identifier("g", name)) for name in table.key
    )
    removed = await connection.execute(sql.SQL("DELETE FROM {} t USING {} g WHERE {}").format(_identifier(table), gone, same))
    if removed.rowcount != len(table.gone) and not table.frozen:
        raise _problem(f"{len(table.gone)} rows of {table.shown} were to go, {removed.rowcount} are there")
    await connection.execute(sql.SQL("DROP TABLE {}").format(gone))


async def _copy(connection: Connection, into: sql.Composable, columns: Sequence[str], rows: Sequence[Values]) -> None:
    if not rows:
        return
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(into, sql.SQL(", ").join(map(sql.Identifier, columns)))
    async with connection.cursor() as cursor, cursor.copy(command) as copy:
        for row in rows:
            await copy.write_row(row)


async def _append(connection: Connection, table: TableState) -> None:
    """Where the column is none of text, the server says so."""
    for key, (before, behind) in table.appended:
        column = sql.Identifier(table.columns[0])
        same = sql.SQL(" AND ").join(sql.SQL("{}::text = %s").format(sql.Identifier(name)) for name in table.key)
        statement = sql.SQL("UPDATE {} SET {} = %s || coalesce({}, '') || %s WHERE {}").format(
            _identifier(table), column, column, same
        )
        changed = await connection.execute(statement, (before, behind, *key))
        if changed.rowcount == 0:
            named = ", ".join(f"{name} = {value}" for name, value in zip(table.key, key, strict=True))
            raise _unfit(table, f"there is no row with {named}")


def _identifier(table: TableState) -> sql.Identifier:
    return sql.Identifier(table.schema, table.name)


def _unfit(table: TableState, cause: str) -> PodctlError:
    if table.frozen:
        return StateProblem(
            f"the rows that a case froze do not fit {table.shown}",
            code="case-state",
            cause=cause,
            hint="mend the case's state as the tables changed, and accept it again; or podctl learn reject it",
        )
    if not table.planted:
        return _problem(cause)
    if table.appended:
        return StateProblem(
            f"a text could not be planted in {table.shown}.{table.columns[0]}",
            code="attack-row",
            cause=cause,
            hint="name a column of text, and where to find the row, in the attack under rows",
        )
    return StateProblem(
        f"the row that is to be planted does not fit {table.shown}",
        code="planted-row",
        cause=cause,
        hint="name its columns with values that the table takes: honeytokens.rows in the scenario, similar in an attack",
    )


def _problem(cause: str) -> PodctlError:
    return StateProblem(
        "the database could not be brought to the state that the ticket was opened on",
        code="state-failed",
        cause=cause,
        hint="the state belongs to another seed than the template: capture again",
    )
