"""Filling a database from SQL scripts and CSV files, with errors that name the file and the line."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from difflib import get_close_matches
from pathlib import Path

import psycopg
from psycopg import sql

from podctl.data.captured import AFTER, BEFORE, CapturedSeed, copy_in, refresh_views, verified
from podctl.data.catalog import Catalog, Table, read_catalog
from podctl.data.connect import Connection, first_line, is_the_machines, server_failed
from podctl.data.sqltext import SqlTextProblem, Statement, split_statements
from podctl.errors import PodctlError, SpecError
from podctl.spec.models import Seed

_COPY_LINE = re.compile(r"^COPY .*?, line (\d+)")
_CHUNK = 1 << 16


class SeedProblem(SpecError):
    """A database could not be filled from its seed."""


def seed_digest(seed: Seed) -> str:
    """sha256 over what the seed's files hold and the order they are used in, not where they lie."""
    digest = hashlib.sha256()
    if seed.captured:
        digest.update(f"captured {verified(seed.captured).digest}\n".encode())
    for label, path in [*(("sql", path) for path in seed.sql), *((f"csv {table}", path) for table, path in seed.csv.items())]:
        content = _read(path)
        digest.update(f"{label} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


async def load_seed(connection: Connection, seed: Seed) -> None:
    """Load what was captured, run the scripts in order, load the CSV files in order, then bring sequences past the loaded keys.

    Raises `SeedProblem`.
    """
    if seed.captured:
        await _load_captured(connection, seed.captured)
    for path in seed.sql:
        await _run_script(connection, path)
        # pg_dump's scripts leave an empty search_path and more behind.
        await connection.execute("DISCARD ALL")
    if seed.csv:
        catalog = await read_catalog(connection)
        for table, path in seed.csv.items():
            await _load_csv(connection, catalog, table, path)
    await _advance_sequences(connection, await read_catalog(connection))


async def _load_captured(connection: Connection, directory: Path) -> None:
    manifest = verified(directory)
    try:
        await _load_parts(connection, directory, manifest)
    except SeedProblem as problem:
        problem.hint = problem.hint or _older(connection.info.server_version // 10_000, manifest)
        raise


async def _load_parts(connection: Connection, directory: Path, manifest: CapturedSeed) -> None:
    await _run_script(connection, directory / BEFORE)
    await connection.execute("DISCARD ALL")
    for table in manifest.tables:
        try:
            await copy_in(connection, directory, table)
        except psycopg.Error as error:
            match = _COPY_LINE.search(error.diag.context or "")
            raise _failed(directory / str(table.file), int(match[1]) if match else None, error) from error
    await _run_script(connection, directory / AFTER)
    await connection.execute("DISCARD ALL")
    try:
        await refresh_views(connection)
    except psycopg.Error as error:
        raise _failed(directory / AFTER, None, error) from error


def _older(major: int, manifest: CapturedSeed) -> str:
    """What to type where the server that a seed is loaded into is older than the one that it was captured from."""
    captured = manifest.engine_version.partition(".")[0]
    if manifest.engine != "postgresql" or not captured.isdecimal() or int(captured) <= major:
        return ""
    return f"it was captured from PostgreSQL {captured}, and this server is {major}: use an image with PostgreSQL {captured}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SeedProblem(f"cannot read seed file {path}", code="seed-file", cause=error.strerror or str(error)) from error


def _text(path: Path) -> str:
    try:
        return _read(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _problem(path, None, f"not UTF-8 at byte {error.start}") from error


def _problem(path: Path, line: int | None, cause: str, hint: str = "") -> SeedProblem:
    where = f"{path}:{line}" if line else str(path)
    return SeedProblem(f"seeding failed at {where}", code="seed-failed", cause=cause, hint=hint)


def _failed(path: Path, line: int | None, error: psycopg.Error) -> PodctlError:
    problem = _problem(path, line, _explain(error))
    return server_failed(problem.what, "database-failed", error) if is_the_machines(error) else problem


async def _run_script(connection: Connection, path: Path) -> None:
    try:
        for statement in split_statements(_text(path)):
            try:
                await _run(connection, statement)
            except psycopg.Error as error:
                raise _failed(path, _error_line(statement, error), error) from error
    except SqlTextProblem as error:
        raise _problem(path, error.line, error.reason) from error


async def _run(connection: Connection, statement: Statement) -> None:
    if statement.copy_data is None:
        await connection.execute(statement.text.encode())
        return
    async with connection.cursor() as cursor, cursor.copy(statement.text.encode()) as copy:
        data = statement.copy_data.encode()
        for start in range(0, len(data), _CHUNK):
            await copy.write(data[start : start + _CHUNK])


def _error_line(statement: Statement, error: psycopg.Error) -> int:
    if statement.copy_data is not None and (match := _COPY_LINE.search(error.diag.context or "")):
        return statement.line + statement.text.count("\n") + int(match[1])
    position = int(error.diag.statement_position or 1)
    return statement.line + statement.text.count("\n", 0, position - 1)


def _explain(error: psycopg.Error) -> str:
    detail = error.diag.message_detail
    return first_line(error) + (f" ({detail.splitlines()[0]})" if detail else "")


def find_table(catalog: Catalog, name: str) -> tuple[Table | None, list[str]]:
    """The table called ``name`` (``schema.table``, or ``table`` in public), or names like it."""
    tables = catalog.by_name()
    found = tables.get(name.removeprefix("public."))
    return found, [] if found else get_close_matches(name.removeprefix("public."), tables, n=3)


async def _load_csv(connection: Connection, catalog: Catalog, name: str, path: Path) -> None:
    table, like = find_table(catalog, name)
    if table is None:
        raise _problem(path, None, f"there is no table {name}", _did_you_mean(like))
    text = _text(path)
    header = next(csv.reader(io.StringIO(text)), [])
    columns = {column.name for column in table.columns}
    for column in header:
        if column not in columns:
            like = get_close_matches(column, columns, n=3)
            raise _problem(path, 1, f"table {name} has no column {column!r}", _did_you_mean(like))
    if not header:
        raise _problem(path, 1, "the header row with the column names is missing")
    copy_from = sql.SQL("COPY {} ({}) FROM STDIN WITH (FORMAT csv, HEADER true)").format(
        sql.Identifier(table.schema, table.name), sql.SQL(", ").join(map(sql.Identifier, header))
    )
    try:
        async with connection.cursor() as cursor, cursor.copy(copy_from) as copy:
            for start in range(0, len(text), _CHUNK):
                await copy.write(text[start : start + _CHUNK])
    except psycopg.Error as error:
        match = _COPY_LINE.search(error.diag.context or "")
        raise _failed(path, int(match[1]) if match else None, error) from error


def _did_you_mean(names: list[str]) -> str:
    return f"did you mean {' or '.join(names)}?" if names else ""


_OWNED_SEQUENCES = """
SELECT n.nspname, c.relname, a.attname, sn.nspname, s.relname
FROM pg_depend e
JOIN pg_class s ON s.oid = e.objid AND s.relkind = 'S'
JOIN pg_namespace sn ON sn.oid = s.relnamespace
JOIN pg_class c ON c.oid = e.refobjid AND c.relkind IN ('r', 'p')
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = e.refobjsubid
WHERE e.classid = 'pg_class'::regclass AND e.refclassid = 'pg_class'::regclass AND e.deptype IN ('a', 'i')"""


async def _advance_sequences(connection: Connection, catalog: Catalog) -> None:
    # Rows loaded with their keys leave the sequence at its start, and the first insert of a service would collide.
    cursor = await connection.execute(_OWNED_SEQUENCES)
    owned = {(schema, table, column): (s_schema, s_name) for schema, table, column, s_schema, s_name in await cursor.fetchall()}
    for table in catalog.tables.values():
        for column in table.columns:
            sequence = column.sequence or owned.get((table.schema, table.name, column.name))
            if sequence is None or column.kind != "integer":
                continue
            await connection.execute(
                sql.SQL(
                    "SELECT setval({sequence}::regclass, m.top) FROM (SELECT max({column}) AS top FROM {table}) m,"
                    " {sequence_table} q WHERE m.top > q.last_value OR (m.top = q.last_value AND NOT q.is_called)"
                ).format(
                    sequence=sql.Literal(sql.Identifier(*sequence).as_string(connection)),
                    sequence_table=sql.Identifier(*sequence),
                    column=sql.Identifier(column.name),
                    table=sql.Identifier(table.schema, table.name),
                )
            )
