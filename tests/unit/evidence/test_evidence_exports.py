"""Exports that other programs take: ATIF v1.8 and OTLP/JSON."""

from __future__ import annotations

import base64
import dataclasses
import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from podctl.evidence.causes import Cause
from podctl.evidence.export_atif import to_atif
from podctl.evidence.export_otlp import to_otlp
from podctl.evidence.identity import Identity
from podctl.evidence.records import KINDS, Record, Tokens
from podctl.evidence.results import AttemptResult, RunInfo

T0 = 1_700_000_000_123_456_789
IDENTITY = Identity("r-1", "0007-1", "T-7", "refunds", "careful", "1.2", "d" * 64, "pod-1", "support", Cause.COMPLETED, True)


# ---- what ATIF v1.8 asks for, as its reference models do -----------------------------


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    extra: dict[str, Any] | None = None


class Call(Strict):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]


class Seen(Strict):
    source_call_id: str | None = None
    content: str | None = None


class Observation(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    results: list[Seen]


class StepMetrics(Strict):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None


class Step(Strict):
    step_id: int
    timestamp: str | None = None
    source: Literal["system", "user", "agent"]
    message: str
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    observation: Observation | None = None
    metrics: StepMetrics | None = None

    @model_validator(mode="after")
    def holds_together(self) -> Step:
        if self.timestamp is not None:
            datetime.fromisoformat(self.timestamp.replace("Z", "+00:00"))
        if self.source != "agent":
            assert self.reasoning_content is None and self.tool_calls is None and self.metrics is None
        called = {call.tool_call_id for call in self.tool_calls or []}
        cited = {seen.source_call_id for seen in self.observation.results} if self.observation else set()
        assert cited - {None} <= called
        return self


class AtifAgent(Strict):
    name: str
    version: str
    model_name: str | None = None
    tool_definitions: list[dict[str, Any]] | None = None


class FinalMetrics(Strict):
    total_prompt_tokens: int
    total_completion_tokens: int
    total_cached_tokens: int
    total_cost_usd: float | None = None
    total_steps: int | None = None


class Trajectory(Strict):
    schema_version: Literal["ATIF-v1.8"]
    session_id: str
    trajectory_id: str
    agent: AtifAgent
    steps: Annotated[list[Step], Field(min_length=1)]
    final_metrics: FinalMetrics

    @model_validator(mode="after")
    def steps_count_from_one(self) -> Trajectory:
        assert [step.step_id for step in self.steps] == list(range(1, len(self.steps) + 1))
        return self


def atif(records: list[Record]) -> Trajectory:
    text = json.dumps(to_atif(records, IDENTITY), allow_nan=False)
    text.encode("utf-8")
    return Trajectory.model_validate_json(text)


def record(ms: float, kind: str, data: dict[str, Any], seq: int = 0, provenance: str = "observed") -> Record:
    return Record(T0 + int(ms * 1e6), kind, "agent", data, provenance, "w", seq)


def model_call(ms: float, call_id: str, messages: list[dict], calls: list[dict], tokens: Tokens, dollars: str | None) -> Record:
    data = {"call_id": call_id, "provider": "openai", "model": "gpt-x", "response_model": "gpt-x-1", "status": 200, "ms": 100.0}
    data |= {
        "messages": messages,
        "tool_calls": calls,
        "tokens": tokens.to_json(),
        "dollars": dollars,
        "finish_reasons": ["stop"],
    }
    return record(ms, "model.call", data)


ASKED = [{"role": "system", "content": "Be careful."}, {"role": "user", "content": [{"type": "text", "text": "Refund 17"}]}]
ASK = {"id": "call_1", "name": "lookup", "arguments": '{"id": 17}'}
TURN = {"role": "assistant", "tool_calls": [{"id": "call_1", "function": {"name": "lookup", "arguments": '{"id": 17}'}}]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "open"}
SPAN = {
    "name": "execute_tool refund",
    "span_id": "00f067aa0ba902b7",
    "parent_span_id": "00f067aa0ba902b8",
    "start": T0 + 5,
    "end": T0 + 9,
    "status": "error",
    "status_message": "no",
    "attributes": {"gen_ai.tool.name": "refund", "n": 2**60, "deep": {"a": [1, None, 2.5]}},
}
RECORDS = [
    record(0, "attempt.start", {"ticket": "T-7"}),
    record(1, "model.call", {"call_id": "a", "model": "gpt-x", "status": "started"}),
    model_call(200, "a", [*ASKED, {"role": "assistant", "content": None}], [ASK], Tokens(100, 50, 7, 20, 5), "0.001"),
    record(
        300,
        "http.call",
        {"service": "orders", "method": "GET", "path": "/o/17?x=1", "status": 200, "ms": 5, "response_body": "{}"},
    ),
    record(310, "sql.statement", {"database": "shop", "statement": "SELECT 1", "sqlstate": "", "ms": 2.5, "user": "agent_1"}),
    record(
        320,
        "sql.statement",
        {"database": "shop", "statement": "DELETE FROM t", "sqlstate": "42501", "error": "denied", "ms": None},
    ),
    record(320, "boundary.attempt", {"via": "sql", "target": "t", "detail": "DELETE FROM t"}, seq=1),
    record(330, "span", SPAN, provenance="declared"),
    record(
        331,
        "tool.call",
        {"tool": "refund", "arguments": {"id": 17}, "result": "ok", "span_id": SPAN["span_id"]},
        provenance="declared",
    ),
    record(
        340,
        "decision",
        {"decision": {"kind": "refund", "options": [{"action": "refund", "chosen": True}]}},
        provenance="declared",
    ),
    model_call(
        500, "b", [*ASKED, TURN, RESULT, {"role": "assistant", "content": "Done."}], [], Tokens(300, 0, 0, 10, 0), "0.002"
    ),
    record(
        600,
        "row.change",
        {"database": "shop", "table": "orders", "op": "update", "key": {"id": 17}, "old": {"s": 1}, "new": {"s": 2}},
    ),
    record(700, "usage", {"wall_s": 0.7, "phases": {"agent": 0.6}}),
]


def test_atif_follows_the_conversation() -> None:
    trajectory = atif(RECORDS)
    assert [(step.source, step.message) for step in trajectory.steps] == [
        ("system", "Ticket T-7"),
        ("system", "Be careful."),
        ("user", "Refund 17"),
        ("agent", ""),
        ("agent", "Done."),
    ]
    first, last = trajectory.steps[3], trajectory.steps[4]
    assert [(call.tool_call_id, call.function_name, call.arguments) for call in first.tool_calls or []] == [
        ("call_1", "lookup", {"id": 17}),
        ("00f067aa0ba902b7", "refund", {"id": 17}),
    ]
    assert first.observation is not None
    seen = first.observation.results
    assert [(one.source_call_id, (one.extra or {}).get("kind")) for one in seen] == [
        (None, "http.call"),
        (None, "sql.statement"),
        (None, "sql.statement"),
        (None, "boundary.attempt"),
        ("00f067aa0ba902b7", "tool.call"),
        ("call_1", None),
    ]
    assert seen[0].content == "{}"
    assert seen[-1].content == "open"
    assert first.reasoning_content is not None
    assert first.reasoning_content.startswith("refund: refund")
    assert first.timestamp == "2023-11-14T22:13:20.323456Z"
    assert last.observation is not None
    assert (last.observation.results[0].extra or {})["kind"] == "row.change"


def test_atif_counts_cached_tokens_in_the_prompt() -> None:
    trajectory = atif(RECORDS)
    metrics = trajectory.steps[3].metrics
    assert metrics is not None
    assert (metrics.prompt_tokens, metrics.completion_tokens, metrics.cached_tokens, metrics.cost_usd) == (157, 25, 50, 0.001)
    final = trajectory.final_metrics
    assert (final.total_prompt_tokens, final.total_completion_tokens, final.total_cached_tokens) == (457, 35, 50)
    assert final.total_cost_usd == pytest.approx(0.003)
    unknown = atif([*RECORDS, model_call(800, "c", [], [], Tokens(), None)])
    assert unknown.final_metrics.total_cost_usd is None
    assert unknown.steps[-1].metrics is not None
    assert unknown.steps[-1].metrics.cost_usd is None


def test_atif_of_an_agent_without_a_model_and_of_nothing() -> None:
    (start, step) = atif([one for one in RECORDS if one.kind == "sql.statement"]).steps
    assert (start.source, step.source, step.metrics) == ("system", "agent", None)
    assert len(step.observation.results if step.observation else []) == 2
    assert len(atif([]).steps) == 1


def test_atif_of_anthropic_tool_results() -> None:
    result = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": [{"type": "text", "text": "open"}]}],
    }
    calls = [
        model_call(1, "a", [ASKED[1], {"role": "assistant", "content": ""}], [ASK], Tokens(), "0"),
        model_call(2, "b", [ASKED[1], TURN, result, {"role": "assistant", "content": "x"}], [], Tokens(), "0"),
    ]
    steps = atif(calls).steps
    assert [step.source for step in steps] == ["system", "user", "agent", "agent"]
    assert steps[2].observation is not None
    assert (steps[2].observation.results[0].source_call_id, steps[2].observation.results[0].content) == ("call_1", "open")


# ---- OTLP ---------------------------------------------------------------------------


def parsed(value: dict[str, Any]) -> ExportTraceServiceRequest:
    """As a collector reads it: OTLP's JSON has hexadecimal ids where protobuf's has base64; nothing unknown may be in it."""

    def ids(item: Any) -> Any:
        if isinstance(item, list):
            return [ids(one) for one in item]
        if not isinstance(item, dict):
            return item
        names = ("traceId", "spanId", "parentSpanId")
        return {
            name: base64.b64encode(bytes.fromhex(one)).decode() if name in names else ids(one) for name, one in item.items()
        }

    text = json.dumps(value, allow_nan=False)
    text.encode("utf-8")
    return json_format.ParseDict(ids(json.loads(text)), ExportTraceServiceRequest())


def spans_of(request: ExportTraceServiceRequest) -> list[Any]:
    return [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def plain(attributes: Any) -> dict[str, Any]:
    def value(any_value: Any) -> Any:
        kind = any_value.WhichOneof("value")
        if kind == "array_value":
            return [value(one) for one in any_value.array_value.values]
        if kind == "kvlist_value":
            return plain(any_value.kvlist_value.values)
        return getattr(any_value, kind) if kind else None

    return {pair.key: value(pair.value) for pair in attributes}


def test_otlp_is_one_trace_under_the_agent() -> None:
    request = parsed(to_otlp(RECORDS, IDENTITY))
    spans = spans_of(request)
    assert [span.name for span in spans] == [
        "invoke_agent careful",
        "chat gpt-x",
        "GET",
        "SELECT shop",
        "DELETE shop",
        "execute_tool refund",
        "chat gpt-x",
    ]
    root = spans[0]
    assert len({span.trace_id for span in spans}) == 1
    assert len(root.trace_id) == 16
    assert len({span.span_id for span in spans}) == len(spans)
    assert root.parent_span_id == b""
    assert {span.parent_span_id for span in spans[1:]} == {root.span_id}  # a parent that was never received is the agent
    assert spans[5].span_id.hex() == SPAN["span_id"]
    assert (root.start_time_unix_nano, root.end_time_unix_nano) == (T0, T0 + 700_000_000)
    assert (spans[1].start_time_unix_nano, spans[1].end_time_unix_nano) == (T0 + 100_000_000, T0 + 200_000_000)
    resource = plain(request.resource_spans[0].resource.attributes)
    assert resource["service.name"] == "careful"
    assert resource["service.version"] == "1.2"
    assert resource["podctl.attempt.id"] == "0007-1"
    assert resource["podctl.policy"] == "support"


def test_otlp_speaks_the_conventions() -> None:
    root, chat, http, select, delete, tool, _ = spans_of(parsed(to_otlp(RECORDS, IDENTITY)))
    told = plain(chat.attributes)
    assert told["gen_ai.operation.name"] == "chat"
    assert told["gen_ai.provider.name"] == "openai"
    assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("gpt-x", "gpt-x-1")
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (157, 25)
    assert told["gen_ai.usage.cache_read.input_tokens"] == 50
    assert told["gen_ai.usage.cache_write.input_tokens"] == 7
    assert told["gen_ai.usage.reasoning.output_tokens"] == 5
    assert "gen_ai.input.messages" not in told
    assert plain(root.attributes)["gen_ai.usage.input_tokens"] == 457
    assert plain(root.attributes)["gen_ai.operation.name"] == "invoke_agent"
    assert plain(http.attributes)["http.request.method"] == "GET"
    assert plain(http.attributes)["http.response.status_code"] == 200
    assert (plain(http.attributes)["url.path"], plain(http.attributes)["url.query"]) == ("/o/17", "x=1")
    assert plain(select.attributes)["db.system.name"] == "postgresql"
    assert plain(select.attributes)["db.query.text"] == "SELECT 1"
    assert (select.kind, select.status.code) == (3, 0)
    assert (delete.status.code, plain(delete.attributes)["error.type"]) == (2, "42501")
    assert plain(tool.attributes)["n"] == 2**60
    assert plain(tool.attributes)["deep"] == {"a": [1, None, 2.5]}
    assert plain(tool.attributes)["podctl.provenance"] == "declared"
    assert tool.status.code == 2
    events = {event.name: plain(event.attributes) for event in root.events}
    assert events["gen_ai.evaluation.result"] == {"gen_ai.evaluation.name": "podctl", "gen_ai.evaluation.score.label": "pass"}
    assert json.loads(events["podctl.decision"]["podctl.decision"])["kind"] == "refund"
    assert "BOUNDARY" in events["podctl.boundary.attempt"]["podctl.text"]


def test_otlp_carries_content_only_when_asked() -> None:
    text = json.dumps(to_otlp(RECORDS, IDENTITY))
    assert "Refund 17" not in text
    with_content = spans_of(parsed(to_otlp(RECORDS, IDENTITY, content=True)))
    assert "Refund 17" in plain(with_content[1].attributes)["gen_ai.input.messages"]
    assert json.loads(plain(with_content[6].attributes)["gen_ai.output.messages"])[0]["content"] == "Done."


def test_otlp_links_declared_spans_to_declared_parents() -> None:
    parent = record(1, "span", {**SPAN, "span_id": "00f067aa0ba902b8", "parent_span_id": ""}, provenance="declared")
    twice = record(3, "span", SPAN, seq=9, provenance="declared")
    spans = spans_of(parsed(to_otlp([parent, record(2, "span", SPAN, provenance="declared"), twice], IDENTITY)))
    assert spans[2].parent_span_id.hex() == spans[1].span_id.hex() == "00f067aa0ba902b8"
    assert len({span.span_id for span in spans}) == 4


any_text = st.text(st.characters() | st.sampled_from("\x00\ud800\n"), max_size=6)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted(
    {name for one in RECORDS for name in one.data} | {"arguments", "result", "role", "content", "id", "name", "error"}
)
any_records = st.lists(
    st.builds(
        Record,
        t=st.integers(-(2**40), 2**70),
        kind=st.sampled_from(sorted(KINDS)),
        actor=any_text,
        data=st.dictionaries(
            st.sampled_from(FIELDS),
            any_json
            | st.lists(st.dictionaries(st.sampled_from(["role", "content", "id", "name", "tool_call_id", "type"]), any_json)),
            max_size=8,
        ),
        provenance=st.sampled_from(["observed", "declared"]),
        writer=st.just("w"),
        seq=st.integers(0, 3),
    ),
    max_size=5,
)


@settings(max_examples=80, deadline=None)
@given(any_records)
def test_any_records_make_valid_exports(records: list[Record]) -> None:
    atif(records)
    spans = spans_of(parsed(to_otlp(records, IDENTITY, content=True)))
    assert len({span.span_id for span in spans}) == len(spans)
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)


def test_a_deep_value_does_not_stop_an_export() -> None:
    deep: object = "x"
    for _ in range(900):
        deep = [deep]
    data = json.loads(
        json.dumps({"tool": "t", "arguments": {"a": deep}, "result": deep, "decision": {"x": deep}, "attributes": {"x": deep}})
    )
    records = [record(0, kind, data) for kind in ("tool.call", "decision", "span", "log")]
    assert len(atif(records).steps) == 2
    assert len(spans_of(parsed(to_otlp(records, IDENTITY, content=True)))) == 3


def test_a_span_id_of_a_wrong_type_is_no_span_id() -> None:
    records = [
        record(at, kind, {"tool": "t", "span_id": []}, provenance="declared") for at, kind in enumerate(["tool.call", "span"])
    ]
    assert len(spans_of(parsed(to_otlp(records, IDENTITY)))) == 3


def test_identity_is_of_the_run_and_the_attempt() -> None:
    info = RunInfo("r-1", "refunds", "careful", "1.2", "d" * 64, "t", "local", "i", "s", 1, 1, {}, 1, 1, 1, 0)
    result = AttemptResult("0007-1", "T-7", "s", 1, 7, Cause.COMPLETED, True, dollars=Decimal(0), pod="pod-1")
    who = {"id": "spiffe://d/pod/pod-1/agent/careful/version/1.2", "boundary": "support"}
    records = [record(0, "usage", {}), dataclasses.replace(record(1, "log", {}), who=who)]
    assert Identity.of(info, result, records) == dataclasses.replace(IDENTITY, spiffe=who["id"])
    assert Identity.of(info, result, records[:1]) == dataclasses.replace(IDENTITY, policy="")
