"""Proposals of rows at the gateway's door: what the boundary says of them is said before any database is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from gateway_rig import Rig, rigged
from test_gateway_approvals import WHO, approving, ask

from podctl.boundary.policies import policies_of
from podctl.spec.boundary import Boundary

TABLES = {
    "orders": {"read": ["id", "status"], "update": ["note"], "recommend": {"update": ["status"], "delete": True}},
    "payments": "human-only",
}
DATABASES = {"shop-db": TABLES, "left-out": TABLES}
BOUNDARY = Boundary.model_validate({"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b", "databases": DATABASES})


def row(**more: Any) -> dict[str, Any]:
    asked = {"database": "shop-db", "table": "orders", "operation": "update", "key": {"id": 1}, "values": {"status": "x"}}
    return {name: value for name, value in (asked | {"reason": "r"} | more).items() if value is not None}


def test_only_what_is_recommended_of_a_database_can_be_proposed(tmp_path: Path) -> None:
    beyond = [
        (row(values={"status": "x", "total": 1}), "UPDATE table orders", "unlisted"),
        (row(values={"id": 2}), "UPDATE table orders", "unlisted"),
        (row(operation="insert", key=None), "INSERT table orders", "unlisted"),
        (row(table="payments"), "UPDATE table payments", "WRITE shop-db.payments"),
        (row(table="pg_catalog.pg_authid"), "UPDATE table pg_catalog.pg_authid", "unlisted"),
        (row(database="elsewhere"), "UPDATE table orders", "unlisted"),
    ]

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        granted = {"policies": policies_of(BOUNDARY), "tables": BOUNDARY, "agent": "a", "who": WHO}
        places = {"shop-db": f"host={tmp_path} user=podctl_approved password=never-told dbname=d"}
        await rig.open("run.0001-1", **granted, places=places, approvals=approving({"answer": "approve"}))
        for asked, _, _ in beyond:
            status, told = await ask(rig, asked)
            assert (status, told["code"]) == (403, "podctl_human_only"), asked
        assert "only people update total in shop-db.orders" in (await ask(rig, beyond[0][0]))[1]["message"]
        for asked, status, code in (
            (row(values={"note": "n"}), 409, "podctl_not_needed"),
            (row(values="status"), 400, "podctl_malformed"),
            (row(service="payments"), 400, "podctl_malformed"),
            (row(sql="DROP TABLE orders"), 400, "podctl_malformed"),
            (b'{"database": "shop-db", "database": "shop-db"}', 400, "podctl_malformed"),
        ):
            assert (await ask(rig, asked))[0] == status and (await ask(rig, asked))[1]["code"] == code
        for asked in (
            row(),
            row(values={"status": "x", "note": "n"}),
            row(operation="delete", values=None),
            row(database="left-out"),
        ):
            status, told = await ask(rig, asked)
            assert (status, told["code"]) == (502, "podctl_database_down") and str(tmp_path) not in told["message"]
        totals = await rig.gateway.close_attempt("run.0001-1")
        assert totals.boundary_attempts == len(beyond) + 1
        assert {(one.what, one.rule) for one in totals.tried} == {(what, rule) for _, what, rule in beyond}
        assert totals.approvals is not None and totals.approvals.proposed == 0
        assert b"never-told" not in (tmp_path / "run.0001-1.gw").read_bytes()

    asyncio.run(rigged(tmp_path, work))
