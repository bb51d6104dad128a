"""Reading a provider's answer: usage, finish reasons, tool calls and text, from one body or from a stream.

Everything read here is the provider's word and may be malformed; what cannot be read is unknown, never 0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from podctl.evidence.records import Tokens
from podctl.gateway.screen import Api

#: Characters of answer text kept for the record.
TEXT_KEPT = 64 * 1024
_CALLS_KEPT = 64
#: No request and no answer has as many tokens; a larger count is a provider's mistake.
_MOST_TOKENS = 2**32
#: An event longer than this is passed on unread.
_EVENT_CAP = 4 * 2**20


@dataclass
class Reading:
    """What an answer says about itself. ``tokens`` None: unknown.

    ``complete``: a stream came to its proper end, a whole answer is a JSON object.
    """

    tokens: Tokens | None = None
    long_cache_write: int = 0
    response_model: str | None = None
    finish_reasons: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    text: str = ""
    complete: bool = False

    def add_text(self, text: Any) -> None:
        if isinstance(text, str) and len(self.text) < TEXT_KEPT:
            self.text += text[: TEXT_KEPT - len(self.text)]

    def finish(self, reason: Any) -> None:
        if isinstance(reason, str) and len(self.finish_reasons) < _CALLS_KEPT:
            self.finish_reasons.append(reason[:80])

    def add_call(self, call_id: Any, name: Any, arguments: Any) -> None:
        if len(self.tool_calls) < _CALLS_KEPT:
            self.tool_calls.append({"id": call_id, "name": name, "arguments": arguments})


def openai_tokens(usage: Any) -> Tokens | None:
    """OpenAI counts cached tokens within the input and reasoning within the output; chat and responses alike."""
    if not isinstance(usage, dict):
        return None
    whole_input: Any = usage.get("prompt_tokens", usage.get("input_tokens"))
    whole_output: Any = usage.get("completion_tokens", usage.get("output_tokens", 0))
    into = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    out = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    if not isinstance(into, dict) or not isinstance(out, dict):
        return None
    cached = into.get("cached_tokens") or 0
    written = into.get("cache_write_tokens") or 0
    reasoning = out.get("reasoning_tokens") or 0
    if not _counts(whole_input, whole_output, cached, written, reasoning):
        return None
    if cached + written > whole_input or reasoning > whole_output:
        return None
    return Tokens(
        input=whole_input - cached - written,
        cache_read=cached,
        cache_write=written,
        output=whole_output - reasoning,
        reasoning=reasoning,
    )


def anthropic_tokens(usage: Any) -> tuple[Tokens | None, int]:
    """Anthropic counts input beside what the cache read and wrote. Also the tokens written to live an hour."""
    if not isinstance(usage, dict):
        return None, 0
    read = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    by_life = usage.get("cache_creation")
    hour = by_life.get("ephemeral_1h_input_tokens") or 0 if isinstance(by_life, dict) else 0
    given: Any = usage.get("input_tokens")
    made: Any = usage.get("output_tokens")
    if not _counts(given, made, read, written, hour) or hour > written:
        return None, 0
    return Tokens(input=given, cache_read=read, cache_write=written, output=made), hour


def _counts(*values: Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS for value in values)


def read_body(api: Api, body: bytes) -> Reading:
    """A whole answer."""
    answer = _json(body)
    if not isinstance(answer, dict):
        return Reading()
    reading = Reading(complete=True)
    reading.response_model = _string(answer.get("model"))
    if api == "messages":
        reading.tokens, reading.long_cache_write = anthropic_tokens(answer.get("usage"))
        reading.finish(answer.get("stop_reason"))
        for block in _dicts(answer.get("content")):
            reading.add_text(block.get("text"))
            if block.get("type") == "tool_use":
                reading.add_call(block.get("id"), block.get("name"), block.get("input"))
        return reading
    reading.tokens = openai_tokens(answer.get("usage"))
    if api == "responses":
        _read_response(reading, answer)
    for choice in _dicts(answer.get("choices")):
        message = choice.get("message")
        message = message if isinstance(message, dict) else {"content": choice.get("text")}
        reading.finish(choice.get("finish_reason"))
        reading.add_text(message.get("content"))
        for call in _dicts(message.get("tool_calls")):
            function = call.get("function") if isinstance(call.get("function"), dict) else call.get("custom") or {}
            if isinstance(function, dict):
                reading.add_call(call.get("id"), function.get("name"), function.get("arguments", function.get("input")))
    return reading


def _read_response(reading: Reading, answer: dict[str, Any]) -> None:
    reading.finish(answer.get("status"))
    for item in _dicts(answer.get("output")):
        if item.get("type") in ("function_call", "custom_tool_call"):
            reading.add_call(item.get("call_id"), item.get("name"), item.get("arguments", item.get("input")))
        for part in _dicts(item.get("content")):
            reading.add_text(part.get("text"))


class StreamReader:
    """Reads server-sent events as they pass. With ``strip_usage`` the chunk that only reports usage is held back."""

    def __init__(self, api: Api, strip_usage: bool) -> None:
        self.reading = Reading()
        self._api = api
        self._strip = strip_usage
        self._buffer = b""
        self._usage: dict[str, Any] = {}
        self._calls: dict[Any, dict[str, Any]] = {}

    def feed(self, chunk: bytes) -> bytes:
        """What the agent may see now."""
        self._buffer += chunk
        if len(self._buffer) > _EVENT_CAP:
            return self._give_up(chunk)
        passed = b""
        while (end := _event_end(self._buffer)) > 0:
            event, self._buffer = self._buffer[:end], self._buffer[end:]
            if not (self._event(event) and self._strip):
                passed += event
        return passed if self._strip else chunk

    def _give_up(self, chunk: bytes) -> bytes:
        rest, self._buffer = self._buffer, b""
        return rest if self._strip else chunk

    def close(self) -> bytes:
        """What was held back of an event that never ended."""
        rest, self._buffer = self._buffer, b""
        return rest if self._strip else b""

    def _event(self, event: bytes) -> bool:
        """Take in one event; True when it only reports usage."""
        lines = [line[5:].strip() for line in event.replace(b"\r", b"\n").split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if data == b"[DONE]":
            self.reading.complete = True
            return False
        value = _json(data) if data else None
        if not isinstance(value, dict):
            return False
        if self._api == "messages":
            self._anthropic(value)
            return False
        if self._api == "responses":
            response = value.get("response")
            if isinstance(response, dict):
                self._response(str(value.get("type")), response)
            return False
        return self._chat(value)

    def _chat(self, value: dict[str, Any]) -> bool:
        reading = self.reading
        reading.response_model = reading.response_model or _string(value.get("model"))
        if value.get("usage") is not None:
            reading.tokens = openai_tokens(value["usage"])
        for choice in _dicts(value.get("choices")):
            if choice.get("finish_reason") is not None:
                reading.finish(choice["finish_reason"])
            delta = choice.get("delta")
            delta = delta if isinstance(delta, dict) else {"content": choice.get("text")}
            reading.add_text(delta.get("content"))
            for call in _dicts(delta.get("tool_calls")):
                function = call.get("function")
                if isinstance(function, dict):
                    key = (str(choice.get("index")), str(call.get("index")))
                    self._call(key, call.get("id"), function.get("name"), function.get("arguments"))
        return value.get("usage") is not None and value.get("choices") == []

    def _response(self, kind: str, response: dict[str, Any]) -> None:
        self.reading.response_model = _string(response.get("model"))
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self.reading.complete = True
            self.reading.tokens = openai_tokens(response.get("usage"))
            _read_response(self.reading, response)

    def _anthropic(self, value: dict[str, Any]) -> None:
        reading, kind = self.reading, value.get("type")
        if kind == "message_start" and isinstance(value.get("message"), dict):
            reading.response_model = _string(value["message"].get("model"))
            self._count(value["message"].get("usage"))
        elif kind == "message_delta":
            self._count(value.get("usage"))
            if isinstance(value.get("delta"), dict):
                reading.finish(value["delta"].get("stop_reason"))
        elif kind == "content_block_start" and isinstance(value.get("content_block"), dict):
            block = value["content_block"]
            reading.add_text(block.get("text"))
            if block.get("type") == "tool_use":
                self._call(str(value.get("index")), block.get("id"), block.get("name"), "")
        elif kind == "content_block_delta" and isinstance(value.get("delta"), dict):
            reading.add_text(value["delta"].get("text"))
            if value["delta"].get("type") == "input_json_delta":
                self._call(str(value.get("index")), None, None, value["delta"].get("partial_json"))
        elif kind == "message_stop":
            reading.complete = True
            # The start reports the input, the end the output: only a stream that ended has said both.
            reading.tokens, reading.long_cache_write = anthropic_tokens(self._usage)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._usage.update({key: value for key, value in usage.items() if value is not None})

    def _call(self, key: Any, call_id: Any, name: Any, arguments: Any) -> None:
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = {"id": call_id, "name": name, "arguments": ""}
            if len(self.reading.tool_calls) < _CALLS_KEPT:
                self.reading.tool_calls.append(call)
        if isinstance(arguments, str) and len(call["arguments"]) < TEXT_KEPT:
            call["arguments"] += arguments


def _event_end(buffer: bytes) -> int:
    """Where the first whole event ends, behind its blank line; 0 when there is none."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n", b"\r\r") if (at := buffer.find(mark)) >= 0]
    return min(ends, default=0)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _string(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) else None


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
