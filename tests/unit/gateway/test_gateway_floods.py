"""An agent that floods the gateway is bounded, and another pod does not notice."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import aiohttp
from gateway_rig import KEY, Rig, peak_mib, rigged
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from podctl.spec.models import Upstream

MIB = 1 << 20


async def post(base: str, path: str, body: bytes, kind: str = "application/json") -> int:
    headers = {"Authorization": f"Bearer {KEY}", "content-type": kind}
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(base + path, data=body, headers=headers) as answer:
                await answer.read()
                return answer.status
        except aiohttp.ClientError:
            return 0  # refused before all of it was sent


def test_many_large_requests_at_once_take_bounded_memory(tmp_path: Path) -> None:
    long = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * (15 * MIB)}]}).encode()
    many_values = b'{"model": "m", "messages": [' + b"[]," * (5 * MIB) + b"[]]}"

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        before = peak_mib(rig.gateway.pid)
        path = "/v1/chat/completions"
        answers = await asyncio.gather(*(post(rig.base, path, long) for _ in range(30)), post(rig.base, path, many_values))
        assert set(answers) <= {403, 429, 0} and 403 in answers and {429, 0} & set(answers)
        assert peak_mib(rig.gateway.pid) - before < 320
        assert await post(rig.base, path, b'{"model": "m"}') == 403, "what was held is let go"

    asyncio.run(rigged(tmp_path, work, Upstream(mode="none")))


def test_thousands_of_spans_a_second_are_kept_and_slow_no_other_pod(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(500):
        spans.add(name=f"span {number}", trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"))
    body = request.SerializeToString()

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open(spans=20_000)
        flooded = rig.base
        await rig.open_pod(pod="p2")
        await rig.open("0002-1", pod="p2")
        other, waits = rig.base, []

        async def send() -> None:
            for _ in range(10):
                assert await post(flooded, "/v1/traces", body, "application/x-protobuf") == 200

        flood = asyncio.gather(*(send() for _ in range(4)))
        began = time.monotonic()
        while not flood.done():
            asked = time.monotonic()
            assert await post(other, "/v1/decisions", b"{}") == 200
            waits.append(time.monotonic() - asked)
        await flood
        assert time.monotonic() - began < 10, "fewer than 2,000 spans a second"
        assert sorted(waits)[len(waits) // 2] < 0.5
        assert await post(flooded, "/v1/traces", body, "application/x-protobuf") == 429, "the limit is reached"
        assert len(rig.records(kind="span")) == 20_000
        while not rig.events:
            await asyncio.sleep(0.01)
        assert [event["limit"] for event in rig.events] == ["spans"]

    asyncio.run(rigged(tmp_path, work, Upstream(mode="none")))
