"""What an attempt changed is taken back from its evidence: afterwards the database is what it was."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podctl.data.connect import connect
from podctl.data.database import PostgresDatabase
from podctl.data.template import build_template
from podctl.data.undo import literal, undo
from podctl.spec.models import Seed

TABLES = ("parents", "children", "loose", "counted", "parts", "crm.calls")
SEED = """
CREATE TABLE parents (id int PRIMARY KEY, name char(6), data jsonb, raw json, blob bytea, at timestamptz, span interval,
    price numeric(10,2), ratio float8, tags text[], place point, flag bool, note text,
    total numeric GENERATED ALWAYS AS (price * 2) STORED);
CREATE TABLE children (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent int REFERENCES parents ON DELETE CASCADE ON UPDATE CASCADE, note text);
CREATE TABLE loose (a int, b text, raw json);
CREATE TABLE counted (parent int, changes int);
CREATE TABLE parts (id int NOT NULL, at date NOT NULL, what text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE SCHEMA crm;
CREATE TABLE crm.calls (a int, b int, said text UNIQUE DEFERRABLE INITIALLY DEFERRED, PRIMARY KEY (a, b));
CREATE FUNCTION count_children() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN INSERT INTO counted VALUES (NEW.parent, 1); ELSE UPDATE counted SET changes = changes + 1; END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER count_children AFTER INSERT OR UPDATE ON children FOR EACH ROW EXECUTE FUNCTION count_children();
INSERT INTO parents (id, name, data, raw, blob, at, price, tags, note)
    SELECT n, 'p' || n, '{"a": [1.50, null]}', '{ "a" : 1 }', '\\x00ff', '2026-01-01', n, '{a,"b c"}', repeat('long ', 2000 * n)
    FROM generate_series(1, 4) n;
INSERT INTO children (parent, note) SELECT n % 4 + 1, 'c' FROM generate_series(1, 6) n;
INSERT INTO loose VALUES (1, 'x', '1'), (1, 'x', '1'), (NULL, '', NULL);
INSERT INTO parts VALUES (1, '2025-05-05', 'x'), (2, '2026-05-05', 'y');
INSERT INTO crm.calls VALUES (1, 1, 'one'), (1, 2, 'two'), (2, 1, 'three');
"""

TEXTS = st.sampled_from(
    ["", "x", "it's", "$undo$ $undo1$", "a\\b", "\x1b[31m\n\t", "é😀", "NULL", "'; DROP TABLE parents; --", "x" * 3000]
)
JSONS = st.sampled_from(
    ["null", '"abc"', "true", "1.50", '{"b": 1,  "a": [1e2]}', "[]", "12345678901234567890.12345", '{"a": 1, "a": 2}']
)
NUMBERS = st.integers(0, 6)


def _changes() -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
    def one(statement: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[str, tuple[Any, ...]]]:
        return st.tuples(st.just(statement), st.tuples(*values))

    def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        return st.none() | values

    return st.one_of(
        one("UPDATE parents SET id = id + %s WHERE id = %s", st.integers(1, 9), NUMBERS),
        one("UPDATE parents SET id = id + 100", ),
        one("UPDATE parents SET data = %s, raw = %s, note = %s WHERE id = %s", maybe(JSONS), maybe(JSONS), maybe(TEXTS), NUMBERS),
        one("UPDATE parents SET price = %s, flag = %s, name = %s WHERE id < %s", maybe(NUMBERS), maybe(st.booleans()), maybe(st.just("a ")), NUMBERS),
        one("UPDATE parents SET blob = %s, tags = %s, at = now(), ratio = 0.1::float8 * %s, place = '(1,2)' WHERE id = %s",
            maybe(st.binary(max_size=4)), maybe(st.lists(TEXTS, max_size=2)), NUMBERS, NUMBERS),
        one("UPDATE parents SET span = '1 day 2:03:04.5', note = note || 'x' WHERE id = %s", NUMBERS),
        one("INSERT INTO parents (id, data, raw, note) VALUES (%s, %s, %s, %s)", st.integers(0, 50), maybe(JSONS), maybe(JSONS), maybe(TEXTS)),
        one("DELETE FROM parents WHERE id = %s", NUMBERS),
        one("INSERT INTO children (parent, note) VALUES (%s, %s)", maybe(NUMBERS), maybe(TEXTS)),
        one("UPDATE children SET note = %s WHERE parent = %s", maybe(TEXTS), NUMBERS),
        one("DELETE FROM children WHERE id %% 2 = %s", st.integers(0, 1)),
        one("INSERT INTO loose VALUES (%s, %s, %s)", maybe(NUMBERS), maybe(TEXTS), maybe(JSONS)),
        one("INSERT INTO loose SELECT * FROM loose"),
        one("UPDATE loose SET b = b || 'y' WHERE a = %s", NUMBERS),
        one("DELETE FROM loose WHERE ctid IN (SELECT ctid FROM loose LIMIT %s)", NUMBERS),
        one("UPDATE parts SET at = at + %s WHERE id = %s", st.sampled_from([1, 365, -365]), NUMBERS),
        one("DELETE FROM parts WHERE id = %s", NUMBERS),
        one("UPDATE crm.calls SET b = b + 1, said = said || %s", TEXTS),
        one("UPDATE crm.calls SET said = CASE said WHEN 'one' THEN 'two' WHEN 'two' THEN 'one' ELSE said END"),
    )  # fmt: skip


async def _dump(connection: psycopg.AsyncConnection[Any]) -> dict[str, list[str]]:
    found = {}
    for table in TABLES:
        cursor = await connection.execute(f"SELECT format('%s', t) FROM {table} t".encode())
        found[table] = sorted(row[0] for row in await cursor.fetchall())
    return found


@pytest.fixture(scope="module")
def template(server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    script: Path = tmp_path_factory.mktemp("seed") / "undo.sql"
    script.write_text(SEED)
    asyncio.run(build_template(server.conninfo, "tpl_undo", Seed(sql=(script,))))
    return "tpl_undo"


class Bench:
    """A clone, its service's session and a superuser's; what was done in the one is taken back in the other."""

    def __init__(self, server: Any, template: str) -> None:
        self._server, self._template = server, template

    async def open(self) -> None:
        self.database: PostgresDatabase = await self._server.database("pod_undo", self._template, ("api",))
        password = self.database.service_passwords["api"]
        conninfo = self._server.as_role("svc_api", password, self.database.database)
        self.service = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
        self.admin = await connect(self._server.conninfo, self.database.database)

    async def close(self) -> None:
        await self.service.close()
        await self.admin.close()
        await self.database.close()

    async def do(self, *statements: tuple[str, tuple[Any, ...]], together: bool = False) -> None:
        """What a constraint refuses is not done."""
        async with self.service.transaction() if together else _nothing():
            for statement, values in statements:
                try:
                    async with self.service.transaction():
                        await self.service.execute(statement.encode(), values)
                except (psycopg.errors.IntegrityError, psycopg.errors.DataError):
                    pass

    async def kept(self) -> list[dict[str, Any]]:
        """The changes, as evidence keeps them."""
        found: list[dict[str, Any]] = json.loads(json.dumps(await self.database.changes()))
        return found


class _nothing:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def test_what_was_changed_is_what_it_was_after_undo(server: Any, template: str) -> None:
    taken: list[int] = []
    with asyncio.Runner() as runner:
        bench = Bench(server, template)
        runner.run(bench.open())

        async def one(steps: list[tuple[list[tuple[str, tuple[Any, ...]]], bool]]) -> None:
            before = await _dump(bench.admin)
            for statements, together in steps:
                try:
                    await bench.do(*statements, together=together)
                except psycopg.errors.IntegrityError:
                    pass  # a deferred constraint, at the end
            changes = await bench.kept()
            after = await _dump(bench.admin)
            for found in undo(changes):
                assert found.cannot == []
                script = found.script("0001-1")
                assert not any(ord(c) < 32 and c != "\n" for c in script)
                await bench.admin.execute(script.encode())
                taken.append(len(found.statements))
            assert await _dump(bench.admin) == before
            assert changes or after == before
            await bench.database.changes()

        @settings(max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(st.lists(st.tuples(st.lists(_changes(), min_size=1, max_size=5), st.booleans()), min_size=1, max_size=3))
        def every(steps: list[tuple[list[tuple[str, tuple[Any, ...]]], bool]]) -> None:
            runner.run(one(steps))

        try:
            every()
        finally:
            runner.run(bench.close())
    assert sum(taken) > 100


def test_a_row_that_somebody_else_changed_since_is_not_overwritten(server: Any, template: str) -> None:
    async def go() -> None:
        bench = Bench(server, template)
        await bench.open()
        try:
            await bench.do(("UPDATE parents SET note = 'by the agent', price = 9 WHERE id IN (1, 2)", ()))
            (found,) = undo(await bench.kept())
            await bench.do(("UPDATE parents SET note = 'by a person' WHERE id = 1", ()))
            before = await _dump(bench.admin)
            with pytest.raises(psycopg.errors.RaiseException, match=r"parents \(id 1\) is not as the attempt left it"):
                await bench.admin.execute(found.script("a").encode())
            await bench.admin.execute(b"ROLLBACK")
            assert await _dump(bench.admin) == before
            await bench.do(("UPDATE parents SET note = 'by the agent', flag = true WHERE id = 1", ()))
            await bench.admin.execute(found.script("a").encode())
            cursor = await bench.admin.execute(b"SELECT price::int, flag, left(note, 4) FROM parents WHERE id = 1")
            assert await cursor.fetchone() == (1, True, "long"), "what somebody else wrote beside it stays"
        finally:
            await bench.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("by_the_agent", "since", "constraint"),
    [
        ("INSERT INTO parents (id) VALUES (40)", "INSERT INTO children (parent) VALUES (40)", "children_parent_fkey"),
        ("DELETE FROM children WHERE parent = 2", "DELETE FROM parents WHERE id = 2", "children_parent_fkey"),
        ("DELETE FROM crm.calls WHERE b = 2", "INSERT INTO crm.calls VALUES (9, 9, 'two')", "calls_said_key"),
    ],
)
def test_what_somebody_else_wrote_since_is_not_left_without_what_it_refers_to(
    server: Any, template: str, by_the_agent: str, since: str, constraint: str
) -> None:
    async def go() -> None:
        bench = Bench(server, template)
        await bench.open()
        try:
            await bench.do((by_the_agent, ()))
            (found, *_) = undo(await bench.kept())
            await bench.do((since, ()))
            before = await _dump(bench.admin)
            with pytest.raises(psycopg.errors.RaiseException, match=constraint):
                await bench.admin.execute(found.script("a").encode())
            await bench.admin.execute(b"ROLLBACK")
            assert await _dump(bench.admin) == before
        finally:
            await bench.close()

    asyncio.run(go())


def test_what_cannot_be_taken_back_is_said() -> None:
    base = {"database": "db", "table": "t", "key": {"id": 1}, "user": "x"}
    changes = [
        {**base, "op": "truncate", "key": {}, "old": {}, "new": {}},
        {**base, "op": "update", "old": {"id": 1}, "new": {"id": 1, "big": "x"}},
        {"truncated": 2_000_000, "start": "{"},
        {**base, "op": "insert", "old": {}, "new": {"id": 1, "a": None}},
        {**base, "op": "update", "old": {"id": 1, "a": None}, "new": {"id": 1, "a": None}},
    ]
    first, second = undo(changes)
    assert [next(w for w in ("TRUNCATE of t", "big did not come") if w in c) for c in first.cannot] == [
        "TRUNCATE of t",
        "big did not come",
    ]
    assert "too large" in second.cannot[0] and len(first.statements) == 1
    assert "NOT TAKEN BACK: TRUNCATE" in first.script("a")


def test_no_text_ends_a_literal() -> None:
    assert literal("it's") == "'it''s'" and literal("a\\'") == "E'a\\\\'''" and literal("\x1b\n") == "E'\\u001b\\u000a'"
