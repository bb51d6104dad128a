"""The door to an MCP server: agents speak streamable HTTP with the gateway, the gateway speaks with the server.

Each message is read strictly, decided on, and sent on as the gateway's own: the server gets what was decided, whatever the agent
wrote around it. Of the protocol tools pass, and nothing else. Answers are JSON; there is no stream by which a server speaks first.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from aiohttp import web
from mcp import types
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION

from podctl.boundary.policies import Decision
from podctl.gateway import jsonrpc, toolproposals
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import clipped
from podctl.gateway.contract import Target
from podctl.gateway.desk import Desk
from podctl.gateway.dialer import Dialer
from podctl.gateway.jsonrpc import Id, Message, NotUnderstood
from podctl.gateway.replies import TooLong, read_capped, refusal
from podctl.gateway.toolfaults import Befallen, CallFaults, InjectedError, on_its_way
from podctl.gateway.toolserver import NotUsed, ServerUse, Session, kept
from podctl.gateway.toolsession import ServerFailed, ServerRefused, ToolSession
from podctl.spec.models import ToolServer

SESSION, VERSION = "Mcp-Session-Id", "MCP-Protocol-Version"
_JSON = "application/json"
#: Methods that ask for something of the server's other than its tools: reaching for them is an attempt beyond the boundary.
_BEYOND = frozenset({"resources/read", "resources/subscribe", "prompts/get", "completion/complete"})


class ToolDoor:
    def __init__(self, server: str, target: Target, dialer: Dialer | None, connect_timeout: float) -> None:
        self._server = server
        self._dial = lambda settings: ToolSession(server, settings, target, dialer, connect_timeout)
        self._use: ServerUse | None = None

    async def close(self) -> None:
        self._use = None

    async def handle(self, request: web.BaseRequest, attempt: Attempt) -> web.StreamResponse:
        """Raises `Crowded`."""
        sink = f"call of {self._server}"
        attempt.look_at_head(sink, request)
        try:
            allowed = attempt.granted.services
            if allowed and self._server not in allowed:
                attempt.way_out("mcp", self._server, f"{request.method} {clipped(request.raw_path, 400)}")
                return refusal(403, "podctl_service_not_allowed", f"this agent may not call {self._server}")
            settings = attempt.granted.servers.get(self._server, ToolServer())
            if request.raw_path != settings.path:
                return refusal(404, "podctl_no_endpoint", f"the endpoint of {self._server} is {settings.path}")
            if self._use is None or self._use.attempt is not attempt:
                self._use = ServerUse(attempt, self._server, settings, self._dial)
            return await self._asked(request, self._use, sink)
        except TooLong:
            attempt.refuse(f"mcp {self._server}", f"a message of more than {settings.bytes} bytes")
            return _answer(413, jsonrpc.error(None, jsonrpc.INVALID_REQUEST, f"a message may have {settings.bytes} bytes"))
        except NotUnderstood as why:
            attempt.refuse(f"mcp {self._server}", why.why)
            return _answer(400, jsonrpc.error(why.id, why.code, f"podctl: {why.why}"))

    async def _asked(self, request: web.BaseRequest, use: ServerUse, sink: str) -> web.StreamResponse:
        for name in (SESSION, VERSION, "Content-Type"):
            if len(request.headers.getall(name, [])) > 1:
                raise NotUnderstood(jsonrpc.INVALID_REQUEST, f"the header {name} stands twice")
        if request.method == "DELETE":
            ended = use.sessions.pop(request.headers.get(SESSION, ""), None)
            if ended is not None:
                await ended.upstream.end()
            return web.Response(status=404 if ended is None else 204)
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST, DELETE"})
        if request.content_type != _JSON:
            return refusal(415, "podctl_not_json", f"a message to {self._server} is {_JSON}")
        body = await read_capped(request, use.settings.bytes, use.attempt.bodies)
        use.attempt.look(sink, body)
        message = jsonrpc.read_message(body)
        if message.method == "initialize" and message.id is not None:
            return await self._initialize(message, message.id, use)
        version = request.headers.get(VERSION)
        if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            return _not_spoken(message.id, version)
        key = request.headers.get(SESSION)
        session = use.sessions.get(key or "")
        if session is None or session.upstream.over:
            said = "no session: begin with initialize" if key is None else "this session is over: begin with initialize"
            use.sessions.pop(key or "", None)
            return _answer(400 if key is None else 404, jsonrpc.error(message.id, jsonrpc.INVALID_REQUEST, said))
        if message.id is None:
            _noticed(message, session)
            return web.Response(status=202)
        if message.id in session.calls:
            raise NotUnderstood(jsonrpc.INVALID_REQUEST, "a request with this id is under way", message.id)
        task = asyncio.current_task()
        assert task is not None
        session.calls[message.id] = task
        try:
            return _answer(200, await self._result(message, message.id, use, session))
        except Befallen as fault:
            return await on_its_way(request, fault, jsonrpc.result(message.id, fault.result or {}))
        finally:
            session.calls.pop(message.id, None)

    async def _initialize(self, message: Message, id: Id, use: ServerUse) -> web.Response:
        offered, info = message.params.get("protocolVersion"), message.params.get("clientInfo")
        if not isinstance(offered, str) or not isinstance(info, dict):
            raise NotUnderstood(jsonrpc.INVALID_PARAMS, "expected protocolVersion, capabilities and clientInfo", id)
        try:
            session = await use.begin(clipped(str(info.get("name", "")), 200), clipped(str(info.get("version", "")), 100))
        except NotUsed as why:
            return _answer(429, jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, why.text))
        except (ServerFailed, ServerRefused) as error:
            return _answer(502, jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, f"podctl_service_down: {self._server}: {error}"))
        key = secrets.token_hex(16)
        use.sessions[key] = session
        hello = {
            "protocolVersion": offered if offered in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": {key: clipped(session.upstream.hello["serverInfo"][key], 200) for key in ("name", "version")},
        }
        if "instructions" in session.upstream.hello:
            hello["instructions"] = session.upstream.hello["instructions"]
        return _answer(200, jsonrpc.result(id, hello), {SESSION: key})

    async def _result(self, message: Message, id: Id, use: ServerUse, session: Session) -> dict[str, Any]:
        if message.method == "ping":
            return jsonrpc.result(id, {})
        try:
            if message.method == "tools/list":
                use.count("list")
                await use.refresh(session)
                return jsonrpc.result(id, {"tools": use.shown(session)})
            if message.method == "tools/call":
                tool, arguments = jsonrpc.tool_call(message.params)
                if tool in (toolproposals.PROPOSE, toolproposals.APPROVAL) and use.attempt.desk is not None:
                    return jsonrpc.result(id, await _proposed(tool, arguments, use.attempt.desk, use, session))
                return jsonrpc.result(id, await _called(tool, arguments, use, session))
        except NotUsed as why:
            return jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, why.text)
        except InjectedError as error:
            return jsonrpc.error(id, error.code, str(error))
        except ServerRefused as error:
            return jsonrpc.error(id, error.code, error.message, error.data)
        except ServerFailed as error:
            return jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, f"podctl_service_down: {self._server}: {error.why}")
        what = clipped(message.method, 100)
        if message.method in _BEYOND:
            use.attempt.way_out("mcp", self._server, what)
        else:
            use.attempt.refuse(f"mcp {self._server}", f"{what}: only tools pass the gateway")
        return jsonrpc.error(id, jsonrpc.METHOD_NOT_FOUND, f"podctl_not_supported: only tools pass the gateway, not {what}")


async def _called(named: str, given: Mapping[str, Any], use: ServerUse, session: Session) -> dict[str, Any]:
    """The result of a call, recorded whatever comes of it. Raises `ServerRefused`, and `Befallen` and `InjectedError` for faults."""
    began = time.monotonic()
    tool, arguments = use.routed(named, given)
    call: dict[str, Any] = {"server": use.server, "tool": clipped(tool, 200), "arguments": kept(arguments)}
    if call["arguments"] != arguments:
        call["cut"] = True
    if tool != named:
        call["asked"] = clipped(named, 200)
    decided = use.decide(tool)
    how: dict[str, Any] = {"policy": decided.policy, "level": decided.level}
    outcome: dict[str, Any] = {"status": "cut", "result": None, "error": "the attempt ended, or the call was given up"}
    told: dict[str, Any] = {}
    try:
        if (planted := use.attempt.planted.decoy_tool(use.server, tool)) is not None:
            use.attempt.record("decoy.call", {"service": use.server, "method": "CALL", "path": clipped(tool, 200)})
            how, outcome = {"decoy": True}, {"status": "ok", "result": kept(planted), "error": None}
            return planted
        if not decided.allowed:
            use.crossed(tool, arguments, decided)
            raise NotUsed("refused", _refusal(use.target(tool), decided, use.attempt.desk is not None))
        if use.attempt.trigger is not None:
            await use.attempt.trigger.before_call()
        use.count("call", tool)
        faults = CallFaults(use.attempt, use.server, tool, decided.level == "read", use.settings.seconds_of(tool))
        told = faults.told
        result = await faults.befall(arguments, partial(use.use, session, tool, arguments))
        schema = session.tools.get(tool, {}).get("outputSchema")
        if (injected := use.attempt.planted.in_result(use.server, tool, result, schema)) is not None:
            result, how = injected, {**how, "injected": True}
        outcome = _outcome(result, told)
        return result
    except Befallen as fault:
        outcome = _outcome(fault.result, told)
        raise
    except InjectedError:
        outcome = _outcome(None, told)
        raise
    except NotUsed as why:
        outcome |= {"status": why.status, "error": why.text}
        return _said(why.text)
    except ServerRefused as error:
        outcome |= {"status": "error", "error": clipped(f"{error.code}: {error.message}", 1_000)}
        raise
    except ServerFailed as error:
        outcome |= {"status": error.kind, "error": clipped(error.why, 1_000)}
        return _said(f"podctl_{error.kind.replace('-', '_')}: {use.server}: {error.why}")
    finally:
        took = {"ms": round((time.monotonic() - began) * 1000, 3)} | ({"fault": told} if told else {})
        use.attempt.record("tool.call", {**call, **how, **outcome, **took})


def _outcome(result: dict[str, Any] | None, fault: Mapping[str, Any]) -> dict[str, Any]:
    """What the agent got. An error that a fault made is none of the server's."""
    made = fault.get("kind") in ("errors", "timeouts")
    status = "fault" if made else "failed" if result is not None and result.get("isError") is True else "ok"
    error = f"injected: {fault['kind']}" if made else None
    return {"status": status, "result": None if result is None else kept(result), "error": error}


async def _proposed(tool: str, arguments: Mapping[str, Any], desk: Desk, use: ServerUse, session: Session) -> dict[str, Any]:
    """The result of a call of podctl's own tools; the desk records what is proposed and what becomes of it."""
    try:
        if tool == toolproposals.APPROVAL:
            return _told(await toolproposals.became(desk, arguments))
        named, given, reason = toolproposals.asked(arguments)
        wanted, meant = use.routed(named, given)
        decided = use.decide(wanted)
        if decided.allowed:
            raise toolproposals.Malformed(f"nobody has to approve this ({decided.policy}): call {named}")
        if decided.level != "recommend":
            use.crossed(wanted, meant, decided)
            return _said(_refusal(use.target(wanted), decided, False))

        async def call() -> dict[str, Any]:
            use.count("call", wanted)
            return await use.use(session, wanted, meant)

        return _told(await toolproposals.propose(desk, use.target(wanted), meant, reason, decided, call))
    except toolproposals.Malformed as why:
        use.attempt.refuse(f"mcp {use.server}", clipped(f"{tool}: {why}", 300))
        return _said(f"podctl_malformed: {why}")


def _noticed(message: Message, session: Session) -> None:
    """A notification: the only one that says anything to the gateway is that a call is given up."""
    given_up = message.params.get("requestId")
    if message.method == "notifications/cancelled" and isinstance(given_up, int | str) and given_up in session.calls:
        session.calls[given_up].cancel()


def _refusal(tool: str, decided: Decision, can_propose: bool) -> str:
    if decided.level == "recommend":
        how = f"propose it with the tool {toolproposals.PROPOSE}" if can_propose else "recommend it, do not do it"
        return f"podctl_recommend: a person decides this ({decided.policy}): {how}"
    return f"podctl_human_only: only people may use {tool} ({decided.detail or decided.policy})"


def _not_spoken(id: Id | None, version: str) -> web.Response:
    """By which the official client knows to begin with a handshake."""
    spoken = list(HANDSHAKE_PROTOCOL_VERSIONS)
    said = f"podctl speaks MCP {' and '.join(spoken[-2:])}, and older ones, beginning with initialize"
    data = {"supported": spoken, "requested": clipped(version, 40)}
    return _answer(400, jsonrpc.error(id, types.UNSUPPORTED_PROTOCOL_VERSION, said, data))


def _said(text: str) -> dict[str, Any]:
    """A tool's result that says why there is none: unlike an error of the protocol a model gets to read it."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _told(proposal: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(proposal)}], "structuredContent": proposal}


def _answer(status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type=_JSON, headers=headers)
