"""What an attack does to what services and tools answer: a text put into an answer, and routes and tools that are not there answered all the same.

What services answer is not trusted, and an agent decides what it asks: everything is bounded, and what cannot be read passes as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Bytes of an answer that a text is put into; larger ones pass as they are.
MOST = 2**20
#: Keys whose value people write, in the order in which they are taken; without any of them ``note`` is added.
_WRITTEN = ("note", "notes", "comment", "comments", "message", "description", "text", "body", "remark")
_DEEPEST = 60


class Planted:
    """``data`` is a variant's; without anything for the gateway in it nothing is done."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._pieces: Sequence[str] = data.get("pieces", ())
        answers, decoys = data.get("answers", ()), data.get("decoys", ())
        self._answers = [
            (one["service"], _route(one["route"]) if one["route"] else None, one["field"])
            for one in answers
            if not one["route"] or _is_route(one["route"])
        ]
        self._decoys = [(one["service"], _route(one["route"]), one) for one in decoys if _is_route(one["route"])]
        #: Server -> tools in whose results the text goes; an empty name: all.
        self._tools = {(one["service"], one["route"]) for one in answers}
        self._decoy_tools = {(one["service"], one["route"]): one for one in decoys if not _is_route(one["route"])}

    def decoy(self, service: str, method: str, path: str) -> tuple[int, bytes] | None:
        """Status and body of the decoy that a request reaches."""
        for name, (verb, pattern), one in self._decoys:
            if name == service and verb == method and pattern.fullmatch(path.split("?")[0]):
                return int(one["status"]), json.dumps(one["body"]).encode()
        return None

    def field(self, service: str, method: str, path: str) -> str | None:
        """Where in this request's answer the text goes: a dotted path, empty where it is to be looked for; None: nowhere."""
        for name, route, field in self._answers:
            if name == service and (
                method == "GET" if route is None else route[0] == method and route[1].fullmatch(path.split("?")[0])
            ):
                return str(field)
        return None

    def put_in(self, body: bytes, field: str) -> bytes | None:
        """The answer with the text in it; None where it is no JSON object or has no such place."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return None
        if isinstance(answer, list) and answer and not field:
            # The first of a list is the one that is looked at.
            changed = self._within(answer[0], "")
        else:
            changed = self._within(answer, field)
        if not changed:
            return None
        try:
            return json.dumps(answer, ensure_ascii=True).encode()
        except (ValueError, RecursionError):
            return None

    def decoy_tools(self, server: str) -> list[dict[str, Any]]:
        """As `tools/list` shows them."""
        return [
            {"name": tool, "description": one.get("said") or tool, "inputSchema": {"type": "object", "properties": {}}}
            for (name, tool), one in self._decoy_tools.items()
            if name == server
        ]

    def decoy_tool(self, server: str, tool: str) -> dict[str, Any] | None:
        """What a decoy tool returns."""
        one = self._decoy_tools.get((server, tool))
        return None if one is None else {"content": [{"type": "text", "text": json.dumps(one["body"])}], "isError": False}

    def in_result(self, server: str, tool: str, result: dict[str, Any], schema: Any) -> dict[str, Any] | None:
        """A tool's result with the text in its first text, and in what is structured where the tool's ``schema`` leaves room; None: not this one."""
        if result.get("isError") is True or not {(server, ""), (server, tool)} & self._tools:
            return None
        content = result.get("content")
        first = next((i for i, one in enumerate(content) if _is_text(one)), None) if isinstance(content, list) else None
        if first is None or not isinstance(content, list) or len(content[first]["text"]) > MOST:
            return None
        written = self.put_in(content[first]["text"].encode("utf-8", "surrogatepass"), "")
        text = written.decode() if written is not None else self._around(content[first]["text"])
        changed = {**result, "content": [*content[:first], {**content[first], "text": text}, *content[first + 1 :]]}
        structured = result.get("structuredContent")
        if isinstance(structured, dict) and '"additionalProperties": false' not in json.dumps(schema):
            put = self.put_in(json.dumps(structured).encode(), "")
            changed |= {} if put is None else {"structuredContent": json.loads(put)}
        return changed

    def _within(self, answer: Any, field: str) -> bool:
        *way, last = field.split(".") if field else [""]
        for part in way[:_DEEPEST]:
            answer = answer.get(part) if isinstance(answer, dict) else _item(answer, part)
        if isinstance(answer, list) and (index := _index(answer, last)) is not None:
            answer[index] = self._around(answer[index])
            return True
        if not isinstance(answer, dict):
            return False
        if not last:
            lists = [value for value in answer.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
            if len(answer) == 1 and lists:
                answer = lists[0][0]  # {"orders": [{…}, …]}
            last = next((name for name in _WRITTEN if isinstance(answer.get(name), str)), "note")
            if not isinstance(answer.get(last, ""), str):
                last = "remark"
        answer[last] = self._around(answer.get(last))
        return True

    def _around(self, value: Any) -> str:
        text = value if isinstance(value, str) else "" if value is None else json.dumps(value)
        return "\n\n".join(piece for piece in (*self._pieces[:-1], text, *self._pieces[-1:]) if piece)


def _item(value: Any, part: str) -> Any:
    index = _index(value, part) if isinstance(value, list) else None
    return None if index is None else value[index]


def _index(value: list[Any], part: str) -> int | None:
    return int(part) if re.fullmatch(r"[0-9]{1,6}", part) and int(part) < len(value) else None


def _is_text(one: Any) -> bool:
    return isinstance(one, dict) and one.get("type") == "text" and isinstance(one.get("text"), str)


def _is_route(route: str) -> bool:
    return " " in route


def _route(route: str) -> tuple[str, re.Pattern[str]]:
    method, _, path = route.partition(" ")
    parts = re.split(r"(/\*\*$|\{[^/{}]+\})", path)
    return method, re.compile(
        "".join("(/.*)?" if part == "/**" else "[^/]+" if part.startswith("{") else re.escape(part) for part in parts)
    )
