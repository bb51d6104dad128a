"""A captured seed: a directory with a database's definition in two scripts, and between them its rows as COPY text.

seed.json       what it is: see `CapturedSeed`
before.sql      tables, types, functions: what rows need to be loaded
tables/0001.copy
after.sql       indexes, constraints, triggers, where sequences stand: that references can be added is the proof that they hold
digest          of these, and of how rows were masked
history.jsonl   what each ticket was opened on and how people resolved it, where a capture asked for that; no part of a template
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import psycopg
from psycopg import sql
from pydantic import Field, ValidationError

from podctl.data.connect import Connection
from podctl.errors import SpecError
from podctl.spec.models import Model
from podctl.tickets.past import TicketPast, read_past

FORMAT = 1
MANIFEST, BEFORE, AFTER, DIGEST, HISTORY = "seed.json", "before.sql", "after.sql", "digest", "history.jsonl"
_CHUNK = 1 << 18
_Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class CapturedColumn(Model):
    """Shares of nulls in the whole table and in the rows taken, and how far their values are ``apart`` (0 to 1) by ``order`` or ``shares``."""

    nulls_there: float
    nulls_here: float
    apart: float | None = None
    by: Literal["", "order", "shares"] = ""


class CapturedLikeness(Model):
    """What samples of ``there`` rows of the table and ``here`` of those taken say; ``columns``: those that say anything."""

    there: int
    here: int
    columns: dict[str, CapturedColumn] = Field(default_factory=dict)


class CapturedTable(Model):
    """``rows`` of ``there`` that the source has (``counted``, or as it ``estimated``); ``nulled``: reference -> rows that lost it."""

    schema_name: str = Field(alias="schema")
    name: str
    columns: tuple[str, ...]
    file: Annotated[str, Field(pattern=r"^tables/[0-9]{4,6}\.copy$")] | None = None
    rows: int = 0
    bytes: int = 0
    sha256: _Sha | None = None
    there: int | None = None
    there_is: Literal["counted", "estimated"] = "estimated"
    why: str = ""
    nulled: dict[str, int] = Field(default_factory=dict)
    likeness: CapturedLikeness | None = None


class CapturedHistory(Model):
    """``sha256`` of history.jsonl; ``tickets``: how many in all, ``states``: code -> how many, ``resolutions`` likewise."""

    sha256: _Sha
    tickets: int
    rows: int
    states: dict[str, int]
    resolutions: dict[str, int]
    notes: tuple[str, ...] = ()


class CapturedSeed(Model):
    """What seed.json says. ``digest`` is over everything that a template is made of, and nothing else."""

    format: Literal[1]
    podctl: str
    name: str
    engine: str
    engine_version: str
    encoding: str
    locale: str = ""
    taken_at: str
    together: dict[str, Any] = Field(default_factory=dict)
    before: _Sha
    after: _Sha
    tables: tuple[CapturedTable, ...]
    edges: tuple[dict[str, Any], ...] = ()
    tickets: dict[str, Any] = Field(default_factory=dict)
    masking: dict[str, Any] = Field(default_factory=dict)
    not_mirrored: dict[str, str] = Field(default_factory=dict)
    extensions: dict[str, str] = Field(default_factory=dict)
    dangling: dict[str, int] = Field(default_factory=dict)
    history: CapturedHistory | None = None
    digest: _Sha


class CapturedSeedProblem(SpecError):
    """A directory that is no captured seed, or no longer the one that was captured."""


def contents_digest(before: str, after: str, tables: tuple[CapturedTable, ...], masking: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of the definition's and the rows' digests and of how they were masked."""
    rows = [[table.schema_name, table.name, list(table.columns), table.sha256] for table in tables if table.file]
    value = [FORMAT, before, after, rows, {name: masking[name] for name in sorted(masking)}]
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


def read_manifest(directory: Path) -> CapturedSeed:
    """Raises `CapturedSeedProblem` when there is none that this version understands."""
    try:
        return CapturedSeed.model_validate_json((directory / MANIFEST).read_bytes())
    except OSError as error:
        raise CapturedSeedProblem(
            f"{directory} is not a captured seed",
            code="seed-file",
            cause=f"{MANIFEST}: {error.strerror}",
            hint="podctl data capture makes one",
        ) from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CapturedSeedProblem(
            f"{directory / MANIFEST} is not understood",
            code="seed-file",
            cause=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            hint="capture again with this version of podctl",
        ) from error


def verified(directory: Path) -> CapturedSeed:
    """The manifest of a seed whose every file is what was captured. Raises `CapturedSeedProblem` naming one that is not."""
    manifest = read_manifest(directory)
    expected = {BEFORE: manifest.before, AFTER: manifest.after}
    expected |= {table.file: table.sha256 for table in manifest.tables if table.file and table.sha256}
    if manifest.history:
        expected[HISTORY] = manifest.history.sha256
    for name, digest in expected.items():
        if _sha256(directory / name) != digest:
            raise _changed(directory / name)
    if contents_digest(manifest.before, manifest.after, manifest.tables, manifest.masking) != manifest.digest:
        raise _changed(directory / MANIFEST)
    if _read_text(directory / DIGEST).strip() != manifest.digest:
        raise _changed(directory / DIGEST)
    return manifest


def _read_text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError as error:
        raise CapturedSeedProblem(f"cannot read {path}", code="seed-file", cause=error.strerror or str(error)) from error


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CapturedSeedProblem(f"cannot read {path}", code="seed-file", cause=error.strerror or str(error)) from error


def _changed(path: Path) -> CapturedSeedProblem:
    return CapturedSeedProblem(
        f"{path} is not what was captured",
        code="seed-changed",
        cause="its contents differ from what seed.json says of them",
        hint="capture again; a change on top of a captured seed goes into a script of its own, under seed: {sql: [...]}",
    )


def read_history(directory: Path) -> dict[str, TicketPast] | None:
    """What the seed knows of each ticket, by its id; None when it was captured without a history.

    Raises `CapturedSeedProblem` when it is not what was captured.
    """
    manifest = read_manifest(directory)
    if manifest.history is None:
        return None
    path = directory / HISTORY
    if _sha256(path) != manifest.history.sha256:
        raise _changed(path)
    with path.open(encoding="utf-8") as lines:
        return read_past(lines)


async def copy_in(connection: Connection, directory: Path, table: CapturedTable) -> None:
    """Load the table's rows. Raises psycopg.Error."""
    if table.file is None:
        return
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.schema_name, table.name), sql.SQL(", ").join(map(sql.Identifier, table.columns))
    )
    with (directory / table.file).open("rb") as rows:
        async with connection.cursor() as cursor, cursor.copy(command) as copy:
            while piece := rows.read(_CHUNK):
                await copy.write(piece)


async def refresh_views(connection: Connection) -> None:
    """Fill materialized views, each after those it reads. Raises psycopg.Error when one cannot be filled."""
    cursor = await connection.execute(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid"
    )
    waiting = list(await cursor.fetchall())
    while waiting:
        later: list[tuple[str, str]] = []
        for schema, name in waiting:
            try:
                await connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(schema, name)))
            except psycopg.errors.ObjectNotInPrerequisiteState:
                if len(later) + 1 == len(waiting):
                    raise
                later.append((schema, name))
        waiting = later
