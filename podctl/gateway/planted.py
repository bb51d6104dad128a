"""What an attack does to what services answer: a text put into an answer, and routes that are not there answered all the same.

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
        self._answers = [
            (one["service"], _route(one["route"]) if one["route"] else None, one["field"]) for one in data.get("answers", ())
        ]
        self._decoys = [(one["service"], _route(one["route"]), one) for one in data.get("decoys", ())]

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


def _route(route: str) -> tuple[str, re.Pattern[str]]:
    method, _, path = route.partition(" ")
    parts = re.split(r"(/\*\*$|\{[^/{}]+\})", path)
    return method, re.compile(
        "".join("(/.*)?" if part == "/**" else "[^/]+" if part.startswith("{") else re.escape(part) for part in parts)
    )
