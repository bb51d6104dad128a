"""A model provider on loopback that speaks OpenAI's and Anthropic's APIs, and misbehaves when the model's name says so."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from typing import Any

from aiohttp import web

CHAT_USAGE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 1300,
    "prompt_tokens_details": {"cached_tokens": 400},
    "completion_tokens_details": {"reasoning_tokens": 100},
}
MESSAGE_USAGE = {
    "input_tokens": 500,
    "cache_read_input_tokens": 200,
    "cache_creation_input_tokens": 100,
    "output_tokens": 50,
}
TOOL_CALL = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": '{"order": 17}'}}
TEXT = "Hello from the provider"


class FakeProvider:
    """``seen``: (path, headers, body) of each request. ``counts``: requests by model."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.counts: Counter[str] = Counter()
        self.cut = asyncio.Event
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._ready.wait(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        server = web.Server(self._handle, access_log=None)
        self._server = await self._loop.create_server(server, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        async def end() -> None:
            self._server.close()
            self._loop.stop()

        asyncio.run_coroutine_threadsafe(end(), self._loop)
        self._thread.join(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = json.loads(await request.read() or b"{}")
        self.seen.append((request.path, {name.lower(): value for name, value in request.headers.items()}, body))
        model = body.get("model", "")
        self.counts[model] += 1
        if model == "fake-429-once" and self.counts[model] == 1:
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.05"})
        if model == "fake-500":
            return web.json_response({"error": {"message": "broken"}}, status=500)
        if model == "fake-echo-key":
            return web.json_response({"error": {"message": request.headers["Authorization"]}}, status=400)
        if model == "fake-echo-cut-key":
            said = json.dumps({"error": {"message": request.headers["Authorization"]}}).encode()
            return await self._in_two(request, said[:-10], said[-10:])
        if model == "fake-redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:1/stolen"})
        if model == "fake-slow":
            await asyncio.sleep(30)
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "fake-ok", "object": "model"}]})
        if request.path == "/v1/messages":
            return await self._messages(request, body)
        if request.path == "/v1/messages/count_tokens":
            return web.json_response({"input_tokens": 42})
        if request.path == "/v1/embeddings":
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            usage = {"prompt_tokens": 8, "total_tokens": 8}
            return web.json_response({"object": "list", "model": model, "data": data, "usage": usage})
        if request.path == "/v1/responses":
            return await self._responses(request, body)
        return await self._chat(request, body)

    async def _chat(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        model = body["model"]
        head = {"id": f"chatcmpl-{len(self.seen)}", "created": 1, "model": "fake-2026-01-01"}
        message: dict[str, Any] = {"role": "assistant", "content": TEXT}
        if body.get("tools"):
            message = {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]}
        if model == "fake-huge":
            message["content"] = "x" * 200_000
        reason = "tool_calls" if body.get("tools") else "stop"
        if not body.get("stream"):
            choice = {"index": 0, "message": message, "finish_reason": reason}
            answer = {**head, "object": "chat.completion", "choices": [choice], "usage": CHAT_USAGE}
            if model == "fake-no-usage":
                del answer["usage"]
            return web.json_response(answer)
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        if body.get("tools"):
            call = {**TOOL_CALL, "index": 0, "function": {"name": "lookup", "arguments": '{"order":'}}
            deltas += [{"tool_calls": [call]}, {"tool_calls": [{"index": 0, "function": {"arguments": " 17}"}}]}]
        else:
            deltas += [{"content": message["content"][:8]}, {"content": message["content"][8:]}]
        chunk = {**head, "object": "chat.completion.chunk"}
        events = [{**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append({**chunk, "choices": [], "usage": CHAT_USAGE})
        lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
        return await self._stream(request, lines, model)

    async def _messages(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        content: list[dict[str, Any]] = [{"type": "text", "text": TEXT}]
        if body.get("tools"):
            content.append({"type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {"order": 17}})
        reason = "tool_use" if body.get("tools") else "end_turn"
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "fake-claude"}
        if not body.get("stream"):
            whole = {**head, "content": content, "stop_reason": reason, "stop_sequence": None, "usage": MESSAGE_USAGE}
            return web.json_response(whole)
        start = {
            **head,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**MESSAGE_USAGE, "output_tokens": 1},
        }
        events: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
        for index, block in enumerate(content):
            if block["type"] == "text":
                empty, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
            else:
                empty, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            events.append({"type": "content_block_start", "index": index, "content_block": empty})
            events.append({"type": "content_block_delta", "index": index, "delta": delta})
            events.append({"type": "content_block_stop", "index": index})
        events.append({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 50}})
        events.append({"type": "message_stop"})
        lines = [f"event: {event['type']}\n".encode() + b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]
        return await self._stream(request, lines, body["model"])

    async def _responses(self, request: web.BaseRequest, body: dict[str, Any]) -> web.StreamResponse:
        usage = {
            "input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 400},
            "output_tokens": 300,
            "output_tokens_details": {"reasoning_tokens": 100},
            "total_tokens": 1300,
        }
        part = {"type": "output_text", "text": TEXT, "annotations": []}
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
        whole = {
            "id": "resp_1",
            "object": "response",
            "model": "fake-2026",
            "status": "completed",
            "output": [item],
            "usage": usage,
        }
        if not body.get("stream"):
            return web.json_response(whole)
        delta = {"type": "response.output_text.delta", "delta": TEXT, "item_id": "m1", "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [delta, {"type": "response.completed", "response": whole}]
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        return await self._stream(request, lines, body["model"])

    async def _in_two(self, request: web.BaseRequest, *parts: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=400, headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.05)
        return response

    async def _stream(self, request: web.BaseRequest, lines: list[bytes], model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for index, line in enumerate(lines):
            if model == "fake-half" and index == 2:
                assert request.transport is not None
                request.transport.abort()
                return response
            if model == "fake-pausing" and index == 1:
                await asyncio.sleep(1.0)
            await response.write(line)
            await asyncio.sleep(0.01)
        return response
