"""One MCP server as one attempt uses it: its sessions, what it lists, what of that may be called, and what was."""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mcp import types

from podctl.boundary.policies import Decision
from podctl.evidence.toollists import INSTRUCTIONS, SEEN, changes, digest_of, told
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import bounded, clipped
from podctl.gateway.jsonrpc import Id
from podctl.gateway.toolproposals import OURS, tools
from podctl.gateway.toolsession import ServerFailed, ServerRefused, ToolSession
from podctl.spec.boundary import parse_tool
from podctl.spec.models import ToolRoute, ToolServer

#: Characters that a record keeps of arguments, and of a result.
KEPT = 16 * 1024
MAX_SESSIONS = 16
#: Calls at the same time; more wait.
_AT_ONCE = 16
#: Of one list. Whoever has more has them for nobody to read.
MAX_TOOLS, MAX_PAGES = 500, 50
#: Changes of a list that are recorded of one attempt.
_LISTS = 20
_AMBIGUOUS = "ambiguous"


class NotUsed(Exception):
    """A call that is allowed and not made; ``text`` is for the agent."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


@dataclass
class Session:
    """``calls`` are those under way, by the agent's ids; ``tools`` the last list, by name."""

    upstream: ToolSession
    calls: dict[Id, asyncio.Task[Any]] = field(default_factory=dict)
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)


class ServerUse:
    def __init__(self, attempt: Attempt, server: str, settings: ToolServer, dial: Callable[[ToolServer], ToolSession]) -> None:
        self.attempt, self.server, self.settings = attempt, server, settings
        self.sessions: dict[str, Session] = {}
        self._dial = dial
        self._beginning = 0
        self._counts: Counter[str] = Counter()
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._digests: dict[str, str] | None = None
        self._lists = 0
        #: Tool as the agent names it -> what is called.
        self._routes: dict[str, ToolRoute] = {
            name.removeprefix(f"{server}."): route
            for name, route in attempt.granted.routing.items()
            if name.startswith(f"{server}.")
        }

    # ---- sessions ----

    async def begin(self, client: str, version: str) -> Session:
        """Raises `NotUsed` where too many are open, `ServerFailed`, `ServerRefused`."""
        self.sessions = {key: one for key, one in self.sessions.items() if not one.upstream.over}
        if len(self.sessions) + self._beginning >= MAX_SESSIONS:
            self.attempt.refuse(f"mcp {self.server}", f"more than {MAX_SESSIONS} sessions")
            raise NotUsed("limit", f"podctl_limit: {MAX_SESSIONS} sessions are open")
        session = Session(self._dial(self.settings))
        self._beginning += 1
        try:
            await session.upstream.begin(client, version)
            assert session.upstream.task is not None
            self.attempt.other_tasks.add(session.upstream.task)
            session.upstream.task.add_done_callback(self.attempt.other_tasks.discard)
            await self.refresh(session)
        except (ServerFailed, ServerRefused) as error:
            await session.upstream.end()
            self.attempt.record("tools.listed", {"server": self.server, "error": clipped(str(error), 1_000)})
            raise
        finally:
            self._beginning -= 1
        return session

    # ---- what is listed ----

    async def refresh(self, session: Session) -> None:
        """Ask for all of it, page after page, and record what is new of it. Raises `ServerFailed`, `ServerRefused`."""
        found: dict[str, dict[str, Any]] = {}
        left_out: list[str] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = None if cursor is None else types.PaginatedRequestParams(cursor=cursor)
            page = await session.upstream.request(types.ListToolsRequest(params=params))
            for tool in page["tools"]:
                name = tool["name"]
                if name in found or len(found) >= MAX_TOOLS or self.decide(name).policy == _AMBIGUOUS:
                    left_out.append(clipped(name, 128))
                else:
                    found[name] = tool
            cursor = page.get("nextCursor")
            if not cursor or len(found) >= MAX_TOOLS:
                break
        else:
            left_out.append(f"what follows {MAX_PAGES} pages")
        session.tools = found
        self._record_list(session, left_out)

    def _record_list(self, session: Session, left_out: list[str]) -> None:
        instructions = {"description": session.upstream.hello.get("instructions")}
        digests = {name: digest_of(tool) for name, tool in session.tools.items()}
        if instructions["description"]:
            digests[INSTRUCTIONS] = digest_of(instructions)
        if digests == self._digests or self._lists >= _LISTS:
            return
        changed = [] if self._digests is None else changes(self._digests, digests)
        self._digests, self._lists = digests, self._lists + 1
        listed = [told(tool, self.decide(name).level) for name, tool in session.tools.items()]
        if INSTRUCTIONS in digests:
            listed.append(told({**instructions, "name": INSTRUCTIONS}, "") | {"digest": digests[INSTRUCTIONS]})
        data = {"server": self.server, "info": bounded(session.upstream.hello["serverInfo"], text=200), "tools": listed}
        no_tools = [name for name in self.settings.limits if name not in session.tools]
        more = {"changed": changed, "left_out": left_out[:50], "limits_of_none": no_tools[:50]}
        self.attempt.record("tools.listed", data | {key: value for key, value in more.items() if value})

    def shown(self, session: Session) -> list[dict[str, Any]]:
        """What the agent may use or propose, by the names that it has there; nothing of it but what a digest covers."""
        found, recommended = [], []
        for name, tool in self._as_named(session).items():
            level = self.decide(tool["name"]).level
            if level != "human-only" or self.settings.human_only == "shown":
                found.append({key: tool[key] for key in SEEN if key in tool} | {"name": name})
            if level == "recommend":
                recommended.append(name)
        found += self.attempt.planted.decoy_tools(self.server)
        return found + (tools(recommended) if self.attempt.desk is not None and recommended else [])

    def _as_named(self, session: Session) -> dict[str, dict[str, Any]]:
        """Name for the agent -> the server's tool, without the arguments that are not the agent's to give."""
        named = {name: tool for name, tool in session.tools.items() if name not in self._routes}
        for name, route in self._routes.items():
            if route.tool in session.tools:
                tool = copy.deepcopy(session.tools[route.tool])
                schema = tool.get("inputSchema", {})
                for given in (*route.arguments, *route.defaults):
                    if given in route.arguments and isinstance(schema.get("properties"), dict):
                        schema["properties"].pop(given, None)
                    if isinstance(schema.get("required"), list) and given in schema["required"]:
                        schema["required"].remove(given)
                named[name] = tool
        return named

    # ---- what is called ----

    def routed(self, tool: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """What is called, with what, where the agent calls ``tool``."""
        route = self._routes.get(tool)
        if route is None:
            return tool, dict(arguments)
        return route.tool, {**route.defaults, **arguments, **route.arguments}

    def decide(self, tool: str) -> Decision:
        """On a server's name of a tool as written. One that is not a tool's name in a boundary a server could take for one."""
        try:
            parse_tool(tool)
        except ValueError:
            return Decision(False, "human-only", _AMBIGUOUS, "not a plain name")
        if tool == "*" or tool.startswith(OURS):
            return Decision(False, "human-only", _AMBIGUOUS, "not a name that a server's tool has")
        if self.attempt.decider is None:
            return Decision(True, "ai-writable", "")
        return self.attempt.decider.use(self.attempt.granted.agent, self.server, tool)

    def count(self, verb: Literal["call", "list"], tool: str = "") -> None:
        """One request more that the server has to answer. Raises `NotUsed`."""
        own = self.settings.limits.get(tool)
        for counted, most, what in (
            (verb, self.settings.calls, self.server),
            (f"call {tool}", None if own is None else own.calls, self.target(tool)),
        ):
            if most is not None and self._counts[counted] >= most:
                why = f"podctl_limit: an attempt may {verb} {what} {most} times"
                self.attempt.refuse(f"mcp {self.server}", why)
                raise NotUsed("limit", why)
        self._counts[verb] += 1
        if own is not None:
            self._counts[f"call {tool}"] += 1

    async def use(self, session: Session, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The server's result, of a call that was decided on and counted. Raises `NotUsed`, `ServerFailed`, `ServerRefused`."""
        async with self._room:
            if tool not in session.tools:
                await self.refresh(session)
            if tool not in session.tools:
                raise NotUsed("unknown", f"podctl_unknown_tool: {self.server} lists no tool {clipped(tool, 128)}")
            params = types.CallToolRequestParams(name=tool, arguments=arguments)
            return await session.upstream.request(types.CallToolRequest(params=params), self.settings.seconds_of(tool))

    def crossed(self, tool: str, arguments: Mapping[str, Any], decided: Decision) -> None:
        """The agent called for a tool that is not its to use."""
        detail = json.dumps(bounded(arguments, text=200, items=20, depth=3), ensure_ascii=False)
        self.attempt.way_out("mcp", self.target(tool), clipped(detail, 400), decided)

    def target(self, tool: str) -> str:
        return f"{self.server}.{clipped(tool, 128)}"


def kept(value: Any) -> Any:
    """As much as a record keeps: the value, or the beginning of its JSON."""
    small = bounded(value)
    text = json.dumps(small, ensure_ascii=False)
    return small if len(text) <= KEPT else {"truncated": text[:KEPT]}
