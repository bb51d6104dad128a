"""Templates: a seeded, locked-down database that clones are copied from."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from podctl.data.catalog import read_catalog
from podctl.data.connect import Connection, connect, end_sessions, first_line, is_the_machines, server_failed
from podctl.data.lockdown import ensure_roles, lock_down, prepare_capture
from podctl.data.roles import apply, scram_verifier, settings_of
from podctl.data.seed import SeedProblem, load_seed
from podctl.data.settings import SUPERUSER_SETTINGS
from podctl.faults import point
from podctl.spec.models import Seed

#: Part of a template's name; raise it when capture or lock-down change.
TEMPLATE_FORMAT = 4
#: The key of an advisory lock.
_PREPARING = 0x706F6463746C


@dataclass(frozen=True)
class TemplateFacts:
    """``rows`` is table -> rows as ANALYZE estimates them; ``built`` is false when the template was there already.

    ``server`` is the version of the PostgreSQL that has it, such as 18.1.
    """

    name: str
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, list[str]] = field(default_factory=dict)  # table -> its columns; empty when not built
    size_bytes: int = 0
    seconds: float = 0.0
    built: bool = True
    server: str = ""


def template_name(seed_digest: str, settings: Mapping[str, str]) -> str:
    """``tpl_<hash>``: the same seed under the same settings has the same name."""
    content = json.dumps([TEMPLATE_FORMAT, seed_digest, dict(sorted(settings.items()))])
    return "tpl_" + hashlib.sha256(content.encode()).hexdigest()[:24]


async def build_template(admin_conninfo: str, name: str, seed: Seed) -> TemplateFacts:
    """Make template ``name`` from ``seed``, unless it exists. Raises `SeedProblem`; nothing is left behind then.

    It is built under a private name and renamed when whole, so a template that exists is complete.
    """
    started = time.monotonic()
    admin = await connect(admin_conninfo, "postgres")
    try:
        # Of two that build at once, PostgreSQL would refuse one what the other changes.
        await admin.execute("SELECT pg_advisory_lock(%s)", (_PREPARING,))
        await ensure_roles(admin)
        await apply(admin, settings_of(admin.info.user, SUPERUSER_SETTINGS))
        await admin.execute("SELECT pg_advisory_unlock(%s)", (_PREPARING,))
        if await _exists(admin, name):
            return TemplateFacts(name, seconds=time.monotonic() - started, built=False, server=_version(admin))
        private = f"podctl_build_{secrets.token_hex(8)}"
        await admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(sql.Identifier(private)))
        try:
            rows, size, columns = await _fill(admin_conninfo, private, seed)
            await admin.execute(
                sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE true ALLOW_CONNECTIONS false").format(sql.Identifier(private))
            )
            built = await _rename(admin, private, name)
        except BaseException:
            await drop(admin, private)
            raise
        return TemplateFacts(name, rows, columns, size, time.monotonic() - started, built, _version(admin))
    finally:
        await admin.close()


def _version(admin: Connection) -> str:
    major, minor = divmod(admin.info.server_version, 10_000)
    return f"{major}.{minor}"


async def _exists(admin: Connection, database: str) -> bool:
    cursor = await admin.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
    return await cursor.fetchone() is not None


async def _fill(admin_conninfo: str, database: str, seed: Seed) -> tuple[dict[str, int], int, dict[str, list[str]]]:
    connection = await connect(admin_conninfo, database)
    try:
        await connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(database)))
        await load_seed(connection, seed)
        point("template.seeded")
        try:
            catalog = await read_catalog(connection)
            await prepare_capture(connection, catalog)
            await lock_down(connection)
            # Frozen rows need no hint bits, so that a clone's first reads write nothing.
            await connection.execute("VACUUM (FREEZE, ANALYZE)")
            point("template.frozen")
        except psycopg.Error as error:
            what = "the seeded database could not be prepared for capture"
            if is_the_machines(error):
                raise server_failed(what, "database-failed", error) from error
            raise SeedProblem(what, code="seed-capture", cause=first_line(error)) from error
        cursor = await connection.execute("SELECT oid::int8, reltuples::int8 FROM pg_class")
        tuples: dict[int, int] = dict(await cursor.fetchall())
        rows = {table.shown: max(tuples.get(oid, 0), 0) for oid, table in catalog.tables.items() if table.relkind in "rp"}
        cursor = await connection.execute("SELECT pg_database_size(current_database())::int8")
        (size,) = await cursor.fetchone() or (0,)
        columns = {name: [column.name for column in table.columns] for name, table in catalog.by_name().items()}
        return rows, size, columns
    finally:
        await connection.close()


async def _rename(admin: Connection, private: str, name: str) -> bool:
    """False when another build of the same template was quicker; ours is dropped then."""
    try:
        await admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(private), sql.Identifier(name)))
    except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
        await drop(admin, private)
        return False
    return True


async def trim(admin_conninfo: str, password: str) -> None:
    """What a server that only ever clones its template can do without; for a server of one template.

    Its copies get smaller by the databases that initdb makes for new databases to start from. And the superuser's random
    password needs no slow hash: nobody guesses 192 bits, however quick a guess is, while every login pays for it.
    """
    admin = await connect(admin_conninfo, "postgres")
    try:
        for name in ("template0", "template1"):
            await drop(admin, name)
        user, verifier = sql.Identifier(admin.info.user), sql.Literal(scram_verifier(password, iterations=1))
        await admin.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(user, verifier))
    finally:
        await admin.close()


async def clone(admin: Connection, template: str, database: str) -> None:
    """Copy ``template`` as ``database``, closed to everyone but superusers until `open_to_services`."""
    if admin.info.server_version >= 180000:
        try:
            await admin.execute("SET file_copy_method = 'clone'")
        except psycopg.errors.InvalidParameterValue:
            pass  # built without it: 'copy' is the default
    await admin.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY CONNECTION LIMIT 0").format(
            sql.Identifier(database), sql.Identifier(template)
        )
    )


async def drop(admin: Connection, database: str) -> None:
    """Drop the database, its sessions and its replication slots; no error if there is none."""
    # DROP … WITH (FORCE) looks for remaining sessions every 100 ms only; they are gone within a few.
    await end_sessions(admin, database=database)
    await admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (database,))
    cursor = await admin.execute("SELECT datistemplate FROM pg_database WHERE datname = %s", (database,))
    if (await cursor.fetchone() or (False,))[0]:
        await admin.execute(sql.SQL("ALTER DATABASE {} WITH IS_TEMPLATE false").format(sql.Identifier(database)))
    await admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
