"""What is proposed, exactly: an action, and the digest that a grant is bound to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from podctl.strictjson import NotJson


@dataclass(frozen=True)
class Action:
    """``target`` is a service, a tool as ``SERVER.TOOL``, or a database; ``arguments`` are JSON and everything that decides what happens.

    Of ``http``: method, path as sent, headers by lower-case name, body_sha256 and body_bytes.
    """

    kind: Literal["http", "tool", "sql"]
    target: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Setting:
    """Where the action would happen: digests of the agent and of the boundary, the pod, and the attempt as ``RUN.ATTEMPT``."""

    agent: str
    boundary: str
    pod: str
    attempt: str


def action_digest(action: Action, setting: Setting) -> str:
    """sha256, in hex, over the canonical JSON of the action and its setting. Raises `NotJson`."""
    value = {
        "agent": setting.agent,
        "arguments": dict(action.arguments),
        "attempt": setting.attempt,
        "boundary": setting.boundary,
        "kind": action.kind,
        "pod": setting.pod,
        "target": action.target,
    }
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def digest_of(asked: Mapping[str, Any]) -> str:
    """The digest of a proposal as it is shown to people, taken anew: what they see is what they sign. Raises `NotJson` for one that is none,
    or whose ``body`` is not the one that its arguments name."""
    try:
        action = Action(asked["kind"], asked["target"], asked["arguments"])
        body = asked.get("body")
        named = asked["arguments"].get("body_sha256")
        if named != (None if body is None else hashlib.sha256(body.encode()).hexdigest()):
            raise NotJson("has a body that is not the one that is proposed")
        return action_digest(action, Setting(**asked["setting"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise NotJson(f"is no proposal: {error}"[:200]) from error


def canonical(value: Any) -> str:
    """The one JSON text of a value: keys in order, no spaces, ASCII. Raises `NotJson`, also for NaN and infinities."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise NotJson(f"has a value that JSON cannot have: {error}") from error
