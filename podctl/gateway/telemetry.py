"""The OTLP/HTTP receiver and the decisions endpoint of the gateway door."""

from __future__ import annotations

import json
import zlib
from itertools import islice
from typing import Any

from aiohttp import web
from google.protobuf import json_format  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from podctl.gateway import otlp
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import bounded
from podctl.gateway.replies import TooLong, evidence_full, read_capped, refusal

BODY_CAP = 8 * 2**20
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"

PATHS = ("/v1/traces", "/v1/logs", "/v1/metrics", "/v1/decisions")


async def receive(request: web.BaseRequest, path: str, attempt: Attempt) -> web.StreamResponse:
    """Telemetry needs no key: the pod's door says which attempt it is from."""
    if attempt.full:
        return evidence_full()
    try:
        body = _inflated(await read_capped(request, BODY_CAP, attempt.bodies), request.headers.get("Content-Encoding", ""))
        attempt.look("telemetry", body)
        attempt.look_at_head("telemetry", request)
        if path == "/v1/decisions":
            return _decision(body, attempt)
        kind = request.content_type
        if kind not in (_JSON, _PROTOBUF):
            return refusal(415, "podctl_otlp", f"expected {_PROTOBUF} or {_JSON}")
        return _export(path, body, kind, attempt)
    except TooLong:
        return refusal(413, "podctl_too_large", f"at most {BODY_CAP} bytes, also when inflated")
    except otlp.Malformed as malformed:
        return refusal(400, "podctl_malformed", str(malformed))


def _inflated(body: bytes, encoding: str) -> bytes:
    """Raises `TooLong` and `Malformed`; a small body must not become a big one."""
    if encoding.lower() in ("", "identity"):
        return body
    if encoding.lower() not in ("gzip", "deflate"):
        raise otlp.Malformed("only gzip and deflate are understood")
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        plain = inflater.decompress(body, BODY_CAP)
    except zlib.error as error:
        raise otlp.Malformed(str(error)) from error
    if inflater.unconsumed_tail:
        raise TooLong
    if not inflater.eof:
        raise otlp.Malformed("the compressed body is cut short")
    return plain


def _decision(body: bytes, attempt: Attempt) -> web.Response:
    try:
        decision = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise otlp.Malformed("the body is not JSON") from error
    if not isinstance(decision, dict):
        raise otlp.Malformed("a decision is one JSON object")
    if not attempt.take_items(1):
        return refusal(429, "podctl_limit", "the attempt's limit of spans, logs and decisions is reached")
    attempt.decision(bounded(decision))
    return web.json_response({})


def _export(path: str, body: bytes, kind: str, attempt: Attempt) -> web.Response:
    as_json = kind == _JSON
    if path == "/v1/metrics":
        return _answer(ExportMetricsServiceResponse(), as_json, 200)
    if path == "/v1/traces":
        request = otlp.parse(ExportTraceServiceRequest(), body, as_json)
        offered, groups = otlp.span_count(request), otlp.spans(request)
        response: Any = ExportTraceServiceResponse()
    else:
        request = otlp.parse(ExportLogsServiceRequest(), body, as_json)
        offered, groups = otlp.log_count(request), otlp.logs(request)
        response = ExportLogsServiceResponse()
    taken = attempt.take_items(offered)
    for group in islice(groups, taken):
        for name, data in group:
            if name == "decision":
                attempt.decision(data)
                continue
            attempt.count(spans=int(name == "span"))
            attempt.record(name, data, "declared")
    rejected = offered - taken
    if rejected:
        field = "rejected_spans" if path == "/v1/traces" else "rejected_log_records"
        setattr(response.partial_success, field, rejected)
        response.partial_success.error_message = "the attempt's limit of spans, logs and decisions is reached"
    return _answer(response, as_json, 429 if rejected and not taken else 200)


def _answer(message: Any, as_json: bool, status: int) -> web.Response:
    if as_json:
        return web.Response(status=status, text=json_format.MessageToJson(message), content_type=_JSON)
    return web.Response(status=status, body=message.SerializeToString(), content_type=_PROTOBUF)
