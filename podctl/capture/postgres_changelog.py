"""The past out of a change log: a file that logical decoding wrote, as rows of the source's tables."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from psycopg import sql

from podctl.capture.changelog import Line, Values, read_wal2json
from podctl.capture.past import ABSENT, Kept, Record, Row
from podctl.capture.postgres_audit import column_text, schema_changed
from podctl.capture.postgres_catalog import Catalog, Session
from podctl.capture.postgres_session import explained
from podctl.capture.problems import CaptureProblem
from podctl.capture.schema import Table
from podctl.data.catalog import shown_name
from podctl.errors import SpecError
from podctl.spec.history import ChangeLog

_BATCH = 1_000


class PostgresChangeLog:
    """Reads one file; the source's session tells what its values are."""

    json_is_kept = True

    def __init__(self, session: Session, catalog: Catalog, spec: ChangeLog) -> None:
        self._session, self._catalog, self._spec = session, catalog, spec

    def read(self, tables: Sequence[Table], since: int, limit: int) -> Kept:
        """Every change of these tables in the file, in the order of their commits.

        Raises `SpecError` for a file that is no such log, `CaptureProblem` for more than ``limit`` changes, for one that ends before
        the capture, and for values that are none of today's columns.
        """
        known = {names: table for table in tables for names in self._relations(table)}
        kept, lines = Kept(), list[tuple[Table, Line]]()
        others, newest = Counter[str](), 0
        for line in self._lines():
            kept.since = line.at if kept.since is None else min(kept.since, line.at)
            newest = max(newest, line.xid)
            table = known.get((line.schema, line.table))
            if table is None:
                others[shown_name(line.schema, line.table)] += 1
            elif line.op == "t":
                kept.truncated.setdefault(table.shown, []).append(line.at)
            else:
                lines.append((table, line))
            if len(lines) > limit:
                raise CaptureProblem(
                    f"{self._spec.file} has more changes than history.changes allows ({limit:,})",
                    code="history-size",
                    unchanged="nothing was made",
                    hint="they stay in memory: cut the file to after the tickets, or raise history.changes",
                )
        here = {shown_name(one.schema, one.name) for one in self._catalog.relations.values()}
        if gone := sorted(others.keys() - here):
            kept.notes.append(f"the history has changes of tables that the source has not: {', '.join(gone)}")
        kept.first = next((order for order, (_, line) in enumerate(lines) if line.at > since), len(lines))
        kept.records = self._records(lines)
        for table in {table.shown: table for table, _ in lines}.values():
            self._refuse_short(table, [record.new for record in kept.records if record.table == table.shown], newest)
        return kept

    def _lines(self) -> Iterator[Line]:
        try:
            with self._spec.file.open(encoding="utf-8") as stream:
                yield from read_wal2json(stream)
        except OSError as error:
            raise SpecError(
                f"cannot read {self._spec.file}", code="history-file", cause=error.strerror or str(error)
            ) from error
        except ValueError as error:
            cause = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            raise SpecError(
                f"{self._spec.file} is no change log that can be read",
                code="history-file",
                cause=cause,
                unchanged="nothing was made",
            ) from error

    def _relations(self, table: Table) -> list[tuple[str, str]]:
        found = (self._catalog.relations[oid] for oid in {table.id, *self._catalog.leaves.get(table.id, ())})
        return [(one.schema, one.name) for one in found]

    def _refuse_short(self, table: Table, images: Sequence[Row | None], newest: int) -> None:
        """Rows that later transactions than the file knows have written, and that it does not know: their past is nobody's.

        A later number may also be of a part of a transaction (a savepoint), whose rows the file knows.
        """
        places = [place for place, column in enumerate(table.stored) if column.name in table.key]
        known = {tuple(row[place] for place in places) for row in images if row is not None}
        names = sql.SQL(", ").join(sql.Identifier(table.stored[place].name) for place in places)
        query = sql.SQL("COPY (SELECT {} FROM {} WHERE age(xmin) < age({}::text::xid)) TO STDOUT").format(
            names, sql.Identifier(table.schema, table.name), sql.Literal(str(newest % 2**32))
        )
        if not places:
            return
        with (
            explained(f"looking whether the change log knows the newest rows of {table.shown}"),
            self._session.cursor() as cursor,
            cursor.copy(query) as copy,
        ):
            count = sum(tuple(map(column_text, bytes(line).rstrip(b"\n").split(b"\t"))) not in known for line in copy)
        if count:
            raise CaptureProblem(
                f"{self._spec.file} ends before the capture: {count:,} rows of {table.shown} were written later",
                code="history-ends",
                unchanged="nothing was made",
                hint="fetch what the slot has, then capture at once; or capture from a standby that stands still",
            )

    def _records(self, lines: Sequence[tuple[Table, Line]]) -> list[Record]:
        images: dict[str, list[tuple[int, bool, Values]]] = defaultdict(list)
        tables = {table.shown: table for table, _ in lines}
        for order, (table, line) in enumerate(lines):
            if line.op in ("u", "d"):
                images[table.shown].append((order, True, line.old or {}))
            if line.op in ("u", "i"):
                images[table.shown].append((order, False, line.new or {}))
        rows: dict[tuple[int, bool], Row] = {}
        for name, these in images.items():
            for batch in (these[start : start + _BATCH] for start in range(0, len(these), _BATCH)):
                for (order, old, _), row in zip(batch, self._rows(tables[name], [one for *_, one in batch]), strict=True):
                    rows[order, old] = row
        return [
            Record(order, line.at, table.shown, rows.get((order, True)), rows.get((order, False)), "", str(line.xid))
            for order, (table, line) in enumerate(lines)
        ]

    def _rows(self, table: Table, images: Sequence[Values]) -> Iterator[Row]:
        """As the source writes them, without what is not there."""
        binary = {column.name for column in table.stored if column.type == "bytea"}
        documents = [
            {name: f"\\x{value}" if name in binary and value is not None else value for name, value in one.items()}
            for one in images
        ]
        columns = sql.SQL(", ").join(
            sql.SQL("(v ->> {})::" + column.type.replace("{", "{{").replace("}", "}}")).format(sql.Literal(column.name))
            for column in table.stored
        )
        query = sql.SQL(
            "COPY (SELECT {} FROM jsonb_array_elements({}::jsonb) WITH ORDINALITY e(v, n) ORDER BY n) TO STDOUT"
        ).format(columns, sql.Literal(json.dumps(documents)))
        with (
            explained(f"reading the history in {self._spec.file}"),
            schema_changed(table),
            self._session.cursor() as cursor,
            cursor.copy(query) as copy,
        ):
            for line, image in zip(copy, images, strict=True):
                values = [column_text(field) for field in bytes(line).rstrip(b"\n").split(b"\t")]
                yield tuple(
                    value if column.name in image else ABSENT for column, value in zip(table.stored, values, strict=True)
                )
