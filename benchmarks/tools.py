"""What the gateway adds to a call of an MCP server's tool: beside the same client straight at the same server, and a call of a service, in the same rounds."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from mcp.client.client import Client

import podctl.backends
from benchmarks.effort import Effort
from benchmarks.gateway import EACH, GET, KEY, listener, upstream
from benchmarks.http_load import Load, load
from benchmarks.projects import ROOT, environment
from benchmarks.table import Row, ms, spread
from podctl.boundary.policies import policies_of
from podctl.gateway.client import Door, Gateway
from podctl.gateway.contract import AttemptPass, GatewayConfig
from podctl.spec.models import Boundary, ToolServer, Upstream

#: As many calls of a server as the gateway makes at once.
CONNECTIONS = 16
ADDED_MS = 10.0
#: More than a round makes: what is measured is not a refusal.
_CALLS = 1_000_000
#: connections, seconds between a connection's requests
PATTERNS: dict[str, tuple[int, float | None]] = {
    "1 connection": (1, None),
    f"1 connection, {EACH}/s": (1, 1 / EACH),
    f"8 connections, {EACH}/s each": (8, 1 / EACH),
    f"{CONNECTIONS} connections, as fast as they can": (CONNECTIONS, None),
}
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "look", "arguments": {"order": "A1007"}}}
Address = tuple[str, int]
Found = dict[tuple[str, str], list[Load]]
LINES = "on standard input"
OFFICIAL = "the official client's call"
BEGUN = "the official client's session"


def measure(effort: Effort) -> list[Row]:
    with upstream() as (port, dialer), _on_standard_input() as lines:
        found, clients = asyncio.run(_measure(effort, ("127.0.0.1", port), lines, dialer))
    rows = []
    for pattern in list(PATTERNS)[:-1]:
        direct = [one.median for one in found[pattern, "direct"]]

        def added(name: str, pattern: str = pattern, direct: list[float] = direct) -> list[float]:
            return ms([one.median - floor for one, floor in zip(found[pattern, name], direct, strict=True)])

        beside = f"straight at the server it takes {spread(ms(direct), 'ms')}; to a service call the gateway adds {spread(added('service'), 'ms')}"
        rows.append(Row(f"gateway adds to a tool call, {pattern}", added("podctl"), "ms", beside, ADDED_MS))
    direct = [one.median for one in found[LINES, "direct"]]
    figures = ms([one.median - floor for one, floor in zip(found[LINES, "podctl"], direct, strict=True)])
    beside = f"straight at podctl's script in front of it {spread(ms(direct), 'ms')}"
    rows.append(Row(f"gateway adds to a tool call, 1 connection, {LINES}", figures, "ms", beside, ADDED_MS))
    rates = {name: [one.rate for one in found[list(PATTERNS)[-1], name]] for name in ("podctl", "direct", "service")}
    beside = f"straight at the server {spread(rates['direct'], '/s')}, service calls through the gateway {spread(rates['service'], '/s')}"
    rows.append(Row(f"gateway passes tool calls, {CONNECTIONS} connections", rates["podctl"], "/s", beside))
    for what in (BEGUN, OFFICIAL):
        beside = f"straight at the server {spread(ms(clients[what, 'direct']), 'ms')}"
        rows.append(Row(f"{what}, through the gateway", ms(clients[what, "podctl"]), "ms", beside))
    return rows


async def _measure(
    effort: Effort, server: Address, lines: Address, dialer: socket.socket
) -> tuple[Found, dict[tuple[str, str], list[float]]]:
    tools: dict[str, Any] = {name: {"look": "read"} for name in ("desk", "lines")}
    boundary = Boundary(apiVersion="podctl/v1", kind="Boundary", name="bench", tools=tools, services={"orders-api": "read"})
    gateway = await Gateway.start(GatewayConfig(upstream=Upstream()))
    doors = [Door("mcp", "desk", listener(), server), Door("mcp", "lines", listener(), lines)]
    doors.append(Door("http", "orders-api", listener(), server))
    desk, desk_of_lines, service = (door.listener.getsockname() for door in doors)
    await gateway.open_pod("bench", doors, dialer)
    found: Found = defaultdict(list)
    clients: dict[tuple[str, str], list[float]] = defaultdict(list)
    servers = {"desk": ToolServer(calls=_CALLS), "lines": ToolServer(calls=_CALLS, transport="stdio")}
    granted: dict[str, Any] = {"policies": policies_of(boundary), "agent": "bench", "servers": servers}
    try:
        for number in range(effort.times(5)):
            evidence = effort.directory / "evidence"
            await gateway.open_attempt(AttemptPass(str(number), "bench", KEY, evidence, **granted))
            seconds = effort.pick(0.05, 0.4, 1.0)
            for pattern, (connections, pace) in PATTERNS.items():
                asked = {
                    "podctl": (desk, _calls(_session(desk))),
                    "direct": (server, _calls("none")),
                    "service": (service, [GET] * CONNECTIONS),
                }
                for name, (address, requests) in asked.items():
                    found[pattern, name].append(load(address, requests, connections, seconds, pace))
            found[LINES, "podctl"].append(load(desk_of_lines, _calls(_session(desk_of_lines)), 1, seconds))
            found[LINES, "direct"].append(_load_of_lines(lines, seconds))
            for name, address in {"podctl": desk, "direct": server}.items():
                begun, called = await _official(address, effort.pick(1, 20, 100))
                clients[BEGUN, name].append(begun)
                clients[OFFICIAL, name].append(called)
            await gateway.close_attempt(str(number))
            evidence.unlink()
    finally:
        await gateway.stop()
    return found, clients


def _session(address: Address) -> str:
    """Begun by hand, as the load is sent. Raises `RuntimeError` where a call is not answered by the tool."""
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    asked = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    connection = http.client.HTTPConnection(*address, timeout=30)
    headers = {"content-type": "application/json"}
    connection.request("POST", "/mcp", json.dumps(asked), headers)
    answer = connection.getresponse()
    answer.read()
    session = answer.headers["mcp-session-id"]
    connection.request("POST", "/mcp", json.dumps(CALL), {**headers, "mcp-session-id": session})
    told = connection.getresponse().read()
    connection.close()
    if b"left on Monday" not in told:
        raise RuntimeError(f"{address} answered {told[:400]!r}")
    return session


def _calls(session: str) -> list[bytes]:
    """A request for each connection: those under way at once have ids of their own."""
    made = []
    for number in range(CONNECTIONS):
        body = json.dumps({**CALL, "id": number}).encode()
        head = f"POST /mcp HTTP/1.1\r\nhost: desk\r\ncontent-type: application/json\r\nmcp-session-id: {session}\r\n"
        made.append(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    return made


def _load_of_lines(address: Address, duration: float) -> Load:
    """One call after the other, as lines."""
    found: list[float] = []
    with socket.create_connection(address, timeout=30) as connection, connection.makefile("rwb") as lines:
        began = 0.0
        while not found or perf_counter() - began < duration:
            sent = perf_counter()
            lines.write(json.dumps(CALL).encode() + b"\n")
            lines.flush()
            lines.readline()
            if began:
                found.append(perf_counter() - sent)
            else:  # the first waited for the server's start
                began = perf_counter()
    return Load(found)


@contextmanager
def _on_standard_input() -> Iterator[Address]:
    """Behind podctl's script, as in a pod."""
    with listener() as sock:
        port = int(sock.getsockname()[1])
    script = Path(podctl.backends.__file__).parent / "stdio.py"
    config = json.dumps({"host": "127.0.0.1", "port": port, "most": 17})
    command = [sys.executable, "-I", "-S", str(script), config, sys.executable, "-m", "benchmarks.lines"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdin=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.kill()
        process.wait()


async def _official(address: Address, calls: int) -> tuple[float, float]:
    """Seconds until a session of the official client is begun and its tools are listed, and of a call in it."""
    began = perf_counter()
    async with Client(f"http://{address[0]}:{address[1]}/mcp") as client:
        await client.list_tools()
        begun = perf_counter() - began
        began = perf_counter()
        for _ in range(calls):
            await client.call_tool("look", {"order": "A1007"})
        return begun, (perf_counter() - began) / calls
