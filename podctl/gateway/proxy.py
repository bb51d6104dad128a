"""The reverse proxy in front of one service of a pod; every call is recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from podctl.boundary.policies import Decision
from podctl.boundary.targets import Ambiguous, read_target
from podctl.gateway.attempts import Attempt
from podctl.gateway.bounds import body_text, clipped
from podctl.gateway.contract import Target
from podctl.gateway.desk import Proposal, Returned
from podctl.gateway.dialer import Dialer
from podctl.gateway.faults import HELD_BYTES, STALE_BYTES, Answer, Injected, broken_body, drips, hang_up, service_error
from podctl.gateway.link import ServiceLink
from podctl.gateway.planted import MOST
from podctl.gateway.replies import AgentStream, refusal

#: Bytes of each body that a record keeps.
KEPT = 16 * 1024

#: Bytes of a refused request's body that are looked at, and seconds for it: nobody waits for more.
OVERHEARD = 2**20
_OVERHEAR_S = 2.0

#: Bytes of the answer to an approved request that the agent is told.
ANSWER_CAP = 256 * 1024

#: What a record names instead of a rule when a request was refused before any was asked.
AMBIGUOUS = "ambiguous"
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"}
    | {"te", "trailer", "transfer-encoding", "upgrade", "expect"}
)
_OURS = "x-podctl-"


class Copy:
    """Counts a body that passes and keeps its beginning; ``look`` is shown all of it."""

    def __init__(self, look: Callable[[bytes], None] | None = None) -> None:
        self.size = 0
        self._look = look
        self._kept = bytearray()

    async def through(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.size += len(chunk)
            if self._look is not None:
                self._look(chunk)
            if len(self._kept) < KEPT:
                self._kept += chunk[: KEPT - len(self._kept)]
            yield chunk

    def told(self) -> dict[str, Any] | None:
        return body_text(bytes(self._kept), self.size) if self.size else None


class ServiceDoor:
    def __init__(self, service: str, target: Target, dialer: Dialer | None, connect_timeout: float) -> None:
        self._service = service
        self._link = ServiceLink(service, target, dialer, connect_timeout)
        self._host = service if isinstance(target, str) else f"{service}:{target[1]}"

    async def close(self) -> None:
        await self._link.close()

    async def handle(self, request: web.BaseRequest, attempt: Attempt) -> web.StreamResponse:
        began = time.monotonic()
        sink = f"call of {self._service}"
        attempt.look_at_head(sink, request)
        sent, received = Copy(attempt.looking(sink)), Copy()
        call = {"service": self._service, "method": request.method, "path": clipped(request.raw_path, 4096)}
        result: dict[str, Any] = {"status": None, "error": "cut: the attempt ended"}
        try:
            answer = await self._pass(request, attempt, sent, received, result)
            if not answer.prepared and not sent.size:
                await _overhear(request, sent)
            return answer
        finally:
            attempt.count(http_calls=1)
            bodies = {
                "ms": round((time.monotonic() - began) * 1000, 3),
                "request_bytes": sent.size,
                "response_bytes": received.size,
                "request_body": sent.told(),
                "response_body": received.told(),
            }
            attempt.record("http.call", {**call, **result, **bodies})

    async def _pass(
        self, request: web.BaseRequest, attempt: Attempt, sent: Copy, received: Copy, result: dict[str, Any]
    ) -> web.StreamResponse:
        allowed = attempt.granted.services
        if allowed and self._service not in allowed:
            attempt.way_out("http", self._service, f"{request.method} {clipped(request.raw_path, 400)}")
            result |= {"status": 403, "error": "the service is not among the agent's tools"}
            return refusal(403, "podctl_service_not_allowed", f"this agent may not call {self._service}")
        if not request.raw_path.startswith("/"):
            attempt.way_out("http", self._service, f"{request.method} {clipped(request.raw_path, 400)}")
            result |= {"status": 400, "error": "the request's target is not a path"}
            return refusal(400, "podctl_not_a_path", "a request to a service names a path, not an address")
        decoy = attempt.planted.decoy(self._service, request.method, request.raw_path)
        if decoy is not None:
            return await self._decoy(request, attempt, decoy, sent, received, result)
        if attempt.decider is not None:
            try:
                asked = read_target(request.method, request.raw_path, request.headers)
                decided = attempt.decider.call(attempt.granted.agent, self._service, asked)
            except Ambiguous as why:
                decided = Decision(False, "human-only", AMBIGUOUS, str(why))
            result |= {"policy": decided.policy, "level": decided.level}
            if not decided.allowed:
                attempt.way_out("http", self._service, f"{request.method} {clipped(request.raw_path, 400)}", decided)
                return refuse(self._service, decided, result, request.method, attempt.desk is not None)
        if request.method == "CONNECT" or request.headers.get("Upgrade", "").lower() == "websocket":
            result |= {"status": 501, "error": "websockets and tunnels do not pass the gateway"}
            return refusal(501, "podctl_not_supported", "websockets and tunnels do not pass the gateway")
        if attempt.trigger is not None:
            await attempt.trigger.before_call()
        injected = None if attempt.faults is None else attempt.faults.next(self._service, request.method)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        field = attempt.planted.field(self._service, request.method, request.raw_path)
        if injected is not None and injected.kind != "stale":
            result["fault"] = attempt.inject(self._service, injected)
            if injected.kind in ("errors", "timeouts"):
                return await self._fail(request, sent, injected, result)
            if injected.kind == "latency":
                await asyncio.sleep(injected.seconds)
        try:
            response = await self._send(request, sent, plain=field is not None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            result |= {"status": 502, "error": f"the service did not answer: {type(error).__name__}: {error}"}
            return refusal(502, "podctl_service_down", f"{self._service} did not answer")
        async with response:
            result |= {"status": response.status, "error": None}
            if injected is not None and injected.kind == "broken":
                return await self._break(request, response, received, injected)
            if attempt.faults is not None and attempt.faults.keeps_answers and request.method == "GET":
                return await self._maybe_stale(request, response, received, attempt, injected, result)
            headers = _answer_headers(request, response)
            try:
                chunks: AsyncIterator[bytes] = response.content.iter_any()
                if field is not None:
                    chunks = await _with_text(chunks, response, attempt, field, headers, result)
                stream = AgentStream(request, response.status, headers)
                stream.response.set_status(response.status, response.reason)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                result |= {"status": 502, "error": f"the answer broke off: {type(error).__name__}"}
                return refusal(502, "podctl_service_down", f"{self._service} did not answer")
            try:
                await stream.start()
                async for chunk in received.through(chunks):
                    await stream.write(chunk)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                result["error"] = f"the answer broke off: {type(error).__name__}"
                stream.cut()
            return stream.response

    async def carry_out(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | None, proposal: Proposal
    ) -> Returned:
        """An approved request, sent as it was approved. Raises what a connection may."""
        received = Copy()
        async with await self._link.send(method, path, {"Host": self._host, **headers}, body) as response:
            answer = bytearray()
            async for chunk in received.through(response.content.iter_any()):
                answer += chunk[: ANSWER_CAP - len(answer)]
            told = {"status": response.status, "content_type": response.headers.get("Content-Type", "")}
            recorded = {"status": response.status, "response_bytes": received.size, "response_body": received.told()}
            return Returned(recorded, told | {"body": body_text(bytes(answer), received.size)})

    async def _decoy(
        self,
        request: web.BaseRequest,
        attempt: Attempt,
        decoy: tuple[int, bytes],
        sent: Copy,
        received: Copy,
        result: dict[str, Any],
    ) -> web.StreamResponse:
        """No service is asked: what it says of itself is told, and that somebody came."""
        if request.can_read_body:
            async for _ in sent.through(request.content.iter_any()):
                pass
        status, body = decoy
        path = clipped(request.raw_path, 400)
        attempt.record("decoy.call", {"service": self._service, "method": request.method, "path": path})
        result |= {"status": status, "error": None, "decoy": True}
        stream = AgentStream(
            request, status, CIMultiDict({"Content-Type": "application/json", "Content-Length": str(len(body))})
        )
        await stream.start()
        async for chunk in received.through(_one(body)):
            await stream.write(chunk)
        return stream.response

    # ---- faults of a chaos campaign ----

    async def _fail(
        self, request: web.BaseRequest, sent: Copy, injected: Injected, result: dict[str, Any]
    ) -> web.StreamResponse:
        """An error or no answer, the service's work done or not."""
        result |= {"status": injected.status or None, "error": f"injected: {injected.kind}"}
        if injected.after:
            try:
                async with await self._send(request, sent) as response:
                    async for _ in response.content.iter_any():
                        pass
                    result["fault"] = {**result["fault"], "answered": response.status}
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                result["fault"] = {**result["fault"], "answered": None, "error": type(error).__name__}
        else:
            async for _ in sent.through(request.content.iter_any()):
                pass
        if injected.kind == "errors":
            return service_error(injected.status)
        return await hang_up(request, injected.seconds)

    async def _break(
        self, request: web.BaseRequest, response: aiohttp.ClientResponse, received: Copy, injected: Injected
    ) -> web.StreamResponse:
        whole = await self._whole(response, received)
        if whole is None:
            return await hang_up(request)
        headers = _answer_headers(request, response)
        if injected.how == "truncated":
            headers.popall("Content-Length", None)
            return web.Response(status=response.status, body=broken_body(whole), headers=headers)
        stream = AgentStream(request, response.status, headers)
        await stream.start()
        if injected.how == "reset":
            await stream.write(broken_body(whole))
            stream.cut()
            return stream.response
        async for piece in drips(whole, injected.seconds):
            await stream.write(piece)
        return stream.response

    async def _maybe_stale(
        self,
        request: web.BaseRequest,
        response: aiohttp.ClientResponse,
        received: Copy,
        attempt: Attempt,
        injected: Injected | None,
        result: dict[str, Any],
    ) -> web.StreamResponse:
        """The service was asked in earnest: only an answer that is another by now can be stale."""
        assert attempt.faults is not None
        whole = await self._whole(response, received)
        if whole is None:
            result["error"] = "the answer broke off"
            return await hang_up(request)
        headers = _answer_headers(request, response)
        headers.popall("Content-Length", None)
        fresh = Answer(response.status, headers, whole)
        if len(whole) <= STALE_BYTES:
            stale = attempt.faults.stale(self._service, request.raw_path, fresh, injected is not None)
            if stale is not None and injected is not None:
                result["fault"] = attempt.inject(self._service, injected)
                fresh = stale
        return web.Response(status=fresh.status, body=fresh.body, headers=fresh.headers)

    async def _whole(self, response: aiohttp.ClientResponse, received: Copy) -> bytes | None:
        """None for one that broke off, or is more than may be held."""
        whole = bytearray()
        try:
            async for chunk in received.through(response.content.iter_any()):
                whole += chunk
                if len(whole) > HELD_BYTES:
                    return None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return None
        return bytes(whole)

    async def _send(self, request: web.BaseRequest, sent: Copy, *, plain: bool = False) -> aiohttp.ClientResponse:
        """``plain``: the answer is to be read, and is asked for without compression."""
        headers = _end_to_end(request.headers)
        if plain:
            headers["Accept-Encoding"] = "identity"
        body = sent.through(request.content.iter_any()) if request.can_read_body else None
        return await self._link.send(request.method, request.raw_path, headers, body)


async def _overhear(request: web.BaseRequest, sent: Copy) -> None:
    """What an agent sends although it may not is looked at, too: with what it was tried is evidence."""
    if not request.can_read_body or "Expect" in request.headers:
        return
    try:
        async with asyncio.timeout(_OVERHEAR_S):
            async for _ in sent.through(request.content.iter_any()):
                if sent.size >= OVERHEARD:
                    break
    except (TimeoutError, OSError, web.HTTPException, aiohttp.ClientError):
        pass  # as much as came


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


async def _with_text(
    chunks: AsyncIterator[bytes],
    response: aiohttp.ClientResponse,
    attempt: Attempt,
    field: str,
    headers: CIMultiDict[str],
    result: dict[str, Any],
) -> AsyncIterator[bytes]:
    """The answer with an attack's text in it, and the record told so; or as it was, where it is none that has a place for it."""
    may_be_json = "Content-Type" not in headers or "json" in response.content_type
    if response.status != 200 or not may_be_json or "Content-Encoding" in headers:
        return chunks
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MOST:
            return _joined(bytes(body), chunks)
    changed = attempt.planted.put_in(bytes(body), field)
    if changed is None:
        return _one(bytes(body))
    result["injected"] = True
    for name in ("Content-Length", "ETag", "Content-MD5", "Digest", "Content-Digest"):
        headers.popall(name, None)
    headers["Content-Length"] = str(len(changed))
    return _one(changed)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def refuse(
    service: str, decided: Decision, result: dict[str, Any], method: str = "", can_propose: bool = False
) -> web.Response:
    """The answer to what the boundary does not let the agent do by itself; ``result`` is what the call's record says."""
    if decided.policy == AMBIGUOUS:
        result |= {"status": 400, "error": f"ambiguous: {decided.detail}"}
        return refusal(400, "podctl_ambiguous", f"this request could be read in more than one way: {decided.detail}")
    if decided.level == "recommend":
        result |= {"status": 403, "error": "a person decides this"}
        told = f"a person decides this ({decided.policy}): recommend it, do not do it"
        if can_propose:
            example = f'{{"service": "{service}", "method": "{method}", "path": ..., "body": ..., "reason": ...}}'
            told = f"{told}. POST {example} to http://gateway/approvals: what is approved the gateway sends"
        return refusal(403, "podctl_recommend", told)
    result |= {"status": 403, "error": f"human-only: {decided.detail or decided.policy}"}
    return refusal(403, "podctl_human_only", f"only people may ask {service} for this ({decided.policy})")


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    """Without what belongs to one connection, and without names that are podctl's own."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in headers.items():
        lower = name.lower()
        if lower not in _HOP_BY_HOP and lower not in named and not lower.startswith(_OURS):
            kept.add(name, value)
    return kept


def _answer_headers(request: web.BaseRequest, response: aiohttp.ClientResponse) -> CIMultiDict[str]:
    headers = _end_to_end(response.headers)
    if request.method != "HEAD" and (response.status in (204, 304) or response.status < 200):
        headers.popall("Content-Length", None)
    return headers
