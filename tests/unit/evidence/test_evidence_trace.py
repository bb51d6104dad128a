"""A timeline and a diff that a person can follow, whatever an agent wrote into them."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.calls import totals
from podctl.evidence.causes import Cause
from podctl.evidence.events import describe
from podctl.evidence.identity import Identity
from podctl.evidence.records import KINDS, Record, Tokens
from podctl.evidence.results import AttemptResult, CheckResult, DiffEntry
from podctl.evidence.safe import fitted, printable, well_formed
from podctl.evidence.trace import render_diff, render_text, timeline

T0 = 1_700_000_000_000_000_000
IDENTITY = Identity("r-1", "0007-1", "T-7", "refunds", "careful", "1.2", "d" * 64, "pod-1", "support", Cause.COMPLETED, False)


def record(ms: float, kind: str, data: dict, actor: str = "agent", provenance: str = "observed", seq: int = 0) -> Record:
    return Record(T0 + int(ms * 1e6), kind, actor, data, provenance, "w", seq)


MODEL = {"call_id": "c1", "provider": "openai", "model": "gpt-x"}
RECORDS = [
    record(0, "attempt.start", {"agent": {"name": "careful", "version": "1.2"}, "ticket": "T-7", "pod": "pod-1"}, "podctl"),
    record(5, "process.start", {"name": "agent", "argv": ["python", "agent.py"]}, "podctl"),
    record(10, "model.call", {**MODEL, "status": "started", "reserved": {"tokens": 9, "dollars": "0.5"}}),
    record(
        900,
        "model.call",
        {
            **MODEL,
            "status": 200,
            "tokens": Tokens(1000, 200, 4, 80, 8).to_json(),
            "dollars": "0.0012",
            "ms": 812.4,
            "tool_calls": [{"id": "1", "name": "lookup", "arguments": '{"id": 17}'}],
        },
    ),
    record(950, "model.call", {"call_id": "c2", "model": "gpt-x", "status": "started", "reserved": {"dollars": "0.25"}}),
    record(
        1000,
        "http.call",
        {"service": "orders", "method": "GET", "path": "/o/17", "status": 404, "ms": 12, "response_bytes": 99},
    ),
    record(
        1100,
        "sql.statement",
        {
            "database": "shop",
            "user": "agent_1",
            "statement": "SELECT 1",
            "params": ["17"],
            "rows": 3,
            "ms": 1.5,
            "sqlstate": "",
        },
    ),
    record(
        1150,
        "sql.statement",
        {"database": "shop", "statement": "DELETE FROM users", "sqlstate": "42501", "error": "permission denied", "ms": None},
    ),
    record(
        1150, "boundary.attempt", {"via": "sql", "target": "users", "detail": "DELETE FROM users", "sqlstate": "42501"}, seq=1
    ),
    record(
        1200,
        "row.change",
        {
            "database": "shop",
            "table": "orders",
            "op": "update",
            "key": {"id": 17},
            "old": {"id": 17, "status": "open"},
            "new": {"id": 17, "status": "refunded"},
            "user": "agent_1",
        },
    ),
    record(
        1250,
        "row.change",
        {"database": "shop", "table": "notes", "op": "insert", "key": {"id": 1}, "new": {"id": 1, "x": None}},
    ),
    record(
        1300,
        "decision",
        {
            "decision": {
                "kind": "refund",
                "confidence": 0.93,
                "confidence_basis": "self_report",
                "options": [
                    {"action": "refund", "chosen": True, "est_cost": 12},
                    {"action": "refuse", "rejected_because": "in time"},
                ],
            }
        },
        provenance="declared",
    ),
    record(1400, "gateway.refused", {"what": "dollars budget", "reason": "0.50 of 0.50 spent"}),
    record(1500, "process.exit", {"name": "agent", "exit_code": None, "signal": "SIGKILL"}, "podctl"),
    record(1600, "attempt.end", {"cause": "agent_exhausted_budget", "detail": "dollars"}, "podctl"),
    record(1700, "usage", {"wall_s": 1.6, "cpu_s": 0.4, "phases": {"clone": 0.12, "agent": 1.5}}, "podctl"),
]


def test_a_timeline_says_what_happened_in_order() -> None:
    text = render_text(timeline(reversed(RECORDS), IDENTITY), 140)
    lines = text.splitlines()
    assert lines[:4] == [
        "attempt 0007-1 of run r-1, ticket T-7",
        "agent careful 1.2 (dddddddddddd)",
        "scenario refunds, pod pod-1, boundary support",
        "failed, completed",
    ]
    wanted = [
        "+0.000s  podctl  start     ticket T-7, careful 1.2, pod pod-1",
        "+0.005s  podctl  process   agent started: python agent.py",
        "+0.900s  agent   model     openai, gpt-x: 200, 1,204 tokens in (200 cached), 88 out (8 reasoning), $0.0012, 812 ms",
        'asks for lookup({"id": 17})',
        "+0.950s  agent   model     gpt-x: no answer was recorded, $0.25 was reserved",
        "+1.000s  agent   http      GET orders /o/17 → 404, 12 ms, 99 bytes",
        "+1.100s  agent   sql       shop: SELECT 1 (3 rows, 1.5 ms, by agent_1)",
        "with '17'",
        "+1.150s  agent   sql       shop: DELETE FROM users",
        "failed: 42501, permission denied",
        "!!    +1.150s  agent   BOUNDARY  ATTEMPT ACROSS THE BOUNDARY by sql: users, 42501",
        "+1.200s  agent   row       update shop.orders id=17 (by agent_1)",
        "~ status: 'open' → 'refunded'",
        "+1.250s  agent   row       insert shop.notes id=1",
        "+ x: null",
        "+1.300s  agent   decision  refund: refund, confidence 0.93 (self_report) [declared]",
        "* refund, cost 12",
        "- refuse, rejected: in time",
        "!!    +1.400s  agent   refused   the gateway refused dollars budget: 0.50 of 0.50 spent",
        "+1.500s  podctl  process   agent ended, killed by signal SIGKILL",
        "+1.600s  podctl  end       agent exhausted budget, dollars",
        "phases  clone 0.12 s, agent 1.50 s",
        "counts  2 model calls, 1 HTTP call, 2 statements, 2 row changes, 1 decision, 1 attempt across the boundary, 1 refusal",
        "totals  1.60 s, 1,204 tokens in (200 cached), 88 out (8 reasoning), tokens of 1 more unknown, cost unknown",
    ]
    at = 0
    for want in wanted:
        at = next((n for n in range(at, len(lines)) if want in lines[n]), None)
        assert at is not None, want
    assert "$0.50" not in text  # the first call's start is told by its end


def test_totals_leave_an_unknown_cost_unknown() -> None:
    assert totals(RECORDS).dollars is None
    known = totals([one for one in RECORDS if one.data.get("call_id") != "c2"])
    assert (known.dollars, known.tokens, known.counts["model.call"]) == (Decimal("0.0012"), Tokens(1000, 200, 4, 80, 8), 1)


def test_unknown_tokens_are_not_none() -> None:
    def foot(*tokens: dict[str, int] | None) -> str:
        calls = [Record(n, "model.call", "agent", {"status": 200, "tokens": one}) for n, one in enumerate(tokens)]
        return render_text(timeline(calls, IDENTITY)).splitlines()[-1]

    assert "tokens unknown" in foot(None)
    assert "7 tokens in, 2 out, tokens of 1 more unknown" in foot({"input": 7, "output": 2}, None)
    assert "unknown" not in foot({"input": 7, "output": 2}).replace("cost unknown", "")


def test_filters_hide_events_but_not_totals() -> None:
    whole = timeline(RECORDS, IDENTITY)
    sql = timeline(RECORDS, IDENTITY, kinds=["sql", "row.change"])
    assert [event.kind for event in sql.events] == ["sql.statement", "sql.statement", "row.change", "row.change"]
    assert sql.hidden == len(whole.events) - 4
    assert sql.totals == whole.totals
    assert f"({sql.hidden} other events not shown)" in render_text(sql)
    assert [event.kind for event in timeline(RECORDS, IDENTITY, layers=["reasoning"]).events] == ["decision"]
    assert "no events of the layers" in render_text(timeline(RECORDS, IDENTITY, layers=["performance"], kinds=["sql"]))
    assert "nothing was measured" in render_text(timeline([], IDENTITY))


hostile_text = st.text(st.characters() | st.sampled_from("\x1b\x00\n\r\x9b\u202e\u2066\ufeff\ud800\U000e0041"), max_size=12)
hostile = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | hostile_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hostile_text, inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(
    {name for one in RECORDS for name in one.data}
    | {"name", "signal", "exit_code", "error", "tool", "arguments", "result", "severity", "body", "start", "end", "truncated"}
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.builds(
            Record,
            t=st.integers(0, 2**63),
            kind=st.sampled_from(sorted(KINDS)),
            actor=hostile_text,
            data=st.dictionaries(st.sampled_from(FIELDS), hostile, max_size=6),
            provenance=st.sampled_from(["observed", "declared"]),
        ),
        max_size=4,
    ),
    hostile_text,
    st.integers(0, 200),
)
def test_no_hostile_string_reaches_the_terminal(records: list[Record], name: str, width: int) -> None:
    identity = dataclasses.replace(IDENTITY, ticket=name, agent_name=name, pod=name, policy=name)
    text = render_text(timeline(records, identity), width)
    assert text.endswith("\n")
    for line in text[:-1].split("\n"):
        assert line.isprintable()
        assert len(line) <= max(60, width)


def test_text_cannot_pass_for_an_event() -> None:
    forged = record(0, "log", {"body": "x\n!!    +0.000s  agent   BOUNDARY  forged", "severity": "INFO"})
    text = render_text(timeline([forged], IDENTITY), 200)
    assert sum(line.startswith("!!") for line in text.splitlines()) == 0
    assert r"x\n!!" in text


def test_a_deep_value_does_not_stop_the_trace() -> None:
    deep: object = "x"
    for _ in range(900):
        deep = [deep]
    data = json.loads(json.dumps({"tool": "t", "arguments": deep, "result": {"a": deep}}))
    assert "t(" in render_text(timeline([record(0, "tool.call", data)], IDENTITY))


def test_printable() -> None:
    assert printable("a\x1b[2J\u202e\n\ud800é語") == r"a\x1b[2J\u202e\n\ud800é語"
    assert printable("abcdef", 4) == "abcd… (+2 more)"
    assert printable("\x00" * 5, 2) == r"\x00\x00… (+3 more)"
    assert fitted("a" * 100, 40) == "a" * 27 + "… (+73 more)"
    assert all(len(fitted("a" * length, 30)) <= 30 for length in (10, 30, 31, 1000, 10**6))


def test_well_formed() -> None:
    assert well_formed("a\ud800b\ud83d\ude00é") == "a\ufffdb\U0001f600é"


def entry(class_: str, op: str, column: str = "", table: str = "orders", **values: object) -> DiffEntry:
    made = DiffEntry(class_, "shop", table, op, {"id": 17}, column, actor="agent")
    return dataclasses.replace(made, **values)


def diff_of(*entries: DiffEntry) -> str:
    checks = (CheckResult("state", "state", False, "", entries), CheckResult("again", "state", False, "", entries[:1]))
    return render_diff(AttemptResult("0007-1", "T-7", "s", 1, 7, Cause.COMPLETED, False, checks=checks))


def test_a_diff_is_grouped_by_table_and_row() -> None:
    text = diff_of(
        entry("intended", "update", "status", old="open", new="refunded", expected="refunded"),
        entry("collateral", "update", "amount", old=5, new=9, expected=7),
        entry("missing", "update", "closed_at", expected="today", actor=""),
        entry("forbidden", "delete", table="audit", old={"id": 17, "who": "x"}),
        entry("collateral", "insert", table="notes", new={"id": 17, "text": "hi\x1b[2J"}, expected={"text": "ho"}),
        entry("missing", "insert", table="tags", expected={"name": "vip"}, actor=""),
    )
    assert text == (
        "shop.audit\n"
        "  - id=17  [FORBIDDEN, by agent]\n"
        "      id: 17\n"
        "      who: 'x'\n"
        "shop.notes\n"
        "  + id=17  [not asked for, by agent]\n"
        "      id: 17\n"
        "      text: 'hi\\x1b[2J', expected 'ho'\n"
        "shop.orders\n"
        "  ~ id=17\n"
        "      amount: 5 → 9, expected 7  [not asked for, by agent]\n"
        "      closed_at: not changed, expected 'today'  [missing]\n"
        "      status: 'open' → 'refunded'  [as expected, by agent]\n"
        "shop.tags\n"
        "  + id=17  [missing]\n"
        "      name: expected 'vip'\n"
    )


def test_an_empty_diff_says_so() -> None:
    assert diff_of() == "no row differs from what the ticket's reference says, and none was changed\n"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.builds(
            DiffEntry,
            database=hostile_text,
            table=hostile_text,
            key=st.dictionaries(hostile_text, hostile, max_size=2),
            column=hostile_text,
            old=hostile,
            new=hostile,
            expected=hostile,
            actor=hostile_text,
        ),
        max_size=4,
    )
)
def test_no_hostile_row_reaches_the_terminal(entries: list[DiffEntry]) -> None:
    assert all(line.isprintable() for line in diff_of(*entries).rstrip("\n").split("\n"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_is_told_even_without_data(kind: str) -> None:
    (event,) = timeline([record(0, kind, {})], IDENTITY).events
    assert event.said.label


def test_what_has_no_command_is_a_stub_or_a_fork() -> None:
    stub = Record(1, "process.start", "service:mail", {"name": "mail", "argv": []})
    fork = Record(1, "process.start", "agent", {"pid": 7, "argv": [], "ms": 1, "exit_code": 0})
    assert describe(stub).text == "mail started: a stub"
    assert describe(fork).text.endswith(": forked, executed nothing")
