"""The boundary at services' doors: decided, recorded, and held against requests that are made to be read in two ways."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import Rig, rigged
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mangled import BASES, BOUNDARY, refuse_other_readings, requests

from podctl.boundary.policies import policies_of
from podctl.gateway.proxy import OVERHEARD

POLICIES = policies_of(BOUNDARY)


@dataclass
class Seen:
    """A real HTTP server that says what it understood."""

    calls: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def seen() -> Iterator[tuple[Seen, tuple[str, int]]]:
    found = Seen()

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            found.calls.append((self.command, self.path))
            body = json.dumps([self.command, self.path]).encode()
            self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Reached: yes\r\nContent-Length: %d\r\n\r\n" % len(body))
            if self.command != "HEAD":
                self.wfile.write(body)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found, ("127.0.0.1", server.server_address[1])
    server.shutdown()
    server.server_close()


def ask(port: int, line: bytes, headers: bytes = b"") -> tuple[int, dict[str, Any]]:
    """The status and the gateway's own error, where it is one."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            line + b" HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n" + headers + b"Content-Length: 0\r\n\r\n"
        )
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head else 0
    try:
        value = json.loads(body)
    except ValueError:
        value = {}
    return status, value["error"] if isinstance(value, dict) and "error" in value else {}


def test_calls_are_decided_answered_and_recorded(tmp_path: Path, seen: tuple[Seen, tuple[str, int]]) -> None:
    found, address = seen

    async def work(rig: Rig) -> None:
        await rig.open_pod({"orders": ("http", address), "cache": ("raw", address)})
        await rig.open(policies=POLICIES, agent="a")
        said = [
            await asyncio.to_thread(ask, rig.ports["orders"], *request)
            for request in (
                (b"GET /orders/7",),
                (b"HEAD /orders/7",),
                (b"POST /orders/7/refund",),
                (b"POST /notes/locked",),
                (b"DELETE /orders/7",),
                (b"GET /orders/%2e%2e",),
                (b"GET /orders/7", b"X-HTTP-Method-Override: DELETE\r\n"),
            )
        ]
        assert [status for status, _ in said] == [200, 200, 403, 403, 403, 400, 400]
        kinds = [error.get("type") for _, error in said[2:]]
        assert kinds == ["podctl_human_only", "podctl_recommend", "podctl_human_only", "podctl_ambiguous", "podctl_ambiguous"]
        assert "a person decides this" in said[3][1]["message"] and "encoding" in said[5][1]["message"]
        assert found.calls == [("GET", "/orders/7"), ("HEAD", "/orders/7")]
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.ports["cache"])
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        totals, records = await rig.close()
        assert totals.boundary_attempts == 6 and totals.http_calls == 7
        calls = [record.data["policy"] for record in records if record.kind == "http.call"]
        refused, proposed = "POST orders /orders/{id}/refund", "POST orders /notes/locked"
        assert calls == ["GET orders /orders/{id}"] * 2 + [refused, proposed, "unlisted", "ambiguous", "ambiguous"]
        tried = [(record.data["policy"], record.data["level"]) for record in records if record.kind == "boundary.attempt"]
        assert tried[:3] == [(refused, "human-only"), (proposed, "recommend"), ("unlisted", "human-only")]
        assert tried[5] == ("unlisted", "human-only")

    asyncio.run(rigged(tmp_path, work))


def send(port: int, headers: bytes, body: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"DELETE /orders/7 HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n" + headers + b"\r\n" + body)
        return connection.recv(65536)


def test_with_what_a_refused_call_was_tried_is_evidence(tmp_path: Path, seen: tuple[Seen, tuple[str, int]]) -> None:
    found, address = seen
    token = "HONEY4711abcdefgh"

    async def work(rig: Rig) -> None:
        await rig.open_pod({"orders": ("http", address)})
        await rig.open(policies=POLICIES, agent="a", honeytokens={"row": token})
        for headers, body in (
            (b"Content-Length: 21\r\n", b"key=" + token.encode()),
            # More is announced than ever comes, or than is looked at; or the agent waits to be asked for it.
            (b"Content-Length: 9\r\n", b"slow"),
            (b"Content-Length: 3000000\r\n", b"x" * 3_000_000),
            (b"Content-Length: 21\r\nExpect: 100-continue\r\n", b""),
        ):
            assert (await asyncio.to_thread(send, rig.ports["orders"], headers, body)).startswith(b"HTTP/1.1 403")
        totals, records = await rig.close()
        assert len(totals.honeytokens) == 1 and totals.boundary_attempts == 4 and found.calls == []
        calls = [record.data for record in records if record.kind == "http.call"]
        assert calls[0]["request_body"]["text"] == f"key={token}"
        sizes = [call["request_bytes"] for call in calls]
        assert sizes[:2] == [21, 4] and OVERHEARD <= sizes[2] < 2 * OVERHEARD and sizes[3] == 0

    asyncio.run(rigged(tmp_path, work))


METHODS = st.sampled_from(["GET", "HEAD", "POST", "POST", "PUT", "DELETE", "PATCH", "post", "Post", "TRACE", "OPTIONS", "XYZ"])
HEADERS = st.sampled_from(
    [b"", b"", b"", b"X-HTTP-Method-Override: PUT\r\n", b"X_Original_URL: /orders/7/refund\r\n", b"Accept: x\r\n"]
)
LINES = st.builds(
    lambda request, method: f"{method or request[0]} {request[1]}",
    st.one_of(st.sampled_from(list(requests(7, twice=3000))), st.sampled_from([tuple(base.split()) for base in BASES])),
    st.one_of(st.none(), st.none(), METHODS),
)


def test_no_request_is_read_as_one_route_and_reaches_the_service_as_another(
    tmp_path: Path, seen: tuple[Seen, tuple[str, int]]
) -> None:
    found, address = seen
    counts = {"passed": 0, "refused": 0}

    def try_many(port: int) -> None:
        @settings(max_examples=400, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(LINES, HEADERS)
        def one(line: str, headers: bytes) -> None:
            found.calls.clear()
            status, error = ask(port, line.encode(), headers)
            if not found.calls:
                counts["refused"] += 1
                assert status >= 400
                return
            counts["passed"] += 1
            (reached, target), *more = found.calls
            assert not more and error == {} and b"X-HTTP" not in headers and b"X_Orig" not in headers
            assert target == line.partition(" ")[2], "what was decided on is what was sent on"
            refuse_other_readings(reached, target)

        one()

    async def work(rig: Rig) -> None:
        await rig.open_pod({"orders": ("http", address)})
        await rig.open(policies=POLICIES)
        await asyncio.to_thread(try_many, rig.ports["orders"])

    asyncio.run(rigged(tmp_path, work))
    assert counts["passed"] > 20 and counts["refused"] > 100, counts
