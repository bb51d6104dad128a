"""What an agent used, by name: routes of services and tools that its model called. Names are an agent's: bounded, and never trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: Different names that are kept of an attempt; further ones are counted together.
_NAMES = 60
_OTHER = "other"
_LENGTH = 80
#: A part of a path that names one thing and not a kind: it has a digit, or is long.
_ONE_THING = re.compile(r"[^/]*\d[^/]*|[^/]{33,}")


def uses_of(kind: str, data: Mapping[str, Any]) -> Iterator[str]:
    """``GET orders-api /orders/{}`` of a call to a service, ``tool refund`` of a tool that a model's answer calls."""
    if kind == "http.call" and data.get("service") != "model-provider":
        yield f"{data.get('method', '')} {data.get('service', '')} {kind_of_path(str(data.get('path', '')))}"[:_LENGTH]
    elif kind == "tool.call" and "server" in data:
        yield f"tool {data['server']}.{data.get('tool', '')}"[:_LENGTH]
    elif kind == "model.call" and data.get("status") != "started":
        calls = data.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            yield f"tool {call.get('name', '') if isinstance(call, dict) else ''}"[:_LENGTH]


def kind_of_path(path: str) -> str:
    """``/orders/{}`` of ``/orders/17?page=2``."""
    return "/".join("{}" if _ONE_THING.fullmatch(part) else part for part in path.split("?", 1)[0].split("/"))


def with_uses(uses: Mapping[str, int], kind: str, data: Mapping[str, Any]) -> dict[str, int]:
    """``uses`` and those of one more record."""
    counted = dict(uses)
    for name in uses_of(kind, data):
        name = name if name in counted or len(counted) < _NAMES else _OTHER
        counted[name] = counted.get(name, 0) + 1
    return counted
