"""An attempt as OTLP/JSON traces: one ``invoke_agent`` span, and under it what it called.

OTLP's JSON mapping writes ids in hexadecimal and 64-bit integers as strings. Names are those of OpenTelemetry's
semantic conventions for GenAI (status Development), HTTP and databases; this module is the one place that maps them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from podctl import __version__
from podctl.evidence import processes
from podctl.evidence.calls import (
    dollars_of,
    in_order,
    is_start,
    items,
    mapping,
    number,
    tokens_of,
    totals,
    without_answered_starts,
)
from podctl.evidence.events import describe
from podctl.evidence.identity import Identity
from podctl.evidence.processes import is_whole, with_whole_processes
from podctl.evidence.records import Record, Tokens
from podctl.evidence.safe import well_formed, well_formed_value

SCHEMA_URL = "https://opentelemetry.io/schemas/1.40.0"
_INTERNAL, _CLIENT = 1, 3
_ERROR = 2
_SPAN_ID = re.compile(r"(?!0{16})[0-9a-f]{16}")
_EVENTS = frozenset(
    {
        "row.change",
        "boundary.attempt",
        "gateway.refused",
        "decision",
        "process.start",
        "process.exec",
        "process.exit",
        "log",
        "usage",
    }
)
_Attributes = dict[str, Any]


def to_otlp(records: Iterable[Record], identity: Identity, *, content: bool = False) -> dict[str, Any]:
    """An ExportTraceServiceRequest in OTLP/JSON. ``content`` adds the messages of model calls, which may hold a
    customer's data, and the arguments and results of tools."""
    ordered = with_whole_processes(without_answered_starts(in_order(records)))
    spans = _Spans(ordered, identity, content)
    resource = {
        "service.name": identity.agent_name,
        "service.version": identity.agent_version,
        "podctl.run.id": identity.run,
        "podctl.attempt.id": identity.attempt,
        "podctl.ticket.id": identity.ticket,
        "podctl.scenario": identity.scenario,
        "podctl.pod": identity.pod,
        "podctl.policy": identity.policy,
        "podctl.agent.digest": identity.agent_digest,
        "podctl.agent.spiffe_id": identity.spiffe,
    }
    scope = {"scope": {"name": "podctl", "version": __version__}, "spans": spans.all(), "schemaUrl": SCHEMA_URL}
    return {
        "resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope], "schemaUrl": SCHEMA_URL}]
    }


class _Spans:
    def __init__(self, records: Sequence[Record], identity: Identity, content: bool) -> None:
        self._records = records
        self._identity = identity
        self._content = content
        self._trace = _hex(f"{identity.run}/{identity.attempt}", 32)
        self._root = _hex(f"{identity.run}/{identity.attempt}/root", 16)
        self._declared = {_declared_id(record) for record in records if record.kind == "span"} - {""}
        self._used = {self._root}

    def all(self) -> list[dict[str, Any]]:
        children = []
        for record in self._records:
            # The gateway makes two records of a tool's span: the span and the call it describes.
            doubled = record.kind == "tool.call" and _declared_id(record) in self._declared
            make = _process if is_whole(record) else _BY_KIND.get(record.kind)
            if record.kind == "span":
                children.append(self._as_declared(record))
            elif make is not None and not doubled:
                children.append(self._observed(record, *make(record, self._content)))
        return [self._agent(), *children]

    def _agent(self) -> dict[str, Any]:
        records, identity, found = self._records, self._identity, totals(self._records)
        began = [record.t for record in records if record.kind == "attempt.start"]  # services were started before
        begun = min(began or [record.t for record in records], default=0)
        ended = max((record.t for record in records), default=0)
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": identity.agent_name,
            "gen_ai.agent.version": identity.agent_version,
            "gen_ai.conversation.id": identity.attempt,
            **_usage(found.tokens),
            "podctl.dollars": None if found.dollars is None else str(found.dollars),
            "podctl.simulated": found.simulated,
            "podctl.cause": None if identity.cause is None else identity.cause.value,
        }
        failed = None if identity.passed is not False else str(attributes["podctl.cause"] or "failed")
        span = self._span(self._root, "", f"invoke_agent {identity.agent_name}", _INTERNAL, begun, ended, attributes, failed)
        events = [
            _event(record.t, record.kind, _told(record))
            for record in records
            if record.kind in _EVENTS and not is_whole(record)
        ]
        if identity.passed is not None:
            label = "pass" if identity.passed else "fail"
            graded = {"gen_ai.evaluation.name": "podctl", "gen_ai.evaluation.score.label": label}
            events.append(_event(ended, "gen_ai.evaluation.result", graded))
        return span | {"events": events}

    def _observed(self, record: Record, name: str, kind: int, attributes: _Attributes, failed: str | None) -> dict[str, Any]:
        """``t`` is when a call ended, and when a process started."""
        took = int((number(record.data.get("ms")) or 0.0) * 1e6)
        ended = record.t + took if is_whole(record) else record.t
        attributes |= {"podctl.actor": record.actor, "podctl.provenance": record.provenance}
        span_id = self._free(_hex(f"{self._trace}/{record.writer}/{record.seq}/{record.t}", 16))
        return self._span(span_id, self._root, name, kind, ended - took, ended, attributes, failed)

    def _as_declared(self, record: Record) -> dict[str, Any]:
        data = record.data
        own = _declared_id(record) or _hex(f"{self._trace}/{record.writer}/{record.seq}", 16)
        parent = str(data.get("parent_span_id") or "")
        attributes = {**mapping(data.get("attributes")), "podctl.actor": record.actor, "podctl.provenance": record.provenance}
        failed = str(data.get("status_message") or "error") if data.get("status") == "error" else None
        begun, ended = number(data.get("start")), number(data.get("end"))
        start = record.t if begun is None else int(data["start"])
        end = record.t if ended is None else int(data["end"])
        parent = parent if parent in self._declared and parent != own else self._root
        name = str(data.get("name") or "span")
        return self._span(self._free(own), parent, name, _INTERNAL, start, end, attributes, failed)

    def _free(self, span_id: str) -> str:
        while span_id in self._used:
            span_id = _hex(span_id, 16)
        self._used.add(span_id)
        return span_id

    def _span(
        self, own: str, parent: str, name: str, kind: int, begun: int, ended: int, attributes: _Attributes, failed: str | None
    ) -> dict[str, Any]:
        if failed is not None:
            attributes = {"error.type": failed, **attributes}
        span: dict[str, Any] = {"traceId": self._trace, "spanId": own, "name": well_formed(name)[:256], "kind": kind}
        if parent:
            span["parentSpanId"] = parent
        span |= {"startTimeUnixNano": _nanoseconds(begun), "endTimeUnixNano": _nanoseconds(max(begun, ended))}
        span["attributes"] = _attributes(attributes)
        if failed is not None:
            span["status"] = {"code": _ERROR, "message": well_formed(failed)}
        return span


_Made = tuple[str, int, _Attributes, str | None]


def _chat(record: Record, content: bool) -> _Made:
    data = record.data
    attributes: _Attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": data.get("provider"),
        "gen_ai.request.model": data.get("model"),
        "gen_ai.response.model": data.get("response_model"),
        "gen_ai.response.finish_reasons": data.get("finish_reasons") or None,
        **_usage(tokens_of(record)),
        "http.response.status_code": data.get("status") if isinstance(data.get("status"), int) else None,
        "podctl.dollars": None if dollars_of(record) is None else str(dollars_of(record)),
        "podctl.simulated": data.get("simulated") is True,
        "podctl.request.digest": data.get("request_digest"),
    }
    messages = items(data.get("messages"))
    if content and messages:
        attributes["gen_ai.input.messages"] = _json(messages[:-1])
        attributes["gen_ai.output.messages"] = _json(messages[-1:])
    failed = "no answer was recorded" if is_start(record) else data.get("error")
    return f"chat {data.get('model') or 'unknown'}", _CLIENT, attributes, None if not failed else str(failed)


def _tool(record: Record, content: bool) -> _Made:
    data = record.data
    attributes: _Attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": data.get("tool")}
    if content:
        attributes["gen_ai.tool.call.arguments"] = _json(data.get("arguments"))
        attributes["gen_ai.tool.call.result"] = _json(data.get("result"))
    if data.get("server"):
        attributes |= {"server.address": data["server"], "podctl.policy": data.get("policy"), "podctl.level": data.get("level")}
        failed = None if data.get("status") == "ok" else str(data.get("status"))
        return f"execute_tool {data.get('tool')}", _CLIENT, attributes, failed
    return f"execute_tool {data.get('tool')}", _INTERNAL, attributes, "error" if data.get("error") else None


def _http(record: Record, _content: bool) -> _Made:
    data, status = record.data, record.data.get("status")
    path, _, query = str(data.get("path") or "").partition("?")
    attributes = {
        "http.request.method": data.get("method"),
        "http.response.status_code": status,
        "server.address": data.get("service"),
        "url.path": path,
        "url.query": query or None,
        "http.request.body.size": data.get("request_bytes"),
        "http.response.body.size": data.get("response_bytes"),
    }
    refused = isinstance(status, int) and status >= 400
    failed = str(data["error"]) if data.get("error") else str(status) if refused else None
    return str(data.get("method") or "HTTP"), _CLIENT, attributes, failed


def _sql(record: Record, _content: bool) -> _Made:
    data = record.data
    operation = str(data.get("statement") or "").split(maxsplit=1)[:1]
    word = operation[0].upper()[:32] if operation and operation[0].isalpha() else ""
    attributes = {
        "db.system.name": "postgresql",
        "db.namespace": data.get("database"),
        "db.query.text": data.get("statement"),
        "db.operation.name": word or None,
        "db.response.status_code": data.get("sqlstate") or None,
        "db.response.returned_rows": data.get("rows"),
        "podctl.db.user": data.get("user"),
    }
    failed = data.get("sqlstate") or data.get("error")
    return f"{word} {data.get('database') or 'postgresql'}".strip(), _CLIENT, attributes, None if not failed else str(failed)


def _process(record: Record, _content: bool) -> _Made:
    data = record.data
    attributes = {
        "process.pid": data.get("pid"),
        "process.parent_pid": data.get("parent"),
        "process.executable.path": data.get("exe") or None,
        "process.command_args": data.get("argv"),
        "process.exit.code": data.get("exit_code"),
        "podctl.process.signal": data.get("signal"),
        "podctl.process.cpu_s": data.get("cpu_s"),
    }
    failed = processes.ending(data) if data.get("signal") else None
    return f"process {processes.name(data)}".rstrip(), _INTERNAL, attributes, failed


_BY_KIND: dict[str, Callable[[Record, bool], _Made]] = {
    "model.call": _chat,
    "tool.call": _tool,
    "http.call": _http,
    "sql.statement": _sql,
}


def _usage(tokens: Tokens | None) -> _Attributes:
    """Input includes what was cached and output what was reasoned, as the conventions have it."""
    if tokens is None:
        return {}
    return {
        "gen_ai.usage.input_tokens": tokens.input + tokens.cache_read + tokens.cache_write,
        "gen_ai.usage.output_tokens": tokens.output + tokens.reasoning,
        "gen_ai.usage.cache_read.input_tokens": tokens.cache_read,
        "gen_ai.usage.cache_write.input_tokens": tokens.cache_write,
        "gen_ai.usage.reasoning.output_tokens": tokens.reasoning,
    }


def _told(record: Record) -> _Attributes:
    told: _Attributes = {
        "podctl.text": describe(record).lines(),
        "podctl.actor": record.actor,
        "podctl.provenance": record.provenance,
    }
    return told | {"podctl.decision": _json(record.data.get("decision"))} if record.kind == "decision" else told


def _event(t: int, name: str, attributes: _Attributes) -> dict[str, Any]:
    name = name if name.startswith("gen_ai.") else f"podctl.{name}"
    return {"timeUnixNano": _nanoseconds(t), "name": name, "attributes": _attributes(attributes)}


def _declared_id(record: Record) -> str:
    found = record.data.get("span_id")
    return found if isinstance(found, str) and _SPAN_ID.fullmatch(found) else ""


def _hex(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:digits]


def _nanoseconds(t: int) -> str:
    return str(min(max(t, 0), 2**64 - 1))


def _json(value: Any) -> str:
    return json.dumps(well_formed_value(value))


def _attributes(values: _Attributes) -> list[dict[str, Any]]:
    return [{"key": well_formed(str(key)), "value": _any_value(value)} for key, value in values.items() if value is not None]


def _any_value(value: Any, depth: int = 0) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"intValue": str(value)}
    if isinstance(value, float) and number(value) is not None:
        return {"doubleValue": value}
    if value is None:
        return {}
    if isinstance(value, list | tuple) and depth < 8:
        return {"arrayValue": {"values": [_any_value(item, depth + 1) for item in value]}}
    if isinstance(value, dict) and depth < 8:
        pairs = [{"key": well_formed(str(key)), "value": _any_value(item, depth + 1)} for key, item in value.items()]
        return {"kvlistValue": {"values": pairs}}
    if isinstance(value, str):
        return {"stringValue": well_formed(value)}
    return {"stringValue": _json(value) if isinstance(value, list | dict) else well_formed(str(value))}
