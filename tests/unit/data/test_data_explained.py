"""What `boundary explain` says of tables and columns of any name is what PostgreSQL then allows."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from podctl.boundary.explaining import Boundaries
from podctl.data.catalog import Catalog, read_catalog
from podctl.data.roles import grants_for_agent
from podctl.errors import SpecError
from podctl.spec.load import load_model
from podctl.spec.models import Boundary

SCHEMA = """
CREATE SCHEMA sales; CREATE SCHEMA "Sales";
CREATE TABLE "Orders" (id int PRIMARY KEY, "Status" text, "full name" text, "a.b" text, "q""t" text, "naïve" text);
CREATE TABLE "order lines" (no int, "c-d" text, PRIMARY KEY (no, "c-d"));
CREATE TABLE "Sales"."we""ird" (id int, "x y" text, twice int GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE sales.orders (id int, status text);
CREATE TABLE events (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE plain (id int, status text);
CREATE VIEW seen AS SELECT id FROM plain;
"""
PRIVILEGES = {"read": "SELECT", "insert": "INSERT", "update": "UPDATE"}


def drawn(chance: random.Random, catalog: Catalog) -> dict[str, Any]:
    """The tables of a boundary as somebody may write them, mistakes among them."""

    def columns(of: str) -> bool | list[str]:
        names = [column.name for column in catalog.by_name()[of].columns]
        return chance.choice([True, False, chance.sample(names, chance.randint(1, len(names)))])

    def rule(of: str) -> dict[str, Any]:
        return {"insert": columns(of), "update": columns(of), "delete": chance.random() < 0.5}

    tables: dict[str, Any] = {}
    for name in catalog.by_name():
        written = chance.choice([name, name if "." in name else f"public.{name}"])
        if (kind := chance.random()) < 0.3:
            tables[written] = "human-only"
        elif kind < 0.9:
            tables[written] = {"read": columns(name), **rule(name)} | ({"recommend": rule(name)} if kind < 0.5 else {})
    return {"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b", "databases": {"db": tables}}


def quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def test_what_is_explained_is_what_the_database_allows(server, tmp_path: Path) -> None:
    with psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute("CREATE DATABASE explained")
    conninfo = psycopg.conninfo.make_conninfo(server.conninfo, dbname="explained")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(SCHEMA)
        catalog = asyncio.run(_catalog(conninfo))
        chance, asked, allowed = random.Random(7), 0, 0
        file = tmp_path / "boundary.yaml"
        for number in range(60):
            file.write_text(json.dumps(drawn(chance, catalog)))
            try:
                boundary = load_model(file, Boundary)
            except SpecError:
                continue  # a mistake of the file, told before anything runs
            role, boundaries = f"explained_{number}", Boundaries(boundary)
            statements = [f"CREATE ROLE {role}", *grants_for_agent(role, boundary.rights("db"), catalog)]
            connection.execute("; ".join(statements).encode())
            for table in catalog.tables.values():
                target = quoted(table.schema, table.name)
                cases = [(verb, column.name) for verb in PRIVILEGES for column in table.columns]
                for verb, column in [*cases, ("delete", "")]:
                    named = f"{target}.{quoted(column)}" if column else target
                    may = boundaries.explain(f"{verb} db.{named}").level in ("read", "ai-writable")
                    query = "SELECT has_table_privilege(%s, %s, 'DELETE')"
                    values = [role, target]
                    if column:
                        query, values = "SELECT has_column_privilege(%s, %s, %s, %s)", [role, target, column, PRIVILEGES[verb]]
                    row = connection.execute(query.encode(), values).fetchone()
                    assert row == (may,), (verb, named, boundary)
                    asked, allowed = asked + 1, allowed + may
            connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}".encode())
    assert asked > 500 and 0.2 < allowed / asked < 0.8


async def _catalog(conninfo: str) -> Catalog:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        return await read_catalog(connection)
