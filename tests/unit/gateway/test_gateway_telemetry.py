"""The unmodified OpenTelemetry SDK, OTLP as JSON, decisions, and hostile telemetry."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import aiohttp
from gateway_rig import Rig, rigged
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from podctl.gateway.contract import totals_of

DECISION = {"id": "d1", "kind": "refund", "confidence": 0.8, "options": [{"action": "refund", "chosen": True}]}


def emit(base: str, compression: Compression) -> None:
    exporter = OTLPSpanExporter(endpoint=base + "/v1/traces", compression=compression)
    provider = TracerProvider(resource=Resource.create({"service.name": "agent", "service.version": "7"}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("demo")
    with tracer.start_as_current_span("invoke_agent demo", attributes={"gen_ai.operation.name": "invoke_agent"}):
        tool = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "get_order",
            "gen_ai.tool.call.arguments": '{"order": 17}',
            "gen_ai.tool.call.result": "lost",
            "long": "x" * 100_000,
        }
        with tracer.start_as_current_span("execute_tool get_order", attributes=tool) as span:
            span.add_event("podctl.decision", {"decision": json.dumps(DECISION)})
            span.add_event("looked", {"at": 1})
    provider.shutdown()


def test_spans_of_the_sdk_become_records(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        for compression in (Compression.NoCompression, Compression.Gzip):
            await asyncio.to_thread(emit, rig.base, compression)
        totals, records = await rig.close()
        assert (totals.spans, totals.decisions, totals.confidence) == (4, 2, 0.8)
        assert totals_of(records) == totals
        assert all(record.provenance == "declared" for record in records)
        spans = {record.data["name"]: record.data for record in records if record.kind == "span"}
        agent, tool = spans["invoke_agent demo"], spans["execute_tool get_order"]
        assert tool["parent_span_id"] == agent["span_id"] and len(agent["span_id"]) == 16 and agent["parent_span_id"] == ""
        assert tool["trace_id"] == agent["trace_id"] and len(agent["trace_id"]) == 32
        assert agent["operation"] == "invoke_agent" and 0 < agent["start"] <= agent["end"]
        assert agent["resource"]["service.version"] == "7"
        assert len(tool["attributes"]["long"]) < 10_000
        assert [event["name"] for event in tool["events"]] == ["looked"]
        call = [record.data for record in records if record.kind == "tool.call"][-1]
        assert (call["tool"], call["arguments"], call["result"]) == ("get_order", {"order": 17}, "lost")
        assert call["span_id"] == tool["span_id"]
        decision = [record.data for record in records if record.kind == "decision"][-1]
        assert decision["decision"] == {"span_id": tool["span_id"], **DECISION}

    asyncio.run(rigged(tmp_path, work))


async def post(rig: Rig, path: str, body: Any, **headers: str) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as http, http.post(rig.base + path, data=data, headers=sent) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if answer.content_type == "application/json" else text


def traces(count: int) -> dict[str, Any]:
    span = {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "chat m", "startTimeUnixNano": "1", "endTimeUnixNano": 2}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span] * count}]}]}


def logs(*records: dict[str, Any]) -> dict[str, Any]:
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}


def test_otlp_as_json_and_decisions(tmp_path: Path) -> None:
    kvlist = {
        "kvlistValue": {
            "values": [{"key": "id", "value": {"stringValue": "d2"}}, {"key": "confidence", "value": {"doubleValue": 0.5}}]
        }
    }
    named = {"attributes": [{"key": "event.name", "value": {"stringValue": "podctl.decision"}}]}

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        assert (await post(rig, "/v1/traces", traces(1)))[0] == 503
        await rig.open()
        assert await post(rig, "/v1/traces", traces(1)) == (200, {})
        plain = {"severityText": "INFO", "body": {"stringValue": "hello"}, "timeUnixNano": "5"}
        as_text = {"eventName": "podctl.decision", "body": {"stringValue": json.dumps({"id": "d1"})}, "spanId": "cd" * 8}
        assert (await post(rig, "/v1/logs", logs(plain, as_text, {"body": kvlist} | named)))[0] == 200
        assert (await post(rig, "/v1/metrics", {"resourceMetrics": []}))[0] == 200
        assert (await post(rig, "/v1/decisions", {"id": "d3", "confidence": 2}))[0] == 200
        totals, records = await rig.close()
        assert [record.kind for record in records] == ["span", "log", "decision", "decision", "decision"]
        assert (records[0].data["trace_id"], records[0].data["span_id"]) == ("ab" * 16, "cd" * 8)
        assert (records[1].data["severity"], records[1].data["body"]) == ("INFO", "hello")
        assert [record.data["decision"]["id"] for record in records[2:]] == ["d1", "d2", "d3"]
        assert records[2].data["decision"]["span_id"] == "cd" * 8
        assert totals.confidence == 0.5, "2 is no confidence"

    asyncio.run(rigged(tmp_path, work))


def test_malformed_telemetry_is_refused_and_harmless(tmp_path: Path) -> None:
    deep: Any = {"stringValue": "x"}
    for _ in range(60):
        deep = {"arrayValue": {"values": [deep]}}

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        for body in (b"{", b"[1]", b"[" * 100_000, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": "zz"}]}]}]}'):
            assert (await post(rig, "/v1/traces", body))[0] == 400
        assert (await post(rig, "/v1/traces", b"\xff\xff\xff", Content_Type="application/x-protobuf"))[0] == 400
        assert (await post(rig, "/v1/traces", b"not gzip", Content_Encoding="gzip"))[0] == 400
        bomb = gzip.compress(b"\0" * 50_000_000)
        assert (await post(rig, "/v1/traces", bomb, Content_Encoding="gzip"))[0] == 413
        assert (await post(rig, "/v1/decisions", b'["no object"]'))[0] == 400
        assert (await post(rig, "/v1/decisions", b"[" * 100_000))[0] == 400
        assert (await post(rig, "/v1/logs", logs({"body": deep})))[0] in (200, 400)
        totals, records = await rig.close()
        assert totals.spans == 0 and len(records) <= 1

    asyncio.run(rigged(tmp_path, work))


def test_the_limit_of_spans_holds_and_is_reported_once(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open(spans=5)
        status, answer = await post(rig, "/v1/traces", traces(7))
        assert status == 200 and int(answer["partialSuccess"]["rejectedSpans"]) == 2
        assert (await post(rig, "/v1/traces", traces(1)))[0] == 429
        assert (await post(rig, "/v1/decisions", {"id": "d"}))[0] == 429
        totals, _ = await rig.close()
        assert totals.spans == 5 and totals.limits_hit == ("spans",)
        assert rig.events == [{"event": "limit", "attempt": "0001-1", "limit": "spans"}]

    asyncio.run(rigged(tmp_path, work))


def test_evidence_that_reached_its_bound_ends_the_attempt(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        nobody = ("127.0.0.1", 1)
        await rig.open_pod({"orders": ("http", nobody), "desk": ("mcp", nobody)})
        await rig.open(evidence_bytes=2000)
        statuses = [(await post(rig, "/v1/decisions", {"id": "x" * 500}))[0] for _ in range(10)]
        assert statuses[0] == 200 and statuses[-1] == 429
        async with aiohttp.ClientSession() as http:
            for door in ("orders", "desk"):
                async with http.post(f"http://127.0.0.1:{rig.ports[door]}/mcp", json={}) as answer:
                    assert answer.status == 429, "no door opens any more"
        assert [event["limit"] for event in rig.events] == ["output"]
        assert (tmp_path / "0001-1.gw").stat().st_size < 3000

    asyncio.run(rigged(tmp_path, work))
