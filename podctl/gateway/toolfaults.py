"""What a chaos campaign's faults do to calls of an MCP server's tools, as `ServiceDoor` does it to HTTP's."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from aiohttp import web

from podctl.gateway.attempts import Attempt
from podctl.gateway.faults import STALE_BYTES, Answer, Injected, broken_body, drips, hang_up
from podctl.gateway.jsonrpc import INTERNAL_ERROR
from podctl.gateway.replies import AgentStream
from podctl.gateway.toolserver import NotUsed
from podctl.gateway.toolsession import ServerFailed, ServerRefused

Call = Callable[[], Awaitable[dict[str, Any]]]


class Befallen(Exception):
    """There is a ``result``, or none, and it does not come to the agent as answers do."""

    def __init__(self, injected: Injected, result: dict[str, Any] | None) -> None:
        super().__init__(injected.kind)
        self.injected, self.result = injected, result


class InjectedError(Exception):
    """The agent is told an error of JSON-RPC that no server made."""

    def __init__(self, status: int) -> None:
        super().__init__(f"Internal error: {_named(status)}")
        self.code = INTERNAL_ERROR


class CallFaults:
    """What may befall one call. ``told`` is what the call's record says of it: empty as long as nothing did.

    ``most``: seconds that a call of this tool may take, by which latency and holding are bounded.
    """

    def __init__(self, attempt: Attempt, server: str, tool: str, reads: bool, most: float) -> None:
        self.told: dict[str, Any] = {}
        self._attempt, self._server, self._tool, self._reads = attempt, server, tool, reads
        self._injected: Injected | None = None
        drawn = None if attempt.faults is None else attempt.faults.next(server, "GET" if reads else "POST", tool=True)
        if drawn is not None:
            self._injected = replace(drawn, seconds=min(drawn.seconds, most))

    async def befall(self, arguments: Mapping[str, Any], call: Call) -> dict[str, Any]:
        """The result that the agent gets. Raises `Befallen`, `InjectedError`, and what ``call`` does."""
        injected = self._injected
        if injected is None or injected.kind == "stale":
            return self._maybe_stale(arguments, await call(), injected)
        self.told.update(self._attempt.inject(self._server, injected))
        if injected.kind == "latency":
            await asyncio.sleep(injected.seconds)
            return await call()
        if injected.kind == "broken":
            result = await call()
            if injected.how == "truncated":
                return cut(result)
            raise Befallen(injected, result)
        if injected.after:
            self.told["answered"] = await _answered(call)
        if injected.kind == "timeouts":
            await asyncio.sleep(injected.seconds)
            raise Befallen(injected, None)
        if injected.how == "protocol":
            raise InjectedError(injected.status)
        said = f"Error executing tool {self._tool}: {_named(injected.status)}"
        return {"content": [{"type": "text", "text": said}], "isError": True}

    def _maybe_stale(self, arguments: Mapping[str, Any], result: dict[str, Any], injected: Injected | None) -> dict[str, Any]:
        """The server was asked in earnest: only an answer that is another by now can be stale."""
        faults = self._attempt.faults
        if faults is None or not faults.keeps_answers or not self._reads:
            return result
        body = json.dumps(result, sort_keys=True).encode()
        if len(body) > STALE_BYTES:
            return result
        asked = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
        fresh = Answer(500 if result.get("isError") is True else 200, {}, body)
        stale = faults.stale(self._server, f"{self._tool} {asked}", fresh, injected is not None)
        if stale is None or injected is None:
            return result
        self.told.update(self._attempt.inject(self._server, injected))
        return dict(json.loads(stale.body))


async def on_its_way(request: web.BaseRequest, fault: Befallen, body: Mapping[str, Any]) -> web.StreamResponse:
    """What becomes of an answer with ``body``, as JSON, that a fault befell."""
    if fault.result is None:
        return await hang_up(request)
    whole = json.dumps(body).encode()
    stream = AgentStream(request, 200, {"Content-Type": "application/json", "Content-Length": str(len(whole))})
    await stream.start()
    if fault.injected.how == "reset":
        await stream.write(broken_body(whole))
        stream.cut()
        return stream.response
    async for piece in drips(whole, fault.injected.seconds):
        await stream.write(piece)
    return stream.response


def cut(result: Mapping[str, Any]) -> dict[str, Any]:
    """A result that breaks off in the midst of its first text, without what follows and without what is structured."""
    kept: list[Any] = []
    content = result.get("content")
    for one in content if isinstance(content, list) else ():
        if isinstance(one, dict) and isinstance(one.get("text"), str):
            kept.append(one | {"text": one["text"][: len(one["text"]) // 2]})
            break
        kept.append(one)
    return {key: value for key, value in result.items() if key != "structuredContent"} | {"content": kept}


async def _answered(call: Call) -> str:
    """How a call went whose result nobody gets."""
    try:
        return "failed" if (await call()).get("isError") is True else "ok"
    except ServerRefused:
        return "error"
    except ServerFailed as error:
        return error.kind
    except NotUsed as why:
        return why.status


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
