"""The past of a PostgreSQL source's rows, and their present in the same form."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from psycopg import sql

from podctl.capture.past import Kept, Row
from podctl.capture.postgres import place_of, rowid
from podctl.capture.postgres_audit import PostgresAudit, column_text
from podctl.capture.postgres_catalog import Catalog, Session
from podctl.capture.postgres_changelog import PostgresChangeLog
from podctl.capture.postgres_session import explained
from podctl.capture.schema import Table
from podctl.capture.worklist import Rowid
from podctl.spec.history import AuditTable, History

_BATCH = 5_000


class PostgresPast:
    """Raises `SpecError`, `CaptureProblem` when the history cannot be read."""

    def __init__(self, session: Session, catalog: Catalog, spec: History) -> None:
        self._session, self._catalog = session, catalog
        self._source = (
            PostgresAudit(session, catalog, spec.source)
            if isinstance(spec.source, AuditTable)
            else PostgresChangeLog(session, catalog, spec.source)
        )

    def read(self, tables: Sequence[Table], since: int, limit: int) -> Kept:
        return self._source.read(tables, since, limit)

    def current(self, table: str, rows: Sequence[Rowid]) -> dict[Rowid, Row]:
        by_relation: dict[int, list[int]] = defaultdict(list)
        for row in rows:
            assert isinstance(row, int)
            by_relation[row >> 48].append(row)
        found: dict[Rowid, Row] = {}
        with explained(f"reading rows of {table} that have a history"):
            for relation, these in sorted(by_relation.items()):
                for start in range(0, len(these), _BATCH):
                    found |= self._read(self._catalog.schema.tables[table], relation, these[start : start + _BATCH])
        return found

    def _read(self, table: Table, relation: int, rows: Sequence[int]) -> dict[Rowid, Row]:
        one = self._catalog.relations[relation]
        names = [(column.type, sql.Identifier("t", column.name)) for column in table.stored]
        # Documents of a history have lost the spaces that json keeps.
        values = [
            sql.SQL("{}::jsonb::json").format(name) if type_ == "json" and not self._source.json_is_kept else name
            for type_, name in names
        ]
        query = sql.SQL("COPY (SELECT t.ctid::text, {} FROM ONLY {} t WHERE t.ctid = ANY ({}::tid[])) TO STDOUT").format(
            sql.SQL(", ").join(values), sql.Identifier(one.schema, one.name), sql.Literal([place_of(row) for row in rows])
        )
        found: dict[Rowid, Row] = {}
        with self._session.cursor() as cursor, cursor.copy(query) as copy:
            for line in copy:
                place, *fields = bytes(line).rstrip(b"\n").split(b"\t")
                found[rowid(relation, place.decode())] = tuple(column_text(field) for field in fields)
        return found
