"""From an agent's statements to a verdict on the state, through a real server."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from podctl.evidence.results import CheckResult
from podctl.grading.checks import GradeContext, grade
from podctl.grading.sqlref import expected_changes
from podctl.spec.models import SqlCheck, StateCheck, TableRule
from podctl.tickets.types import ExpectedChange, Reference, Ticket

RULES = {"orders": TableRule(update=("status", "note", "total"), insert=True)}
REFERENCE = """
UPDATE orders SET status = 'closed', updated_at = now() WHERE id = 1;
INSERT INTO orders (customer_id, total, items) VALUES (1, 5.50, '[{"sku": "b"}]');
"""
CHECKS = (
    StateCheck(kind="state", ignore=("*.updated_at",), ignore_tables=("audit",)),
    SqlCheck(kind="sql", name="closed", database="shop-db", query="SELECT status = 'closed' FROM orders WHERE id = :ticket"),
)
RIGHT = (
    "UPDATE orders SET status = 'held' WHERE id = 1",
    "UPDATE orders SET status = 'closed' WHERE id = 1",
    'INSERT INTO orders (total, items, customer_id) VALUES (5.5, \'[{"sku":  "b"}]\', 1)',
)


def attempt(server, shop: str, statements: tuple[str, ...], reference: Reference) -> list[CheckResult]:
    async def go() -> list[CheckResult]:
        database = await server.database("pod_grading", shop)
        try:
            password = await database.grant_agent("ag_graded", RULES)
            agent = await psycopg.AsyncConnection.connect(server.as_role("ag_graded", password, "pod_grading"), autocommit=True)
            for statement in statements:
                await agent.execute(statement)
            await database.revoke_agent("ag_graded")
            databases = {"shop-db": database}
            context = GradeContext(
                Ticket("1", "", "all", {}, reference),
                changes=await database.changes(),
                changes_dropped=database.changes_dropped,
                expected=await expected_changes(reference, databases),
                databases=databases,
                boundary={"shop-db": RULES},
                agents=frozenset({"ag_graded"}),
            )
            return await grade(CHECKS, context)
        finally:
            await database.close()

    return asyncio.run(go())


def test_what_the_reference_says_passes_in_another_spelling(server, shop: str) -> None:
    # What is rolled back uses up an id: the new order's differs from the reference's.
    rolled_back = "BEGIN; INSERT INTO orders (customer_id, total) VALUES (1, 1); ROLLBACK"
    state, closed = attempt(server, shop, (rolled_back, *RIGHT), Reference(sql={"shop-db": REFERENCE}))
    assert state.passed, state.message
    assert closed.passed
    assert {entry.actor for entry in state.diff} == {"agent"}


@pytest.mark.parametrize(
    ("statements", "says"),
    [
        (RIGHT[:2], "missing"),
        (RIGHT[1:2] * 2 + RIGHT[2:] * 2, "collateral"),
        ((*RIGHT, "UPDATE orders SET note = 'by the way' WHERE id = 2"), "collateral"),
        ((*RIGHT, "UPDATE orders SET total = 10.51 WHERE id = 1"), "collateral"),
        ((), "missing"),
    ],
)
def test_anything_else_does_not_pass(server, shop: str, statements: tuple[str, ...], says: str) -> None:
    state, _ = attempt(server, shop, statements, Reference(sql={"shop-db": REFERENCE}))
    assert not state.passed
    assert says in state.message


def test_a_listed_reference_compares_by_value(server, shop: str) -> None:
    changes = (
        ExpectedChange("shop-db", "orders", "update", {"id": "1"}, {"status": "closed"}),
        ExpectedChange("shop-db", "public.orders", "insert", {}, {"total": 5.5, "items": [{"sku": "b"}]}),
    )
    state, _ = attempt(server, shop, RIGHT, Reference(changes=changes))
    assert state.passed, state.message
