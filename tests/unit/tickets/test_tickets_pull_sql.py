"""Tickets from a real PostgreSQL and from SQLite: read-only, as a stream, with the password in the environment alone."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import serving

from podctl.errors import PodctlError
from podctl.spec.checks import check
from podctl.spec.models import Tickets
from podctl.spec.source import parse
from podctl.tickets.pull.pull import pull
from podctl.tickets.pull.snapshot import Pulled
from podctl.tickets.sources import load_tickets

PASSWORD = "only for these tests"
TABLE = """
create type level as enum ('low', 'high');
create table tickets (id bigint primary key, title text not null, updated_at timestamptz not null, level level,
                      amount numeric(9, 2), tags text[], raw jsonb, key uuid default gen_random_uuid());
insert into tickets select n, 'ticket ' || n, '2026-03-01 12:00+00'::timestamptz + n * interval '1 minute', 'high', n / 3.0,
                           array['a', 'b'], '{"deep": {"x": null}}' from generate_series(1, 1200) n;
create table bytes (id int, b bytea); insert into bytes values (1, 'x');
create schema odd; create table odd."T able" (id int); insert into odd."T able" values (1);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(password=PASSWORD) as url:
        with psycopg.connect(url, password=PASSWORD, autocommit=True) as connection:
            connection.execute(TABLE)
        yield url


@pytest.fixture
def lite(tmp_path: Path) -> Path:
    path = tmp_path / "it's 100 %.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table tickets (id integer primary key, title text, updated_at text, n real)")
        rows = [(n, f"ticket {n}", f"2026-03-01 {n // 60:02}:{n % 60:02}:00", n / 2) for n in range(1, 1101)]
        connection.executemany("insert into tickets values (?, ?, ?, ?)", rows)
    return path


def tickets(path: Path, **asked: Any) -> Tickets:
    asked = {"key": "id", **asked}
    value = {"apiVersion": "podctl/v1", "kind": "Tickets", "name": "t", "source": str(path / "t.jsonl"), "pull": {"sql": asked}}
    return Tickets.model_validate(value)


def pulled(path: Path, **asked: Any) -> Pulled:
    environment = {"DB_PASSWORD": PASSWORD, "WRONG": "wrong"}
    return asyncio.run(pull(tickets(path, **asked), base=path, environment=environment))


def refused(path: Path, **asked: Any) -> str:
    with pytest.raises(PodctlError) as caught:
        pulled(path, **asked)
    assert not (path / "t.jsonl").exists()
    told = caught.value.render()
    assert PASSWORD not in told
    return told


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "t.jsonl").read_text().splitlines()]


def test_a_table_of_postgresql(server: str, tmp_path: Path) -> None:
    asked = {"url": server, "password_env": "DB_PASSWORD", "table": "tickets", "updated": "updated_at"}
    assert pulled(tmp_path, **asked).tickets == 1200
    first = rows(tmp_path)[0]
    assert {**first, "key": "…"} == {
        "id": 1,
        "title": "ticket 1",
        "updated_at": first["updated_at"],
        "level": "high",
        "amount": "0.33",
        "tags": ["a", "b"],
        "raw": {"deep": {"x": None}},
        "key": "…",
    }
    assert len(load_tickets(tickets(tmp_path, **asked).model_copy(update={"pull": None}))) == 1200
    with psycopg.connect(server, password=PASSWORD, autocommit=True) as connection:
        connection.execute("update tickets set title = 'changed', updated_at = '2026-03-03' where id = 5")
        # Committed late: older than what was seen last.
        connection.execute("insert into tickets (id, title, updated_at) values (5000, 'late', '2026-03-02 07:57+00')")
    done = pulled(tmp_path, **asked)
    assert (done.tickets, done.new, done.changed, done.gone) == (1201, 1, 1, 0)
    with psycopg.connect(server, password=PASSWORD, autocommit=True) as connection:
        connection.execute("delete from tickets where id = 5000")
        connection.execute("update tickets set title = 'ticket 5', updated_at = '2026-03-01 12:05+00' where id = 5")


def test_a_query_of_postgresql(server: str, tmp_path: Path) -> None:
    query = "SELECT id, title, raw::text AS raw, '%s :x 12:30' AS odd FROM tickets WHERE title LIKE 'ticket 1%' -- all;"
    done = pulled(tmp_path, url=server, password_env="DB_PASSWORD", query=query)
    assert done.tickets == 1 + 10 + 100 + 201
    assert rows(tmp_path)[0] == {"id": 1, "title": "ticket 1", "raw": '{"deep": {"x": null}}', "odd": "%s :x 12:30"}
    assert pulled(tmp_path, url=server, password_env="DB_PASSWORD", query=query).changed == 0


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM tickets RETURNING id",
        "WITH gone AS (DELETE FROM tickets RETURNING id) SELECT id FROM gone",
        "SELECT 1 AS id) AS x; DELETE FROM tickets; SELECT * FROM (SELECT 1 AS id",
        "SELECT 1 AS id) AS x; COMMIT; SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; DELETE FROM tickets; SELECT * FROM (SELECT 1 AS id",
        "SELECT 1 AS id, set_config('transaction_read_only', 'off', false), lo_create(0)",
    ],
)
def test_no_query_writes(query: str, server: str, tmp_path: Path) -> None:
    assert "the database refuses" in refused(tmp_path, url=server, password_env="DB_PASSWORD", query=query)
    with psycopg.connect(server, password=PASSWORD) as connection:
        assert connection.execute("select count(*) from tickets").fetchone() == (1200,)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"table": "tickets", "password_env": "WRONG"}, "check what $WRONG holds"),
        ({"table": "tickets"}, "password_env"),
        ({"table": "tickets", "password_env": "UNSET"}, "UNSET is not set"),
        ({"table": "nothing"}, 'relation "nothing" does not exist'),
        ({"table": "tickets", "key": "nummer"}, "the query has no column nummer"),
        ({"query": "SELECT id, title AS id FROM tickets"}, "two columns of the query have the same name"),
        ({"query": "SELECT NULL AS id FROM tickets"}, "a ticket has no id"),
        ({"table": "bytes"}, "the column 'b' holds bytes"),
        ({"url": "oracle://scott@db/x", "table": "t"}, "does not know how to make a session of oracle read-only"),
        ({"url": "oracle://scott@db/x", "table": "t", "read_only": "account"}, "there is no driver for oracle"),
        ({"url": "nonsense", "table": "t"}, "not as SQLAlchemy has it"),
        ({"url": "postgresql://a:b@h/d", "table": "t"}, "a password stands in the url"),
        ({"url": "postgresql://a@h/d?password=b", "table": "t"}, "a password stands in the url"),
    ],
)
def test_what_is_wrong_is_told(asked: dict[str, Any], said: str, server: str, tmp_path: Path) -> None:
    given = {
        "url": server,
        **({"password_env": "DB_PASSWORD"} if "url" not in asked and "password_env" not in asked else {}),
        **asked,
    }
    if said == "password_env":
        del given["password_env"]
    assert said in refused(tmp_path, **given)


def test_a_schema_and_a_name_that_needs_quotes(server: str, tmp_path: Path) -> None:
    assert pulled(tmp_path, url=server, password_env="DB_PASSWORD", table="odd.T able").tickets == 1


def test_sqlite_is_read_and_never_made(lite: Path, tmp_path: Path) -> None:
    asked = {"url": f"sqlite:///{lite.name}", "table": "tickets", "updated": "updated_at"}
    assert pulled(tmp_path, **asked).tickets == 1100
    assert rows(tmp_path)[0] == {"id": 1, "title": "ticket 1", "updated_at": "2026-03-01 00:01:00", "n": 0.5}
    with sqlite3.connect(lite) as connection:
        connection.execute("update tickets set title = 'x', updated_at = '2026-03-02 00:00:00' where id = 3")
    done = pulled(tmp_path, **asked)
    assert (done.changed, done.tickets) == (1, 1100)
    (tmp_path / "t.jsonl").unlink()
    (tmp_path / "t.jsonl.pull").unlink()
    assert "the database refuses" in refused(tmp_path, url="sqlite:///absent.db", table="t")
    assert not (tmp_path / "absent.db").exists()
    for query in ("DELETE FROM tickets RETURNING id", "SELECT 1 AS id) AS x; DELETE FROM tickets; --"):
        refused(tmp_path, url=asked["url"], query=query)


def test_a_password_in_the_file_is_a_mistake_at_its_place(tmp_path: Path) -> None:
    text = "apiVersion: podctl/v1\nkind: Tickets\nname: t\nsource: t.jsonl\npull:\n  sql: {url: 'postgresql://a:secret@h/d', table: t, key: id}\n"
    (problem,) = check(parse(text.encode(), tmp_path / "t.yaml"), Tickets, ("source",))
    assert (problem.at.line, problem.message) == (6, "a password stands in the URL")


def test_many_rows_take_little_memory(server: str, tmp_path: Path) -> None:
    """The rows of a pull are never all in memory while they are read: 200 MB of them take less than 100."""
    script = """
import asyncio, os, resource, sys
from pathlib import Path
from podctl.spec.tickets import Sql
from podctl.tickets.pull.sql import SqlReader
async def run():
    query = "SELECT n AS id, repeat('x', 100000) AS body FROM generate_series(1, 2000) n"
    spec = Sql(url=sys.argv[1], password_env="DB_PASSWORD", query=query, key="id")
    count = 0
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async for page in SqlReader(spec, os.environ, 0, Path.cwd()).pages(None, None):
        count += len(page.rows)
    print(count, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)
asyncio.run(run())
"""
    environment = {**os.environ, "DB_PASSWORD": PASSWORD}
    command = [sys.executable, "-c", script, server]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    count, grown = map(int, done.stdout.split())
    assert count == 2000
    assert grown < 100, grown
