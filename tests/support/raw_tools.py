"""An MCP server by hand, so that it may answer as no library would: each tool is named after how it answers. And an agent by hand."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from podctl.boundary.policies import policies_of
from podctl.spec.models import Boundary

SCHEMA = {"type": "object"}


@dataclass
class RawServer:
    """``calls`` is what it was asked to do; ``tools`` what it lists, ``pages`` how often it says that there is more."""

    port: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    pages: int = 0
    streams: int = 0
    lists: int = 0

    def tool(self, *names: str, **more: Any) -> None:
        self.tools += [{"name": name, "description": f"Does {name}.", "inputSchema": SCHEMA} | more for name in names]


@contextmanager
def raw_server() -> Iterator[RawServer]:
    found = RawServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            found.streams += 1
            self.stream()
            self.wfile.write(b"id: 2\nretry: 0\ndata: \n\n")
            self.close_connection = True

        def do_DELETE(self) -> None:
            self.say(b"", 204)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            found.bodies.append(body)
            message = json.loads(body)
            id, method, params = message.get("id"), message.get("method"), message.get("params", {})
            if method == "initialize":
                self.result(id, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": INFO})
            elif method == "tools/list":
                found.lists += 1
                more = {"nextCursor": f"c{found.lists}"} if found.pages > 0 else {}
                found.pages -= 1
                self.result(id, {"tools": found.tools} | more)
            elif method == "tools/call":
                found.calls.append(params)
                with suppress(OSError):
                    self.call(id, params["name"])
            else:
                self.say(b"", 202)

        def call(self, id: Any, name: str) -> None:
            answer = {"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": "done"}]}}
            if name == "endless":
                self.stream()
                while True:
                    self.wfile.write(b'data: {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}\n\n')
            elif name == "huge":
                answer["result"] = {"content": [{"type": "text", "text": "x" * 3_000_000}]}
                self.say(json.dumps(answer).encode())
            elif name == "deep":
                self.say(b'{"jsonrpc": "2.0", "id": 1, "result": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001)
            elif name == "stranger":
                self.say(json.dumps(answer | {"id": 987654}).encode())
            elif name == "notjson":
                self.say(b"<html>busy</html>")
            elif name == "wrongshape":
                self.say(json.dumps(answer | {"result": {"content": "done"}}).encode())
            elif name == "compressed":
                self.say(b"\x1f\x8b" + bytes(100), extra="Content-Encoding: gzip\r\n")
            elif name == "elsewhere":
                self.wfile.write(b"HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:1/mcp\r\nContent-Length: 0\r\n\r\n")
            elif name == "resumes":
                self.stream()
                self.wfile.write(b"id: 1\nretry: 0\ndata: \n\n")
                self.close_connection = True
            elif name == "drips":
                self.stream()
                for _ in range(200):
                    self.wfile.write(b": still there\n\n")
                    time.sleep(0.1)
            elif name == "silent":
                self.stream()
                threading.Event().wait(20)
            elif name == "dies":
                self.close_connection = True
            elif name == "asks":
                self.stream()
                asked = {
                    "jsonrpc": "2.0",
                    "id": 5,
                    "method": "sampling/createMessage",
                    "params": {"messages": [], "maxTokens": 9},
                }
                for message in (asked, answer):
                    self.wfile.write(b"event: message\ndata: " + json.dumps(message).encode() + b"\n\n")
                self.close_connection = True
            elif name in ("counts", "adds"):
                said = {"asked": len(found.calls)}
                content = [{"type": "text", "text": json.dumps(said)}, {"type": "text", "text": "more"}]
                self.result(id, {"content": content, "structuredContent": said})
            elif name == "refuses":
                told = {"code": -32099, "message": "not today", "data": {"why": "sunday"}}
                self.say(json.dumps({"jsonrpc": "2.0", "id": id, "error": told}).encode())
            else:
                self.say(json.dumps(answer).encode())

        def result(self, id: Any, value: dict[str, Any]) -> None:
            self.say(json.dumps({"jsonrpc": "2.0", "id": id, "result": value}).encode())

        def stream(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")

        def say(self, body: bytes, status: int = 200, extra: str = "") -> None:
            head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
            self.wfile.write(head.encode() + body)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """The gateway hung up, as it should."""

    server = Server(("127.0.0.1", 0), Handler)
    found.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()


INFO = {"name": "raw", "version": "1"}


def boundary(**servers: Any) -> Any:
    value = {"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b", "tools": servers}
    return policies_of(Boundary.model_validate(value))


class Agent:
    """Speaks to the door by hand."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.begin()

    def begin(self) -> None:
        self.session = ""
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        status, _ = self.send(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}).encode())
        assert status == 200

    def send(self, body: bytes, method: str = "POST", path: str = "/mcp", **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        given = {"Content-Type": "application/json"} | ({"Mcp-Session-Id": self.session} if self.session else {})
        connection.request(method, path, body, given | {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        data = answer.read()
        self.session = answer.headers.get("Mcp-Session-Id", self.session)
        connection.close()
        return answer.status, json.loads(data) if data else None

    def call(self, name: str, id: Any = 1, **arguments: Any) -> tuple[int, Any]:
        params = {"name": name, "arguments": arguments}
        return self.send(json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode())
