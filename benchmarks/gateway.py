"""What the gateway adds to a request, and how many it passes: beside no proxy at all, nginx and mitmproxy, in the same rounds."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.http_load import Load, load
from benchmarks.peers import HOW, peers
from benchmarks.projects import environment
from benchmarks.table import Row, ms, spread
from podctl.gateway.client import Door, Gateway
from podctl.gateway.contract import AttemptPass, GatewayConfig
from podctl.spec.models import Price, Upstream

CONNECTIONS = 32
#: Requests a second on each connection where they are paced; a gateway that was idle meanwhile starts with cold caches.
EACH = 10
KEY = "the-key-of-this-attempt"
ADDED_MS = 3.0

GET = b"GET /orders/17 HTTP/1.1\r\nhost: orders-api\r\naccept: */*\r\n\r\n"


def _model_call(stream: bool) -> bytes:
    messages = [
        {"role": "system", "content": "You answer tickets. " * 20},
        {"role": "user", "content": "Where is order 17? " * 10},
    ]
    body = json.dumps({"model": "bench", "max_tokens": 100, "stream": stream, "messages": messages}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


REQUESTS = {"service call": GET, "model call": _model_call(False), "streamed model call": _model_call(True)}
#: connections, seconds between a connection's requests
PATTERNS: dict[str, tuple[int, float | None]] = {
    "1 connection": (1, None),
    f"1 connection, {EACH}/s": (1, 1 / EACH),
    f"{CONNECTIONS} connections, {EACH}/s each": (CONNECTIONS, 1 / EACH),
    f"{CONNECTIONS} connections, as fast as they can": (CONNECTIONS, None),
}
Found = dict[tuple[str, str, str], list[Load]]


def measure(effort: Effort) -> list[Row]:
    with upstream() as (port, dialer), peers(effort.directory, port) as others:
        found = asyncio.run(_measure(effort, port, dialer, others))
    return [*_added(found, others), *_streams(found, others)]


async def _measure(effort: Effort, port: int, dialer: socket.socket, others: dict[str, tuple[str, int]]) -> Found:
    price = Price(input=Decimal(2), output=Decimal(10))
    config = Upstream(mode="live", openai_url=f"http://127.0.0.1:{port}/v1", prices={"bench": price})
    gateway = await Gateway.start(GatewayConfig(upstream=config))
    doors = [Door("gateway", "gateway", listener()), Door("http", "orders-api", listener(), ("127.0.0.1", port))]
    model, service = (door.listener.getsockname() for door in doors)
    await gateway.open_pod("bench", doors, dialer)
    found: Found = defaultdict(list)
    try:
        for number in range(effort.times(3)):
            for kind, request in REQUESTS.items():
                for pattern, (connections, pace) in PATTERNS.items():
                    if "stream" in kind and (connections > 1 or pace is not None):
                        continue
                    attempt, evidence = f"{number}-{len(found)}", effort.directory / "evidence"
                    await gateway.open_attempt(AttemptPass(attempt, "bench", KEY, evidence))
                    ours = service if kind == "service call" else model
                    for name, address in {"direct": ("127.0.0.1", port), "podctl": ours, **others}.items():
                        seconds = effort.pick(0.02, 0.4, 1.0)
                        found[kind, pattern, name].append(load(address, request, connections, seconds, pace))
                    await gateway.close_attempt(attempt)
                    evidence.unlink()
    finally:
        await gateway.stop()
    return found


def _added(found: Found, others: dict[str, tuple[str, int]]) -> list[Row]:
    rows = []
    for kind in ("service call", "model call"):
        for pattern in PATTERNS:
            direct = [one.median for one in found[kind, pattern, "direct"]]

            def added(name: str, kind: str = kind, pattern: str = pattern, direct: list[float] = direct) -> list[float]:
                return ms([one.median - floor for one, floor in zip(found[kind, pattern, name], direct, strict=True)])

            beside = f"without a proxy a call takes {spread(ms(direct), 'ms')}; {_besides(others, added, 'ms')}"
            rows.append(Row(f"gateway adds to a {kind}, {pattern}", added("podctl"), "ms", beside, ADDED_MS))

        def rate(name: str, kind: str = kind) -> list[float]:
            return [one.rate for one in found[kind, list(PATTERNS)[-1], name]]

        beside = f"without a proxy {spread(rate('direct'), '/s')}; {_besides(others, rate, '/s')}"
        rows.append(Row(f"gateway passes {kind}s, {CONNECTIONS} connections", rate("podctl"), "/s", beside))
    return rows


def _streams(found: Found, others: dict[str, tuple[str, int]]) -> list[Row]:
    def first(name: str) -> list[float]:
        return ms([statistics.median(one.first) for one in found["streamed model call", "1 connection", name]])

    def added(name: str) -> list[float]:
        return [one - floor for one, floor in zip(first(name), first("direct"), strict=True)]

    beside = f"without a proxy it comes after {spread(first('direct'), 'ms')}; {_besides(others, added, 'ms')}"
    return [Row("gateway adds to a stream's first byte", added("podctl"), "ms", beside, ADDED_MS)]


def _besides(others: Mapping[str, object], figures: Callable[[str], list[float]], unit: str) -> str:
    told = {name: spread(figures(name), unit) if name in others else f"not installed ({how})" for name, how in HOW.items()}
    return ", ".join(f"{name} {what}" for name, what in told.items())


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    return sock


@contextlib.contextmanager
def upstream() -> Iterator[tuple[int, socket.socket]]:
    """Its port, and the gateway's end of its dialer."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with listener() as sock, theirs:
        fds = (sock.fileno(), theirs.fileno())
        command = [sys.executable, "-m", "benchmarks.upstream", *map(str, fds)]
        root = Path(__file__).resolve().parents[1]
        process = subprocess.Popen(command, cwd=root, env=environment(), pass_fds=fds, stdin=subprocess.DEVNULL)
        port = int(sock.getsockname()[1])
    try:
        yield port, ours
    finally:
        process.kill()
        process.wait()
        ours.close()
