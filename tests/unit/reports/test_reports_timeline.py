"""Evidence as rows."""

from __future__ import annotations

import pytest
from example_run import START_NS, example_records, timeline_saying
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.records import KINDS, Record
from podctl.reports.timeline import timeline


def test_rows_are_in_time_and_count_from_the_start() -> None:
    rows = timeline(list(reversed(example_records("0001-1"))))
    assert [row.seconds for row in rows] == sorted(row.seconds for row in rows)
    assert rows[0].seconds == 0
    assert rows[-1].title == "end completed, exit code 0"


def test_rows_say_what_the_trace_says_and_mark_what_stands_out() -> None:
    rows = {row.title: row for row in timeline(example_records("0001-1"))}
    model = rows["model openai, gpt-5-mini: 200, 2,100 tokens in, 180 out, $0.0041, 1.84 s"]
    assert (model.detail, model.tone) == ("asks for get_order()", "neutral")
    change = rows["row update shop-db.orders id=4107 (by agent_rw)"]
    assert (change.detail, change.tone) == ("~ total_cents: 5400 → 4590", "change")
    assert rows["BOUNDARY ATTEMPT ACROSS THE BOUNDARY by sql: payments, 42501"].tone == "boundary"
    decision = rows["decision refund: refund in full, confidence 0.81 (declared)"]
    assert (decision.layer, decision.detail) == (
        "reasoning",
        "* refund in full; - refund one item, rejected: no line item named in the ticket",
    )


@pytest.mark.parametrize(
    ("kind", "data", "tone"),
    [
        ("attempt.end", {"cause": "completed"}, "good"),
        ("attempt.end", {"cause": "agent_failed"}, "bad"),
        ("process.exit", {"name": "x", "exit_code": 0}, "neutral"),
        ("process.exit", {"name": "x", "exit_code": 1}, "bad"),
        ("process.exit", {"name": "x", "exit_code": None, "signal": 9}, "bad"),
        ("http.call", {"status": 200}, "neutral"),
        ("http.call", {"status": 409}, "warn"),
        ("http.call", {"status": None, "error": "timed out"}, "warn"),
        ("sql.statement", {"error": "no such table"}, "warn"),
        ("model.call", {"error": "busy"}, "warn"),
        ("gateway.refused", {"what": "x"}, "warn"),
        ("log", {"severity": "error"}, "warn"),
        ("log", {"severity": "INFO"}, "neutral"),
    ],
)
def test_the_tone_is_what_happened(kind: str, data: dict[str, object], tone: str) -> None:
    assert timeline([Record(START_NS, kind, "agent", data)])[0].tone == tone


def test_a_decision_that_cites_what_is_not_there_is_marked() -> None:
    cited = {"kind": "refund", "evidence": ["aaaa", "bbbb"]}
    span = Record(START_NS, "span", "agent", {"span_id": "aaaa"}, "declared")
    rows = timeline([span, Record(START_NS + 1, "decision", "agent", {"decision": cited}, "declared")])
    assert (rows[1].detail, rows[1].tone) == ("cites span bbbb, which is not in the evidence", "warn")


def test_an_unknown_cost_is_not_free() -> None:
    (row,) = timeline([Record(START_NS, "model.call", "agent", {"model": "m", "dollars": None})])
    assert "cost unknown" in row.title


def test_a_cut_record_keeps_its_row() -> None:
    (row,) = timeline([Record(START_NS, "http.call", "agent", {"truncated": 2_000_000, "start": "{"})])
    assert row.title == "http.call a record of 2000000 bytes, cut: {"


def test_no_records_no_rows() -> None:
    assert timeline([]) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_has_a_row_of_its_own(kind: str) -> None:
    rows = [r for r in timeline(timeline_saying("x")) if r.title]
    assert len(rows) == len(KINDS)
    assert timeline([Record(START_NS, kind, "agent", {})])[0].layer == KINDS[kind]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_no_data_of_any_shape_breaks_a_row(kind: str, data: st.DataObject) -> None:
    """Agents write decisions and spans themselves: any JSON may stand where a field should be."""
    keys = [
        "ticket", "pod", "argv", "exit_code", "signal", "old", "new", "key", "op", "status", "ms", "tokens", "tool_calls", "dollars", "error",
        "arguments", "decision", "severity", "body", "attributes", "wall_s", "detail", "cause", "unsupported",
    ]  # fmt: skip
    record = Record(START_NS, kind, "agent", data.draw(st.dictionaries(st.sampled_from(keys), JSON, max_size=6)))
    (row,) = timeline([record])
    assert all(c.isprintable() for c in row.title + row.detail)


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_no_decision_of_any_shape_breaks_a_row(decision: object) -> None:
    timeline(
        [Record(START_NS, "decision", "agent", {"decision": {"kind": decision, "options": decision, "confidence": decision}})]
    )
