"""What of a model request is let through: everything but ways out of the pod by way of the provider.

A provider-executed tool, a remote address for the provider to fetch, or state kept at the provider would let the
agent reach beyond its pod or leave something there for another attempt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Api = Literal["chat", "responses", "completions", "embeddings", "messages", "count_tokens", "models"]
Body = Mapping[str, Any]

#: Output a legacy completion produces when it does not say how much.
_COMPLETIONS_DEFAULT = 16

_CLIENT_TOOLS = re.compile(r"^(custom|(bash|text_editor|computer|memory)_\d{8})$")
_REMOTE_KEYS = ("image_url", "video_url", "audio_url", "file_url")
_STATEFUL = {
    "responses": ("background", "previous_response_id", "conversation", "prompt"),
    "messages": ("mcp_servers", "container"),
}
_USUAL_PRICE = {
    "service_tier": (None, "auto", "default", "standard_only"),
    "speed": (None, "standard"),
    "inference_geo": (None, "global", "not_available"),
}


@dataclass(frozen=True)
class Refusal:
    """``way_out``: the request would have reached beyond the pod."""

    what: str
    reason: str
    way_out: bool = True


def screen(api: Api, body: Body) -> Refusal | None:
    """The first thing in the request that may not pass, or None."""
    return _tools(api, body) or _state(api, body) or _price(body) or _references(body)


def _tools(api: Api, body: Body) -> Refusal | None:
    if body.get("web_search_options") is not None:
        return _provider_tool("web_search_options")
    tools = body.get("tools") or []
    if not isinstance(tools, list):
        return Refusal("tools", "tools must be a list", way_out=False)
    for tool in tools:
        kind = tool.get("type") if isinstance(tool, dict) else "?"
        if api in ("messages", "count_tokens"):
            allowed = kind is None or (isinstance(kind, str) and _CLIENT_TOOLS.match(kind) is not None)
        else:
            allowed = kind in ("function", "custom")
        if not allowed:
            return _provider_tool(str(kind))
    return None


def _provider_tool(kind: str) -> Refusal:
    return Refusal(f"tool {kind[:80]}", "tools that the provider executes would leave the pod by way of the provider")


def _state(api: Api, body: Body) -> Refusal | None:
    for name in _STATEFUL.get(api, ()):
        if body.get(name):
            return Refusal(name, "what the provider keeps or reaches on its side is outside the pod")
    return None


def _price(body: Body) -> Refusal | None:
    for name, usual in _USUAL_PRICE.items():
        if body.get(name) not in usual:
            return Refusal(name, "it changes the price, and the cost would no longer be known", way_out=False)
    return None


def _references(body: Body) -> Refusal | None:
    """Addresses and provider-side files in what is said to the model; arguments of tools are only data."""
    pending: list[Any] = [body.get(name) for name in ("messages", "input", "system", "prompt", "instructions")]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            refusal = _reference(node)
            if refusal is not None:
                return refusal
            skipped = "input" if node.get("type") in ("tool_use", "server_tool_use") else None
            pending.extend(value for key, value in node.items() if key != skipped)
    return None


def _reference(node: Body) -> Refusal | None:
    for key in _REMOTE_KEYS:
        value = node.get(key)
        address = value.get("url") if isinstance(value, dict) else value
        if isinstance(address, str) and not address.startswith("data:"):
            return Refusal(key, "the provider would fetch a remote address for the agent")
    kind = node.get("type")
    if kind == "url" and "url" in node:
        return Refusal("url source", "the provider would fetch a remote address for the agent")
    if "file_id" in node or kind in ("container_upload", "item_reference"):
        return Refusal("file_id" if "file_id" in node else str(kind), "it refers to something kept at the provider")
    return None


def output_bound(api: Api, body: Body, default: int) -> int:
    """The most output tokens the request asks for, over all its answers; ``default`` when it does not say."""
    if api == "embeddings":
        return 0
    names = {"chat": ("max_completion_tokens", "max_tokens"), "responses": ("max_output_tokens",)}.get(api, ("max_tokens",))
    stated: list[int] = [body[name] for name in names if _count(body.get(name))]
    each = max(stated) if stated else (_COMPLETIONS_DEFAULT if api == "completions" else default)
    answers: list[int] = [body[name] for name in ("n", "best_of") if _count(body.get(name))]
    prompts = body.get("prompt")
    many = len(prompts) if api == "completions" and isinstance(prompts, list) and prompts else 1
    return each * max([1, *answers]) * many


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
