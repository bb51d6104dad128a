"""Row changes, statements and resets on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from podctl.data.changes import CaptureProblem
from podctl.data.connect import DatabaseUnreachable, connect
from podctl.data.database import PostgresDatabase, QueryProblem, ReferenceProblem
from podctl.data.roles import drop_role
from podctl.data.states import StateProblem
from podctl.data.template import drop
from podctl.errors import EnvironmentProblem
from podctl.spec.models import TableRule
from podctl.tickets.states import TableState

RULES = {"orders": TableRule(update=("status", "note"), insert=True), "customers": TableRule(delete=True)}


def with_database(
    server, shop: str, work: Callable[[PostgresDatabase], Awaitable[Any]], services: tuple[str, ...] = ("api",)
) -> Any:
    async def go() -> Any:
        database = await server.database("pod_changes", shop, services)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(go())


async def session(server, database: PostgresDatabase, role: str, password: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(server.as_role(role, password, database.database), autocommit=True)


async def agent(server, database: PostgresDatabase, rules: dict[str, TableRule] = RULES) -> psycopg.AsyncConnection:
    return await session(server, database, "ag_1", await database.grant_agent("ag_1", rules))


async def service(server, database: PostgresDatabase, name: str = "api") -> psycopg.AsyncConnection:
    return await session(server, database, f"svc_{name}", database.service_passwords[name])


def brief(change: dict[str, Any]) -> tuple[Any, ...]:
    return change["table"], change["op"], change["key"], change["user"]


def test_every_change_has_its_row_its_user_and_its_statement(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        one, other = await agent(server, database), await service(server, database)
        await one.execute("UPDATE orders SET status = %s WHERE id = %s", ("closed", 1))
        async with other.transaction():
            await other.execute("INSERT INTO crm.calls VALUES (2, 'é')")
            await other.execute("UPDATE pairs SET b = 'z' WHERE a = 2")
        await other.execute(
            "UPDATE orders SET total = 12.340, paid = true, items = '{\"a\": [1.5]}', quantity = 4 WHERE id = 2"
        )
        changes = await database.changes()
        assert [brief(change) for change in changes] == [
            ("orders", "update", {"id": 1}, "ag_1"),
            ("audit", "insert", {"id": 1}, "ag_1"),
            ("crm.calls", "insert", {"id": 2}, "svc_api"),
            ("pairs", "update", {"a": 2, "b": "y"}, "svc_api"),
            ("orders", "update", {"id": 2}, "svc_api"),
        ]
        assert {change["database"] for change in changes} == {"shop-db"}
        first = changes[0]
        assert (first["old"]["status"], first["new"]["status"]) == ("open", "closed")
        assert (first["statement"], first.get("trigger")) == ("UPDATE orders SET status = $1 WHERE id = $2", None)
        assert changes[1]["trigger"] is True
        assert changes[2]["new"] == {"id": 2, "summary": "é"}
        assert [change["statement"] for change in changes[2:4]] == [
            "INSERT INTO crm.calls VALUES (2, 'é')",
            "UPDATE pairs SET b = 'z' WHERE a = 2",
        ]
        new = changes[4]["new"]
        assert (new["total"], new["paid"], new["items"], new["quantity"]) == ("12.340", True, {"a": [1.5]}, 4)
        assert changes[0]["committed"] < changes[4]["committed"]
        assert changes[0]["xid"] != changes[2]["xid"] == changes[3]["xid"]
        assert await database.changes() == []
        await one.close()
        await other.close()

    with_database(server, shop, work)


def test_cascades_truncates_partitions_and_toast_are_seen(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        one, other = await agent(server, database), await service(server, database)
        await one.execute("DELETE FROM customers WHERE id = 2")
        await other.execute("INSERT INTO events VALUES (5, '2025-03-03', 'x')")
        await other.execute("UPDATE events_2025 SET what = 'y' WHERE id = 5")
        # Random hex of this length is stored out of line, and the second update does not touch it.
        await other.execute(
            "UPDATE orders SET note = (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 2000) n) WHERE id = 1"
        )
        await other.execute("UPDATE orders SET paid = true WHERE id = 1")
        await other.execute("DELETE FROM orders WHERE customer_id = 1")
        owner = await connect(server.conninfo, database.database)
        await owner.execute("TRUNCATE cache, cache_parts")
        await owner.close()
        changes = await database.changes()
        assert [(*brief(change), change.get("trigger", False)) for change in changes] == [
            ("customers", "delete", {"id": 2}, "ag_1", False),
            ("orders", "delete", {"id": 2}, "ag_1", True),
            ("orders", "delete", {"id": 3}, "ag_1", True),
            ("events", "insert", {"id": 5, "at": "2025-03-03"}, "svc_api", False),
            ("events", "update", {"id": 5, "at": "2025-03-03"}, "svc_api", False),
            ("orders", "update", {"id": 1}, "svc_api", False),
            ("orders", "update", {"id": 1}, "svc_api", False),
            ("orders", "delete", {"id": 1}, "svc_api", False),
            ("cache", "truncate", {}, "podctl", False),
            ("cache_parts", "truncate", {}, "podctl", False),
        ]
        assert changes[6]["old"]["note"] == changes[6]["new"]["note"]
        assert len(changes[6]["new"]["note"]) == 64_000
        await one.close()
        await other.close()

    with_database(server, shop, work)


def test_a_table_with_a_computed_column_is_changed_as_any_other(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        one = await agent(server, database, {"priced": TableRule(read=True, insert=True, update=("net",), delete=True)})
        await one.execute("INSERT INTO priced VALUES (2, 4)")
        await one.execute("UPDATE priced SET net = 12 WHERE id = 1")
        await one.execute("DELETE FROM priced WHERE id = 2")
        assert [(change["op"], change["old"], change["new"]) for change in await database.changes()] == [
            ("insert", {}, {"id": 2, "net": "4"}),
            ("update", {"id": 1, "net": "10"}, {"id": 1, "net": "12"}),
            ("delete", {"id": 2, "net": "4"}, {}),
        ]
        assert await database.query("SELECT gross::int FROM priced") == [(15,)]
        await one.close()

    with_database(server, shop, work)


def test_a_change_is_seen_as_soon_as_it_is_committed(server, shop: str) -> None:
    # Agents' commits are not flushed; reading back must not depend on the WAL writer having come round.
    async def work(database: PostgresDatabase) -> None:
        one = await agent(server, database)
        for number in range(20):
            await one.execute("UPDATE orders SET note = %s WHERE id = 1", (str(number),))
            assert [change["new"]["note"] for change in await database.changes()] == [str(number)]
        await one.close()

    with_database(server, shop, work)


def test_what_was_not_committed_is_not_a_change(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        one = await agent(server, database)
        await one.set_autocommit(False)
        await one.execute("UPDATE orders SET status = 'held' WHERE id = 1")
        await one.rollback()
        await one.execute("UPDATE orders SET status = 'held' WHERE id = 1")
        await database.revoke_agent("ag_1")
        assert await database.changes() == []
        with pytest.raises(psycopg.OperationalError):
            await one.commit()

    with_database(server, shop, work)


def test_a_reset_undoes_everything_and_starts_capture_anew(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        other = await service(server, database)
        await other.execute("DELETE FROM orders")
        await other.execute("SELECT setval('customers_id_seq', 900)")
        await database.reset()
        assert await database.changes() == []
        assert await database.statements() == []
        with pytest.raises(psycopg.OperationalError):
            await other.execute("SELECT 1")
        again = await service(server, database)
        count = await (await again.execute("SELECT count(*), max(id) FROM orders")).fetchone()
        assert count == (3, 3)
        following = await (await again.execute("SELECT nextval('customers_id_seq')")).fetchone()
        assert following == (3,)
        assert set(database.reset_phases) == {"drop", "clone", "connect", "slot", "grant"}
        await again.close()

    with_database(server, shop, work)


def test_a_text_is_planted_around_what_a_row_has_and_is_nobodys_change(server, shop: str) -> None:
    def at(column: str, key: dict[str, str], table: str = "orders") -> tuple[TableState, ...]:
        appended = ((tuple(key.values()), ("before ", " '; DROP TABLE orders; --")),)
        return (TableState("public", table, (column,), tuple(key), planted=True, appended=appended),)

    async def work(database: PostgresDatabase) -> None:
        [(before,)] = await database.query("SELECT note FROM orders WHERE id = 2")
        await database.reset(at("note", {"id": "2"}))
        assert await database.changes() == []
        rows = await database.query("SELECT id, note FROM orders ORDER BY id")
        assert rows[1] == (2, f"before {before or ''} '; DROP TABLE orders; --")
        assert "before" not in f"{rows[0]}{rows[2]}"
        for state, why in (
            (at("note", {"id": "77"}), "there is no row with id = 77"),
            (at("nope", {"id": "2"}), 'column "nope" does not exist'),
            (at("id", {"id": "2"}), "invalid input syntax for type"),
        ):
            with pytest.raises(StateProblem, match="a text could not be planted in orders") as caught:
                await database.reset(state)
            assert why in caught.value.cause, caught.value.cause

    with_database(server, shop, work)


def test_a_reset_is_not_held_up_by_sessions_or_open_transactions(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        sessions = [await service(server, database) for _ in range(3)]
        await sessions[0].set_autocommit(False)
        await sessions[0].execute("LOCK TABLE orders")
        async with asyncio.timeout(5):
            await database.reset()

    with_database(server, shop, work)


def test_a_lost_slot_is_an_error_and_not_an_empty_answer(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        admin = await connect(server.conninfo)
        await admin.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'pod_changes'"
        )
        await admin.close()
        with pytest.raises(CaptureProblem):
            await database.changes()

    with_database(server, shop, work)


def test_statements_come_with_parameters_duration_and_refusals(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        one, other = await agent(server, database), await service(server, database)
        await one.execute("UPDATE orders SET note = %s WHERE id = %s", ('it\'s\n{"user": "svc_api"}', 1))
        await one.execute("SELECT 1; SELECT 2")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await one.execute("SELECT value FROM secrets WHERE id = %s", (1,))
        with pytest.raises(psycopg.errors.UndefinedTable):
            await one.execute("SELECT * FROM nowhere")
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(server.as_role("ag_1", "wrong", "pod_changes"))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await other.execute("CREATE TABLE mine (a int)")
        found = await database.statements()
        told = [(s.data["user"], s.data["statement"], s.data["params"], s.data["sqlstate"]) for s in found]
        assert told == [
            ("ag_1", "UPDATE orders SET note = $1 WHERE id = $2", ['it\'s\n{"user": "svc_api"}', "1"], ""),
            ("ag_1", "SELECT 1; SELECT 2", [], ""),
            ("ag_1", "SELECT value FROM secrets WHERE id = $1", [], "42501"),
            ("ag_1", "SELECT * FROM nowhere", [], "42P01"),
            ("ag_1", "", [], "28P01"),
            ("svc_api", "CREATE TABLE mine (a int)", [], "42501"),
        ]
        assert [s.boundary for s in found if s.boundary] == [
            {"via": "sql", "target": "table secrets", "detail": "SELECT value FROM secrets WHERE id = $1", "sqlstate": "42501"}
        ]
        assert found[0].data["ms"] > 0
        assert {s.data["database"] for s in found} == {"shop-db"}
        assert all(abs(found[0].t - s.t) < 60e9 for s in found)
        assert await database.statements() == []
        await one.close()
        await other.close()

    with_database(server, shop, work)


def test_a_log_that_lags_behind_is_waited_for(server, shop: str, tmp_path: Path) -> None:
    async def work() -> None:
        late = tmp_path / "late.json"
        database = await PostgresDatabase.open("shop-db", server.conninfo, shop, "pod_changes", late)
        start = server.log.stat().st_size
        one = await agent(server, database)
        await one.execute("SELECT 1")

        async def catch_up() -> None:
            await asyncio.sleep(0.2)
            late.write_bytes(server.log.read_bytes()[start:])

        found, _ = await asyncio.gather(database.statements(), catch_up())
        assert [statement.data["statement"] for statement in found] == ["SELECT 1"]
        await one.close()
        await database.close()

    asyncio.run(work())


def test_podctls_own_statements_and_secrets_are_not_in_the_log(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        password = await database.grant_agent("ag_1", RULES)
        await database.query("SELECT 1")
        assert await database.statements() == []
        log = server.log.read_text()
        assert password not in log
        assert database.service_passwords["api"] not in log

    with_database(server, shop, work)


def test_a_query_reads_and_cannot_do_more(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        assert await database.query("SELECT name, ':ticket', 7 % 4 FROM customers WHERE id = :ticket", {"ticket": "2"}) == [
            ("Bob", ":ticket", 3)
        ]
        assert await database.query("SELECT current_user::text, read_secret()") == [("podctl_check", "hidden")]
        for statement in (
            "UPDATE orders SET status = 'x'",
            "SELECT close_all()",
            "SELECT 1; SELECT 2",
            "COMMIT",
            "SELECT pg_sleep(1)",
            "SELECT pg_read_file('/etc/passwd')",
            "nonsense",
            "SELECT :unbound",
        ):
            with pytest.raises(QueryProblem):
                await database.query(statement)
        with pytest.raises(QueryProblem, match="query"):
            await database.query("SELECT count(*) FROM generate_series(1, 100000000)", timeout_s=0.05)
        assert await database.query("SELECT count(*) FROM orders WHERE status = 'open'") == [(3,)]
        assert await database.changes() == []

    with_database(server, shop, work)


def test_a_reference_runs_elsewhere(server, shop: str) -> None:
    async def work(database: PostgresDatabase) -> None:
        changes = await database.reference_changes(
            "UPDATE orders SET status = 'closed' WHERE id = 1; DELETE FROM pairs WHERE a = 2"
        )
        assert [(change["table"], change["op"]) for change in changes] == [
            ("orders", "update"),
            ("audit", "insert"),
            ("pairs", "delete"),
        ]
        assert await database.changes() == []
        assert await database.query("SELECT count(*) FROM pairs") == [(3,)]
        with pytest.raises(ReferenceProblem, match="shop-db"):
            await database.reference_changes("UPDATE orders SET status = 'closed'; SELECT nope")
        left = await database.query("SELECT count(*) FROM pg_database WHERE datname LIKE 'podctl_ref%'")
        assert left == [(0,)]

    with_database(server, shop, work)


def test_dropping_what_is_not_there_is_no_error(server) -> None:
    async def work() -> None:
        admin = await connect(server.conninfo)
        await drop(admin, "never_was")
        await drop_role(admin, "never_was")
        await admin.close()

    asyncio.run(work())


def test_no_server_is_a_clean_error(tmp_path) -> None:
    with pytest.raises(DatabaseUnreachable):
        asyncio.run(connect(f"host={tmp_path} user=podctl"))


def test_at_rest_it_holds_one_session_and_misses_nothing(server, shop: str) -> None:
    async def held(database: PostgresDatabase) -> int:
        async with await connect(server.conninfo) as watcher:
            found = await watcher.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (database.database,))
            return int((await found.fetchone() or (0,))[0])

    async def work(database: PostgresDatabase) -> None:
        password = await database.grant_agent("ag_1", RULES)
        assert await held(database) == 1
        await database.rest()
        assert await held(database) == 0
        async with await session(server, database, "ag_1", password) as one:
            await one.execute("UPDATE orders SET status = 'closed' WHERE id = 1")
        await database.revoke_agent("ag_1")
        assert ("orders", "update", {"id": 1}, "ag_1") in [brief(change) for change in await database.changes()]
        assert [statement.data["user"] for statement in await database.statements()] == ["ag_1"]
        await database.close()
        with pytest.raises(EnvironmentProblem) as caught:
            await database.query("SELECT 1")
        assert caught.value.code == "database-closed", "it is not opened again"

    with_database(server, shop, work)
