from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import psycopg
import pytest

from podctl.data.connect import connect
from podctl.data.seed import SeedProblem, seed_digest
from podctl.data.template import TemplateFacts, build_template, clone, drop, template_name
from podctl.spec.models import Seed

DDL = "CREATE TABLE teams (id serial PRIMARY KEY, name text NOT NULL UNIQUE, size int);\n"


def build(server, name: str, seed: Seed) -> TemplateFacts:
    return asyncio.run(build_template(server.conninfo, name, seed))


def in_clone(server, template: str, *queries: str) -> list[list[tuple]]:
    async def go() -> list[list[tuple]]:
        admin = await connect(server.conninfo)
        try:
            await clone(admin, template, "look")
            connection = await connect(server.conninfo, "look")
            found = [await (await connection.execute(query)).fetchall() for query in queries]
            await connection.close()
            return found
        finally:
            await drop(admin, "look")
            await admin.close()

    return asyncio.run(go())


def databases(server) -> set[str]:
    with psycopg.connect(server.conninfo) as connection:
        return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def script(tmp_path: Path, text: str, name: str = "seed.sql") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_scripts_and_csv_files_fill_a_template(server, tmp_path: Path) -> None:
    rows = script(tmp_path, 'name,id\n"a, ""quoted""\nname",7\nb,8\n', "teams.csv")
    facts = build(server, "tpl_filled", Seed(sql=(script(tmp_path, DDL),), csv={"teams": rows}))
    assert facts.built
    assert facts.rows == {"teams": 2}
    teams, next_id = in_clone(
        server, "tpl_filled", "SELECT id, name, size FROM teams ORDER BY id", "SELECT nextval('teams_id_seq')"
    )
    assert teams == [(7, 'a, "quoted"\nname', None), (8, "b", None)]
    assert next_id == [(9,)], "an insert after seeding must not collide with a seeded key"
    assert not build(server, "tpl_filled", Seed()).built


def test_a_dump_of_pg_dump_is_a_seed(server, shop: str, tmp_path: Path) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE dumped TEMPLATE {shop}")
        dump = subprocess.run(
            [server.bin / "pg_dump", "--no-owner", "--no-acl", "--exclude-schema=podctl", server.conninfo.replace("dbname=postgres", "dbname=dumped")],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        connection.execute("DROP DATABASE dumped")
    kept = [line for line in dump.splitlines() if "podctl" not in line]
    assert any(line.startswith("COPY public.orders") for line in kept)
    build(server, "tpl_redone", Seed(sql=(script(tmp_path, "\n".join(kept)),)))
    (orders,) = in_clone(server, "tpl_redone", "SELECT id, total FROM orders ORDER BY id")
    assert [int(order) for order, _ in orders] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (DDL + "\nINSERT INTO teams (name)\nVALUES (NULL);", 3, "null value"),
        (DDL + "SELECT 1,\n  nope\n FROM teams;", 3, 'column "nope"'),
        (DDL + "SELECT 'x", 2, "never closed"),
        (DDL + "COPY teams (id, name) FROM stdin;\n1\ta\nx\tb\n\\.\n", 4, "invalid input syntax"),
        ("CREATE SCHEMA podctl;", 0, 'schema "podctl" already exists'),
    ],
)
def test_a_script_that_fails_is_named_with_its_line(server, tmp_path: Path, text: str, line: int, says: str) -> None:
    path = script(tmp_path, text)
    with pytest.raises(SeedProblem) as caught:
        build(server, "tpl_failed", Seed(sql=(path,)))
    if line:
        assert f"{path}:{line}" in caught.value.what
    assert says in caught.value.cause
    assert not {name for name in databases(server) if name == "tpl_failed" or name.startswith("podctl_build")}


@pytest.mark.parametrize(
    ("table", "text", "where", "says", "hint"),
    [
        ("team", "id\n1\n", "", "no table team", "teams"),
        ("teams", "id,nam\n1,a\n", ":1", "no column 'nam'", "name"),
        ("teams", "id,name\n1,a\nx,b\n", ":3", "invalid input syntax", ""),
        ("teams", "", ":1", "header", ""),
    ],
)
def test_a_csv_file_that_fails_is_named(
    server, tmp_path: Path, table: str, text: str, where: str, says: str, hint: str
) -> None:
    path = script(tmp_path, text, "rows.csv")
    with pytest.raises(SeedProblem) as caught:
        build(server, "tpl_failed", Seed(sql=(script(tmp_path, DDL),), csv={table: path}))
    assert caught.value.what.endswith(f"{path}{where}")
    assert says in caught.value.cause
    assert hint in caught.value.hint


def test_a_missing_seed_file_is_named(server, tmp_path: Path) -> None:
    with pytest.raises(SeedProblem, match=r"absent\.sql"):
        build(server, "tpl_failed", Seed(sql=(tmp_path / "absent.sql",)))


def test_unlogged_tables_are_captured_too(server, shop: str) -> None:
    (persistence,) = in_clone(server, shop, "SELECT DISTINCT relpersistence::text FROM pg_class WHERE relname LIKE 'cache%'")
    assert persistence == [("p",)]


def test_nobody_connects_to_a_template(server, shop: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="not currently accepting connections"):
        psycopg.connect(server.conninfo, dbname=shop)


def test_two_builds_of_one_template_at_once_leave_one(server, tmp_path: Path) -> None:
    seed = Seed(sql=(script(tmp_path, DDL),))

    async def go() -> list[TemplateFacts]:
        return await asyncio.gather(*(build_template(server.conninfo, "tpl_twice", seed) for _ in range(6)))

    facts = asyncio.run(go())
    assert sorted(fact.built for fact in facts) == [False] * 5 + [True]
    assert not {name for name in databases(server) if name.startswith("podctl_build")}


def test_a_templates_name_follows_content_and_settings(tmp_path: Path) -> None:
    first, second = script(tmp_path, "SELECT 1", "a.sql"), script(tmp_path, "SELECT 2", "b.sql")
    digests = {
        seed_digest(Seed(sql=(first, second))),
        seed_digest(Seed(sql=(second, first))),
        seed_digest(Seed(sql=(first,))),
        seed_digest(Seed(sql=(first,), csv={"t": second})),
        seed_digest(Seed(sql=(first,), csv={"u": second})),
    }
    assert len(digests) == 5
    (tmp_path / "elsewhere").mkdir()
    moved = script(tmp_path / "elsewhere", "SELECT 1", "c.sql")
    assert seed_digest(Seed(sql=(moved,))) == seed_digest(Seed(sql=(first,)))
    assert template_name("x", {"a": "1", "b": "2"}) == template_name("x", {"b": "2", "a": "1"})
    assert template_name("x", {"a": "1"}) != template_name("x", {"a": "2"}) != template_name("y", {"a": "2"})


def test_virtual_columns_are_refused_by_name(server, tmp_path: Path) -> None:
    ddl = (
        "CREATE TABLE a (n int, twice int GENERATED ALWAYS AS (n * 2) VIRTUAL, thrice int GENERATED ALWAYS AS (n * 3) STORED);"
    )
    with pytest.raises(SeedProblem, match=r"a\.twice") as caught:
        build(server, "tpl_virtual", Seed(sql=(script(tmp_path, ddl),)))
    assert "thrice" not in caught.value.what and "STORED" in caught.value.hint
    assert "tpl_virtual" not in databases(server)
