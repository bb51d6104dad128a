"""The tightest boundary that runs needed: what statements and calls need, and never more than there was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from podctl.boundary.explaining import Boundaries, differences
from podctl.boundary.statements import NotUnderstood, needs_of
from podctl.boundary.suggesting import Observed
from podctl.spec.boundary import Boundary, Recommended, TableRule


@pytest.mark.parametrize(
    ("statement", "needs"),
    [
        ("SELECT id, Status FROM Tickets t WHERE t.owner = $1", {("tickets", "read"): {"id", "status", "owner"}}),
        ('SELECT "Id" FROM public."Tickets"', {("Tickets", "read"): {"Id"}}),
        ("SELECT GRÖßE FROM ÄT", {("Ät", "read"): {"grÖße"}}),
        ("SELECT count(*) FROM crm.calls", {("crm.calls", "read"): set()}),
        ("SELECT * FROM t", {("t", "read"): {"*"}}),
        ("SELECT a.*, b.x FROM a JOIN b ON a.id = b.id", {("a", "read"): {"*", "id"}, ("b", "read"): {"x", "id"}}),
        ("SELECT x FROM a JOIN b USING (id)", {("a", "read"): {"*"}, ("b", "read"): {"*"}}),
        ("SELECT a FROM t, u", {("t", "read"): {"*"}, ("u", "read"): {"*"}}),
        ("SELECT t FROM t", {("t", "read"): {"*"}}),
        ("WITH x AS (SELECT a FROM t) SELECT a FROM x", {("t", "read"): {"a"}}),
        ("SELECT id FROM t FOR UPDATE", {("t", "read"): {"id"}, ("t", "lock"): set()}),
        (
            "UPDATE t SET a = $1, b = b + 1 WHERE id = $2 RETURNING at",
            {("t", "read"): {"b", "id", "at"}, ("t", "update"): {"a", "b"}},
        ),
        ("UPDATE t SET a = 1", {("t", "update"): {"a"}}),
        (
            "UPDATE t SET a = u.b FROM u WHERE u.id = t.id",
            {("u", "read"): {"b", "id"}, ("t", "read"): {"id"}, ("t", "update"): {"a"}},
        ),
        ("INSERT INTO t (a, b) VALUES (1, 2)", {("t", "insert"): {"a", "b"}}),
        ("INSERT INTO t VALUES (1)", {("t", "insert"): {"*"}}),
        (
            "INSERT INTO t (id, a) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET a = excluded.a",
            {("t", "insert"): {"id", "a"}, ("t", "read"): {"id"}, ("t", "update"): {"a"}},
        ),
        ("DELETE FROM t WHERE x = 1", {("t", "read"): {"x"}, ("t", "delete"): set()}),
        ("BEGIN", {}),
        ("SET x = 1", {}),
    ],
)
def test_what_a_statement_needs(statement: str, needs: Mapping[tuple[str, str], set[str]]) -> None:
    assert needs_of(statement).columns == needs


@pytest.mark.parametrize(
    "statement",
    [
        *(
            "SELECT )(",
            "COPY t TO STDOUT",
            "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
            "DO $$ BEGIN END $$",
            "TRUNCATE t",
        ),
        *("(" * 5000, "SELECT 'x", "\x00", "SELECT a … 900 characters left out … b FROM t WHERE"),
    ],
)
def test_what_is_not_understood_says_so(statement: str) -> None:
    with pytest.raises(NotUnderstood):
        needs_of(statement)


HEAD: dict[str, Any] = {"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b"}


def boundary() -> Boundary:
    return Boundary(
        apiVersion="podctl/v1",
        kind="Boundary",
        name="b",
        databases={
            "db": {
                "tickets": {"update": ["status", "note", "owner"], "insert": True, "recommend": {"delete": True}},
                "notes": {"read": ["id", "body"], "insert": ["body"]},
                "unused": {"delete": True},
                "odd": {"update": True},
            }
        },
        services={
            "api": {
                "* /orders/**": "ai-writable",
                "POST /orders/{id}/refund": "recommend",
                "GET,POST /notes/{id}": "ai-writable",
            },
            "cache": "ai-writable",
            "never": {"GET /x": "read"},
        },
        exceptions=[
            {"preset": "financial-records", "of": "* api /orders/**", "reason": "x"},
            {"preset": "permissions", "of": "db.tickets", "reason": "y"},
        ],
    )


def sql(statement: str, sqlstate: str = "") -> tuple[str, str, dict[str, Any]]:
    return "sql.statement", "agent", {"database": "db", "statement": statement, "sqlstate": sqlstate}


def http(
    method: str, path: str, policy: str = "* api /orders/**", level: str = "ai-writable"
) -> tuple[str, str, dict[str, Any]]:
    data = {"service": "api", "method": method, "path": path, "status": 200, "policy": policy, "level": level}
    return "http.call", "agent", data


def suggested(*records: tuple[str, str, dict[str, Any]]) -> tuple[Boundary, str]:
    observed = Observed(boundary())
    observed.attempt("0001-1", "T-1", records)
    text = observed.text(["r-1"])
    return Boundary.model_validate(yaml.safe_load(text)), text


def test_what_was_used_is_left_and_nothing_is_opened() -> None:
    tighter, text = suggested(
        sql("UPDATE tickets SET status = 'x' WHERE id = 1"),
        sql("SELECT body FROM notes"),
        sql("COPY odd TO STDOUT"),
        sql("DELETE FROM ledger", "42501"),
        ("sql.statement", "service:api", {"database": "db", "statement": "DELETE FROM unused", "sqlstate": ""}),
        ("boundary.attempt", "agent", {"via": "sql", "target": "table ledger", "detail": "DELETE FROM\nledger \x1b[31m"}),
        http("GET", "/orders/1234"),
        http("GET", "/orders/1235?x=1"),
        http("PUT", "/orders/A-17/address"),
        http("GET", "/notes/7", "GET,POST api /notes/{id}"),
        http("POST", "/orders/7/refund", "POST api /orders/{id}/refund", "recommend"),
    )
    assert tighter.rights("db") == {
        "tickets": boundary()
        .rights("db")["tickets"]
        .model_copy(update={"read": ("id",), "update": ("status",), "insert": False}),
        "notes": boundary().rights("db")["notes"].model_copy(update={"read": ("body",), "insert": False}),
        "odd": boundary().rights("db")["odd"],
    }
    assert tighter.services == {
        "api": {
            "GET /notes/{id}": "read",
            "GET /orders/{order}": "read",
            "PUT /orders/{order}/address": "ai-writable",
            "POST /orders/{id}/refund": "recommend",
        },
        "cache": "ai-writable",
    }
    assert not [one.asked for one in differences(Boundaries(boundary()), Boundaries(tighter)) if one.opens]
    assert (
        "2 calls in 1 attempt, such as 0001-1 (T-1)" in text
        and "#   sql table ledger: DELETE FROM ledger ?[31m: 1 time" in text
    )
    assert "not understood" in text and [one.of for one in tighter.exceptions] == ["db.tickets"]


def test_what_is_not_the_agent_s_stays_so_also_where_nobody_came_near() -> None:
    tables = {
        "ledger": "human-only",
        "grants": {"update": ["note"], "recommend": {"insert": ["who"]}},
        'we"ird t!': {"delete": True},
    }
    services = {"pay": {"POST /refunds": "recommend", "GET /x": "read"}, "mail": "recommend", "hr": "human-only"}
    before = boundary().model_copy(
        update={"databases": Boundary(**HEAD, databases={"db": tables}).databases, "services": services}
    )
    observed = Observed(before)
    observed.attempt("0001-1", "T-1", [sql('COPY "we""ird t!" TO STDOUT')])
    after = Boundary.model_validate(yaml.safe_load(observed.text(["r-1"])))
    assert after.services == {"pay": {"POST /refunds": "recommend"}, "mail": "recommend", "hr": "human-only"}
    assert after.databases["db"]["ledger"] == "human-only" and after.rights("db")['we"ird t!'].delete
    grants = after.rights("db")["grants"]
    assert grants.recommend is not None and grants.recommend.insert == ("who",) and not (grants.read or grants.update)


def test_a_path_that_no_rule_could_have_leaves_its_rule() -> None:
    tighter, _ = suggested(http("PUT", "/orders/" + "a/" * 40))
    assert "PUT /orders/**" in tighter.services["api"]


def test_many_texts_at_one_place_are_a_name_and_few_are_not() -> None:
    few, _ = suggested(http("GET", "/orders/open"), http("GET", "/orders/closed"))
    assert few.services["api"] == {
        "GET /orders/open": "read",
        "GET /orders/closed": "read",
        "POST /orders/{id}/refund": "recommend",
    }
    many, _ = suggested(*(http("GET", f"/orders/{name}") for name in ("ada", "bob", "cyd")))
    assert many.services["api"] == {"GET /orders/{order}": "read", "POST /orders/{id}/refund": "recommend"}


def test_what_is_recommended_of_a_table_stays_and_what_was_to_be_written_beside_it() -> None:
    grants = {"insert": ["by", "note"], "update": True, "recommend": {"insert": ["who"]}}
    observed = Observed(boundary().model_copy(update={"databases": {"db": {"grants": TableRule.model_validate(grants)}}}))
    proposed = {
        "kind": "sql",
        "target": "db",
        "arguments": {"operation": "insert", "table": "grants", "values": {"who": "x", "by": "y"}},
    }
    observed.attempt("0001-1", "T-1", [("approval.proposed", "agent", proposed)])
    left = Boundary.model_validate(yaml.safe_load(observed.text(["r-1"])))
    assert left.rights("db") == {"grants": TableRule(read=False, insert=("by",), recommend=Recommended(insert=("who",)))}
