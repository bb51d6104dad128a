"""What capturing costs: a subset for tickets out of a large schema with cycles, rows a second with and without masks, a database whole."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import yaml

from benchmarks.effort import Effort
from benchmarks.table import Row, spread
from podctl.backends.local.postgres import programs
from podctl.capture.capturing import Order, write_seeds
from podctl.capture.masked import Masked, RowMasking, Unmasked
from podctl.capture.planning import opened
from podctl.capture.postgres_schema import DumpPrograms
from podctl.data.connect import connect
from podctl.data.seed import load_seed
from podctl.masking.keys import KeyFile
from podctl.spec.masking import Masking
from podctl.spec.models import Seed
from tests.support.postgres_server import serving

#: Users and teams, users and tickets refer to one another; {n} users, as many tickets and entries of a log, twice as many comments.
_SCHEMA = """
CREATE TABLE teams (id int, lead_id int NOT NULL, name text);
CREATE TABLE users (id int, team_id int NOT NULL, manager_id int, best_ticket int, email text, full_name text, phone text);
CREATE TABLE tickets (id int, requester_id int NOT NULL, assignee_id int, parent_id int, subject text, body text);
CREATE TABLE comments (id bigint, ticket_id int NOT NULL, author_id int NOT NULL, reply_to bigint, body text);
CREATE TABLE log (id bigint, user_id int NOT NULL, what text);
INSERT INTO users SELECT g, 1 + g % {teams}, nullif(g / 10, 0), CASE WHEN g % 3 = 0 THEN g END, w || g || '@mail.example',
    initcap(left(w, 6)) || ' ' || initcap(substr(w, 7, 9)), '+49170' || lpad((g::bigint * 7919 % 100000000)::text, 8, '0')
    FROM (SELECT g, translate(md5(g::text), '0123456789', 'ghijklmnop') AS w FROM generate_series(1, {n}) g) s;
INSERT INTO teams SELECT g, 1 + (g * 7) % {n}, 'team' || g FROM generate_series(1, {teams}) g;
INSERT INTO tickets SELECT g, 1 + (g::bigint * 7919) % {n}, 1 + (g::bigint * 104729) % {n}, CASE WHEN g % 5 = 0 THEN g / 5 END,
    'subject ' || g, 'body of ticket ' || g FROM generate_series(1, {n}) g;
INSERT INTO comments SELECT g, 1 + (g::bigint * 31) % {n}, 1 + (g::bigint * 17) % {n}, CASE WHEN g % 4 = 0 THEN g / 4 END,
    'comment ' || g FROM generate_series(1, {n} * 2) g;
INSERT INTO log SELECT g, 1 + g % {n}, 'did' FROM generate_series(1, {n}) g;
ALTER TABLE teams ADD PRIMARY KEY (id); ALTER TABLE users ADD PRIMARY KEY (id); ALTER TABLE tickets ADD PRIMARY KEY (id);
ALTER TABLE comments ADD PRIMARY KEY (id); CREATE INDEX ON comments (ticket_id);
ALTER TABLE teams ADD FOREIGN KEY (lead_id) REFERENCES users;
ALTER TABLE users ADD FOREIGN KEY (team_id) REFERENCES teams, ADD FOREIGN KEY (manager_id) REFERENCES users,
    ADD FOREIGN KEY (best_ticket) REFERENCES tickets;
ALTER TABLE tickets ADD FOREIGN KEY (requester_id) REFERENCES users, ADD FOREIGN KEY (assignee_id) REFERENCES users,
    ADD FOREIGN KEY (parent_id) REFERENCES tickets;
ALTER TABLE comments ADD FOREIGN KEY (ticket_id) REFERENCES tickets, ADD FOREIGN KEY (author_id) REFERENCES users,
    ADD FOREIGN KEY (reply_to) REFERENCES comments;
ALTER TABLE log ADD FOREIGN KEY (user_id) REFERENCES users
"""
_POLICY = {
    "apiVersion": "podctl/v1",
    "kind": "Masking",
    "name": "bench",
    "databases": {
        "bench": {
            "users": {
                **dict.fromkeys(("id", "team_id", "manager_id", "best_ticket"), "keep"),
                "email": "email",
                "full_name": "name",
                "phone": "phone",
            }
        }
    },
}


def measure(effort: Effort) -> list[Row]:
    with serving() as url:
        users = effort.pick(1_000, 200_000, 2_000_000)
        source = _database(url, "source")
        with psycopg.connect(source, autocommit=True) as session:
            session.execute(_SCHEMA.format(n=users, teams=max(1, users // 1000)).encode())
            session.execute("VACUUM ANALYZE")
        rows = _subset(effort, source, users)
        rows += _rates(effort, source, users)
        _drop(url, "source")
        rows += _whole(effort, url)
    return rows


def _subset(effort: Effort, url: str, users: int) -> list[Row]:
    count = effort.pick(50, 1_000, 1_000)
    seconds, floors, peaks = [], [], []
    for repetition in range(effort.times(3)):
        place = effort.directory / f"subset-{repetition}"
        place.mkdir()
        path = _for_tickets(place, url, users, count, repetition)
        began = time.perf_counter()
        taken = _capture(path, place / "seed", Unmasked("invented"))
        seconds.append(time.perf_counter() - began)
        floors.append(_copied_by_key(url, taken, place))
    few, many = (_memory(effort, url, users, number) for number in (count // 10, count * 5))
    peaks.append((many[0] - few[0]) * 1024 / max(1, many[1] - few[1]))
    rows = sum(len(keys) for keys in taken.values())
    beside = f"{rows:,} rows taken, {rows / statistics.median(seconds):,.0f} a second; COPY of these rows by keys that are known {spread(floors, 's')}"
    memory = f"podctl data plan: {few[0] / 1024:.0f} MB for {few[1]:,} rows, {many[0] / 1024:.0f} MB for {many[1]:,}"
    return [
        Row(f"subset for {count:,} tickets of {users * 5:,} rows with cycles", seconds, "s", beside, target=10),
        Row("  memory a row taken", peaks, "bytes", memory),
    ]


def _for_tickets(place: Path, url: str, users: int, count: int, salt: int) -> Path:
    tickets = [{"id": str(n), "ticket": 1 + (n * 1999 + salt * 7) % users} for n in range(count)]
    (place / "tickets.jsonl").write_text("\n".join(map(json.dumps, tickets)))
    (place / "tickets.yaml").write_text("apiVersion: podctl/v1\nkind: Tickets\nname: t\nsource: tickets.jsonl\n")
    return _file(
        place,
        url,
        tickets={"file": "tickets.yaml", "rows": [{"path": "ticket", "table": "tickets", "column": "id"}]},
        children=[{"table": "comments", "of": "tickets", "cap": 20}],
    )


def _copied_by_key(url: str, taken: dict[str, list[str]], place: Path) -> float:
    began = time.perf_counter()
    with psycopg.connect(url) as session:
        for table, keys in taken.items():
            with (
                open(place / f"{table}.floor", "wb") as file,
                session.cursor() as cursor,
                cursor.copy(f"COPY (SELECT * FROM {table} WHERE id = ANY ('{{{','.join(keys)}}}')) TO STDOUT".encode()) as copy,
            ):
                for line in copy:
                    file.write(line)
    return time.perf_counter() - began


def _memory(effort: Effort, url: str, users: int, count: int) -> tuple[int, int]:
    """The most kilobytes that ``podctl data plan`` held, and the rows that it found."""
    place = effort.directory / f"memory-{count}"
    place.mkdir()
    path = _for_tickets(place, url, users, count, 0)
    command = [sys.executable, "-m", "podctl", "data", "plan", str(path), "-o", "json"]
    with open(place / "plan.json", "wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    tables = json.loads((place / "plan.json").read_text())["items"]["tables"]
    return used.ru_maxrss, sum(table["taken"] for table in tables)


def _rates(effort: Effort, url: str, users: int) -> list[Row]:
    """Rows of one table, whole: as they are, and masked; beside what PostgreSQL's own programs do with the same rows."""
    place = effort.directory / "rates"
    place.mkdir()
    path = _file(place, url, whole=["users"], leave_out=["teams", "tickets", "comments", "log"], budget={"rows": 10**8})
    # Outside of the directory that the seed is in, as masking wants it; not in the project either.
    key = KeyFile(effort.directory / "bench.key")
    key.make()
    plain, masked, per_core, copied, dumped = [], [], [], [], []
    for _ in range(effort.times(3)):
        plain.append(users / _timed(path, place / "seed", Unmasked("invented"))[0])
        wall, processor = _timed(path, place / "seed", Masked("bench", Masking.model_validate(_POLICY), key, place / "seed"))
        masked.append(users / wall)
        per_core.append(users / processor)
        copied.append(users / _plain_copy(url, place / "plain.copy"))
        dumped.append(users / _dump_and_restore(url, ["--table=users", "--section=pre-data", "--section=data"]))
    peers = f"plain COPY {spread(copied, '/s')}; pg_dump | pg_restore of the same table {spread(dumped, '/s')}"
    return [
        Row("capture, nothing masked", plain, "rows/s", peers),
        Row(
            "capture and mask of three columns, a core",
            per_core,
            "rows/s",
            f"by the clock {spread(masked, '/s')}",
            150_000,
            True,
        ),
    ]


def _timed(path: Path, out: Path, masking: RowMasking) -> tuple[float, float]:
    """Seconds by the clock and of the processor, of the process and of those that it started."""
    began, used = time.perf_counter(), _processor()
    _capture(path, out, masking)
    found = time.perf_counter() - began, _processor() - used
    shutil.rmtree(out)
    return found


def _processor() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def _whole(effort: Effort, server: str) -> list[Row]:
    scale = effort.pick(1, 7, 70)
    url = _database(server, "bank")
    _program("pgbench", ["--initialize", "--quiet", "--foreign-keys", f"--scale={scale}", "--dbname", url])
    with psycopg.connect(url, autocommit=True) as session:
        (size,) = session.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
    place = effort.directory / "whole"
    place.mkdir()
    path = _file(place, url, whole=["*"], budget={"rows": 10**8})
    took, loaded, dumped = [], [], []
    for _ in range(effort.times(3)):
        began = time.perf_counter()
        _capture(path, place / "seed", Unmasked("invented"))
        took.append(time.perf_counter() - began)
        loaded.append(_load(server, place / "seed"))
        shutil.rmtree(place / "seed")
        dumped.append(_dump_and_restore(url, []))
    name = f"pgbench's database of {size / 1e6:,.0f} MB captured"
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return [
        Row(name, took, "s", f"this process held {held:.0f} MB at most"),
        Row("  loaded with its references added", loaded, "s", f"pg_dump | pg_restore, both at once {spread(dumped, 's')}"),
    ]


def _capture(path: Path, out: Path, masking: RowMasking) -> dict[str, list[str]]:
    """Table -> the first column of the rows taken, of tables that are not taken whole."""
    ours = programs()
    with opened([path], DumpPrograms(ours.root / "bin", ours.major)) as (source,):
        (seed,) = write_seeds([Order(source, source.plan(), out, masking)], replace=False)
    return {
        table.name: [line.split(b"\t", 1)[0].decode() for line in (out / table.file).read_bytes().splitlines()]
        for table in seed.tables
        if table.file and table.why != "whole"
    }


def _load(server: str, seed: Path) -> float:
    url = _database(server, "copy")

    async def load() -> None:
        session = await connect(url)
        try:
            await load_seed(session, Seed(captured=seed))
        finally:
            await session.close()

    began = time.perf_counter()
    asyncio.run(load())
    took = time.perf_counter() - began
    _drop(server, "copy")
    return took


def _plain_copy(url: str, file: Path) -> float:
    began = time.perf_counter()
    _program("psql", ["--quiet", "--no-psqlrc", "--dbname", url, "--command", f"\\copy users to '{file}'"])
    return time.perf_counter() - began


def _dump_and_restore(url: str, options: list[str]) -> float:
    target = _database(url, "restored")
    binaries, environment = _environment()
    began = time.perf_counter()
    dump = subprocess.Popen(
        [binaries / "pg_dump", "--format=custom", "--compress=none", *options, f"--dbname={url}"],
        stdout=subprocess.PIPE,
        env=environment,
    )
    restored = subprocess.run([binaries / "pg_restore", f"--dbname={target}"], stdin=dump.stdout, env=environment)
    if dump.wait() or restored.returncode:
        raise RuntimeError("pg_dump | pg_restore failed")
    took = time.perf_counter() - began
    _drop(url, "restored")
    return took


def _program(name: str, arguments: list[str]) -> None:
    binaries, environment = _environment()
    subprocess.run([binaries / name, *arguments], check=True, capture_output=True, env=environment)


def _environment() -> tuple[Path, dict[str, str]]:
    ours = programs()
    return ours.root / "bin", {
        "LD_LIBRARY_PATH": str(ours.root / "lib"),
        "PATH": os.environ["PATH"],
        "PGCLIENTENCODING": "UTF8",
    }


def _database(server: str, name: str) -> str:
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def _drop(server: str, name: str) -> None:
    with psycopg.connect(urlsplit(server)._replace(path="/postgres").geturl(), autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _file(place: Path, url: str, **spec: Any) -> Path:
    head = {"apiVersion": "podctl/v1", "kind": "Capture", "name": "bench", "source": {"url": url, "statement_timeout": "1h"}}
    path = place / "capture.yaml"
    path.write_text(yaml.safe_dump({**head, "unmasked": "invented", **spec}))
    return path
