"""PURE: one JSON-RPC message of an agent, read so that no other parser can read it otherwise.

Where readers of JSON differ a message is refused, and of what is read only what is understood is used: nothing goes on as it came.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from podctl.strictjson import NotJson, read_json

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
#: Objects and lists within one another.
MAX_DEPTH = 64
_LONGEST_ID = 256
_LARGEST_ID = 2**53

Id = int | str


class NotUnderstood(Exception):
    """Not a message that the gateway acts on; ``code`` is JSON-RPC's, ``id`` the request's where it has one."""

    def __init__(self, code: int, why: str, id: Id | None = None) -> None:
        super().__init__(why)
        self.code, self.why, self.id = code, why, id


@dataclass(frozen=True)
class Message:
    """A request, or a notification when ``id`` is None."""

    method: str
    id: Id | None
    params: dict[str, Any] = field(default_factory=dict)


def read_message(body: bytes) -> Message:
    """Raises `NotUnderstood`."""
    try:
        value = read_json(body, deepest=MAX_DEPTH)
    except NotJson as why:
        raise NotUnderstood(PARSE_ERROR, f"the message {why}") from None
    if isinstance(value, list):
        raise NotUnderstood(INVALID_REQUEST, "batches are not taken: send one message at a time")
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise NotUnderstood(INVALID_REQUEST, 'expected an object with "jsonrpc": "2.0"')
    asked = value.get("id")
    id = asked if _is_id(asked) else None
    if unknown := value.keys() - {"jsonrpc", "id", "method", "params"}:
        raise NotUnderstood(INVALID_REQUEST, f"expected jsonrpc, id, method and params, found {_listed(unknown)}", id)
    if "id" in value and id is None:
        raise NotUnderstood(INVALID_REQUEST, f"expected an id that is a whole number or at most {_LONGEST_ID} characters")
    method, params = value.get("method"), value.get("params", {})
    if not isinstance(method, str):
        raise NotUnderstood(INVALID_REQUEST, "expected a method's name", id)
    if not isinstance(params, dict):
        raise NotUnderstood(INVALID_PARAMS, "expected params that are an object", id)
    return Message(method, id, params)


def tool_call(params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The tool and its arguments, of the params of tools/call. Raises `NotUnderstood`."""
    if unknown := params.keys() - {"name", "arguments", "_meta"}:
        raise NotUnderstood(INVALID_PARAMS, f"expected name and arguments, found {_listed(unknown)}")
    name, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(name, str):
        raise NotUnderstood(INVALID_PARAMS, "expected a tool's name")
    if not isinstance(arguments, dict):
        raise NotUnderstood(INVALID_PARAMS, "expected arguments that are an object")
    return name, arguments


def error(id: Id | None, code: int, message: str, data: Any = None) -> dict[str, Any]:
    told = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": id, "error": told}


def result(id: Id, value: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": value}


def _is_id(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_ID
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_ID


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(ascii(name)[:40] for name in names)[:5])
