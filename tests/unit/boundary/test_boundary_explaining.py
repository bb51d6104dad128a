"""Which rule decides, and what a change opens."""

from __future__ import annotations

from typing import Any

import pytest

from podctl.boundary.cluster import left_out, role_of
from podctl.boundary.explaining import Boundaries, NotUnderstood, differences, partly_tried
from podctl.spec.models import Boundary

WRITTEN: dict[str, Any] = {
    "databases": {
        "db": {
            "tickets": {"update": ["status", "note"], "insert": True, "recommend": {"delete": True, "update": ["owner"]}},
            "sales.orders": {"read": ["id"]},
            "ledger": "human-only",
            "Order Lines": {"update": ["full name", "a.b", 'c"d'], "recommend": {"update": ["größe"]}},
        }
    },
    "services": {"api": {"GET /orders/{id}": "read", "POST /notes/**": "ai-writable", "POST /notes/locked": "human-only"}},
    "tools": {"github": {"open_issue": "ai-writable"}},
    "infrastructure": {"deployments.apps": {"get,patch": "recommend"}, "leases": {"get": "read", "update": "ai-writable"}},
}


def boundary(**changed: Any) -> Boundary:
    return Boundary(apiVersion="podctl/v1", kind="Boundary", name="b", **{**WRITTEN, **changed})


@pytest.mark.parametrize(
    ("asked", "level", "rule"),
    [
        ("UPDATE db.tickets.status", "ai-writable", "UPDATE db.tickets"),
        ("update db.public.tickets.status", "ai-writable", "UPDATE db.tickets"),
        ("update db.tickets.owner", "recommend", "UPDATE db.tickets"),
        ("update db.tickets.id", "human-only", ""),
        ("update db.tickets", "human-only", ""),
        ("insert db.tickets", "ai-writable", "INSERT db.tickets"),
        ("insert db.tickets.anything", "ai-writable", "INSERT db.tickets"),
        ("delete db.tickets", "recommend", "DELETE db.tickets"),
        ("read db.tickets.id", "read", "READ db.tickets"),
        ("read db.sales.orders.id", "read", "READ db.sales.orders"),
        ("read db.sales.orders.sum", "human-only", ""),
        ("update db.ledger.sum", "human-only", "WRITE db.ledger"),
        ("update db.nowhere.x", "human-only", ""),
        ("insert other.nowhere", "human-only", ""),
        ("UPDATE db.Order Lines.full name", "ai-writable", "UPDATE db.Order Lines"),
        ('UPDATE db."Order Lines"."full name"', "ai-writable", "UPDATE db.Order Lines"),
        ('update db.public."Order Lines"."a.b"', "ai-writable", "UPDATE db.Order Lines"),
        ('update db."Order Lines"."c""d"', "ai-writable", "UPDATE db.Order Lines"),
        ("update db.Order Lines.größe", "recommend", "UPDATE db.Order Lines"),
        ('update db."Order Lines".other', "human-only", ""),
        ('read db."sales"."orders".id', "read", "READ db.sales.orders"),
        ("GET api /orders/7?x=1", "read", "GET api /orders/{id}"),
        ("POST api /notes/locked/", "human-only", "POST api /notes/locked"),
        ("POST api /notes/../x", "human-only", ""),
        ("POST nobody /x", "human-only", ""),
        ("CALL github.open_issue", "ai-writable", "CALL github.open_issue"),
        ("call github.merge", "human-only", ""),
        ("patch deployments.apps", "recommend", "get,patch deployments.apps"),
        ("delete deployments.apps", "human-only", ""),
    ],
)
def test_the_deciding_rule(asked: str, level: str, rule: str) -> None:
    answer = Boundaries(boundary()).explain(asked)
    assert (answer.level, answer.rule) == (level, rule)


@pytest.mark.parametrize(
    "asked", ["", "x", "grant db.tickets", "update", "a b c d", "call github", 'update db."x', 'update db."x"y']
)
def test_what_is_not_understood_is_said_with_how_to_write_it(asked: str) -> None:
    with pytest.raises(NotUnderstood, match=r"DATABASE\.TABLE"):
        Boundaries(boundary()).explain(asked)


def opened(before: Boundary, after: Boundary) -> set[str]:
    return {one.asked for one in differences(Boundaries(before), Boundaries(after)) if one.opens}


def closed(before: Boundary, after: Boundary) -> set[str]:
    return {one.asked for one in differences(Boundaries(before), Boundaries(after)) if not one.opens}


def test_what_opens_of_oddly_named_tables_is_told_as_it_can_be_asked() -> None:
    wider = {"Order Lines": {"update": True}, "crm.a-b": {"insert": ["x y"], "delete": True}}
    after = boundary(databases={"db": {**WRITTEN["databases"]["db"], **wider}})
    told = opened(boundary(), after)
    assert told == {
        'update db."Order Lines".größe',
        'update db."Order Lines".any_other',
        "read db.crm.a-b.any_other",
        'read db.crm.a-b."x y"',
        'insert db.crm.a-b."x y"',
        "delete db.crm.a-b",
    }
    for asked in told:
        assert Boundaries(after).explain(asked).level in ("read", "ai-writable")


def test_every_request_is_less_than_every_protocol() -> None:
    requests, all_of_it = ({"new": {"* /**": "ai-writable"}}, {"new": "ai-writable"})
    assert opened(boundary(services=requests), boundary(services=all_of_it)) == {"connect new"}
    assert Boundaries(boundary(services=requests)).explain("CONNECT new").level == "human-only"
    assert Boundaries(boundary(services=all_of_it)).explain("CONNECT new").level == "ai-writable"


def test_nothing_differs_from_itself_written_otherwise() -> None:
    again = boundary(services={"api": dict(reversed(WRITTEN["services"]["api"].items()))})
    assert differences(Boundaries(boundary()), Boundaries(again)) == []


def test_a_rule_less_that_forbade_opens_what_it_forbade() -> None:
    rules = {key: level for key, level in WRITTEN["services"]["api"].items() if level != "human-only"}
    assert opened(boundary(), boundary(services={"api": rules})) == {"POST api /notes/locked"}
    assert closed(boundary(services={"api": rules}), boundary()) == {"POST api /notes/locked"}


def test_a_named_segment_in_place_of_a_text_opens_other_texts() -> None:
    before, after = ({"api": {f"POST /orders/{part}/x": "ai-writable"}} for part in ("7", "{id}"))
    assert opened(boundary(services=before), boundary(services=after)) == {"POST api /orders/any-other/x"}


@pytest.mark.parametrize(
    ("changed", "asked"),
    [
        (
            {"databases": {"db": {**WRITTEN["databases"]["db"], "ledger": {"read": False, "update": ["sum"]}}}},
            "update db.ledger.sum",
        ),
        ({"tools": {"github": "ai-writable"}}, "call github.any-other"),
        ({"infrastructure": {"deployments.apps": {"get": "read"}}}, "get deployments.apps"),
        ({"services": {"api": WRITTEN["services"]["api"], "new": "ai-writable"}}, "DELETE new /any-other"),
    ],
)
def test_what_is_opened_is_found(changed: dict[str, Any], asked: str) -> None:
    assert asked in opened(boundary(), boundary(**changed))
    assert asked in closed(boundary(**changed), boundary())


def test_where_not_everything_can_be_tried_it_is_said() -> None:
    names = {f"GET /{letter}/{letter}/{letter}": "read" for letter in "abcdefgh"}
    wide = boundary(services={"api": {"GET /{x}/{y}/{z}": "read", **names}})
    assert partly_tried(Boundaries(boundary()), Boundaries(wide)) == ["GET api /{x}/{y}/{z}"]
    assert partly_tried(Boundaries(boundary()), Boundaries(boundary())) == []


def test_a_role_of_a_cluster_has_what_is_listed_and_the_strictest_rule_decides() -> None:
    written = {
        "leases": {"get,update": "ai-writable", "update,delete": "human-only"},
        "nodes": {"get": "read"},
        "pods/log": "read",
        "deployments.apps": {"patch": "recommend"},
    }
    role = role_of(boundary(infrastructure=written), "shop")
    assert role is not None and role["metadata"] == {"name": "podctl-boundary-b", "namespace": "shop"}
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["leases"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get", "list", "watch"]},
    ]
    assert len(left_out(boundary(infrastructure=written))) == 1
    assert role_of(boundary(infrastructure={"deployments.apps": "recommend"})) is None
