"""Rules: which covers a proposal, what is drawn, what hostile values come to."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from podctl.approvals.actions import Action, Setting, action_digest, canonical, digest_of
from podctl.approvals.answering import answer
from podctl.spec.approvals import Approvals
from podctl.strictjson import NotJson, read_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40) + 1, 10**40 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
SETTING = Setting("a" * 64, "b" * 64, "p1", "run.0001-1")


def spec(*rules: dict[str, Any]) -> Approvals:
    return Approvals.model_validate({"rules": list(rules)})


def said(rules: Approvals, body: Any, ticket: Any = None, rule: str = "POST pay /refunds") -> str:
    values = {"ticket": ticket or {}} if body is ... else {"body": body, "ticket": ticket or {}}
    found = answer(rules, rule, values, "1")
    return f"{found.answer} {found.by}"


@pytest.mark.parametrize(
    ("amount", "covered"),
    [(amount, True) for amount in (50, "50", "12.50", 0, "-0", 1e-7)]
    + [(amount, False) for amount in (50.01, "50.000000000000000001", -1, True, "5e1", " 5", "٥", "NaN", None, [5], "")]
    + [(amount, False) for amount in (10**30, 1e300, "1" * 19)],
)
def test_a_bound_holds_for_numbers_and_for_nothing_else(amount: Any, covered: bool) -> None:
    rules = spec({"when": {"body.amount": {"at_most": 50}}, "answer": "approve"})
    assert said(rules, {"amount": amount}) == ("approved rule 1" if covered else "denied nobody")


def test_the_first_rule_that_covers_it_answers() -> None:
    rules = spec(
        {"of": "DELETE *", "answer": "deny"},
        {"when": {"ticket.tier": "gold", "body.to": {"one_of": ["a", 1]}}, "answer": "approve"},
        {"of": "POST pay *", "answer": "person", "when": {"ticket.tier": "silver"}},
    )
    assert said(rules, {"to": "a"}, {"tier": "gold"}) == "approved rule 2"
    assert said(rules, {"to": 1}, {"tier": "gold"}) == "approved rule 2"
    assert said(rules, {"to": True}, {"tier": "gold"}) == "denied nobody", "true is not 1"
    assert said(rules, {"to": "1"}, {"tier": "gold"}) == "denied nobody"
    assert said(rules, ..., {"tier": "silver"}) == "ask rule 3"
    assert said(rules, {}, {"tier": "gold"}, "DELETE pay /refunds") == "denied rule 1"


def test_what_cannot_be_told_is_not_approved_and_does_not_go_past_a_denial() -> None:
    denies = spec({"when": {"body.amount": {"at_least": 100}}, "answer": "deny"}, {"answer": "approve"})
    assert said(denies, {"amount": 99}) == "approved rule 2"
    for body in (..., {"amount": "1e9"}, {}, {"amount": [100]}, [], None):
        assert said(denies, body) == "denied rule 1", body
    approves = spec({"when": {"body.urgent": True}, "answer": "approve"})
    assert said(approves, ...) == "denied nobody" and said(approves, {"urgent": True}) == "approved rule 1"


def test_names_of_tables_and_columns_may_have_any_character() -> None:
    rules = spec(
        {"of": "UPDATE db.a[b]?.*", "answer": "deny"},
        {
            "of": "UPDATE db.t.Order No",
            "when": {"values.a.b": "x", "row.Order No": {"at_most": 5}, "row.data.k": 1},
            "answer": "approve",
        },
    )
    name = "UPDATE db.a[b]?"
    assert answer(rules, name, {}, "1", (f"{name}.c",)).by == "rule 1"
    assert answer(rules, "UPDATE db.ab1", {}, "1", ("UPDATE db.ab1.c",)).by == "nobody", "only * stands for other text"
    told = {"values": {"a.b": "x"}, "row": {"Order No": 5, "data": {"k": 1}}}
    assert answer(rules, "UPDATE db.t", told, "1", ("UPDATE db.t.Order No",)).answer == "approved"
    assert (
        answer(rules, "UPDATE db.t", {**told, "values": {"a": {"b": "y"}}}, "1", ("UPDATE db.t.Order No",)).answer == "denied"
    )
    denies = spec({"when": {"values.a.b": "x"}, "answer": "deny"}, {"answer": "approve"})
    assert answer(denies, "UPDATE db.t", told, "1").by == "rule 1"


@settings(max_examples=50)
@given(JSON)
def test_no_value_makes_a_rule_fail(body: Any) -> None:
    rules = spec({"when": {"body.a": {"at_most": 5, "one_of": [1, "x"]}, "body.b.c": "x", "ticket.y": 1}, "answer": "approve"})
    assert said(rules, body) == "denied nobody"


def test_delays_and_shares_are_drawn_as_they_are_stated_and_alike_for_one_seed() -> None:
    lognormal = spec({"answer": "draw", "share": 0.3, "delay": {"median": "4m", "p90": "20m"}})
    drawn = [answer(lognormal, "r", {}, str(seed)) for seed in range(4000)]
    delays = sorted(one.delay_s for one in drawn)
    assert delays[2000] == pytest.approx(240, rel=0.1) and delays[3600] == pytest.approx(1200, rel=0.15)
    assert statistics.mean(one.answer == "approved" for one in drawn) == pytest.approx(0.3, abs=0.03)
    assert answer(lognormal, "r", {}, "7") == drawn[7]
    uniform = [
        answer(spec({"answer": "approve", "delay": {"least": 10, "most": 20}}), "r", {}, str(seed)).delay_s
        for seed in range(500)
    ]
    assert 10 <= min(uniform) < 11 and 19 < max(uniform) <= 20
    assert answer(spec({"answer": "deny", "delay": 5}), "r", {}, "1").delay_s == 5
    assert math.isfinite(max(delays))


@pytest.mark.parametrize(
    "rule",
    [
        {"answer": "draw"},
        {"answer": "approve", "share": 0.5},
        {"answer": "person", "delay": "1m"},
        {"answer": "approve", "delay": {"median": "5m"}},
        {"answer": "approve", "delay": {"median": "5m", "p90": "1m"}},
        {"answer": "approve", "delay": {"least": 1, "most": 2, "median": 1, "p90": 2}},
        {"answer": "approve", "when": {"amount": 5}},
        {"answer": "approve", "when": {"body.amount": {}}},
        {"answer": "perhaps"},
    ],
)
def test_rules_that_say_nothing_sensible_are_mistakes(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        spec(rule)


def test_a_digest_is_of_everything_that_decides_what_happens() -> None:
    action = Action(
        "http", "pay", {"method": "POST", "path": "/refunds", "headers": {}, "body_sha256": "0" * 64, "body_bytes": 3}
    )
    same = Action("http", "pay", dict(reversed(list(action.arguments.items()))))
    first = action_digest(action, SETTING)
    assert action_digest(same, SETTING) == first
    others = [
        (Action("tool", "pay", action.arguments), SETTING),
        (Action("http", "pays", action.arguments), SETTING),
        (Action("http", "pay", {**action.arguments, "path": "/refunds/"}), SETTING),
        *((action, Setting(**{**SETTING.__dict__, name: "x"})) for name in ("agent", "boundary", "pod", "attempt")),
    ]
    assert len({first, *(action_digest(one, where) for one, where in others)}) == 8


def test_what_people_see_has_the_digest_that_they_sign() -> None:
    asked = {
        "kind": "http",
        "target": "pay",
        "arguments": {"method": "POST", "body_sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},
        "setting": dict(SETTING.__dict__),
        "body": "hello",
    }
    action = Action("http", "pay", asked["arguments"])  # type: ignore[arg-type]
    assert digest_of(asked) == action_digest(action, SETTING)
    for changed in ({"body": "hullo"}, {"body": None}, {"setting": {}}, {"arguments": None}, {"body": 5}):
        with pytest.raises(NotJson):
            digest_of({**asked, **changed})
    assert digest_of({**asked, "target": "other"}) != digest_of(asked)


@settings(max_examples=50)
@given(JSON)
def test_canonical_json_is_read_back_as_it_was(value: Any) -> None:
    assert read_json(canonical(value)) == value
