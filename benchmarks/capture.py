"""What watching a database costs those who use it: pgbench on clones of one template on one pod's server, with and without."""

from __future__ import annotations

import asyncio
import os
import re
import statistics
import subprocess
from collections import defaultdict

import psycopg
from psycopg import sql

from benchmarks.effort import Effort
from benchmarks.projects import bring, make_project
from benchmarks.table import Row, spread
from podctl.backends.local import postgres
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.pod import TEMPLATE_DATABASE
from podctl.backends.local.state import State
from podctl.pods.plan import PodSpec
from podctl.spec.load import load_bundle

SCALE, CLIENTS = 5, 4
_TABLES = f"""
create table pgbench_branches (bid int primary key, bbalance int, filler char(88));
create table pgbench_tellers (tid int primary key, bid int, tbalance int, filler char(84));
create table pgbench_accounts (aid int primary key, bid int, abalance int, filler char(84));
create table pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
insert into pgbench_branches select n, 0, '' from generate_series(1, {SCALE}) n;
insert into pgbench_tellers select n, 1 + n / 11, 0, '' from generate_series(1, {SCALE * 10}) n;
insert into pgbench_accounts select n, 1 + n / 100001, 0, '' from generate_series(1, {SCALE * 100_000}) n;
"""
#: A session of podctl's own superuser has no statement logged; one that asks for it is logged like anybody's.
_LOGGED = "-c log_min_duration_statement=0"
#: database, options of the session
VARIANTS = {
    "nothing captured": ("uncaptured", ""),
    "statements": ("uncaptured", _LOGGED),
    "row changes": ("captured", ""),
    "both": ("captured", _LOGGED),
}
SCRIPTS = {"TPC-B-like": [], "reading one row": ["--select-only"]}


def measure(effort: Effort) -> list[Row]:
    program = postgres.programs().root / "bin" / "pgbench"
    if not program.exists():
        return [Row("capture: pgbench", [], "/s", "this PostgreSQL has no pgbench")]
    project = make_project(effort.directory / "p", services=0, seed=_TABLES)
    found: dict[tuple[str, str], list[float]] = defaultdict(list)

    async def work() -> None:
        backend = LocalBackend(State.open())
        bundle = load_bundle(project.scenario)
        await backend.prepare(bundle)
        spec = PodSpec("capture-1", "bench", bundle.topology)
        try:
            await bring(backend, spec)
            where = backend.conninfo(spec.id, None)
            for _ in range(effort.times(3)):
                for script, options in SCRIPTS.items():
                    for variant, (database, session) in VARIANTS.items():
                        _fresh(where, database, captured=database == "captured")
                        rate = _pgbench(where, database, session, options, seconds=effort.pick(1, 1, 2))
                        found[script, variant].append(rate)
        finally:
            await backend.delete(spec.id)
            await backend.close()

    asyncio.run(work())
    return [_row(script, found) for script in SCRIPTS]


def _row(script: str, found: dict[tuple[str, str], list[float]]) -> Row:
    none = found[script, "nothing captured"]

    def cost(variant: str) -> str:
        pairs = list(zip(found[script, variant], none, strict=True))
        share = 100 * statistics.median(1 - one / without for one, without in pairs)
        longer = 1e6 * CLIENTS * statistics.median(1 / one - 1 / without for one, without in pairs)
        return f"{variant} {share:.0f} %, {longer:.0f} µs a transaction"

    beside = f"nothing captured {spread(none, '/s')}; of it costs: {'; '.join(map(cost, list(VARIANTS)[1:]))}"
    return Row(f"pgbench, {script}, {CLIENTS} clients, all captured", found[script, "both"], "/s", beside)


def _fresh(where: dict[str, str], database: str, *, captured: bool) -> None:
    """A clone as an attempt gets it, or one in which nothing notices a row's change."""
    name = sql.Identifier(database)
    with psycopg.connect(_conninfo(where, "postgres"), autocommit=True) as admin:
        admin.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", (database,))
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
        admin.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(name, sql.Identifier(TEMPLATE_DATABASE))
        )
    with psycopg.connect(_conninfo(where, database), autocommit=True) as clone:
        if captured:
            clone.execute("SELECT pg_create_logical_replication_slot('bench', 'pgoutput')")
            return
        clone.execute("DROP PUBLICATION podctl")
        for table in ("branches", "tellers", "accounts", "history"):
            clone.execute(f"ALTER TABLE pgbench_{table} REPLICA IDENTITY DEFAULT".encode())
            clone.execute(f"DROP TRIGGER podctl_attribute ON pgbench_{table}".encode())


def _conninfo(where: dict[str, str], database: str) -> str:
    return psycopg.conninfo.make_conninfo(
        host=where["host"], port=where["port"], user=where["user"], password=where["password"], dbname=database
    )


def _pgbench(where: dict[str, str], database: str, session: str, options: list[str], *, seconds: int) -> float:
    programs = postgres.programs()
    command = [
        str(programs.root / "bin" / "pgbench"),
        "--no-vacuum",
        "--protocol=prepared",
        "-c",
        str(CLIENTS),
        "-T",
        str(seconds),
    ]
    environment = {
        "PGHOST": where["host"], "PGPORT": where["port"], "PGUSER": where["user"], "PGPASSWORD": where["password"],
        "PGDATABASE": database, "PGOPTIONS": session, "LD_LIBRARY_PATH": str(programs.root / "lib"), "PATH": os.environ["PATH"],
    }  # fmt: skip
    said = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=60)
    rate = re.search(r"^tps = ([\d.]+)", said.stdout, re.MULTILINE)
    if said.returncode or rate is None:
        raise RuntimeError(f"pgbench exited with {said.returncode}: {said.stderr[-1000:]}")
    return float(rate[1])
