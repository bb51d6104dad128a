"""A server's log, read through SQL instead of from its file: the same statements."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
from data_server import Server

from podctl.data.connect import connect
from podctl.data.database import PostgresDatabase
from podctl.data.remotelog import RemoteLog
from podctl.data.statements import StatementLog
from podctl.spec.models import TableRule


def test_statements_are_the_same_as_from_the_file(server: Server, shop: str, tmp_path: Path) -> None:
    async def work() -> None:
        remote = RemoteLog(tmp_path / "copy.json", "log/postgresql.json")
        database = await PostgresDatabase.open("remote_log", server.conninfo, shop, "remote_log", remote)
        direct = StatementLog(server.log, ignored=["podctl"])
        direct.start_anew()
        try:
            password = await database.grant_agent("ag_remote", {"orders": TableRule(update=("status",))})
            await _agent_works(server.as_role("ag_remote", password, "remote_log"))
            await database.revoke_agent("ag_remote")
            found = await database.statements()
            direct.agents.add("ag_remote")
            assert found == direct.read()
            assert found[0].data["params"] == ["closed"]
            assert [entry.boundary is not None for entry in found][:2] == [False, True]
            assert await database.statements() == []
            await database.reset()
            assert await database.statements() == []
        finally:
            await database.close()

    asyncio.run(work())


def test_a_long_log_comes_whole_and_what_was_skipped_does_not(server: Server, tmp_path: Path) -> None:
    async def work() -> None:
        admin = await connect(server.conninfo)
        try:
            remote = RemoteLog(tmp_path / "copy.json", "log/postgresql.json")
            await admin.execute("DO $$BEGIN RAISE LOG 'before'; END$$")
            await asyncio.sleep(0.2)
            await remote.skip(admin)
            await admin.execute("DO $$BEGIN RAISE LOG '%', repeat('x', 5000000); END$$")
            for _ in range(500):
                await remote.fetch(admin)
                text = remote.path.read_text() if remote.path.exists() else ""
                if text.count("x") > 5_000_000 and text.endswith("\n"):
                    break
                await asyncio.sleep(0.01)
            assert text == server.log.read_text()[-len(text) :]
            assert "before" not in text and text.count("x") > 5_000_000
        finally:
            await admin.close()

    asyncio.run(work())


async def _agent_works(conninfo: str) -> None:
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    async with connection:
        await connection.execute("UPDATE orders SET status = %s WHERE id = 1", ("closed",))
        try:
            await connection.execute("DELETE FROM orders")
        except psycopg.errors.InsufficientPrivilege:
            pass
