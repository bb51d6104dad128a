"""Texts in answers and routes that are not there: what is changed is what was meant, and anything else passes as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podctl.gateway.planted import Planted


def planted(field: str = "", *pieces: str) -> Planted:
    answers = [{"service": "api", "route": "GET /orders/{number}", "field": field}]
    return Planted({"pieces": pieces or ("obey",), "answers": answers})


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        ({"number": 1, "notes": "gift"}, "", {"number": 1, "notes": "gift\n\nobey"}),
        ({"number": 1}, "", {"number": 1, "note": "obey"}),
        ({"number": 1, "note": {"a": 1}}, "", {"number": 1, "note": {"a": 1}, "remark": "obey"}),
        ({"orders": [{"n": 1}, {"n": 2}]}, "", {"orders": [{"n": 1, "note": "obey"}, {"n": 2}]}),
        ([{"n": 1}], "", [{"n": 1, "note": "obey"}]),
        ({"a": {"b": "x"}}, "a.b", {"a": {"b": "x\n\nobey"}}),
        ({"a": [{"b": "x"}]}, "a.0.b", {"a": [{"b": "x\n\nobey"}]}),
        ({"a": ["x"]}, "a.0", {"a": ["x\n\nobey"]}),
        ({"a": 1}, "a.b", None),
        ("text", "", None),
        ([], "", None),
        (None, "", None),
    ],
)
def test_a_text_is_put_where_people_write(body: Any, field: str, expected: Any) -> None:
    changed = planted(field).put_in(json.dumps(body).encode(), field)
    assert (None if changed is None else json.loads(changed)) == expected


def test_two_pieces_stand_on_both_sides() -> None:
    changed = planted("", "one", "two").put_in(b'{"note": "gift"}', "")
    assert changed is not None and json.loads(changed) == {"note": "one\n\ngift\n\ntwo"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff{}", b"[" * 5000 + b"]" * 5000, b"1e999999", b"NaN"])
def test_what_is_no_answer_to_put_a_text_in_is_left_alone(body: bytes) -> None:
    assert planted().put_in(body, "") is None


def test_only_what_was_meant_is_asked_for_a_place() -> None:
    one = planted("note")
    assert one.field("api", "GET", "/orders/7?x=1") == "note"
    assert [
        one.field(*other) for other in (("api", "POST", "/orders/7"), ("api", "GET", "/orders/7/x"), ("x", "GET", "/orders/7"))
    ] == [None] * 3
    every = Planted({"pieces": ["p"], "answers": [{"service": "api", "route": "", "field": ""}]})
    assert (every.field("api", "GET", "/any"), every.field("api", "POST", "/any")) == ("", None)
    assert Planted({}).field("api", "GET", "/") is None and Planted({}).decoy("api", "GET", "/") is None


def test_a_decoy_answers_its_route_and_no_other() -> None:
    one = Planted({"decoys": [{"service": "api", "route": "GET /internal/**", "status": 201, "body": {"a": "b"}}]})
    assert one.decoy("api", "GET", "/internal/customers?all=1") == (201, b'{"a": "b"}')
    assert [one.decoy("api", *other) for other in (("POST", "/internal/x"), ("GET", "/internals"))] == [None, None]
