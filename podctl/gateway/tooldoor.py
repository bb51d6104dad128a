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
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web
from mcp import types
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_HANDSHAKE_VERSION

from podctl.boundary.policies import Decision
from podctl.evidence.toollists import INSTRUCTIONS, SEEN, changes, digest_of, told
from podctl.gateway import jsonrpc, toolproposals
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import bounded, clipped
from podctl.gateway.contract import Target
from podctl.gateway.desk import Desk
from podctl.gateway.dialer import Dialer
from podctl.gateway.jsonrpc import Message, NotUnderstood
from podctl.gateway.replies import Crowded, TooLong, crowded, no_attempt, read_capped, refusal
from podctl.gateway.toolproposals import OURS
from podctl.gateway.toolsession import ServerFailed, ServerRefused, ToolSession
from podctl.spec.boundary import parse_tool
from podctl.spec.models import ToolServer

#: Characters that a record keeps of arguments, and of a result.
KEPT = 16 * 1024
MAX_SESSIONS = 16
#: Calls of one server at the same time; more wait.
_AT_ONCE = 16
#: Of one list. Whoever has more has them for nobody to read.
MAX_TOOLS, MAX_PAGES = 500, 50
#: Changes of a list that are recorded of one attempt.
_LISTS = 20
SESSION, VERSION = "Mcp-Session-Id", "MCP-Protocol-Version"
_JSON = "application/json"
#: Methods that ask for something of the server's other than its tools: reaching for them is an attempt beyond the boundary.
_BEYOND = frozenset({"resources/read", "resources/subscribe", "prompts/get", "completion/complete"})


@dataclass
class _Session:
    upstream: ToolSession
    calls: dict[jsonrpc.Id, asyncio.Task[Any]] = field(default_factory=dict)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class _Worked:
    """What one attempt has at this door."""

    attempt: Attempt
    sessions: dict[str, _Session] = field(default_factory=dict)
    calls: int = 0
    digests: dict[str, str] | None = None
    lists: int = 0


class ToolDoor:
    def __init__(self, server: str, target: Target, dialer: Dialer | None, connect_timeout: float) -> None:
        self._server = server
        self._target, self._dialer, self._timeout = target, dialer, connect_timeout
        self._worked: _Worked | None = None
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def close(self) -> None:
        self._worked = None

    async def handle(self, request: web.BaseRequest, attempt: Attempt | None) -> web.StreamResponse:
        if attempt is None:
            return no_attempt()
        if attempt.full:
            return refusal(429, "podctl_evidence_full", "the attempt's evidence reached its limit")
        task = asyncio.current_task()
        assert task is not None
        attempt.other_tasks.add(task)
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
            if self._worked is None or self._worked.attempt is not attempt:
                self._worked = _Worked(attempt)
            return await self._asked(request, self._worked, settings, sink)
        except TooLong:
            attempt.refuse(f"mcp {self._server}", f"a message of more than {settings.bytes} bytes")
            return _answer(413, jsonrpc.error(None, jsonrpc.INVALID_REQUEST, f"a message may have {settings.bytes} bytes"))
        except Crowded:
            return crowded()
        except NotUnderstood as why:
            attempt.refuse(f"mcp {self._server}", why.why)
            return _answer(400, jsonrpc.error(why.id, why.code, f"podctl: {why.why}"))
        finally:
            attempt.bodies.let_go(request)
            attempt.other_tasks.discard(task)

    async def _asked(self, request: web.BaseRequest, worked: _Worked, settings: ToolServer, sink: str) -> web.StreamResponse:
        for name in (SESSION, VERSION, "Content-Type"):
            if len(request.headers.getall(name, [])) > 1:
                raise NotUnderstood(jsonrpc.INVALID_REQUEST, f"the header {name} stands twice")
        if request.method == "DELETE":
            session = worked.sessions.pop(request.headers.get(SESSION, ""), None)
            if session is not None:
                await session.upstream.end()
            return web.Response(status=404 if session is None else 204)
        if request.method != "POST":
            return web.Response(status=405, headers={"Allow": "POST, DELETE"})
        if request.content_type != _JSON:
            return refusal(415, "podctl_not_json", f"a message to {self._server} is {_JSON}")
        body = await read_capped(request, settings.bytes, worked.attempt.bodies)
        worked.attempt.look(sink, body)
        message = jsonrpc.read_message(body)
        if message.method == "initialize" and message.id is not None:
            return await self._initialize(message, message.id, worked, settings)
        version = request.headers.get(VERSION)
        if version is not None and version not in HANDSHAKE_PROTOCOL_VERSIONS:
            data = {"supported": list(HANDSHAKE_PROTOCOL_VERSIONS), "requested": clipped(version, 40)}
            said = (
                f"podctl speaks MCP {' and '.join(HANDSHAKE_PROTOCOL_VERSIONS[-2:])}, and older ones, beginning with initialize"
            )
            return _answer(400, jsonrpc.error(message.id, types.UNSUPPORTED_PROTOCOL_VERSION, said, data))
        key = request.headers.get(SESSION)
        session = worked.sessions.get(key or "")
        if session is None or session.upstream.over:
            said = "no session: begin with initialize" if key is None else "this session is over: begin with initialize"
            worked.sessions.pop(key or "", None)
            return _answer(400 if key is None else 404, jsonrpc.error(message.id, jsonrpc.INVALID_REQUEST, said))
        if message.id is None:
            self._noticed(message, session)
            return web.Response(status=202)
        if message.id in session.calls:
            raise NotUnderstood(jsonrpc.INVALID_REQUEST, "a request with this id is under way", message.id)
        task = asyncio.current_task()
        assert task is not None
        session.calls[message.id] = task
        try:
            return _answer(200, await self._result(message, message.id, worked, session, settings))
        finally:
            session.calls.pop(message.id, None)

    # ---- a session's beginning, and what is no request ----

    async def _initialize(self, message: Message, id: jsonrpc.Id, worked: _Worked, settings: ToolServer) -> web.Response:
        if len(worked.sessions) >= MAX_SESSIONS:
            worked.sessions = {key: one for key, one in worked.sessions.items() if not one.upstream.over}
            if len(worked.sessions) >= MAX_SESSIONS:
                worked.attempt.refuse(f"mcp {self._server}", f"more than {MAX_SESSIONS} sessions")
                return _answer(
                    429, jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, f"podctl_limit: {MAX_SESSIONS} sessions are open")
                )
        offered, info = message.params.get("protocolVersion"), message.params.get("clientInfo")
        if not isinstance(offered, str) or not isinstance(info, dict):
            raise NotUnderstood(jsonrpc.INVALID_PARAMS, "expected protocolVersion, capabilities and clientInfo", id)
        upstream = ToolSession(self._server, settings, self._target, self._dialer, self._timeout)
        session = _Session(upstream)
        try:
            await upstream.begin(clipped(str(info.get("name", "")), 200), clipped(str(info.get("version", "")), 100))
            assert upstream.task is not None
            worked.attempt.other_tasks.add(upstream.task)
            upstream.task.add_done_callback(worked.attempt.other_tasks.discard)
            await self._list(worked, session)
        except (ServerFailed, ServerRefused) as error:
            await upstream.end()
            worked.attempt.record("tools.listed", {"server": self._server, "error": clipped(str(error), 1_000)})
            return _answer(502, jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, f"podctl_service_down: {self._server}: {error}"))
        key = secrets.token_hex(16)
        worked.sessions[key] = session
        hello = {
            "protocolVersion": offered if offered in HANDSHAKE_PROTOCOL_VERSIONS else LATEST_HANDSHAKE_VERSION,
            "capabilities": {"tools": {}},
            "serverInfo": upstream.hello["serverInfo"],
        }
        if "instructions" in upstream.hello:
            hello["instructions"] = upstream.hello["instructions"]
        return _answer(200, jsonrpc.result(id, hello), {SESSION: key})

    def _noticed(self, message: Message, session: _Session) -> None:
        """A notification: the only one that says anything to the gateway is that a call is given up."""
        given_up = message.params.get("requestId")
        if message.method == "notifications/cancelled" and isinstance(given_up, int | str) and given_up in session.calls:
            session.calls[given_up].cancel()

    # ---- requests ----

    async def _result(
        self, message: Message, id: jsonrpc.Id, worked: _Worked, session: _Session, settings: ToolServer
    ) -> dict[str, Any]:
        if message.method == "ping":
            return jsonrpc.result(id, {})
        try:
            if message.method == "tools/list":
                await self._list(worked, session)
                return jsonrpc.result(id, {"tools": self._shown(worked.attempt, session, settings)})
            if message.method == "tools/call":
                return await self._call(message, id, worked, session, settings)
        except ServerRefused as error:
            return jsonrpc.error(id, error.code, error.message, error.data)
        except ServerFailed as error:
            return jsonrpc.error(id, jsonrpc.INTERNAL_ERROR, f"podctl_service_down: {self._server}: {error.why}")
        what = clipped(message.method, 100)
        if message.method in _BEYOND:
            worked.attempt.way_out("mcp", self._server, what)
        else:
            worked.attempt.refuse(f"mcp {self._server}", f"{what}: only tools pass the gateway")
        return jsonrpc.error(id, jsonrpc.METHOD_NOT_FOUND, f"podctl_not_supported: only tools pass the gateway, not {what}")

    def _decide(self, attempt: Attempt, tool: str) -> Decision:
        """On a name as written. One that is not a tool's name in a boundary could be taken for one by a server."""
        try:
            parse_tool(tool)
        except ValueError:
            return Decision(False, "human-only", "ambiguous", "not a plain name")
        if tool == "*" or tool.startswith(OURS):
            return Decision(False, "human-only", "ambiguous", "not a name that a server's tool has")
        if attempt.decider is None:
            return Decision(True, "ai-writable", "")
        return attempt.decider.use(attempt.granted.agent, self._server, tool)

    async def _list(self, worked: _Worked, session: _Session) -> None:
        """Ask for all of it, page after page, and record what is new of it. Raises `ServerFailed`, `ServerRefused`."""
        found: dict[str, dict[str, Any]] = {}
        left_out: list[str] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
            page = await session.upstream.request(types.ListToolsRequest(params=params))
            for tool in page["tools"]:
                name = tool["name"]
                if name in found or len(found) >= MAX_TOOLS or self._decide(worked.attempt, name).policy == "ambiguous":
                    left_out.append(clipped(name, 128))
                else:
                    found[name] = tool
            cursor = page.get("nextCursor")
            if not cursor or len(found) >= MAX_TOOLS:
                break
        else:
            left_out.append(f"what follows {MAX_PAGES} pages")
        session.tools = found
        self._record_list(worked, session, left_out)

    def _record_list(self, worked: _Worked, session: _Session, left_out: list[str]) -> None:
        instructions = {"description": session.upstream.hello.get("instructions")}
        digests = {name: digest_of(tool) for name, tool in session.tools.items()}
        if instructions["description"]:
            digests[INSTRUCTIONS] = digest_of(instructions)
        if digests == worked.digests or worked.lists >= _LISTS:
            return
        changed = [] if worked.digests is None else changes(worked.digests, digests)
        worked.digests, worked.lists = digests, worked.lists + 1
        levels = {name: self._decide(worked.attempt, name).level for name in session.tools}
        tools = [told(tool, levels[name]) for name, tool in session.tools.items()]
        if INSTRUCTIONS in digests:
            tools.append(told({**instructions, "name": INSTRUCTIONS}, "") | {"digest": digests[INSTRUCTIONS]})
        data = {"server": self._server, "info": bounded(session.upstream.hello["serverInfo"], text=200), "tools": tools}
        more = {"changed": changed, "left_out": left_out[:50]}
        worked.attempt.record("tools.listed", data | {key: value for key, value in more.items() if value})

    def _shown(self, attempt: Attempt, session: _Session, settings: ToolServer) -> list[dict[str, Any]]:
        """What the agent may use or propose; nothing of it but what a digest covers."""
        levels = {name: self._decide(attempt, name).level for name in session.tools}
        shown = [
            {key: tool[key] for key in SEEN if key in tool}
            for name, tool in session.tools.items()
            if levels[name] != "human-only" or settings.human_only == "shown"
        ]
        recommended = [name for name, level in levels.items() if level == "recommend"]
        shown += attempt.planted.decoy_tools(self._server)
        return shown + (toolproposals.tools(recommended) if attempt.desk is not None and recommended else [])

    async def _call(
        self, message: Message, id: jsonrpc.Id, worked: _Worked, session: _Session, settings: ToolServer
    ) -> dict[str, Any]:
        tool, arguments = jsonrpc.tool_call(message.params)
        attempt = worked.attempt
        began = time.monotonic()
        call: dict[str, Any] = {"server": self._server, "tool": clipped(tool, 200), "arguments": kept(arguments)}
        outcome: dict[str, Any] = {"status": "cut", "result": None, "error": "the attempt ended, or the call was given up"}
        if tool in (toolproposals.PROPOSE, toolproposals.APPROVAL) and attempt.desk is not None:
            return jsonrpc.result(id, await self._proposed(tool, arguments, attempt.desk, worked, session, settings))
        try:
            if (planted := attempt.planted.decoy_tool(self._server, tool)) is not None:
                attempt.record("decoy.call", {"service": self._server, "method": "CALL", "path": clipped(tool, 200)})
                outcome |= {"status": "ok", "result": kept(planted), "error": None, "decoy": True}
                return jsonrpc.result(id, planted)
            answer = await self._decided(tool, arguments, id, worked, session, settings, outcome)
        except ServerRefused as error:
            outcome |= {"status": "error", "error": clipped(f"{error.code}: {error.message}", 1_000)}
            raise
        except ServerFailed as error:
            outcome |= {"status": error.kind, "error": clipped(error.why, 1_000)}
            answer = jsonrpc.result(id, _said(f"podctl_{error.kind.replace('-', '_')}: {self._server}: {error.why}"))
        finally:
            attempt.record("tool.call", {**call, **outcome, "ms": round((time.monotonic() - began) * 1000, 3)})
        return answer

    async def _decided(
        self,
        tool: str,
        arguments: dict[str, Any],
        id: jsonrpc.Id,
        worked: _Worked,
        session: _Session,
        settings: ToolServer,
        outcome: dict[str, Any],
    ) -> dict[str, Any]:
        attempt = worked.attempt
        decided = self._decide(attempt, tool)
        outcome |= {"policy": decided.policy, "level": decided.level}
        if not decided.allowed:
            attempt.way_out("mcp", f"{self._server}.{clipped(tool, 128)}", _detail(arguments), decided)
            why = _refusal(f"{self._server}.{clipped(tool, 128)}", decided, attempt.desk is not None)
            outcome |= {"status": "refused", "error": why}
            return jsonrpc.result(id, _said(why))
        try:
            result = await self._used(tool, arguments, worked, session, settings)
        except _NotUsed as why:
            outcome |= {"status": why.status, "error": why.text}
            return jsonrpc.result(id, _said(why.text))
        schema = session.tools.get(tool, {}).get("outputSchema")
        if (planted := attempt.planted.in_result(self._server, tool, result, schema)) is not None:
            result = planted
            outcome["injected"] = True
        outcome |= {"status": "failed" if result.get("isError") is True else "ok", "result": kept(result), "error": None}
        return jsonrpc.result(id, result)

    async def _used(
        self, tool: str, arguments: dict[str, Any], worked: _Worked, session: _Session, settings: ToolServer
    ) -> dict[str, Any]:
        """The server's result, of a call that may be made. Raises `_NotUsed`, `ServerFailed`, `ServerRefused`."""
        if worked.calls >= settings.calls:
            why = f"podctl_limit: an attempt may call {self._server} {settings.calls} times"
            worked.attempt.refuse(f"mcp {self._server}", why)
            raise _NotUsed("limit", why)
        worked.calls += 1
        async with self._room:
            if tool not in session.tools:
                await self._list(worked, session)
            if tool not in session.tools:
                raise _NotUsed("unknown", f"podctl_unknown_tool: {self._server} lists no tool {clipped(tool, 128)}")
            params = types.CallToolRequestParams(name=tool, arguments=arguments)
            return await session.upstream.request(types.CallToolRequest(params=params))

    async def _proposed(
        self,
        tool: str,
        arguments: dict[str, Any],
        desk: Desk,
        worked: _Worked,
        session: _Session,
        settings: ToolServer,
    ) -> dict[str, Any]:
        """The result of a call of podctl's own tools; the desk records what is proposed and what becomes of it."""
        try:
            if tool == toolproposals.APPROVAL:
                return _told(await toolproposals.became(desk, arguments))
            wanted, given, reason = toolproposals.asked(arguments)
            decided, target = self._decide(worked.attempt, wanted), f"{self._server}.{clipped(wanted, 128)}"
            if decided.allowed:
                raise toolproposals.Malformed(f"nobody has to approve this ({decided.policy}): call {wanted}")
            if decided.level != "recommend":
                worked.attempt.way_out("mcp", target, _detail(given), decided)
                return _said(_refusal(target, decided, False))
            call = partial(self._used, wanted, given, worked, session, settings)
            return _told(await toolproposals.propose(desk, target, given, reason, decided, call))
        except toolproposals.Malformed as why:
            worked.attempt.refuse(f"mcp {self._server}", clipped(f"{tool}: {why}", 300))
            return _said(f"podctl_malformed: {why}")


class _NotUsed(Exception):
    """A call that is allowed and not made; ``text`` is for the agent."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


def kept(value: Any) -> Any:
    """As much as a record keeps: the value, or the beginning of its JSON."""
    small = bounded(value)
    text = json.dumps(small, ensure_ascii=False)
    return small if len(text) <= KEPT else {"truncated": text[:KEPT]}


def _detail(arguments: Mapping[str, Any]) -> str:
    return clipped(json.dumps(bounded(arguments, text=200, items=20, depth=3), ensure_ascii=False), 400)


def _refusal(tool: str, decided: Decision, can_propose: bool) -> str:
    if decided.level == "recommend":
        how = f"propose it with the tool {toolproposals.PROPOSE}" if can_propose else "recommend it, do not do it"
        return f"podctl_recommend: a person decides this ({decided.policy}): {how}"
    return f"podctl_human_only: only people may use {tool} ({decided.detail or decided.policy})"


def _said(text: str) -> dict[str, Any]:
    """A tool's result that says why there is none: unlike an error of the protocol a model gets to read it."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def _told(proposal: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(proposal)}], "structuredContent": proposal}


def _answer(status: int, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=json.dumps(body).encode(), content_type=_JSON, headers=headers)
