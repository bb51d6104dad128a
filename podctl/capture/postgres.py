"""Rows of a PostgreSQL source by reference, and as COPY text.

A row is known by the relation that holds it and its place in it (tableoid and ctid), as one number. A place stays the row's own
for a whole snapshot: nothing that the snapshot sees is vacuumed away, and rewriting a table needs a lock that this session's
keeps out. So tables without a key, composite keys and partitions need no case of their own, and a row costs a number.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager

from psycopg import sql

from podctl.capture.postgres_catalog import Catalog, Session
from podctl.capture.postgres_copy import copied_out
from podctl.capture.postgres_session import explained
from podctl.capture.problems import CaptureProblem
from podctl.capture.schema import Edge, Table
from podctl.capture.worklist import Rowid

_FETCH = 20_000
_CHUNK = 1 << 18
_INTEGERS = {"smallint": 15, "integer": 31, "bigint": 63}
#: Types whose equality with a value given as text an index can serve.
_PLAIN = (*_INTEGERS, "numeric", "text", "character varying", "character", "uuid", "boolean", "date")


def rowid(relation: int, place: str) -> int:
    block, offset = place[1:-1].split(",")
    return relation << 48 | int(block) << 16 | int(offset)


def place_of(row: int) -> str:
    return f"({(row >> 16) & 0xFFFFFFFF},{row & 0xFFFF})"


def _places(rows: Iterable[int]) -> str:
    """As the text of a tid[]."""
    return "{" + ",".join(f'"{place_of(row)}"' for row in rows) + "}"


class PostgresRows:
    """The worklist's `Source` in a session whose snapshot has begun."""

    def __init__(self, session: Session, catalog: Catalog, seed: int) -> None:
        self._session, self._catalog, self._seed = session, catalog, seed
        self._tables = catalog.schema.tables
        self._nested: bool | None = None

    # ---- which rows ---------------------------------------------------------------

    def named(self, table: str, columns: Sequence[str], values: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
        """(position in ``values``, row) of every row that has these values, given as text."""
        target = self._tables[table]
        types = [column.type for name in columns if (column := target.column(name))]
        usable = [(n, one) for n, one in enumerate(values) if all(map(_fits, types, one))]
        conditions = []
        for number, (name, kind) in enumerate(zip(columns, types, strict=True)):
            left, right = sql.Identifier("t", name), sql.Identifier("v", f"c{number}")
            plain = kind.split("(")[0] in _PLAIN
            # Without its length: a cast to character(3) would cut, and find what was not named.
            bare = kind.split("(")[0].replace("character varying", "text").replace("character", "bpchar")
            conditions.append(
                sql.SQL("{} = {}::" + bare).format(left, right) if plain else sql.SQL("{}::text = {}").format(left, right)
            )
        names = sql.SQL(", ").join(sql.Identifier(f"c{number}") for number in range(len(columns)))
        arrays = sql.SQL(", ").join(
            sql.SQL("{}::text[]").format(sql.Literal([one[number] for _, one in usable])) for number in range(len(columns))
        )
        query = sql.SQL(
            "SELECT v.n, t.tableoid::int8, t.ctid::text FROM unnest({arrays}) WITH ORDINALITY AS v({names}, n)"
            " JOIN {table} t ON {conditions}"
        ).format(arrays=arrays, names=names, table=self._rows_of(target.id), conditions=sql.SQL(" AND ").join(conditions))
        with explained(f"looking for rows of {table} that tickets name"):
            self._joining(True)
            found = self._session.execute(query).fetchall()
        return [(usable[position - 1][0], rowid(relation, place)) for position, relation, place in found]

    def parents(self, edge: Edge, rows: Sequence[Rowid] | None, limit: int) -> tuple[set[Rowid], bool]:
        found: set[Rowid] = set()
        dangling = False
        with explained(f"following {edge.label}"):
            self._joining(edge.to_indexed and rows is not None)
            for child, these in self._children_of(edge, rows):
                query = sql.SQL(
                    "SELECT DISTINCT p.tableoid::int8, p.ctid::text FROM {child} c LEFT JOIN {parent} p ON {on} WHERE {given} {these} LIMIT {limit}"
                ).format(
                    child=child,
                    parent=self._rows_of(edge.parent_id),
                    on=self._on(edge),
                    given=self._given(edge),
                    these=these,
                    limit=sql.Literal(limit + 1 if rows is None else None),
                )
                for relation, place in self._session.execute(query):
                    if relation is None:
                        dangling = True
                    else:
                        found.add(rowid(relation, place))
        return found, dangling

    def children(self, edge: Edge, rows: Sequence[Rowid], cap: int) -> tuple[set[Rowid], int]:
        found: set[Rowid] = set()
        beyond = 0
        with explained(f"taking children by {edge.label}"):
            self._joining(edge.indexed)
            for relation, places in self._by_relation(rows, edge.parent_id):
                query = sql.SQL(
                    "SELECT o, i, n, total FROM (SELECT c.tableoid::int8 o, c.ctid::text i,"
                    " row_number() OVER (PARTITION BY p.ctid ORDER BY {order}, c.tableoid, c.ctid) n,"
                    " count(*) OVER (PARTITION BY p.ctid) total"
                    " FROM {parent} p JOIN {child} c ON {on} WHERE p.ctid = ANY ({places}::tid[]) AND {given}) s WHERE n <= {cap}"
                ).format(
                    order=self._stable_order(edge.child),
                    parent=self._rows_of(relation),
                    child=self._rows_of(edge.child_id),
                    on=self._on(edge),
                    given=self._given(edge),
                    places=sql.Literal(_places(places)),
                    cap=sql.Literal(cap),
                )
                for oid, place, number, total in self._session.execute(query):
                    found.add(rowid(oid, place))
                    beyond += max(0, total - cap) if number == 1 else 0
        return found, beyond

    def without_parent(
        self, edge: Edge, rows: Sequence[Rowid] | None, taken: Callable[[Rowid], bool]
    ) -> tuple[list[Rowid], int]:
        lost: list[Rowid] = []
        dangling = 0
        with explained(f"looking for rows that {edge.label} no longer leads anywhere for"):
            self._joining(edge.to_indexed and rows is not None)
            for child, these in self._children_of(edge, rows):
                query = sql.SQL(
                    "SELECT c.tableoid::int8, c.ctid::text, p.tableoid::int8, p.ctid::text"
                    " FROM {child} c LEFT JOIN {parent} p ON {on} WHERE {given} {these}"
                ).format(
                    child=child,
                    parent=self._rows_of(edge.parent_id),
                    on=self._on(edge),
                    given=self._given(edge),
                    these=these,
                )
                with self._session.cursor(name="podctl_references") as cursor:
                    cursor.itersize = _FETCH
                    cursor.execute(query)
                    for oid, place, parent, parent_place in cursor:
                        if parent is None:
                            dangling += 1
                        if parent is None or not taken(rowid(parent, parent_place)):
                            lost.append(rowid(oid, place))
        return lost, dangling

    # ---- rows themselves ----------------------------------------------------------

    def count(self, table: str) -> int:
        with explained(f"counting the rows of {table}"):
            query = sql.SQL("SELECT count(*) FROM {} t").format(self._rows_of(self._tables[table].id))
            return int((self._session.execute(query).fetchone() or (0,))[0])

    def chunks(
        self, table: str, rows: Sequence[Rowid] | None, nulled: Sequence[tuple[Edge, Sequence[Rowid]]], largest: int
    ) -> Iterator[tuple[bytes, int]]:
        """Some lines of COPY text at a time, and how many; references that lead nowhere are empty.

        In the order of the table's key; ``rows`` None means all rows, in the order that the table has.
        Raises `CaptureProblem` for a row of more than ``largest`` bytes.
        """
        target = self._tables[table]
        query = self._selection(target, rows, nulled).as_bytes(self._session)
        held: list[bytes] = []
        size = 0
        with explained(f"copying {table}"), self._as_stored(), closing(copied_out(self._session, query)) as copy:
            for line in copy:
                if len(line) > largest:
                    raise _too_large(target, len(line), largest)
                held.append(line)
                size += len(line)
                if size >= _CHUNK:
                    yield b"".join(held), len(held)
                    held, size = [], 0
        if held:
            yield b"".join(held), len(held)

    @contextmanager
    def _as_stored(self) -> Iterator[None]:
        """A database that does not know its encoding hands out what it has only to who does not ask for one either."""
        unknown = self._session.info.parameter_status("server_encoding") == "SQL_ASCII"
        if unknown:
            self._session.execute("SET LOCAL client_encoding = 'SQL_ASCII'")
        yield
        if unknown:
            self._session.execute("SET LOCAL client_encoding = 'UTF8'")

    def _selection(
        self, table: Table, rows: Sequence[Rowid] | None, nulled: Sequence[tuple[Edge, Sequence[Rowid]]]
    ) -> sql.Composed:
        if not table.stored:
            # COPY's text has no way to say a row without columns.
            raise CaptureProblem(f"{table.shown} has no columns of its own", code="capture-no-columns", hint="leave_out: it")
        values = sql.SQL(", ").join(self._value(column.name, nulled) for column in table.stored)
        if rows is None:
            return sql.SQL("COPY (SELECT {} FROM {} t) TO STDOUT").format(values, self._rows_of(table.id))
        # Partitions may have the columns in another order.
        names = [*(column.name for column in table.stored), "tableoid", "ctid"]
        parts = [
            sql.SQL("SELECT {} FROM {} t WHERE t.ctid = ANY ({}::tid[])").format(
                sql.SQL(", ").join(sql.Identifier("t", name) for name in names),
                self._rows_of(relation),
                sql.Literal(_places(sorted(places))),
            )
            for relation, places in sorted(self._by_relation(rows, table.id))
        ]
        by = [name for name in table.key if name in names] or ["tableoid", "ctid"]
        return sql.SQL("COPY (SELECT {} FROM ({}) t ORDER BY {}) TO STDOUT").format(
            values, sql.SQL(" UNION ALL ").join(parts), sql.SQL(", ").join(sql.Identifier("t", name) for name in by)
        )

    def _value(self, column: str, nulled: Sequence[tuple[Edge, Sequence[Rowid]]]) -> sql.Composable:
        value: sql.Composable = sql.Identifier("t", column)
        for edge, rows in nulled:
            if column in edge.nulls:
                lost = [
                    sql.SQL("(t.tableoid = {}::oid AND t.ctid = ANY ({}::tid[]))").format(
                        sql.Literal(relation), sql.Literal(_places(places))
                    )
                    for relation, places in sorted(self._by_relation(rows, edge.child_id))
                ]
                value = sql.SQL("CASE WHEN {} THEN NULL ELSE {} END").format(sql.SQL(" OR ").join(lost), value)
        return value

    # ---- parts of queries ---------------------------------------------------------

    def _rows_of(self, relation: int) -> sql.Composable:
        """The relation's own rows; those of its partitions when it is partitioned."""
        one = self._catalog.relations[relation]
        name = sql.Identifier(one.schema, one.name)
        return name if one.kind == "p" else sql.SQL("ONLY {}").format(name)

    def _by_relation(self, rows: Sequence[Rowid], within: int) -> list[tuple[int, list[int]]]:
        """The rows of ``within`` and its partitions, by the relation that holds them."""
        found: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            assert isinstance(row, int)
            found[row >> 48].append(row)
        return [(relation, places) for relation, places in found.items() if relation in self._catalog.leaves[within]]

    def _children_of(self, edge: Edge, rows: Sequence[Rowid] | None) -> Iterator[tuple[sql.Composable, sql.Composable]]:
        """A relation that has some of these rows, and the condition that finds them in it."""
        if rows is None:
            yield self._rows_of(edge.child_id), sql.SQL("")
            return
        for relation, places in self._by_relation(rows, edge.child_id):
            yield (
                self._rows_of(relation),
                sql.SQL("AND c.ctid = ANY ({}::tid[])").format(sql.Literal(_places(places))),
            )

    def _on(self, edge: Edge) -> sql.Composable:
        terms: list[sql.Composable] = []
        parent, child = self._tables[edge.parent], self._tables[edge.child]
        for position, (column, to) in enumerate(zip(edge.columns, edge.to, strict=True)):
            left, right = sql.Identifier("p", to), sql.Identifier("c", column)
            if edge.operators:
                terms.append(sql.SQL("{} " + edge.operators[position] + " {}").format(left, right))
                continue
            kinds = [found.type for table, name in ((parent, to), (child, column)) if (found := table.column(name))]
            # A declared reference may be kept as another type, and hold what is none; the parent's index serves all the same.
            whole = _INTEGERS.get(kinds[0])
            if (kinds[0] == kinds[1] and kinds[0].split("(")[0] in _PLAIN) or (whole and _INTEGERS.get(kinds[1])):
                terms.append(sql.SQL("{} = {}").format(left, right))
            elif whole:
                number = sql.SQL("CASE WHEN {0}::text ~ '^[+-]?[0-9]{{1,18}}$' THEN {0}::text::bigint END").format(right)
                terms.append(sql.SQL("{} = {}").format(left, number))
            else:
                terms.append(sql.SQL("{}::text = {}::text").format(left, right))
        return sql.SQL(" AND ").join(terms)

    def _given(self, edge: Edge) -> sql.Composable:
        terms: list[sql.Composable] = [sql.SQL("{} IS NOT NULL").format(sql.Identifier("c", name)) for name in edge.columns]
        terms += [sql.SQL("{}::text = {}").format(sql.Identifier("c", name), sql.Literal(value)) for name, value in edge.when]
        return sql.SQL(" AND ").join(terms)

    def _stable_order(self, table: str) -> sql.Composable:
        key = self._tables[table].key
        if not key:
            return sql.SQL("0")
        text = sql.SQL(" || ' ' || ").join(sql.SQL("{}::text").format(sql.Identifier("c", name)) for name in key)
        return sql.SQL('hashtextextended(({}) COLLATE "C", {})').format(text, sql.Literal(self._seed))

    def _joining(self, nested: bool) -> None:
        """A few rows through an index, or one pass over a table: the planner cannot know how few rows there are."""
        if nested != self._nested:
            for kind in ("enable_hashjoin", "enable_mergejoin"):
                self._session.execute(f"SET LOCAL {kind} = {'off' if nested else 'on'}".encode())
            self._session.execute(f"SET LOCAL enable_nestloop = {'on' if nested else 'off'}".encode())
            self._nested = nested


def _too_large(table: Table, size: int, largest: int) -> CaptureProblem:
    first = next((column.name for column in table.columns if column.name in table.key), "ctid")
    return CaptureProblem(
        f"a row of {table.shown} has {size / 1e6:,.0f} MB, more than value_bytes allows ({largest / 1e6:,.0f} MB)",
        code="capture-value-size",
        unchanged="nothing was made",
        hint=f"raise value_bytes, or look: SELECT {first}, pg_column_size(t) FROM {table.shown} t ORDER BY 2 DESC LIMIT 5",
    )


_NUMBER = re.compile(r"[+-]?\d{1,60}(\.\d{1,60})?", re.ASCII)
_DATE = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d)", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_SHAPES = {"numeric": _NUMBER, "uuid": _UUID, "date": _DATE, "boolean": re.compile("true|false|t|f")}


def _fits(kind: str, value: str) -> bool:
    """Whether the text can be a value of the type; what cannot matches nothing, and must not stop the query."""
    if bits := _INTEGERS.get(kind):
        return _NUMBER.fullmatch(value) is not None and "." not in value and -(2**bits) <= int(value) < 2**bits
    shape = _SHAPES.get(kind.split("(")[0])
    return shape is None or shape.fullmatch(value) is not None
