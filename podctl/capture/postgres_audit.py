"""The past out of an audit table of a PostgreSQL source.

Documents become rows of their tables as the server itself reads them, and rows become text as COPY writes them, so what comes of
the history compares with what is copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from podctl.capture.past import ABSENT, Kept, Record, Row
from podctl.capture.postgres_catalog import Catalog, Session
from podctl.capture.postgres_session import explained
from podctl.capture.problems import CaptureProblem
from podctl.capture.schema import Table
from podctl.data.catalog import shown_name
from podctl.data.connect import first_line
from podctl.errors import SpecError
from podctl.masking.copytext import NULL, unescape
from podctl.spec.history import AuditTable

_AUDIT = """
SELECT c.oid::int8, has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), row_security_active(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm')"""

_COLUMNS = """
SELECT attname, format_type(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END, NULL)
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped"""

_DOCUMENTS = ("json", "jsonb", "hstore")
_MADE = ("i", "c")


@dataclass(frozen=True)
class _Expressions:
    """Of one record of the audit table ``a``; documents are jsonb."""

    order: sql.Composable
    time: sql.Composable
    letter: sql.Composable
    schema: sql.Composable
    table: sql.Composable
    actor: sql.Composable
    transaction: sql.Composable
    old: sql.Composable
    new: sql.Composable
    as_text: bool  # values in documents are the text of columns


class PostgresAudit:
    """Reads one audit table within the session's snapshot."""

    def __init__(self, session: Session, catalog: Catalog, spec: AuditTable) -> None:
        """Raises `CaptureProblem` when it is not there or may not be read, `SpecError` when its columns are others."""
        self._session, self._catalog, self._spec = session, catalog, spec
        schema, _, name = spec.place.rpartition(".")
        self._name = sql.Identifier(schema or "public", name)
        with explained(f"looking for the audit table {spec.place}"):
            self._of = self._expressions(self._columns(schema or "public", name))

    def _columns(self, schema: str, name: str) -> dict[str, str]:
        found = self._session.execute(_AUDIT, (schema, name)).fetchone()
        if found is None:
            raise SpecError(
                f"the source has no audit table {self._spec.place}",
                code="history-missing",
                unchanged="nothing was read",
                hint="history.source: its layout's table has another name? say table: SCHEMA.NAME beside the layout",
            )
        oid, readable, hidden = found
        user = self._session.info.user
        if not readable or hidden:
            raise CaptureProblem(
                f"{user} may not read the audit table {self._spec.place}" + (" in full" if readable else ""),
                code="history-permission",
                cause="row-level security hides rows of it" if readable else "",
                unchanged="nothing was read",
                hint=f"ALTER ROLE {user} BYPASSRLS"
                if readable
                else f"GRANT USAGE ON SCHEMA {schema} TO {user}; GRANT SELECT ON {schema}.{name} TO {user}",
            )
        return {str(column): str(type_).rpartition(".")[2] for column, type_ in self._session.execute(_COLUMNS, (oid,))}

    def _expressions(self, types: dict[str, str]) -> _Expressions:
        names = self._spec.mapping
        wanted = {
            "order": names.order,
            "time": names.time,
            "op": names.op,
            "table": names.table,
            "old": names.old,
            "new": names.new,
        }
        maybe = {
            "schema": names.schema_name,
            "changed": names.changed,
            "actor": names.actor,
            "transaction": names.transaction,
        }
        wanted |= {what: one for what, one in maybe.items() if one}
        for what, name in wanted.items():
            if name not in types:
                raise SpecError(
                    f"the audit table {self._spec.place} has no column {name}, which history.source says is its {what}",
                    code="history-columns",
                    cause=f"it has {', '.join(types)}",
                    unchanged="nothing was read",
                )
        kinds = {what: types[wanted[what]] for what in ("old", "new", "changed") if what in wanted}
        for what, type_ in kinds.items():
            if type_ not in _DOCUMENTS:
                raise SpecError(
                    f"{self._spec.place}.{wanted[what]} is {type_}; rows are kept as json, jsonb or hstore",
                    code="history-columns",
                    unchanged="nothing was read",
                )

        def column(name: str | None) -> sql.Composable:
            return sql.Identifier("a", name) if name else sql.SQL("NULL")

        def document(name: str) -> sql.Composable:
            return sql.SQL("{}::pg_catalog.jsonb").format(column(name))

        letter = sql.SQL("lower(left({}::text, 1))").format(column(names.op))
        after = document(names.new)
        if names.changed:
            after = sql.SQL("CASE WHEN {} = 'u' THEN {} || coalesce({}, '{{}}') ELSE {} END").format(
                letter, document(names.old), document(names.changed), after
            )
        return _Expressions(
            order=sql.SQL("{}::int8").format(column(names.order)),
            time=self._microseconds(column(names.time), types[names.time], names.time),
            letter=letter,
            schema=sql.SQL("{}::text").format(column(names.schema_name)) if names.schema_name else sql.SQL("'public'"),
            table=sql.SQL("{}::text").format(column(names.table)),
            actor=sql.SQL("coalesce({}::text, '')").format(column(names.actor)),
            transaction=sql.SQL("coalesce({}::text, '')").format(column(names.transaction)),
            old=sql.SQL("CASE WHEN {} IN ('u', 'd') THEN {} END").format(letter, document(names.old)),
            new=sql.SQL("CASE WHEN {} IN ('i', 'c', 'u') THEN {} END").format(letter, after),
            as_text="hstore" in kinds.values(),
        )

    def _microseconds(self, value: sql.Composable, type_: str, name: str) -> sql.Composable:
        if type_ == "timestamp without time zone":
            if self._spec.timezone is None:
                raise SpecError(
                    f"{self._spec.place}.{name} has no time zone",
                    code="history-zone",
                    cause="a moment without its zone may be hours off",
                    unchanged="nothing was read",
                    hint="say which one it is with history.source.timezone",
                )
            value = sql.SQL("({} AT TIME ZONE {})").format(value, sql.Literal(self._spec.timezone))
        elif type_ != "timestamp with time zone":
            raise SpecError(f"{self._spec.place}.{name} is {type_}, no timestamp", code="history-columns")
        return sql.SQL("(extract(epoch FROM {}) * 1000000)::int8").format(value)

    # ---- records ----------------------------------------------------------------------

    @property
    def json_is_kept(self) -> bool:
        """Whether values of type json are in documents as they were written."""
        return self._of.as_text

    def read(self, tables: Sequence[Table], since: int, limit: int) -> Kept:
        """Every change of these tables from ``since`` on, in the order they were made.

        Raises `CaptureProblem` for more than ``limit`` of them, and for documents that are no rows of today's tables.
        """
        with explained(f"reading the history in {self._spec.place}"):
            begins = self._scalar("SELECT {time} FROM {audit} a ORDER BY {order} LIMIT 1")
            first = self._scalar(
                "SELECT {order} FROM {audit} a WHERE {time} > {since} ORDER BY {order} LIMIT 1", since=sql.Literal(since)
            )
            if first is None:
                return Kept(since=begins)
            everything = sql.SQL("true")
            needed = sql.SQL("{} >= {}").format(self._of.order, sql.Literal(first))
            count = self._scalar("SELECT count(*) FROM {audit} a WHERE {where}", where=needed) or 0
            if count > limit:
                raise CaptureProblem(
                    f"the history has {count:,} changes since the first of these tickets was opened",
                    code="history-size",
                    cause=f"history.changes allows {limit:,}, which stay in memory",
                    unchanged="nothing was made",
                    hint="sample tickets of a shorter time, or raise history.changes",
                )
            if (self._scalar("SELECT count(*) FROM {audit} a WHERE {where}", where=everything) or 0) <= limit:
                # What came before tells whether changes are missing; an older definition of a table makes that unreadable.
                try:
                    with self._session.transaction():  # within the snapshot's: a savepoint
                        return self._kept(Kept(since=begins, first=first), tables, everything)
                except CaptureProblem as problem:
                    if problem.code != "history-schema":
                        raise
            note = "what came before the first ticket was not read: a change that is missing just before one is not noticed"
            return self._kept(Kept(since=begins, first=first, notes=[note]), tables, needed)

    def _kept(self, kept: Kept, tables: Sequence[Table], where: sql.Composable) -> Kept:
        known = {names: table for table in tables for names in self._relations(table)}
        there = self._session.execute(
            self._query("SELECT DISTINCT {schema}, {table}, {letter} FROM {audit} a WHERE {where}", where=where)
        ).fetchall()
        self._notes(kept, {(one, other) for one, other, _ in there}, set(known))
        if unknown := {str(letter) for _, _, letter in there} - {"i", "c", "u", "d", "t"}:
            raise CaptureProblem(
                f"{self._spec.place} says of changes that they are {', '.join(sorted(unknown))}",
                code="history-columns",
                cause="the first letter tells: i or c, u, d, t",
                unchanged="nothing was made",
            )
        for table in tables:
            if any(known.get((one, other)) is table for one, other, _ in there):
                kept.records += self._records(table, where, kept)
        kept.records.sort(key=lambda record: record.order)
        return kept

    def _scalar(self, query: str, **parts: sql.Composable) -> int | None:
        row = self._session.execute(self._query(query, **parts)).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def _query(self, query: str, **parts: sql.Composable) -> sql.Composed:
        of = self._of
        named = {"order": of.order, "time": of.time, "letter": of.letter, "schema": of.schema, "table": of.table}
        return sql.SQL(query).format(audit=self._name, **named, **parts)

    def _relations(self, table: Table) -> list[tuple[str, str]]:
        """The table by schema and name, and its partitions, which triggers name."""
        found = (self._catalog.relations[oid] for oid in {table.id, *self._catalog.leaves.get(table.id, ())})
        return [(one.schema, one.name) for one in found]

    def _notes(self, kept: Kept, there: set[tuple[str, str]], known: set[tuple[str, str]]) -> None:
        others = {(one.schema, one.name) for one in self._catalog.relations.values()}
        if gone := sorted(shown_name(*one) for one in there - known - others):
            kept.notes.append(f"the history has changes of tables that the source has not: {', '.join(gone)}")

    def _records(self, table: Table, where: sql.Composable, kept: Kept) -> Iterator[Record]:
        width = len(table.stored)
        extra: set[str] = set()
        with schema_changed(table), self._session.cursor() as cursor, cursor.copy(self._selection(table, where)) as copy:
            for line in copy:
                fields = [column_text(field) for field in bytes(line).rstrip(b"\n").split(b"\t")]
                order, at, letter, actor, transaction, old_has, new_has, *values = fields
                if letter == "t" or (old_has is None and new_has is None):
                    kept.truncated.setdefault(table.shown, []).append(int(at or 0))
                    continue
                old = _row(table, values[:width], old_has, extra)
                new = _row(table, values[width:], new_has, extra)
                yield Record(int(order or 0), int(at or 0), table.shown, old, new, actor or "", transaction or "")
        if extra:
            kept.notes.append(f"the history of {table.shown} has columns that it has no more: {', '.join(sorted(extra))}")

    def _selection(self, table: Table, where: sql.Composable) -> sql.Composed:
        of = self._of
        names = sql.SQL(" OR ").join(
            sql.SQL("({} = {} AND {} = {})").format(of.schema, sql.Literal(schema), of.table, sql.Literal(name))
            for schema, name in self._relations(table)
        )
        columns = [column.name for column in table.stored]
        values = [sql.Identifier(row, name) for row in ("o", "n") for name in columns]
        return sql.SQL(
            "COPY (SELECT d.ord, d.at, d.letter, d.actor, d.tx, {old_has}, {new_has}, {values} FROM ("
            "SELECT {order} ord, {time} at, {letter} letter, {actor} actor, {tx} tx, {old} old, {new} new"
            " FROM {audit} a WHERE {where} AND ({names})) d, LATERAL {old_row} o, LATERAL {new_row} n ORDER BY d.ord) TO STDOUT"
        ).format(
            order=of.order, time=of.time, letter=of.letter, actor=of.actor, tx=of.transaction, old=of.old, new=of.new,
            audit=self._name, where=where, names=names,
            values=sql.SQL(", ").join(values),
            old_has=self._has("old", columns), new_has=self._has("new", columns),
            old_row=self._as_row(table, "old", "new"), new_row=self._as_row(table, "new", "old"),
        )  # fmt: skip

    @staticmethod
    def _has(document: str, columns: Sequence[str]) -> sql.Composed:
        """Null without the document, empty when it has exactly these columns, else those that it has, as a JSON array."""
        return sql.SQL(
            "CASE WHEN {0} IS NULL THEN NULL"
            " WHEN {0} ?& {1} AND (SELECT count(*) FROM jsonb_object_keys({0})) = {2} THEN ''"
            " ELSE (SELECT coalesce(jsonb_agg(k), '[]')::text FROM jsonb_object_keys({0}) k) END"
        ).format(sql.Identifier("d", document), sql.Literal(list(columns)), sql.Literal(len(columns)))

    def _as_row(self, table: Table, document: str, otherwise: str) -> sql.Composed:
        # Of a document that is not there comes a row that nobody looks at; the other one's, as that has what domains insist on.
        value = sql.SQL("coalesce({}, {}, '{{}}')").format(sql.Identifier("d", document), sql.Identifier("d", otherwise))
        if not self._of.as_text:
            type_ = sql.Identifier(table.schema, table.name)
            return sql.SQL("jsonb_populate_record(NULL::{}, {})").format(type_, value)
        columns = sql.SQL(", ").join(
            sql.SQL("({} ->> {})::" + column.type.replace("{", "{{").replace("}", "}}") + " AS {}").format(
                value, sql.Literal(column.name), sql.Identifier(column.name)
            )
            for column in table.stored
        )
        return sql.SQL("(SELECT {})").format(columns)


@contextmanager
def schema_changed(table: Table) -> Iterator[None]:
    """Values that are none of today's columns, in words."""
    try:
        yield
    except psycopg.DataError as error:
        raise CaptureProblem(
            f"the history of {table.shown} holds what its columns cannot hold today",
            code="history-schema",
            cause=first_line(error),
            unchanged="nothing was made",
            hint="its definition changed since: sample tickets that were opened after the migration",
        ) from error


def column_text(field: bytes) -> str | None:
    return None if field == NULL else unescape(field).decode()


def _row(table: Table, values: Sequence[str | None], has: str | None, extra: set[str]) -> Row | None:
    if has is None:
        return None
    if not has:
        return tuple(values)
    there = set(json.loads(has))
    columns = {column.name for column in table.columns}
    extra |= there - columns
    return tuple(value if column.name in there else ABSENT for column, value in zip(table.stored, values, strict=True))
