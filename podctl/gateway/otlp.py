"""OpenTelemetry's wire format to evidence: the one place that knows the GenAI attribute names.

The GenAI conventions are in development (open-telemetry/semantic-conventions-genai); attributes are kept as they
came, and only these are interpreted: ``gen_ai.operation.name``, ``gen_ai.tool.name``, ``gen_ai.tool.call.arguments``
and ``gen_ai.tool.call.result``. Everything here is what the agent says of itself.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import json_format  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from podctl.gateway.bounds import bounded, clipped

#: The name of a log record or span event that carries a decision.
DECISION = "podctl.decision"
_PAYLOADS = (DECISION, "decision")
_ATTRIBUTE_DEPTH = 6
_EVENTS_KEPT = 64
_STATUS = {0: "unset", 1: "ok", 2: "error"}

#: One record to be: its kind and its data.
Mapped = tuple[str, dict[str, Any]]


class Malformed(ValueError):
    """Not an OTLP export request."""


def parse(request: Any, body: bytes, as_json: bool) -> Any:
    """Fill in an empty export request message. Raises `Malformed`."""
    try:
        if as_json:
            return json_format.ParseDict(_hex_ids_to_base64(json.loads(body)), request, ignore_unknown_fields=True)
        request.ParseFromString(body)
    except (DecodeError, json_format.ParseError, ValueError, RecursionError, TypeError, AttributeError) as error:
        raise Malformed(clipped(f"{type(error).__name__}: {error}", 300)) from error
    return request


def _hex_ids_to_base64(value: Any) -> Any:
    """OTLP's JSON writes ids in hexadecimal where protobuf's JSON mapping has base64."""
    if isinstance(value, list):
        return [_hex_ids_to_base64(item) for item in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")
    changed = {}
    for key, item in value.items():
        if key in ids and isinstance(item, str):
            try:
                changed[key] = base64.b64encode(bytes.fromhex(item)).decode("ascii")
            except (ValueError, binascii.Error) as error:
                raise Malformed(f"{key} is not hexadecimal") from error
        else:
            changed[key] = _hex_ids_to_base64(item)
    return changed


def span_count(request: ExportTraceServiceRequest) -> int:
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def log_count(request: ExportLogsServiceRequest) -> int:
    return sum(len(scope.log_records) for resource in request.resource_logs for scope in resource.scope_logs)


def spans(request: ExportTraceServiceRequest) -> Iterator[list[Mapped]]:
    """For each span the records it makes, the span itself first."""
    for resource in request.resource_spans:
        service = _attributes(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _span(span, service, scope.scope.name)


def _span(span: Any, service: dict[str, Any], scope: str) -> list[Mapped]:
    attributes = _attributes(span.attributes)
    operation = attributes.get("gen_ai.operation.name")
    span_id = span.span_id.hex()
    events: list[dict[str, Any]] = []
    decisions: list[Mapped] = []
    for event in span.events:
        found = _decision_of(event.name, None, event.attributes) if event.name == DECISION else None
        if found is not None and len(decisions) < _EVENTS_KEPT:
            decisions.append(("decision", {"span_id": span_id, **found}))
        elif len(events) < _EVENTS_KEPT:
            at = int(event.time_unix_nano)
            events.append({"name": clipped(event.name, 256), "t": at, "attributes": _attributes(event.attributes)})
    mapped: list[Mapped] = [
        (
            "span",
            {
                "name": clipped(span.name, 256),
                "trace_id": span.trace_id.hex(),
                "span_id": span_id,
                "parent_span_id": span.parent_span_id.hex(),
                "operation": operation,
                "start": int(span.start_time_unix_nano),
                "end": int(span.end_time_unix_nano),
                "attributes": attributes,
                "status": _STATUS.get(span.status.code, "unset"),
                "status_message": clipped(span.status.message, 1024),
                "events": events,
                "resource": service,
                "scope": clipped(scope, 256),
            },
        )
    ]
    if operation == "execute_tool" or (operation is None and span.name.startswith("execute_tool ")):
        mapped.append(("tool.call", _tool_call(span, attributes)))
    return mapped + decisions


def _tool_call(span: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    return {
        "tool": attributes.get("gen_ai.tool.name") or clipped(span.name.removeprefix("execute_tool "), 256),
        "arguments": _maybe_json(attributes.get("gen_ai.tool.call.arguments")),
        "result": _maybe_json(attributes.get("gen_ai.tool.call.result")),
        "ms": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
        "span_id": span.span_id.hex(),
        "error": span.status.code == 2,
    }


def logs(request: ExportLogsServiceRequest) -> Iterator[list[Mapped]]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for log in scope.log_records:
                yield [_log(log)]


def _log(log: Any) -> Mapped:
    attributes = _attributes(log.attributes)
    span_id = log.span_id.hex()
    name = log.event_name or attributes.get("event.name") or ""
    if name == DECISION:
        decision = _decision_of(name, log.body, log.attributes)
        if decision is not None:
            return "decision", {"span_id": span_id, **decision}
    return (
        "log",
        {
            "severity": log.severity_text or int(log.severity_number),
            "body": bounded(_value(log.body), depth=_ATTRIBUTE_DEPTH),
            "attributes": attributes,
            "event": clipped(str(name), 256),
            "trace_id": log.trace_id.hex(),
            "span_id": span_id,
            "t": int(log.time_unix_nano or log.observed_time_unix_nano),
        },
    )


def _decision_of(name: str, body: Any, attributes: Iterable[Any]) -> dict[str, Any] | None:
    """The decision in a body, in an attribute that names it, or spread over the attributes; None when there is none."""
    raw = {pair.key: _value(pair.value) for pair in attributes}
    candidates = [None if body is None else _value(body), *(raw.get(key) for key in _PAYLOADS)]
    for candidate in candidates:
        value = _maybe_json(candidate)
        if isinstance(value, dict) and value:
            return dict(bounded(value))
    spread = {key: value for key, value in raw.items() if key not in ("event.name", *_PAYLOADS)}
    return dict(bounded(spread)) if spread and not any(candidates) else None


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    return dict(bounded({pair.key: _value(pair.value) for pair in pairs}, depth=_ATTRIBUTE_DEPTH))


def _value(value: Any, depth: int = 16) -> Any:
    """An AnyValue as plain JSON."""
    kind = value.WhichOneof("value")
    if kind is None or depth <= 0:
        return None
    if kind == "array_value":
        return [_value(item, depth - 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value, depth - 1) for pair in value.kvlist_value.values}
    return getattr(value, kind)


def _maybe_json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return bounded(json.loads(value))
    except (ValueError, RecursionError):
        return value
