"""Whose a record is, the pod's door says through which the connection came: nothing that an agent sends changes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from gateway_rig import PRICE, Rig, rigged

from podctl.evidence.identity import spiffe_id, who
from podctl.spec.models import Upstream

KEYS = {"p1": "key-of-the-first", "p2": "key-of-the-second"}


def identity(pod: str) -> dict[str, str]:
    version = {"p1": "1.0", "p2": "2.0+b"}[pod]
    return who(spiffe_id("corp.example", pod, "careful", version), pod * 32, f"run.{pod}", ("shop", "b" * 64), f"ag_{pod}")


#: What the agent in p1 claims, to be the one in p2.
FORGED = {
    "X-Podctl-Attempt": "run.p2",
    "X-Podctl-Pod": "p2",
    "X-Podctl-Agent": "careful 2.0",
    "X-Podctl-Agent-Digest": "p2" * 32,
    "X-Podctl-Role": "ag_p2",
    "Forwarded": "for=p2;host=p2;proto=https",
    "X-Forwarded-For": "p2",
    "X-Forwarded-Client-Cert": 'By=spiffe://corp.example/gateway;URI="spiffe://corp.example/pod/p2/agent/careful/version/2.0"',
    "X-Spiffe-Id": "spiffe://corp.example/pod/p2/agent/careful/version/2.0",
    "Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Baggage": "podctl.attempt=run.p2",
    "Host": "p2",
}


def span(attempt: str) -> dict[str, object]:
    one = {"traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "plan", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}  # fmt: skip
    claims = [
        {"key": key, "value": {"stringValue": attempt}}
        for key in ("podctl.attempt", "podctl.attempt.id", "service.version", "who")
    ]
    return {"resourceSpans": [{"resource": {"attributes": claims}, "scopeSpans": [{"spans": [one | {"attributes": claims}]}]}]}


@pytest.mark.parametrize("forged_key", [KEYS["p2"], "", "\udcff\udcfe", "none"])
def test_forged_identities_change_no_record(tmp_path: Path, forged_key: str) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        seen.update({name.lower(): value for name, value in request.headers.items()})
        return web.Response(text="ok")

    seen: dict[str, str] = {}

    async def work(rig: Rig) -> None:
        server = await asyncio.get_running_loop().create_server(web.Server(answer), "127.0.0.1", 0)
        ports: dict[str, dict[str, int]] = {}
        for pod in ("p1", "p2"):
            await rig.open_pod({"orders-api": ("http", server.sockets[0].getsockname()[:2])}, pod=pod)
            ports[pod] = dict(rig.ports)
            await rig.open(f"run.{pod}", pod, key=KEYS[pod], who=identity(pod))
        own = f"http://127.0.0.1:{ports['p1']['gateway']}"
        decision = {"id": "d1", "kind": "x", "who": identity("p2"), "attempt": "run.p2", "actor": "podctl"}
        async with aiohttp.ClientSession(headers=FORGED) as session:
            headers = {"Authorization": b"Bearer ".decode() + forged_key}
            said = {"model": "scripted-demo", "messages": [{"role": "user", "content": "hi"}], "user": "run.p2"}
            async with session.get(f"http://127.0.0.1:{ports['p1']['orders-api']}/orders") as reply:
                assert reply.status == 200
            async with session.post(own + "/v1/traces", json=span("run.p2")) as reply:
                assert reply.status == 200
            async with session.post(own + "/v1/decisions", json=decision) as reply:
                assert reply.status == 200
            own_key = {"Authorization": f"Bearer {KEYS['p1']}"}
            async with session.post(own + "/v1/chat/completions", json=said, headers=own_key) as reply:
                assert reply.status == 200
        await raw_call(ports["p1"]["gateway"], headers["Authorization"])
        first, second = rig.records("run.p1"), rig.records("run.p2")
        assert second == [], "the second attempt did nothing"
        kinds = {record.kind for record in first}
        assert {"http.call", "span", "model.call", "gateway.refused"} <= kinds
        for line in (tmp_path / "run.p1.gw").read_text().splitlines():
            alone = json.loads(line)
            assert alone["who"] == identity("p1") and alone["actor"] == "agent", alone
        totals, _ = await rig.close("run.p2")
        assert (totals.model_calls, totals.http_calls, totals.spans) == (0, 0, 0)
        server.close()

    asyncio.run(rigged(tmp_path, work, Upstream(mode="scripted", script=script(tmp_path), prices={"scripted-demo": PRICE})))
    assert not any(name.startswith("x-podctl-") for name in seen)


async def raw_call(port: int, authorization: str) -> None:
    """With bytes in a header that no client would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b'{"model":"scripted-demo","messages":[]}'
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\nauthorization: "
    )
    writer.write(head.encode() + authorization.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body)
    status = await reader.readline()
    assert b" 401 " in status, status
    writer.close()


def script(directory: Path) -> Path:
    path = directory / "script.yaml"
    path.write_text("otherwise: hello\n")
    return path


def test_a_spiffe_id_is_one_agent_s_alone_and_a_valid_one() -> None:
    assert spiffe_id("corp.example", "a1b2c3-d4e5f6", "careful", "1.2.0") == (
        "spiffe://corp.example/pod/a1b2c3-d4e5f6/agent/careful/version/1.2.0"
    )
    versions = ["1+2", "1_2", "1_2B2", "1-2", "1.2", "1/2", "1%2F2", "1\u00e92"]
    ids = [spiffe_id("d", "p", "a", version) for version in versions]
    assert len(set(ids)) == len(versions)
    assert all(
        set(one.removeprefix("spiffe://")) <= set("/._-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
        for one in ids
    )
