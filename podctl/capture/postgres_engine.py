"""A PostgreSQL source as the capture sees it."""

from __future__ import annotations

import codecs
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from podctl.capture.distributions import Look, Sample
from podctl.capture.engine import Definition, Facts, Moment, PastRows
from podctl.capture.postgres import PostgresRows
from podctl.capture.postgres_catalog import Relation, fingerprint, read_catalog, refuse_changed, refuse_unreadable
from podctl.capture.postgres_past import PostgresPast
from podctl.capture.postgres_samples import samples
from podctl.capture.postgres_schema import DumpPrograms, dump
from podctl.capture.postgres_session import address, begin_snapshot, explained, open_session
from podctl.capture.problems import CaptureProblem
from podctl.capture.rules import Rules
from podctl.capture.schema import Edge, Schema, Table
from podctl.capture.worklist import Rowid
from podctl.errors import SpecError
from podctl.spec.capture import CaptureSource
from podctl.spec.history import History

_HOLDERS = """
SELECT DISTINCT a.pid, a.usename, coalesce(a.application_name, '') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE l.relation = {} AND l.mode = 'AccessExclusiveLock' AND l.granted"""

_SEQUENCES = """
SELECT format('SELECT pg_catalog.setval(pg_catalog.to_regclass(%L), %s, true);', format('%I.%I', schemaname, sequencename), last_value)
FROM pg_sequences WHERE last_value IS NOT NULL ORDER BY schemaname, sequencename"""

_VIRTUAL = """
SELECT a.attrelid::regclass::text || '.' || a.attname, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attgenerated = 'v' ORDER BY 1"""


class PostgresEngine:
    """Raises `CaptureProblem` when the source cannot be reached or read."""

    def __init__(self, source: CaptureSource, programs: DumpPrograms, seed: int) -> None:
        self._source, self._programs = source, programs
        self._address = address(source)
        self._seed = seed
        self._session = open_session(source, self._address)

    def begin(self) -> Moment:
        with explained("taking a snapshot"):
            self._session.execute("ROLLBACK")
            begin_snapshot(self._session)
            # Transaction numbers are the cluster's: of equal snapshots no transaction of either database lies between.
            (state,) = self._session.execute("SELECT pg_current_snapshot()::text").fetchone() or ("",)
            (clock,) = self._session.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone() or ("",)
        return Moment(str(clock), str(state), time.time())

    def read(self) -> None:
        with explained("reading what tables there are"):
            self._begun = fingerprint(self._session)
            self._catalog = read_catalog(self._session)
        self.facts = self._read_facts()
        decode = _decoder(self._source, self.facts.encoding)
        self.rows = _DecodedRows(PostgresRows(self._session, self._catalog, self._seed), self._catalog.schema, decode)

    @property
    def schema(self) -> Schema:
        return self._catalog.schema

    def _read_facts(self) -> Facts:
        with explained("reading its settings"):
            query = "SELECT extname, extversion FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
            extensions = {str(name): str(version) for name, version in self._session.execute(query)}
            (locale,) = self._session.execute(
                "SELECT datcollate FROM pg_database WHERE datname = current_database()"
            ).fetchone() or ("",)
        status = self._session.info.parameter_status
        return Facts(
            "postgresql",
            (status("server_version") or "").split(" ")[0],
            status("server_encoding") or "",
            self._session.info.dbname,
            str(locale),
            extensions,
        )

    def secure(self, rules: Rules) -> None:
        refuse_unreadable(self._catalog, rules.left_out, self._session.info.user)
        for relation in self._catalog.relations.values():
            if relation.kind != "f" and self._catalog.relations[relation.root].shown not in rules.left_out:
                self._lock(relation)
        self.refuse_changed(rules)

    def _lock(self, relation: Relation) -> None:
        name = sql.Identifier(relation.schema, relation.name)
        try:
            self._session.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(name))
        except psycopg.errors.LockNotAvailable as error:
            raise CaptureProblem(
                f"{relation.shown} is locked by somebody else",
                code="capture-locked",
                cause=f"{self._holders(relation)}; podctl waited {self._source.lock_timeout:g} s",
                unchanged="nothing was made, and nothing of the source is held",
                hint="wait until they are done, or raise source.lock_timeout",
            ) from error
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise CaptureProblem(
                f"the source's schema changed while it was captured: {relation.shown} is gone",
                code="capture-schema-changed",
                unchanged="nothing was made",
                hint="capture again when the migration has ended",
            ) from error
        except psycopg.Error:
            with explained(f"locking {relation.shown} against changes of its definition"):
                raise

    def _holders(self, relation: Relation) -> str:
        with self._another() as session:
            found = session.execute(sql.SQL(_HOLDERS).format(sql.Literal(relation.id))).fetchall()
        return (
            "held by "
            + ", ".join(
                f"pid {pid} of {user}" + (f" ({application})" if application else "") for pid, user, application in found
            )
            if found
            else "a lock that conflicts with reading is held or waited for"
        )

    def _another(self) -> psycopg.Connection[tuple[object, ...]]:
        return open_session(self._source, self._address)

    def definition(self, rules: Rules, directory: Path, without_extensions: Sequence[str]) -> Definition:
        with explained("exporting the snapshot"):
            (snapshot,) = self._session.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        before, after, gone = dump(
            self._programs,
            self._address,
            self._catalog,
            str(snapshot),
            directory,
            left_out=rules.left_out,
            dropped=[edge.constraint_id for edge in rules.dropped if edge.constraint_id],
            extensions=without_extensions,
            server=self._session.info.server_version,
            lock_timeout=self._source.lock_timeout,
            timeout=self._source.statement_timeout,
        )
        with explained("reading where sequences stand"):
            (objects,) = self._session.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() or (0,)
            sequences = [line for (line,) in self._session.execute(_SEQUENCES)]
            virtual = self._session.execute(_VIRTUAL).fetchall() if self._session.info.server_version >= 180000 else []
        if objects:
            gone["large objects"] = f"the source has {objects:,}; podctl copies rows of tables only"
        for column, expression in virtual:
            # No row changes of a table with virtual columns can be captured; stored ones show the same values.
            before, count = re.subn(
                re.escape(f"GENERATED ALWAYS AS ({expression})") + "(?! STORED)",
                lambda match: f"{match[0]} STORED",
                before,
            )
            if count:
                gone[f"virtual column {column}"] = "it is stored in the copy, with the same values"
        return Definition(before, after + "\n".join(["", *sequences, ""]), gone)

    def samples(self, table: str, columns: Mapping[str, Look], rows: Sequence[Rowid]) -> tuple[Sample, Sample] | None:
        if self.facts.encoding == "SQL_ASCII":  # words of no certain meaning
            return None
        with explained(f"looking at samples of {table}"):
            return samples(self._session, self._catalog, table, columns, rows)

    def now(self) -> int:
        with explained("asking for the time"):
            (now,) = self._session.execute("SELECT (extract(epoch FROM now()) * 1000000)::int8").fetchone() or (0,)
        return int(now)

    def history(self, spec: History) -> PastRows:
        return PostgresPast(self._session, self._catalog, spec)

    def refuse_changed(self, rules: Rules) -> None:
        with self._another() as session, explained("looking whether the schema is still the same"):
            refuse_changed(self._begun, fingerprint(session), rules.left_out)

    def close(self) -> None:
        self._session.close()


def _decoder(source: CaptureSource, encoding: str) -> str:
    """The codec of the rows' bytes. Raises `SpecError` for one that Python does not know."""
    if encoding != "SQL_ASCII":
        if source.encoding is not None:
            raise SpecError(
                f"source.encoding is given, but the database says itself that it is {encoding}",
                code="capture-encoding",
                hint="remove it: the server converts",
            )
        return "utf-8"
    try:
        return codecs.lookup(source.encoding or "utf-8").name
    except LookupError as error:
        raise SpecError(f"source.encoding: {error}", code="capture-encoding", hint="a codec's name such as latin-1") from error


class _DecodedRows:
    """Rows whose text is UTF-8, whatever the database said of it."""

    def __init__(self, rows: PostgresRows, schema: Schema, codec: str) -> None:
        self._rows, self._schema, self._codec = rows, schema, codec
        self.named, self.parents, self.children = rows.named, rows.parents, rows.children
        self.without_parent, self.count = rows.without_parent, rows.count

    def chunks(
        self, table: str, rows: Sequence[Rowid] | None, nulled: Sequence[tuple[Edge, Sequence[Rowid]]], largest: int
    ) -> Iterator[tuple[bytes, int]]:
        before = 0
        for chunk, count in self._rows.chunks(table, rows, nulled, largest):
            try:
                text = chunk.decode(self._codec)
            except UnicodeDecodeError as error:
                raise _misread(self._schema.tables[table], chunk, before, error) from error
            yield chunk if self._codec == "utf-8" else text.encode(), count
            before += count


def _misread(table: Table, chunk: bytes, before: int, error: UnicodeDecodeError) -> CaptureProblem:
    row = chunk[: error.start].count(b"\n")
    start = chunk.rfind(b"\n", 0, error.start) + 1
    column = table.stored[min(chunk[start : error.start].count(b"\t"), len(table.stored) - 1)].name
    return CaptureProblem(
        f"{table.shown}.{column} holds text that is not {error.encoding}: the byte 0x{chunk[error.start]:02x} in row {before + row + 1}",
        code="capture-encoding",
        cause="the database's encoding is SQL_ASCII, which checks nothing",
        unchanged="nothing was made",
        hint="say what it holds with source.encoding (latin-1, windows-1252, …), or mend the rows",
    )
