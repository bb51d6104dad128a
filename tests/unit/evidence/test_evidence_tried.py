"""What was tried beyond the boundary, counted by kind; and what PostgreSQL refused, by the boundary's rule."""

from __future__ import annotations

import pytest

from podctl.boundary.refusals import refused
from podctl.evidence.tried import Tried, tried_of, with_tried
from podctl.spec.boundary_rules import rules_of
from podctl.spec.models import Boundary


def test_alike_tries_are_one_kind() -> None:
    calls = [f"POST /orders/{number}/refund?x=1" for number in (17, 18)]
    data = [{"via": "http", "target": "api", "detail": call, "policy": "r", "level": "recommend"} for call in calls]
    data += [{"via": "sql", "target": "table payments", "detail": "update\n payments SET a = 1", "sqlstate": "42501"}] * 3
    data += [{"via": "tcp", "target": "cache", "detail": "a connection"}]
    assert with_tried((), *map(tried_of, data)) == (
        Tried("POST api /orders/{}/refund", "r", "recommend", 2),
        Tried("UPDATE table payments", "", "human-only", 3),
        Tried("tcp cache", "", "human-only", 1),
    )


def test_an_agent_cannot_make_it_long() -> None:
    many = with_tried((), *(Tried(f"POST api /{'x' * i}", "", "human-only") for i in range(1000)))
    assert len(many) == 31 and sum(one.count for one in many) == 1000
    assert len(tried_of({"via": "sql", "target": "t" * 5000, "detail": "x" * 5000}).what) <= 120


BOUNDARY = Boundary(
    apiVersion="podctl/v1",
    kind="Boundary",
    name="b",
    databases={
        "db": {
            "tickets": {"update": ["status"], "recommend": {"update": ["owner"], "delete": True}},
            "ledger": "human-only",
            "crm.calls": {},
            "crm.deals": "human-only",
            "Order Lines": "human-only",
            "old.tickets": "human-only",
        }
    },
)


@pytest.mark.parametrize(
    ("target", "statement", "rule", "level"),
    [
        ("table tickets", "UPDATE tickets SET owner = 'x'", "UPDATE db.tickets", "recommend"),
        ("table tickets", "delete from tickets", "DELETE db.tickets", "recommend"),
        ("table tickets", "WITH x AS (SELECT 1) DELETE FROM tickets", "DELETE db.tickets", "recommend"),
        ("table tickets", "INSERT INTO tickets VALUES (1)", "unlisted", "human-only"),
        ("table tickets", "SELECT secret FROM tickets", "unlisted", "human-only"),
        ("table ledger", "SELECT 1 FROM ledger", "WRITE db.ledger", "human-only"),
        ("table deals", "SELECT 1 FROM crm.deals", "WRITE db.crm.deals", "human-only"),
        ("table Order Lines", 'SELECT 1 FROM "Order Lines"', "WRITE db.Order Lines", "human-only"),
        ("table tickets", "DELETE FROM old.tickets", "WRITE db.old.tickets", "human-only"),
        ("table payments", "UPDATE payments SET a = 1", "unlisted", "human-only"),
        ("function pg_sleep", "SELECT pg_sleep(1)", "unlisted", "human-only"),
        ("", "", "unlisted", "human-only"),
    ],
)
def test_the_rule_of_a_refused_statement(target: str, statement: str, rule: str, level: str) -> None:
    assert refused(rules_of(BOUNDARY), "db", target, statement) == (rule, level)
