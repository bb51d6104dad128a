"""Proposing by MCP: two tools of podctl's own that stand among a server's, where a run has approvals and the server something to recommend."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from podctl.approvals.actions import Action
from podctl.boundary.policies import Decision
from podctl.gateway.bounds import clipped
from podctl.gateway.desk import MOST, Desk, Full, Proposal, Returned
from podctl.strictjson import NotJson

#: No tool of a server has such a name.
OURS = "podctl_"
PROPOSE, APPROVAL = "podctl_propose", "podctl_approval"
_REASON = 2_000
_LONGEST_WAIT = 60
#: Seconds that an answer is waited for that needs no waiting.
_AT_ONCE = 1.0
#: Characters of a proposal's arguments: whoever answers is shown all of them, and the record has them.
_ARGUMENTS = 48 * 1024


def tools(recommended: Iterable[str]) -> list[dict[str, Any]]:
    """As `tools/list` shows them."""
    propose = {
        "tool": {"type": "string", "enum": list(recommended)},
        "arguments": {"type": "object", "description": "the tool's"},
        "reason": {"type": "string", "description": "for whoever decides", "maxLength": _REASON},
    }
    approval = {
        "id": {"type": "string", "description": f"of what {PROPOSE} said"},
        "wait": {"type": "integer", "minimum": 0, "maximum": _LONGEST_WAIT, "description": "seconds, for a decision"},
    }
    return [
        {
            "name": PROPOSE,
            "description": "Propose a call of a tool that a person decides. What is approved is carried out, once; do not repeat it.",
            "inputSchema": {"type": "object", "properties": propose, "required": list(propose), "additionalProperties": False},
        },
        {
            "name": APPROVAL,
            "description": "What became of a proposal.",
            "inputSchema": {"type": "object", "properties": approval, "required": ["id"], "additionalProperties": False},
        },
    ]


class Malformed(Exception):
    """Arguments of podctl's own tools that cannot be used; the text says why."""


def asked(arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Tool, its arguments, the reason, of a call of `PROPOSE`. Raises `Malformed`."""
    tool, given, reason = arguments.get("tool"), arguments.get("arguments"), arguments.get("reason")
    if not isinstance(tool, str) or not isinstance(given, dict) or not isinstance(reason, str) or len(arguments) != 3:
        raise Malformed("expected tool, arguments and reason, and nothing else")
    if not reason or len(reason) > _REASON:
        raise Malformed(f"a reason has 1 to {_REASON:,} characters")
    if len(json.dumps(given)) > _ARGUMENTS:
        raise Malformed(f"arguments have at most {_ARGUMENTS:,} characters")
    return tool, given, reason


async def propose(
    desk: Desk,
    target: str,
    given: Mapping[str, Any],
    reason: str,
    decided: Decision,
    call: Callable[[], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    """The proposal as the agent is told of it. ``call`` is made once it is approved. Raises `Malformed`."""

    async def carry_out(proposal: Proposal) -> Returned:
        result = await call()
        failed = "the tool failed" if result.get("isError") is True else None
        return Returned({"result": clipped(json.dumps(result), 16 * 1024)}, {"result": result}, failed)

    try:
        proposal = desk.propose(
            Action("tool", target, given),
            rule=decided.policy,
            reason=reason,
            values={"arguments": dict(given)},
            carry_out=carry_out,
        )
    except Full:
        raise Malformed(f"an attempt may propose {MOST} times") from None
    except NotJson as why:
        raise Malformed(f"the call {why}") from None
    return await _told(proposal, _AT_ONCE)


async def became(desk: Desk, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Of a call of `APPROVAL`. Raises `Malformed`."""
    id, wait = arguments.get("id"), arguments.get("wait", 0)
    proposal = desk.find(id) if isinstance(id, str) else None
    if proposal is None:
        raise Malformed("there is no such proposal in this attempt")
    if not isinstance(wait, int) or isinstance(wait, bool) or not 0 <= wait <= _LONGEST_WAIT:
        raise Malformed(f"wait is 0 to {_LONGEST_WAIT} seconds")
    return await _told(proposal, wait)


async def _told(proposal: Proposal, wait: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(wait):
            await proposal.done.wait()
    except TimeoutError:
        pass
    return proposal.to_json()
