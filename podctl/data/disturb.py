"""What a chaos campaign does in an attempt's database: somebody else's writes, and a schema that changes meanwhile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from podctl.data.catalog import USER_SCHEMA, Catalog, Table
from podctl.data.connect import Connection, first_line

#: The second writer's role: row changes name it, as they name every session's user.
RIVAL = "podctl_rival"
#: What it appends to a text.
MARK = " (rival)"
ADDED, INDEX, CONSTRAINT, RENAMED = "podctl_added", "podctl_index", "podctl_constraint", "_v2"
#: The agent is held meanwhile: a lock that it has itself is waited for only once it goes on.
PATIENCE_MS, LATER_MS = 500, 20_000


class Busy(Exception):
    """The agent holds a lock that this needs."""


@dataclass(frozen=True)
class Target:
    """A row, by its key; columns of it that are not touched, and those that are tried first: what the agent may write, it may overwrite."""

    table: str  # as it is shown
    key: Mapping[str, Any]
    spared: frozenset[str] = frozenset()
    first: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Migrated:
    """``renamed``: a table's column -> what it was called before; ``added``: columns that were not there. Tables as they are shown."""

    what: str
    renamed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    added: frozenset[tuple[str, str]] = frozenset()


async def patient(connection: Connection, milliseconds: int) -> None:
    await connection.execute(f"SET lock_timeout = {milliseconds}".encode())


async def write_as_rival(connection: Connection, catalog: Catalog, targets: Sequence[Target], lock: bool) -> list[str]:
    """Change a text of each row, in a transaction that stays open: what was done, row by row. The caller commits.

    A row without a text that may be changed is only locked, and that only with ``lock``. Raises `Busy`, psycopg.Error.
    """
    tables = {table.shown: table for table in catalog.tables.values() if table.relkind in ("r", "p")}
    found = [(target, tables[target.table]) for target in targets if target.table in tables and target.key]
    await _rival_role(connection, [table for _, table in found])
    await connection.execute("BEGIN")
    try:
        await connection.execute(f"SET LOCAL SESSION AUTHORIZATION {RIVAL}".encode())
        done = [said for target, table in found if (said := await _write(connection, target, table, lock))]
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        await connection.execute("ROLLBACK")
        raise Busy from error
    return done


async def _rival_role(connection: Connection, tables: Sequence[Table]) -> None:
    cursor = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (RIVAL,))
    if await cursor.fetchone() is None:
        try:
            await connection.execute(f"CREATE ROLE {RIVAL} NOLOGIN BYPASSRLS".encode())
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            pass  # another session of this server was quicker
    role = sql.Identifier(RIVAL)
    for table in tables:
        await connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(table.schema), role))
        name = sql.Identifier(table.schema, table.name)
        await connection.execute(sql.SQL("GRANT SELECT, UPDATE ON {} TO {}").format(name, role))


async def _write(connection: Connection, target: Target, table: Table, lock: bool) -> str:
    name = sql.Identifier(table.schema, table.name)
    where = sql.SQL(" AND ").join(
        sql.SQL("{}::text = {}").format(sql.Identifier(column), sql.Placeholder()) for column in target.key
    )
    key = [str(value) for value in target.key.values()]
    for column in sorted(table.columns, key=lambda one: one.name not in target.first):
        if column.kind != "text" or column.key or column.computed or column.name in target.spared:
            continue
        await connection.execute("SAVEPOINT podctl_try")
        change = sql.SQL("UPDATE {} SET {c} = {c} || {} WHERE {} AND {c} <> ''").format(
            name, sql.Literal(MARK), where, c=sql.Identifier(column.name)
        )
        try:
            cursor = await connection.execute(change, key)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
            raise
        except psycopg.Error:  # no text after all, too long, one of a list, a reference
            await connection.execute("ROLLBACK TO SAVEPOINT podctl_try")
            continue
        if cursor.rowcount:
            return f"changed {target.table}.{column.name} where {_shown(target.key)}"
    if lock:
        cursor = await connection.execute(sql.SQL("SELECT 1 FROM {} WHERE {} FOR UPDATE").format(name, where), key)
        if await cursor.fetchall():
            return f"locked {target.table} where {_shown(target.key)}"
    return ""


def _shown(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{column} = {value}" for column, value in key.items())[:120]


async def migrate(connection: Connection, catalog: Catalog, change: str, shown: str, column: str) -> Migrated:
    """One of podctl's own changes of the schema. Raises `Busy`, psycopg.Error, and LookupError for a table that is not there."""
    table = next((one for one in catalog.tables.values() if one.shown == shown and one.relkind in ("r", "p")), None)
    if table is None:
        raise LookupError(f"there is no table {shown}")
    if change in ("rename-column", "constraint") and column not in {one.name for one in table.columns}:
        raise LookupError(f"{shown} has no column {column}")
    name, col = sql.Identifier(table.schema, table.name), sql.Identifier(column)
    match change:
        case "add-column":
            statement = sql.SQL("ALTER TABLE {} ADD COLUMN {} text").format(name, sql.Identifier(ADDED))
            done = Migrated(f"{shown}: column {ADDED} added", added=frozenset({(shown, ADDED)}))
        case "rename-column":
            new = f"{column}{RENAMED}"
            statement = sql.SQL("ALTER TABLE {} RENAME COLUMN {} TO {}").format(name, col, sql.Identifier(new))
            done = Migrated(f"{shown}: column {column} is now {new}", renamed={(shown, new): column})
        case "index":
            first = sql.Identifier(column or table.columns[0].name)
            statement = sql.SQL("CREATE INDEX {} ON {} ({})").format(sql.Identifier(INDEX), name, first)
            done = Migrated(f"{shown}: index {INDEX} made")
        case _:
            statement = sql.SQL(
                "ALTER TABLE {} ADD CONSTRAINT {} CHECK ({c} IS NOT NULL AND {c}::text <> '') NOT VALID"
            ).format(name, sql.Identifier(CONSTRAINT), c=col)
            done = Migrated(f"{shown}: {column} may not be empty any more")
    await _apply(connection, statement.as_bytes(connection))
    return done


async def run_migration(connection: Connection, script: str, name: str) -> Migrated:
    """Somebody's own SQL, as one transaction; new tables are recorded as all others are. Raises `Busy`, psycopg.Error."""
    await _apply(connection, script.encode())
    await _record_new_tables(connection)
    return Migrated(f"{name} applied")


async def _apply(connection: Connection, statement: bytes) -> None:
    try:
        await connection.execute(statement)
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise Busy from error


async def _record_new_tables(connection: Connection) -> None:
    """Old rows, and who made a change, are recorded of tables that have what the template's have."""
    cursor = await connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        f" WHERE c.relkind IN ('r', 'p') AND {USER_SCHEMA}"
        " AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'podctl_attribute')"
    )
    for schema, table in await cursor.fetchall():
        name = sql.Identifier(schema, table)
        await connection.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(name))
        await connection.execute(
            sql.SQL(
                "CREATE TRIGGER podctl_attribute AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {}"
                " FOR EACH STATEMENT EXECUTE FUNCTION podctl.attribute()"
            ).format(name)
        )


def why(error: BaseException) -> str:
    return first_line(error) if isinstance(error, psycopg.Error) else str(error)
