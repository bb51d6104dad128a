"""Writing one approved row of a pod's database: looked at when it is proposed, written once it is approved, exactly so or not at all.

Statements are built here, of names that the server's catalog has, quoted, and of bound values; no SQL is anybody else's. They run
as a role that may do what the boundary recommends and nothing else (`podctl.boundary.rows.approvable`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncRawCursor, IsolationLevel, sql
from psycopg.conninfo import make_conninfo

from podctl.approvals.actions import Action
from podctl.approvals.rows import Kind, RowAsked, Unfit, as_text, mark, typed
from podctl.gateway.desk import Proposal, Returned

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Row = dict[str, str | None]

#: A session's settings: names mean what they mean to podctl, values are written alike each time, and nobody is waited for long.
_SETTINGS = {
    "search_path": "pg_catalog,public,pg_temp",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "20s",
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "xmloption": "content",
}
_CONNECT_S = 10
#: Bytes of a row as it is shown: whoever answers sees all of it, and the record has it.
_SHOWN = 48 * 1024

_TABLE = """
SELECT c.oid::int8, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname <> 'podctl' AND n.nspname !~ '^pg_'
    AND $1::text IN (n.nspname || '.' || c.relname, CASE WHEN n.nspname = 'public' THEN c.relname END)"""

#: ``base`` is what a domain, and a length or a precision, is of.
_COLUMNS = """
WITH RECURSIVE based AS (
    SELECT a.attnum, a.attname, a.attgenerated <> '' AS computed, a.attidentity = 'a' AS drawn,
        format_type(a.atttypid, a.atttypmod) AS written, a.atttypid AS type
    FROM pg_attribute a WHERE a.attrelid = $1::oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT b.attnum, b.attname, b.computed, b.drawn, b.written, t.typbasetype
    FROM based b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
)
SELECT b.attname, b.computed, b.drawn, b.written, format_type(b.type, -1), b.type::int8,
    has_column_privilege($1::oid, b.attnum, 'SELECT')
FROM based b JOIN pg_type t ON t.oid = b.type WHERE t.typtype <> 'd' ORDER BY b.attnum"""

_KEYS = """
SELECT i.indisprimary, array_agg(a.attname::text ORDER BY k.n) FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = $1::oid AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    AND k.n <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary ORDER BY i.indisprimary DESC, i.indexrelid"""

_KINDS: Mapping[int, Kind] = {
    16: "bool",
    **dict.fromkeys((20, 21, 23, 26), "integer"),
    **dict.fromkeys((700, 701, 1700), "number"),
    **dict.fromkeys((114, 3802), "json"),
}


class NoRow(Exception):
    """The key finds no row."""


class Unreachable(Exception):
    """The database could not be asked; the text says why."""


@dataclass(frozen=True)
class _Column:
    """``written`` is its type as it was declared, ``base`` without length, precision and domain."""

    name: str
    computed: bool
    drawn: bool
    written: str
    base: str
    kind: Kind
    readable: bool

    @property
    def text(self) -> str:
        """As its type writes it, so that the type reads the same again."""
        name = quoted(self.name)
        return f"{name}::text" if self.kind == "bool" else f"CASE WHEN {name} IS NOT NULL THEN format('%s', {name}) END"


@dataclass(frozen=True)
class _Shape:
    schema: str
    name: str
    columns: Mapping[str, _Column]
    keys: tuple[frozenset[str], ...]

    @property
    def table(self) -> str:
        return quoted(self.schema, self.name)

    @property
    def texts(self) -> str:
        """Of `readable`."""
        return ", ".join(self.columns[name].text for name in self.readable)

    @property
    def readable(self) -> list[str]:
        return [column.name for column in self.columns.values() if column.readable]


@dataclass(frozen=True)
class RowWrite:
    """A write as it is approved: ``key`` and ``values`` are texts that the columns' types read, ``row`` what stands there now, as far as it is
    shown, and ``version`` which row that is: another as soon as anybody writes it. ``told`` is what rules may ask about."""

    asked: RowAsked
    table: str
    key: Row
    values: Row
    row: Row
    version: str
    told: Mapping[str, Any]

    @property
    def action(self) -> Action:
        arguments: dict[str, Any] = {"operation": self.asked.operation, "table": self.table}
        found = {} if self.asked.operation == "insert" else {"key": self.key, "row": self.row, "version": self.version}
        values = {} if self.asked.operation == "delete" else {"values": self.values}
        return Action("sql", self.asked.database, {**arguments, **found, **values})


class RowDoor:
    """To the databases of one pod that ``places`` (name -> how to connect) are of."""

    def __init__(self, places: Mapping[str, str]) -> None:
        self._places = places
        self._one = asyncio.Lock()  # an agent that proposes much takes no more than one session

    async def look(self, asked: RowAsked) -> RowWrite:
        """What the proposal comes to in the database as it is. Raises `Unfit`, `NoRow` and `Unreachable`."""
        try:
            async with self._session(asked.database, reads=True) as session:
                return await _looked(session, asked)
        except psycopg.Error as error:
            raise _refused(error) from error

    async def carry_out(self, write: RowWrite, visible: bool | tuple[str, ...], proposal: Proposal) -> Returned:
        """Write the approved row, in one transaction. The agent is told columns that are ``visible``; True: all. Raises nothing of the server's."""
        try:
            async with self._session(write.asked.database, reads=False) as session:
                row, statement = await _written(session, write, mark(proposal.id, proposal.by))
        except (Unfit, NoRow, Unreachable) as why:
            return Returned({"rows": 0}, {"rows": 0}, str(why))
        except psycopg.errors.SerializationFailure:
            return Returned({"rows": 0}, {"rows": 0}, CHANGED)
        except psycopg.OperationalError as error:
            lost = error.sqlstate is None or error.sqlstate.startswith("57P")
            if lost:
                return Returned({}, {}, "the connection was lost: what became of it the row changes say")
            return Returned({"rows": 0}, {"rows": 0}, f"nothing was done: {_first_line(error)}")
        except psycopg.Error as error:
            return Returned({"rows": 0}, {"rows": 0}, f"nothing was done: {_first_line(error)}")
        told = {name: value for name, value in row.items() if visible is True or (visible and name in visible)}
        return Returned({"rows": 1, "row": row, "statement": statement}, {"rows": 1, "row": told})

    @asynccontextmanager
    async def _session(self, database: str, *, reads: bool) -> AsyncIterator[Connection]:
        """In one transaction, which ends with the block. Raises `Unreachable`."""
        options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
        conninfo = make_conninfo(self._places[database], options=options, connect_timeout=_CONNECT_S, client_encoding="UTF8")
        async with self._one:
            try:
                connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True, cursor_factory=AsyncRawCursor)
            except psycopg.OperationalError as error:
                # Where a pod's sockets are on this machine is nothing for an agent.
                raise Unreachable(f"nothing was done: {database} did not answer") from error
            async with connection:
                # Of a row that somebody else writes meanwhile the server says so, instead of taking what they made of it.
                await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
                await connection.set_read_only(reads)
                async with connection.transaction():
                    yield connection


CHANGED = "the row changed since it was proposed: nothing was done"


async def _looked(session: Connection, asked: RowAsked) -> RowWrite:
    shape = await _shape(session, asked.table)
    for name in [*asked.key, *asked.values]:
        if name not in shape.columns:
            raise Unfit(f"{asked.table} has no column {name}")
    for name in asked.values:
        if shape.columns[name].computed or (shape.columns[name].drawn and asked.operation == "insert"):
            raise Unfit(f"{asked.table}.{name} is computed by the database")
    key = await _read(session, shape, asked.key)
    values = await _read(session, shape, asked.values)
    if sum(len((text or "").encode()) for text in values.values()) > _SHOWN:
        raise Unfit(f"values have at most {_SHOWN:,} bytes together: whoever answers is shown all of them")
    table = f"{shape.schema}.{shape.name}".removeprefix("public.")
    row, version = Row(), ""
    if asked.operation != "insert":
        _check_key(shape, asked)
        row, version = await _found(session, shape, key)
    told = {
        name: {column: typed(text, shape.columns[column].kind) for column, text in part.items()}
        for name, part in (("key", key), ("values", values), ("row", row))
    }
    return RowWrite(asked, table, key, values, row, version, told)


async def _written(session: Connection, write: RowWrite, marking: str) -> tuple[Row, str]:
    """The row that stands there now, and the statement that wrote it. Raises what undoes it all."""
    shape = await _shape(session, write.table)
    if write.asked.operation != "insert":
        _check_key(shape, write.asked)
        try:
            row, version = await _found(session, shape, write.key)
        except NoRow:
            raise NoRow("the row is not there any more: nothing was done") from None
        if version != write.version:
            other = [name for name, text in row.items() if write.row.get(name) != text]
            raise Unfit(CHANGED + (f" ({', '.join(other)} did)" if other else ""))
    statement, values = _statement(shape, write, marking)
    cursor = await session.execute(statement.encode(), values)
    rows = await cursor.fetchall()
    if len(rows) != 1 or cursor.rowcount != 1:
        raise Unfit(f"it would write {cursor.rowcount} rows and not one: nothing was done")
    left = dict(zip(shape.readable, rows[0], strict=True))
    for name, text in write.values.items():
        if left.get(name) != text:
            raise Unfit(f"{name} would not become what was approved: the database itself makes it another: nothing was done")
    return left, statement


def _statement(shape: _Shape, write: RowWrite, marking: str) -> tuple[str, list[str | None]]:
    """Values are bound without a type, so that each is read by its column's own, as an assignment."""
    names, first = list(map(quoted, write.values)), len(write.values) + 1
    if write.asked.operation == "insert":
        places = ", ".join(f"${number}" for number in range(1, first))
        done = f"INSERT INTO {shape.table} ({', '.join(names)}) VALUES ({places})"
    elif write.asked.operation == "update":
        done = f"UPDATE {shape.table} SET {', '.join(f'{name} = ${number}' for number, name in enumerate(names, 1))}"
    else:
        done = f"DELETE FROM {shape.table}"
    where = f" WHERE {_where(write.key, first)}" if write.key else ""
    return f"{marking} {done}{where} RETURNING {shape.texts}", [*write.values.values(), *write.key.values()]


def _where(key: Row, first: int = 1) -> str:
    return " AND ".join(f"{quoted(name)} = ${number}" for number, name in enumerate(key, first))


def quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


async def _shape(session: Connection, named: str) -> _Shape:
    tables = await _rows(session, _TABLE, named)
    if len(tables) != 1:
        raise Unfit(f"there is no table {named}" if not tables else f"{len(tables)} tables are called {named}")
    oid, schema, name = tables[0]
    columns = {
        column: _Column(column, computed, drawn, written, base, _KINDS.get(type_, "text"), readable)
        for column, computed, drawn, written, base, type_, readable in await _rows(session, _COLUMNS, oid)
    }
    keys = await _rows(session, _KEYS, oid)
    return _Shape(schema, name, columns, tuple(frozenset(key) for _, key in keys))


def _check_key(shape: _Shape, asked: RowAsked) -> None:
    usable = [key for key in shape.keys if all(shape.columns[name].readable for name in key)]
    if frozenset(asked.key) not in usable:
        listed = "; ".join(", ".join(sorted(key)) for key in usable)
        has = f"those of {asked.table} are {listed}" if listed else f"{asked.table} has none that the boundary names"
        raise Unfit(f"key is the columns of the primary key or of another unique key, all of them: {has}")


async def _read(session: Connection, shape: _Shape, given: Mapping[str, Any]) -> Row:
    """Each value as its column would keep it, in the column's own words. Raises `Unfit` where the column would keep another."""
    found: Row = {}
    for name, value in given.items():
        column = shape.columns[name]
        text = as_text(value, column.kind, name)
        if text is None:
            found[name] = None
            continue
        # Types are as the server writes them, quoted where they have to be.
        kept = f"$1::{column.base}::{column.written}"
        out = f"({kept})::text" if column.kind == "bool" else f"format('%s', {kept})"
        same = "true" if column.base == column.written else f"$1::{column.base} = ({kept})::{column.base}"
        try:
            async with session.transaction():
                [(kept_text, exact)] = await _rows(session, f"SELECT {out}, {same}", text)
        except (psycopg.errors.DataError, psycopg.errors.IntegrityError) as error:
            raise Unfit(f"{name} is {column.written}: {_first_line(error)}") from None
        if not exact:
            raise Unfit(f"{name} is {column.written}, and would keep {str(kept_text)[:100]!r}: write what it keeps")
        found[name] = kept_text
    return found


async def _found(session: Connection, shape: _Shape, key: Row) -> tuple[Row, str]:
    """The row as it is and which version of it. Raises `NoRow` and `Unfit`."""
    at = f"FROM {shape.table} WHERE {_where(key)}"
    size = " + ".join(f"coalesce(octet_length({shape.columns[name].text}), 0)::int8" for name in shape.readable)
    version = "tableoid::int8 || ' ' || ctid::text || ' ' || xmin::text"
    rows = await _rows(session, f"SELECT {size}, {version} {at}", *key.values())
    if not rows:
        raise NoRow("the key finds no row")
    if len(rows) > 1:
        raise Unfit(f"the key finds {len(rows)} rows, and not one")
    bytes_, which = rows[0]
    if bytes_ > _SHOWN:
        raise Unfit(f"the row has {bytes_:,} bytes, and only one of {_SHOWN:,} can be shown to whoever answers")
    [row] = await _rows(session, f"SELECT {shape.texts} {at}", *key.values())
    return dict(zip(shape.readable, row, strict=True)), which


async def _rows(session: Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    return await (await session.execute(query.encode(), values)).fetchall()


def _refused(error: psycopg.Error) -> Exception:
    if isinstance(error, psycopg.OperationalError):
        return Unreachable(f"nothing was proposed: {_first_line(error) if error.sqlstate else 'the connection was lost'}")
    return Unfit(_first_line(error))


def _first_line(error: psycopg.Error) -> str:
    said = error.diag.message_primary or str(error)
    return (said.strip() or type(error).__name__).splitlines()[0][:300]
