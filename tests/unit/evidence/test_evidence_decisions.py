"""Decision records are an agent's words: read leniently, bounded, never believed further than said."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.decisions import (
    DecisionProblem,
    parse_decision,
    parse_decision_lines,
    with_unsupported,
)
from podctl.evidence.records import Record

WHOLE = {
    "id": "d1",
    "span_id": "00f067aa0ba902b7",
    "ticket": "T-1",
    "kind": "refund",
    "features": [{"name": "amount", "value": 12, "source_span": "aaaaaaaaaaaaaaaa"}],
    "similar": [{"ticket": "T-0", "score": 0.8, "used": True}],
    "options": [{"action": "refund", "est_cost": 1, "chosen": True}, {"action": "refuse", "rejected_because": "policy"}],
    "confidence": 0.9,
    "confidence_basis": "self_report",
    "policy": {"id": "p", "version": "1", "verdict": "allow"},
    "evidence": ["bbbbbbbbbbbbbbbb"],
}


def test_a_whole_decision_comes_through_and_is_marked_declared() -> None:
    expected = {"schema": "podctl.decision/v1", **WHOLE, "provenance": "declared"}
    assert parse_decision(WHOLE) == expected
    assert parse_decision(expected) == expected


def test_unknown_and_mistyped_fields_are_kept_apart() -> None:
    parsed = parse_decision({"mood": "good", "options": "none", "confidence_basis": "guess", "extra": {"a": 1}, "kind": 7})
    assert parsed["extra"] == {"mood": "good", "options": "none", "confidence_basis": "guess", "a": 1}
    assert parsed["kind"] == "7"
    assert "options" not in parsed


def test_known_fields_are_read_behind_any_number_of_unknown_ones() -> None:
    parsed = parse_decision({f"junk{n}": n for n in range(1000)} | {"kind": "x"})
    assert parsed["kind"] == "x"
    assert len(parsed["extra"]) == 63


def test_an_agent_cannot_claim_that_podctl_saw_it() -> None:
    parsed = parse_decision({"kind": "x", "provenance": "extracted"})
    assert parsed["provenance"] == "declared"
    assert parsed["extra"] == {"provenance": "extracted"}


@pytest.mark.parametrize(
    "value",
    [[], "x", None, {"schema": "podctl.decision/v2"}, *({"confidence": bad} for bad in (1.1, -0.1, "0.9", True, float("nan")))],
)
def test_what_is_no_decision_is_refused(value: object) -> None:
    with pytest.raises(DecisionProblem):
        parse_decision(value)


def test_sizes_are_bounded() -> None:
    deep: list = []
    for _ in range(500):
        deep = [deep]
    huge = {f"key{n}": n for n in range(1000)} | {"kind": "x"}
    parsed = parse_decision({"kind": "x" * 10**6, "features": [{"value": "y" * 10**6}] * 1000, "policy": huge, "deep": deep})
    assert len(json.dumps(parsed)) < 600_000
    assert len(parsed["features"]) == len(parsed["policy"]) == 64
    assert "nested too deeply" in json.dumps(parsed["extra"]["deep"])


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*WHOLE, "extra"]) | st.text(max_size=3), inner, max_size=4)
        ),
    )
)
def test_any_json_is_a_decision_or_a_problem(value: object) -> None:
    try:
        parsed = parse_decision(value)
    except DecisionProblem:
        return
    json.dumps(parsed, allow_nan=False).encode("utf-8")
    json.dumps(parsed, ensure_ascii=False).encode("utf-8")  # no lone surrogates
    assert parse_decision(parsed) == parsed


def test_lines_are_read_past_bad_ones() -> None:
    good = json.dumps(WHOLE).encode()
    content = b"\n".join([good, b"", b"{torn", b"[1]", b"\xff\xfe", b"[" * 50_000, b'{"kind":"' + b"x" * 70_000 + b'"}', good])
    decisions, problems = parse_decision_lines(content)
    assert [decision["id"] for decision in decisions] == ["d1", "d1"]
    assert [problem.split(":")[0] for problem in problems] == [f"decision line {n}" for n in (3, 4, 5, 6, 7)]
    assert parse_decision_lines(b"") == ([], [])


def test_cited_spans_that_do_not_exist_are_named() -> None:
    records = [
        Record(1, "span", "agent", {"span_id": "00f067aa0ba902b7"}, "declared"),
        Record(2, "tool.call", "agent", {"span_id": "aaaaaaaaaaaaaaaa"}, "declared"),
        Record(3, "log", "agent", {"span_id": "bbbbbbbbbbbbbbbb"}, "declared"),
    ]

    def unsupported(decision: Any, records: list[Record]) -> Any:
        marked = with_unsupported([*records, Record(4, "decision", "agent", {"decision": decision}, "declared")])
        assert marked[:-1] == records
        return marked[-1].data.get("unsupported")

    assert unsupported(parse_decision(WHOLE), records) == ["bbbbbbbbbbbbbbbb"]
    assert unsupported(parse_decision(WHOLE), []) == ["00f067aa0ba902b7", "bbbbbbbbbbbbbbbb", "aaaaaaaaaaaaaaaa"]
    assert unsupported(parse_decision({"kind": "x"}), []) is None
    assert unsupported(parse_decision({"features": [{"source_span": ["a"]}, {"source_span": None}]}), records) == ["['a']"]
    assert unsupported("no decision", records) is None
