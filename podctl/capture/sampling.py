"""Some values of every column of a live database, for proposing how each is masked."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from podctl.capture.postgres_catalog import Session, read_catalog
from podctl.capture.postgres_session import address, begin_snapshot, explained, open_session
from podctl.capture.schema import Schema, Table
from podctl.errors import SpecError
from podctl.spec.capture import CaptureSource

#: Characters of a value that are looked at; of documents more, for they must be read as a whole.
_LOOKED_AT, _DOCUMENT = 2_000, 100_000


class Samples:
    """A read-only snapshot of a PostgreSQL source. Raises `CaptureProblem` as a capture does; close it."""

    def __init__(self, source: CaptureSource) -> None:
        if not source.url.startswith(("postgresql://", "postgres://")) and "=" not in source.url.split("/")[0]:
            raise SpecError("values are sampled from PostgreSQL only", code="capture-url", unchanged="nothing was read")
        self._session: Session = open_session(source, address(source))
        try:
            with explained("reading what tables there are"):
                begin_snapshot(self._session)
                self.schema: Schema = read_catalog(self._session).schema
        except BaseException:
            self._session.close()
            raise

    def of(self, table: Table, rows: int) -> dict[str, list[str]]:
        """column -> values as text, neither nulls nor empty ones, of ``rows`` rows at most, spread over a large table."""
        columns = table.stored
        if not columns:
            return {}
        name = sql.Identifier(table.schema, table.name)
        parts = sql.SQL(", ").join(
            sql.SQL("left({}::text, {})").format(
                sql.Identifier(column.name), sql.Literal(_DOCUMENT if column.type in ("json", "jsonb") else _LOOKED_AT)
            )
            for column in columns
        )
        where: sql.Composable = sql.SQL("")
        if table.rows is not None and table.rows > 20 * rows:
            share = min(100.0, max(0.001, 400.0 * rows / table.rows))
            where = sql.SQL(" TABLESAMPLE SYSTEM ({}) REPEATABLE (1)").format(sql.Literal(share))
        query = sql.SQL("SELECT {} FROM {}{} LIMIT {}").format(parts, name, where, sql.Literal(rows))
        with explained(f"sampling {table.shown}"):
            found: Sequence[tuple[object, ...]] = self._session.execute(query).fetchall()
        return {column.name: [str(row[at]) for row in found if row[at] not in (None, "")] for at, column in enumerate(columns)}

    def close(self) -> None:
        self._session.close()
