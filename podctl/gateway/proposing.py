"""Proposals over HTTP at the gateway's own door, ``POST /approvals`` and ``GET /approvals/ID``: of requests to services here, of rows beside it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from aiohttp import web

from podctl.approvals.actions import Action
from podctl.approvals.rows import KNOWN as ROW_KEYS
from podctl.approvals.rows import RowAsked, Unfit, parse_row
from podctl.boundary.policies import Decision, is_written
from podctl.boundary.targets import Ambiguous, read_target
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import clipped
from podctl.gateway.desk import MOST, Desk, Full, Proposal
from podctl.gateway.proxy import AMBIGUOUS, ServiceDoor, refuse
from podctl.gateway.replies import TooLong, evidence_full, read_capped, refusal
from podctl.gateway.rowproposals import propose_row
from podctl.strictjson import NotJson, read_json

PATH = "/approvals"
#: Bytes of a proposal, and of the body in it: whoever answers is shown all of it, and the record has it.
CAP = 128 * 1024
BODY_CAP = 48 * 1024
_PATH = 4_096
#: Headers that a proposal may have: what they are is shown, bound and recorded. One that proves who asks is never among them.
HEADERS = frozenset(
    {"accept", "accept-language", "content-language", "content-type", "idempotency-key", "if-match", "if-none-match"}
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
#: Seconds that an answer is waited for at most, with ``Prefer: wait=N`` (RFC 7240).
_LONGEST_WAIT = 60
#: Seconds that an answer is waited for that needs no waiting, so that it is told at once.
_AT_ONCE = 1.0
_WAIT = re.compile(r"(?:.*[,;]\s*)?wait=(\d{1,4})\s*(?:[,;].*)?")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,1000}")
_KNOWN = {"service", "method", "path", "headers", "body", "reason"}
_REASON = 2_000


class Malformed(Exception):
    """A proposal that cannot be read; the text says why."""


@dataclass(frozen=True)
class Request:
    """``body`` as it would be sent; None: without one. ``value``: what it is as JSON, where it is."""

    service: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes | None
    reason: str

    @property
    def action(self) -> Action:
        body = {} if self.body is None else {"body_sha256": hashlib.sha256(self.body).hexdigest(), "body_bytes": len(self.body)}
        return Action("http", self.service, {"method": self.method, "path": self.path, "headers": dict(self.headers), **body})


def parse(data: bytes) -> Request | RowAsked:
    """Raises `Malformed` and `Unfit`. ``body`` is text, sent as it is, or an object or a list, sent as compact JSON."""
    try:
        value = read_json(data)
    except NotJson as why:
        raise Malformed(f"a proposal is one JSON value, and this {why}") from None
    if isinstance(value, dict) and "database" in value:
        return parse_row(data)
    if not isinstance(value, dict) or value.keys() - _KNOWN:
        raise Malformed(
            f"a proposal is one JSON object of {', '.join(sorted(_KNOWN))}, or for a database of {', '.join(sorted(ROW_KEYS))}"
        )
    for name in ("service", "method", "path", "reason"):
        if not isinstance(value.get(name), str) or not value[name]:
            raise Malformed(f"{name} is a text, and has to be there")
    if value["method"] not in METHODS:
        raise Malformed(f"method is one of {', '.join(METHODS)}")
    for name, most in (("reason", _REASON), ("path", _PATH)):
        if len(value[name]) > most:
            raise Malformed(f"{name} has at most {most:,} characters")
    body = value.get("body")
    if body is not None and not isinstance(body, str | dict | list):
        raise Malformed("body is a text that is sent as it is, or an object or a list that is sent as JSON")
    headers = _headers(value.get("headers"), isinstance(body, dict | list))
    try:
        sent = None if body is None else (body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))).encode()
    except UnicodeEncodeError:
        raise Malformed("body has characters that are none (lone surrogates)") from None
    if sent is not None and len(sent) > BODY_CAP:
        raise Malformed(f"body has at most {BODY_CAP:,} bytes")
    return Request(value["service"], value["method"], value["path"], headers, sent, value["reason"])


def _headers(given: Any, as_json: bool) -> dict[str, str]:
    headers = {} if given is None else given
    if not isinstance(headers, dict):
        raise Malformed("headers is an object: name -> value")
    lower = {str(name).lower(): value for name, value in headers.items()}
    if len(lower) != len(headers):
        raise Malformed("a header twice")
    unknown = sorted(lower.keys() - HEADERS)
    if unknown:
        raise Malformed(f"headers of a proposal are {', '.join(sorted(HEADERS))}: not {clipped(unknown[0], 60)!r}")
    if not all(isinstance(value, str) and _HEADER_VALUE.fullmatch(value) for value in lower.values()):
        raise Malformed("a header's value is a text of at most 1,000 printable ASCII characters")
    return ({"content-type": "application/json"} if as_json else {}) | lower


async def receive(request: web.BaseRequest, path: str, attempt: Attempt, doors: Mapping[str, object]) -> web.StreamResponse:
    """The answer to ``POST /approvals`` or ``GET /approvals/ID``. Raises `Crowded`."""
    if attempt.full:
        return evidence_full()
    desk = attempt.desk
    if desk is None:
        attempt.refuse("a proposal", "nobody answers proposals in this run")
        return refusal(403, "podctl_no_approvals", "nobody answers proposals in this run: hand over what a person decides")
    if request.method == "GET":
        proposal = desk.find(path.removeprefix(PATH + "/"))
        if proposal is None:
            return refusal(404, "podctl_no_proposal", "there is no such proposal in this attempt")
        return await _told(request, proposal)
    try:
        data = await read_capped(request, CAP, attempt.bodies)
        attempt.look("proposal", data)
        attempt.look_at_head("proposal", request)
        asked = parse(data)
        if isinstance(asked, RowAsked):
            proposed = await propose_row(asked, attempt, desk)
        else:
            proposed = _propose(asked, attempt, desk, doors)
        return await _told(request, proposed) if isinstance(proposed, Proposal) else proposed
    except Full:
        return refusal(429, "podctl_limit", f"an attempt may propose {MOST} times")
    except TooLong:
        return refusal(413, "podctl_too_large", f"a proposal has at most {CAP:,} bytes")
    except (Malformed, Unfit) as why:
        return refusal(400, "podctl_malformed", str(why))


def _propose(asked: Request, attempt: Attempt, desk: Desk, doors: Mapping[str, object]) -> Proposal | web.Response:
    """The proposal, or why there is none. Raises `Full` and `EvidenceProblem`."""
    door = doors.get(asked.service)
    allowed = attempt.granted.services
    if not isinstance(door, ServiceDoor) or (allowed and asked.service not in allowed):
        attempt.way_out("http", clipped(asked.service, 100), f"proposed: {asked.method} {clipped(asked.path, 400)}")
        return refusal(403, "podctl_service_not_allowed", "this agent may not call that service, nor propose to")
    decided = _decided(asked, attempt)
    if decided.allowed:
        return refusal(409, "podctl_not_needed", f"nobody has to approve this ({decided.policy}): ask {asked.service} for it")
    if decided.level != "recommend":
        attempt.way_out("http", asked.service, f"{asked.method} {clipped(asked.path, 400)}", decided)
        return refuse(asked.service, decided, {})
    if not is_written(decided.policy, read_target(asked.method, asked.path)):
        attempt.way_out(
            "http", asked.service, f"{asked.method} {clipped(asked.path, 400)}", replace(decided, level="human-only")
        )
        return refusal(403, "podctl_human_only", f"only {decided.policy} can be proposed, exactly as the boundary has its path")
    body = asked.body or b""
    values: dict[str, Any] = {}
    try:
        values["body"] = read_json(body)
    except NotJson:
        pass  # no rule can tell what it says
    return desk.propose(
        asked.action,
        rule=decided.policy,
        reason=asked.reason,
        values=values,
        body=None if asked.body is None else asked.body.decode(),
        carry_out=partial(door.carry_out, asked.method, asked.path, asked.headers, asked.body),
    )


def _decided(asked: Request, attempt: Attempt) -> Decision:
    assert attempt.decider is not None, "only a boundary recommends"
    try:
        return attempt.decider.call(attempt.granted.agent, asked.service, read_target(asked.method, asked.path, asked.headers))
    except Ambiguous as why:
        return Decision(False, "human-only", AMBIGUOUS, str(why))


async def _told(request: web.BaseRequest, proposal: Proposal) -> web.Response:
    """200 once it is decided and done, 202 before; ``Prefer: wait=N`` waits for N seconds."""
    found = _WAIT.fullmatch(request.headers.get("Prefer", ""))
    try:
        async with asyncio.timeout(min(_LONGEST_WAIT, int(found[1])) if found else _AT_ONCE if request.method == "POST" else 0):
            await proposal.done.wait()
    except TimeoutError:
        pass
    status = 200 if proposal.done.is_set() else 202
    where = {"Location": f"{PATH}/{proposal.id}"}
    return web.json_response(proposal.to_json(), status=status, headers=where)
