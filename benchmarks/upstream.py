"""A trivial HTTP server in a process of its own: ``python -m benchmarks.upstream LISTENER [DIALER]``, both descriptors.

GET answers two bytes. A POST of JSON-RPC is answered as an MCP server does that has one tool. Any other POST is a model call: its answer is JSON, or, when the request asks for a stream, server-sent events
of which the first leaves at once and each other ``GAP_S`` later. On DIALER it hands out sockets as the init of a pod does.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading

CHUNKS, GAP_S = 5, 0.02

_USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


_PLAIN = _whole(b"{}")
_MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "It is done."}, "finish_reason": "stop"}
_ANSWER = _whole(
    json.dumps({"id": "x", "object": "chat.completion", "model": "bench", "choices": [_MESSAGE], "usage": _USAGE}).encode()
)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(choices: list[object], **more: object) -> bytes:
    told = {"id": "x", "object": "chat.completion.chunk", "model": "bench", "choices": choices, **more}
    body = b"data: " + json.dumps(told).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(body), body)


_PART = _event([{"index": 0, "delta": {"role": "assistant", "content": "word "}, "finish_reason": None}])
_LAST = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + _event([], usage=_USAGE)
_LAST += b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


_HELLO = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "bench", "version": "1"}}
_TOOL = {"name": "look", "description": "Look.", "inputSchema": {"type": "object", "properties": {"order": {"type": "string"}}}}
_RESULTS = {
    "initialize": _HELLO,
    "tools/list": {"tools": [_TOOL]},
    "tools/call": {"content": [{"type": "text", "text": "Order A1007 left on Monday. " * 8}]},
}


def tools(asked: dict[str, object]) -> bytes:
    """What an MCP server answers to a message, as JSON; nothing to a notification."""
    if "id" not in asked:
        return b""
    result = _RESULTS.get(str(asked["method"]))
    said = {"error": {"code": -32601, "message": "not here"}} if result is None else {"result": result}
    return json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said}).encode()


class Answering(asyncio.Protocol):
    """Requests of at most one at a time on a connection, each with a content-length or without a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.find(b"\ncontent-length:")
        length = int(lower[at + 16 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if (b"\ntransfer-encoding: chunked" in lower and not body.endswith(b"0\r\n\r\n")) or len(body) < length:
            return
        self.buffer = b""
        if head.startswith(b"GET /mcp"):
            self.transport.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
        elif not head.startswith(b"POST"):
            self.transport.write(_PLAIN)
        elif head.startswith(b"POST /mcp"):
            told = tools(json.loads(body))
            self.transport.write(_whole(told) if told else b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
        elif b'"stream": true' in body:
            self.transport.write(_STREAM_HEAD + _PART)
            asyncio.get_running_loop().call_later(GAP_S, self.go_on, CHUNKS - 1)
            return
        else:
            self.transport.write(_ANSWER)
        if b"\nconnection: close" in lower or head.endswith(b"HTTP/1.0"):
            self.transport.close()

    def go_on(self, left: int) -> None:
        self.transport.write(_PART if left else _LAST)
        if left:
            asyncio.get_running_loop().call_later(GAP_S, self.go_on, left - 1)


def _dial(dialer: socket.socket) -> None:
    while data := dialer.recv(64):
        made = [socket.socket() for _ in range(int(data))]
        socket.send_fds(dialer, [b"ok"], [sock.fileno() for sock in made])
        for sock in made:
            sock.close()


async def _serve(listener: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Answering, sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    listening, *rest = (socket.socket(fileno=int(fd)) for fd in sys.argv[1:])
    for helper in rest:
        threading.Thread(target=_dial, args=(helper,), daemon=True).start()
    asyncio.run(_serve(listening))
