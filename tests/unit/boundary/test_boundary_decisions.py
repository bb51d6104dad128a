"""Rules to Cedar to decisions: what is listed is allowed, the strictest rule decides, everything else is refused."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mangled import BOUNDARY, refuse_other_readings, requests

from podctl.boundary.policies import FAILED, UNLISTED, Decider, Policy, Shelf, from_json, policies_of, to_json
from podctl.boundary.targets import Ambiguous, read_target
from podctl.spec.cedar import Extra
from podctl.spec.models import Boundary

RULES = Boundary(
    apiVersion="podctl/v1",
    kind="Boundary",
    name="shop",
    services={
        "orders": {
            "GET /": "read",
            "GET /orders/{id}": "read",
            "POST /orders/{id}/cancel": "ai-writable",
            "POST /orders/{id}/refund": "human-only",
            "PUT,PATCH /orders/{id}/": "ai-writable",
            "* /notes/**": "ai-writable",
            "POST /notes/locked": "recommend",
            "POST /notes/locked/deep": "human-only",
        },
        "search": "read",
        "cache": "ai-writable",
    },
    tools={"github": {"open_issue": "ai-writable", "close_issue": "recommend"}, "wiki": "read", "shell": "human-only"},
)


def decided(method: str, target: str, service: str = "orders", decider: Decider | None = None) -> tuple[bool, str, str]:
    found = (decider or Decider(policies_of(RULES))).call("agent", service, read_target(method, target))
    return found.allowed, found.level, found.policy


@pytest.mark.parametrize(
    ("method", "target", "rule"),
    [
        ("GET", "/", "GET orders /"),
        ("GET", "/?q=1", "GET orders /"),
        ("GET", "/orders/7", "GET orders /orders/{id}"),
        ("HEAD", "/orders/7", "GET orders /orders/{id}"),
        ("GET", "/orders/a%40b.c?x=%2F..", "GET orders /orders/{id}"),
        ("POST", "/orders/7/cancel", "POST orders /orders/{id}/cancel"),
        ("PATCH", "/orders/7/", "PUT,PATCH orders /orders/{id}/"),
        ("DELETE", "/notes", "* orders /notes/**"),
        ("POST", "/notes/a/b/c/", "* orders /notes/**"),
        ("GET", "/" + "notes/" + "a/" * 200, "* orders /notes/**"),
    ],
)
def test_what_is_listed_is_allowed_by_the_rule_that_lists_it(method: str, target: str, rule: str) -> None:
    allowed, level, policy = decided(method, target)
    assert allowed and policy == rule and level in ("read", "ai-writable")


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/orders"),
        ("GET", "/orders/7/"),
        ("GET", "/orders/7/cancel"),
        ("DELETE", "/orders/7"),
        ("POST", "/orders/7"),
        ("PUT", "/orders/7"),
        ("OPTIONS", "/orders/7"),
        ("GET", "/Orders/7"),
        ("GET", "/notebook"),
        ("POST", "/orders/7/cancel/now"),
    ],
)
def test_what_is_not_listed_is_refused_whatever_the_method(method: str, target: str) -> None:
    assert decided(method, target) == (False, "human-only", UNLISTED)


@pytest.mark.parametrize(
    "target", ["/notes/locked", "/notes/Locked", "/notes/locked/", "/notes/locked.json", "/NOTES/lOCKED?x"]
)
def test_of_several_rules_the_strictest_decides_however_it_is_written(target: str) -> None:
    assert decided("POST", target) in (
        (False, "recommend", "POST orders /notes/locked"),
        # In another case nothing permits it either.
        (False, "human-only", UNLISTED),
    )
    assert decided("PUT", "/notes/locked")[0]
    assert decided("POST", "/notes/locked/deep")[1:] == ("human-only", "POST orders /notes/locked/deep")


def test_services_that_no_rule_names_and_levels_for_whole_services() -> None:
    assert decided("GET", "/", "other") == (False, "human-only", UNLISTED)
    assert decided("GET", "/any/where", "search")[0] and not decided("POST", "/any", "search")[0]
    decider = Decider(policies_of(RULES))
    assert decider.connect("agent", "cache").allowed
    assert not any(decider.connect("agent", one).allowed for one in ("search", "orders", "other"))


def test_tools() -> None:
    decider = Decider(policies_of(RULES))
    seen = {
        tool: decider.use("agent", *tool) for tool in (("github", "open_issue"), ("github", "close_issue"), ("wiki", "page"))
    }
    assert [one.level for one in seen.values()] == ["ai-writable", "recommend", "read"]
    assert [one.allowed for one in seen.values()] == [True, False, True]
    for server, tool in (("github", "merge"), ("shell", "run"), ("nobody", "x")):
        assert not decider.use("agent", server, tool).allowed


def test_a_policy_that_fails_allows_nothing() -> None:
    """Cedar leaves a failing forbid out: what it forbids would be open."""
    failing = Extra("failing", '@id("failing") forbid (principal, action, resource) when { context.s9 == "x" };')
    decider = Decider(policies_of(RULES, [failing]))
    allowed, _, policy = decided("GET", "/orders/7", decider=decider)
    assert not allowed and policy == FAILED


def test_a_users_own_policy_forbids_and_is_named() -> None:
    own = Extra(
        "own.cedar:3",
        '@id("own.cedar:3") forbid (principal, action == Action::"call", resource) when { context.path like "*7*" };',
    )
    decider = Decider(policies_of(RULES, [own]))
    assert decided("GET", "/orders/17", decider=decider) == (False, "human-only", "own.cedar:3")
    assert decided("GET", "/orders/18", decider=decider)[0]


def test_policies_pass_as_json_and_broken_ones_are_not_taken() -> None:
    policies = policies_of(RULES)
    assert from_json(json.loads(json.dumps(to_json(policies)))) == policies
    with pytest.raises(ValueError, match=r"token|input"):
        Decider([Policy("x", "read", "orders", "permit(")])


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("/orders/../admin", "dots"),
        ("/orders/.", "dots"),
        ("/orders/...", "dots"),
        ("/orders/%2e%2e/admin", "needs none"),
        ("/orders/%2E", "needs none"),
        ("/%6frders/7", "needs none"),
        ("/orders/7%2Fcancel", "slash"),
        ("/orders/7%5ccancel", "backslash"),
        ("/orders\\7", "backslash"),
        ("/orders//7", "empty"),
        ("//orders/7", "empty"),
        ("//", "empty"),
        ("/orders/7//", "empty"),
        ("/orders/7%00", "control"),
        ("/orders/7%0d%0a", "control"),
        ("/orders/7\x01", "control"),
        ("/orders/%c0%ae", "not UTF-8"),
        ("/orders/%ff", "not UTF-8"),
        ("/orders/%252e%252e", "within an encoding"),
        ("/orders/%zz", "broken"),
        ("/orders/7%", "broken"),
        ("/orders/7%2", "broken"),
        ("/orders;a=b/7", "semicolon"),
        ("/orders/7%3Ba", "semicolon"),
        ("/orders/7%3Fx", "question mark"),
        ("/orders/7%23x", "number sign"),
        ("/orders/7#x", "fragment"),
        ("/orders/é", "beyond ASCII"),
        ("/orders/%EF%BC%8Fadmin", "slash"),
        ("/orders/%EF%BC%8E%EF%BC%8E", "dots"),
        ("/orders/%E2%80%8Badmin", "invisible"),
        ("/orders/%20", "dots or spaces"),
        ("http://orders/orders/7", "not a path"),
        ("orders/7", "not a path"),
        ("*", "not a path"),
        ("", "not a path"),
        ("/orders/7?_method=DELETE", "another method"),
        ("/orders/7?a=1&%5Fmethod=DELETE", "another method"),
        ("/orders/7?a=1;_METHOD=DELETE", "another method"),
    ],
)
def test_a_path_that_can_be_read_in_two_ways_is_refused(target: str, why: str) -> None:
    with pytest.raises(Ambiguous, match=why):
        read_target("GET", target)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "x_http_method_override", "X-Original-URL", "X-Rewrite-Url"])
def test_headers_that_make_a_request_another_are_refused(header: str) -> None:
    with pytest.raises(Ambiguous, match="header"):
        read_target("GET", "/orders/7", ["Host", header])


@pytest.mark.parametrize("method", ["get", "Get", "", "GET ", "GE\tT"])
def test_methods_are_capital_letters(method: str) -> None:
    with pytest.raises(Ambiguous, match="capital"):
        read_target(method, "/orders/7")


@pytest.mark.parametrize(
    "target", ["/a/b@c.d", "/a/x%20y", "/a/%C3%A9t%C3%A9", "/a/~x-y_z", "/a/1,2:3", "/a/a%26b", "/a/%7Ejo"]
)
def test_ordinary_paths_are_read(target: str) -> None:
    assert len(read_target("GET", target).segments) == 2


ROUTES = st.builds(
    lambda methods, parts, end: f"{methods} /{'/'.join(parts)}{end}",
    st.sampled_from(("GET", "*", "PUT,POST")),
    st.lists(st.sampled_from(("a", "A", "a.b", ".a", "ab", "{x}")), min_size=1, max_size=2),
    st.sampled_from(("", "", "/", "/**")),
)
PATHS = st.lists(st.sampled_from(("a", "A", "a.b", "A.B.c", ".a", "a.", "a.json", "%C3%A9")), max_size=3)


def whole_decision(policies: tuple[Policy, ...], method: str, target: str) -> tuple[bool, set[str]]:
    """What Cedar alone says of all policies at once, and by which of them."""
    asked = read_target(method, target)
    context: dict[str, Any] = {"method": asked.method, "n": len(asked.segments), "slash": asked.slash}
    context |= {f"s{i}": text for i, text in enumerate(asked.segments)} | {f"f{i}": text for i, text in enumerate(asked.folded)}
    request = {"principal": 'Agent::"a"', "action": 'Action::"call"', "resource": 'Service::"s"', "context": context}
    result = cedarpy.is_authorized(request, cedarpy.PolicySet.from_str("\n".join(one.text for one in policies)), [])
    assert not result.diagnostics.errors
    return result.allowed, set(result.diagnostics.id_annotations_by_reason.values())


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(ROUTES, st.sampled_from(("ai-writable", "recommend", "human-only")), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(("GET", "POST")), PATHS, st.booleans()), min_size=4, max_size=12),
)
def test_policies_that_are_not_looked_at_would_not_have_decided(rules: dict[str, str], calls: list[Any]) -> None:
    # Over all of it something permits: where a rule that forbids is not looked at, it shows.
    value = {"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b", "services": {"s": {"* /**": "ai-writable", **rules}}}
    policies = policies_of(Boundary.model_validate(value))
    decider = Decider(policies)
    for method, parts, slash in calls:
        target = "/" + "/".join(parts) + ("/" if slash and parts else "")
        allowed, reasons = whole_decision(policies, method, target)
        found = decider.call("a", "s", read_target(method, target))
        assert found.allowed == allowed and found.policy in (reasons or {UNLISTED})


def test_of_many_policies_few_are_held_together() -> None:
    """Without that, deciding takes longer with each rule, or the first call waits until all have been parsed many times."""
    held: list[int] = []

    def decide(routes: list[str]) -> None:
        held.clear()
        rules = {f"POST {route}": "ai-writable" for route in routes}
        boundary = Boundary.model_validate(
            {"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b", "services": {"s": rules}}
        )
        of_posts = [one for one in policies_of(boundary) if one.methods]
        Shelf(of_posts, lambda text: held.append(text.count("permit")) or cedarpy.PolicySet.from_str(text))

    decide([f"/v1/things-{i}/{{id}}" for i in range(50)])
    assert max(held) == 1
    decide([f"/v1/{{id}}/things-{i % 5}/{i}" for i in range(50)] + ["/v1/**"])
    assert max(held) == 2
    # Half of them could be meant by any segment: apart, they would be there fifty times.
    decide([f"/v1/things-{i}" for i in range(50)] + [f"/v1/{{id}}/{{more}}/x-{i}" for i in range(50)])
    assert sum(held) <= 8 * 100


def test_nothing_is_let_through_that_another_server_reads_as_something_else() -> None:
    decider = Decider(policies_of(BOUNDARY))
    passed = 0
    for method, target in requests(1, twice=4000):
        try:
            asked = read_target(method, target)
        except Ambiguous:
            continue
        if decider.call("agent", "orders", asked).allowed:
            passed += 1
            refuse_other_readings(method, target)
    assert passed > 300
