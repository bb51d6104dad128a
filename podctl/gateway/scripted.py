"""The scripted model: answers computed from a YAML script, the same every time, never intelligent.

    rules:                           # the first rule whose conditions all hold answers
      - match: 'order (?P<id>\\d+)'   # searched in the text of the last message
        role: user                   # the last message is a user's, or a tool's result
        tool: get_order              # the last message is the result of this tool
        offers: get_order            # the request offers this tool
        history: 'ticket (?P<t>\\w+)' # searched in the text of the whole conversation, system prompt included
        calls: [{name: get_order, arguments: {id: '${id}'}}]
        reply: 'Looking at order ${id}.'
    otherwise: 'I cannot help with that.'

Named groups, and ``${0}``, ``${1}`` … of ``match``, fill in ``${…}`` in replies and arguments. Models are named
``scripted-…`` and have a price in the scenario's table; a token is four bytes, rounded up.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from podctl.errors import SpecError
from podctl.evidence.records import Tokens
from podctl.gateway.screen import Api
from podctl.spec.models import Model

_SEARCHED = 64 * 1024
_PIECE = 16
_CREATED = 1_700_000_000


class ScriptedCall(Model):
    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class Rule(Model):
    match: str | None = None
    role: Literal["user", "tool"] | None = None
    tool: str | None = None
    offers: str | None = None
    history: str | None = None
    calls: tuple[ScriptedCall, ...] = ()
    reply: str = ""

    @field_validator("match", "history")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from error
        return pattern

    @model_validator(mode="after")
    def _says_something(self) -> Rule:
        if not self.calls and not self.reply:
            raise ValueError("a rule needs reply or calls")
        return self


class Script(Model):
    rules: tuple[Rule, ...] = ()
    otherwise: str | None = None


def load_script(path: Path) -> Script:
    """Raises `SpecError` naming the file."""
    try:
        return Script.model_validate(yaml.safe_load(path.read_text()) or {})
    except (OSError, yaml.YAMLError, ValidationError, UnicodeDecodeError) as error:
        raise SpecError(
            f"the script {path} cannot be used",
            code="script",
            cause=str(error),
            hint="see scripted models in the documentation",
        ) from error


@dataclass(frozen=True)
class Turn:
    """A request, the same for both APIs: ``last_tool`` is the tool whose result the last message is."""

    last: str
    role: Literal["user", "tool"]
    last_tool: str | None
    history: str
    offered: frozenset[str]


@dataclass(frozen=True)
class Spoken:
    text: str
    calls: tuple[ScriptedCall, ...]


def speak(script: Script, turn: Turn) -> Spoken | None:
    """What the script says to this turn; None when nothing applies."""
    for rule in script.rules:
        groups = _applies(rule, turn)
        if groups is not None:
            calls = tuple(ScriptedCall(name=call.name, arguments=_fill(call.arguments, groups)) for call in rule.calls)
            return Spoken(_fill(rule.reply, groups), calls)
    return None if script.otherwise is None else Spoken(script.otherwise, ())


def _applies(rule: Rule, turn: Turn) -> dict[str, str] | None:
    if rule.role not in (None, turn.role) or rule.tool not in (None, turn.last_tool):
        return None
    if rule.offers is not None and rule.offers not in turn.offered:
        return None
    groups: dict[str, str] = {}
    for pattern, text in ((rule.history, turn.history), (rule.match, turn.last)):
        if pattern is not None:
            found = re.search(pattern, text[-_SEARCHED:])
            if found is None:
                return None
            groups |= {name: value or "" for name, value in found.groupdict().items()}
            groups |= {str(index): value or "" for index, value in enumerate((found[0], *found.groups()))}
    return groups


def _fill(value: Any, groups: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\$\{(\w+)\}", lambda name: groups.get(name[1], name[0]), value)
    if isinstance(value, dict):
        return {key: _fill(item, groups) for key, item in value.items()}
    return [_fill(item, groups) for item in value] if isinstance(value, list) else value


def read_turn(body: Mapping[str, Any]) -> Turn:
    """From a request of either API; whatever is malformed reads as empty."""
    messages = [message for message in _list(body.get("messages")) if isinstance(message, dict)]
    names: dict[Any, str] = {}
    texts = [_text(body.get("system"))]
    is_result = False
    last_tool: str | None = None
    for message in messages:
        for call in _list(message.get("tool_calls")):
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                names[str(call.get("id"))] = str(call["function"].get("name"))
        blocks = [block for block in _list(message.get("content")) if isinstance(block, dict)]
        names |= {str(block.get("id")): str(block.get("name")) for block in blocks if block.get("type") == "tool_use"}
        results = [block.get("tool_use_id") for block in blocks if block.get("type") == "tool_result"]
        answered = [message.get("tool_call_id")] if message.get("role") == "tool" else results
        last_tool = names.get(str(answered[-1])) if answered else None
        is_result = bool(answered)
        texts.append(_text(message.get("content")))
    tools = [tool.get("function", tool) for tool in _list(body.get("tools")) if isinstance(tool, dict)]
    return Turn(
        last=texts[-1] if messages else "",
        role="tool" if is_result else "user",
        last_tool=last_tool,
        history="\n".join(texts),
        offered=frozenset(str(tool.get("name")) for tool in tools if isinstance(tool, dict)),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = (block for block in _list(content) if isinstance(block, dict))
    return "\n".join(str(part.get("text") or _text(part.get("content"))) for part in parts)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def answer(script: Script, api: Api, body: Mapping[str, Any], model: str, digest: str) -> tuple[int, str, list[bytes]]:
    """Status, content type and the chunks of the answer."""
    if api not in ("chat", "messages") or not model.startswith("scripted-"):
        what = f"model {model[:100]}" if api in ("chat", "messages") else "this API"
        return _failed(404, f"{what} is not the scripted model's; its models are named scripted-…")
    spoken = speak(script, read_turn(body))
    if spoken is None:
        return _failed(400, "no rule of the script applies to the last message")
    asked = json.dumps([body.get("system"), body.get("messages"), body.get("tools")], separators=(",", ":"))
    said = spoken.text + "".join(call.name + json.dumps(call.arguments) for call in spoken.calls)
    tokens = Tokens(input=-(-len(asked.encode()) // 4), output=-(-len(said.encode()) // 4))
    build = _chat if api == "chat" else _messages
    whole, events = build(spoken, model, digest, tokens, body)
    if body.get("stream") is True:
        return 200, "text/event-stream; charset=utf-8", list(events)
    return 200, "application/json", [json.dumps(whole).encode()]


def _failed(status: int, message: str) -> tuple[int, str, list[bytes]]:
    error = {"type": "invalid_request_error", "message": message, "code": "podctl_script"}
    return status, "application/json", [json.dumps({"type": "error", "error": error}).encode()]


Built = tuple[dict[str, Any], Iterator[bytes]]


def _call_id(prefix: str, digest: str, index: int) -> str:
    return prefix + hashlib.sha256(f"{digest}/{index}".encode()).hexdigest()[:24]


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE] for at in range(0, len(text), _PIECE)]


def _chat(spoken: Spoken, model: str, digest: str, tokens: Tokens, body: Mapping[str, Any]) -> Built:
    calls = [
        {
            "id": _call_id("call_", digest, index),
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for index, call in enumerate(spoken.calls)
    ]
    usage = {"prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": tokens.total}
    head = {"id": f"chatcmpl-{digest[:24]}", "created": _CREATED, "model": model}
    message = {"role": "assistant", "content": spoken.text or None} | ({"tool_calls": calls} if calls else {})
    reason = "tool_calls" if calls else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    whole = {**head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def events() -> Iterator[bytes]:
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in _pieces(spoken.text)]
        deltas += [{"tool_calls": [{"index": index, **call}]} for index, call in enumerate(calls)]
        chunk = {**head, "object": "chat.completion.chunk"}
        for delta in deltas:
            yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
        options = body.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage"):
            yield _event({**chunk, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    return whole, events()


def _messages(spoken: Spoken, model: str, digest: str, tokens: Tokens, body: Mapping[str, Any]) -> Built:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": spoken.text}] if spoken.text else []
    for index, call in enumerate(spoken.calls):
        blocks.append({"type": "tool_use", "id": _call_id("toolu_", digest, index), "name": call.name, "input": call.arguments})
    reason = "tool_use" if spoken.calls else "end_turn"
    usage = {"input_tokens": tokens.input, "output_tokens": tokens.output}
    head = {"id": f"msg_{digest[:24]}", "type": "message", "role": "assistant", "model": model}
    whole = {**head, "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": usage}

    def events() -> Iterator[bytes]:
        start: dict[str, Any] = {
            **head,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": 1},
        }
        yield _named({"type": "message_start", "message": start})
        for index, block in enumerate(blocks):
            is_text = block["type"] == "text"
            empty: dict[str, Any] = {**block, ("text" if is_text else "input"): ("" if is_text else {})}
            yield _named({"type": "content_block_start", "index": index, "content_block": empty})
            for piece in _pieces(block["text"] if is_text else json.dumps(block["input"])):
                delta = (
                    {"type": "text_delta", "text": piece} if is_text else {"type": "input_json_delta", "partial_json": piece}
                )
                yield _named({"type": "content_block_delta", "index": index, "delta": delta})
            yield _named({"type": "content_block_stop", "index": index})
        yield _named({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage})
        yield _named({"type": "message_stop"})

    return whole, events()


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _named(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + _event(value)
