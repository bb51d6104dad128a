"""Who writes without end is told of while it writes; who looks leaves the server's session as it was."""

from __future__ import annotations

import asyncio

import pytest
from data_server import Server

from podctl.data.connect import connect
from podctl.data.database import MAX_LOG, MAX_WAL, PostgresDatabase, end_floods

_WAIT_S = 30.0


async def _told(database: PostgresDatabase, server: Server, statement: str) -> str:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    looking = asyncio.create_task(end_floods({"shop-db": database}, told.set_result))
    writer = await connect(server.conninfo, database.database)
    try:
        async with asyncio.timeout(_WAIT_S):
            while not told.done():
                await writer.execute(statement.encode())
        return told.result()
    finally:
        await writer.close()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


@pytest.mark.campaign
def test_a_flood_is_told_with_its_limit_and_the_next_clone_begins_anew(server: Server, shop: str) -> None:
    async def work() -> None:
        database = await server.database("pod_floods", shop)
        try:
            writes = f"SELECT pg_logical_emit_message(false, 'flood', repeat('x', {MAX_WAL // 4}))"
            assert await _told(database, server, writes) == "database writes"
            await database.reset()
            logs = f"DO $$BEGIN RAISE LOG '%', repeat('x', {MAX_LOG // 4}); END$$"
            assert await _told(database, server, logs) == "database log"
            await database.reset()
            looking = asyncio.create_task(database.flooded())
            await asyncio.sleep(1.5)
            assert not looking.done()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        finally:
            await database.close()

    asyncio.run(work())


def test_who_stops_looking_frees_the_session_at_once_whenever_it_stops(server: Server, shop: str) -> None:
    async def work() -> None:
        database = await server.database("pod_quiet", shop)
        try:
            for begun_s in (0.0, 0.0005, 0.002, 0.01, 0.6):
                looking = asyncio.create_task(end_floods({"shop-db": database}, lambda _: None))
                await asyncio.sleep(begun_s)
                looking.cancel()
                async with asyncio.timeout(2.0):
                    await asyncio.gather(looking, return_exceptions=True)
                    await database.grant_agent("ag_quiet", {})
                    await database.revoke_agent("ag_quiet")
        finally:
            await database.close()

    asyncio.run(work())
