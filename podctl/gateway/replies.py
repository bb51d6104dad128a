"""Answers that the gateway gives itself, and answers that it passes on to an agent that may have hung up."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web


def refusal(status: int, kind: str, message: str) -> web.Response:
    """An error in a shape that OpenAI's and Anthropic's clients both read, and do not retry."""
    error = {"type": kind, "message": message, "code": kind, "param": None}
    body = json.dumps({"type": "error", "error": error}).encode()
    return web.Response(status=status, body=body, content_type="application/json", headers={"x-should-retry": "false"})


EVIDENCE_FULL = "the attempt's evidence reached its limit"


def no_attempt() -> web.Response:
    return refusal(503, "podctl_no_attempt", "no attempt is open on this pod")


def evidence_full() -> web.Response:
    return refusal(429, "podctl_evidence_full", EVIDENCE_FULL)


def header_bytes(request: web.BaseRequest) -> list[bytes]:
    """Everything of a request but its body: the target as it came, the names and the values of its headers."""
    return [request.raw_path.encode("utf-8", "surrogateescape"), *(part for pair in request.raw_headers for part in pair)]


class TooLong(Exception):
    """A request body is over its cap."""


class Crowded(Exception):
    """The requests of one attempt together are over its cap."""


#: Bytes that the bodies of all requests of an attempt may take in memory at once.
BODIES_CAP = 128 * 2**20
#: About what a value takes when JSON is parsed, beyond its text.
_VALUE_BYTES = 80


class Bodies:
    """What an attempt's requests hold in memory: many at once must not take the gateway from other attempts."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}

    def hold(self, request: web.BaseRequest, size: int) -> None:
        """Raises `Crowded`."""
        if sum(self._held.values()) + size > BODIES_CAP:
            raise Crowded
        self._held[id(request)] = self._held.get(id(request), 0) + size

    def let_go(self, request: web.BaseRequest) -> None:
        self._held.pop(id(request), None)


async def read_capped(request: web.BaseRequest, cap: int, bodies: Bodies) -> bytes:
    """The request's body as it came. Raises `TooLong`, `Crowded`, and ConnectionError when the agent hangs up."""
    if (request.content_length or 0) > cap:
        raise TooLong
    body = bytearray()
    async for chunk in request.content.iter_any():
        bodies.hold(request, len(chunk))
        body += chunk
        if len(body) > cap:
            raise TooLong
    bodies.hold(request, _VALUE_BYTES * sum(body.count(mark) for mark in b",[{"))
    return bytes(body)


def crowded() -> web.Response:
    return refusal(429, "podctl_crowded", f"this attempt's requests hold more than {BODIES_CAP} bytes at once")


class AgentStream:
    """A streamed answer. When the agent has hung up, what is written goes nowhere and nothing is raised."""

    def __init__(self, request: web.BaseRequest, status: int, headers: Mapping[str, str]) -> None:
        self._request = request
        self.response = web.StreamResponse(status=status, headers=headers)
        self._gone = False

    async def start(self) -> None:
        try:
            await self.response.prepare(self._request)
        except ConnectionError:
            self._gone = True

    async def write(self, data: bytes) -> None:
        if data and not self._gone:
            try:
                await self.response.write(data)
            except ConnectionError:
                self._gone = True

    def cut(self) -> None:
        """Break the connection, so that the agent sees that the answer is not whole."""
        self._gone = True
        if self._request.transport is not None:
            self._request.transport.abort()
