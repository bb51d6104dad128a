"""Faults of a chaos campaign that the gateway makes. Which call is hit, and how, follows from the seed, the door and the call's number.

So the same calls meet the same faults, however many of them are under way at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

#: The door of model calls.
MODELS = "models"
Place = Literal["models", "services", "tools"]
#: One of a door's first calls is always hit: an attempt that met no fault says nothing.
_FIRST = 3
#: Bytes of a first answer that are kept to be served again, and how many answers.
STALE_BYTES, STALE_URLS = 256 * 1024, 200
#: Bytes of an answer that is held whole, to be broken or compared; a larger one is cut off.
HELD_BYTES = 32 * 2**20
_DRIPS = 20


@dataclass(frozen=True)
class Injected:
    """What happens to one call. ``seconds``: of latency, of holding, of a drip. ``after``: it does its work all the same."""

    name: str
    kind: str
    call: int
    seconds: float = 0.0
    status: int = 0
    after: bool = False
    how: str = ""

    def told(self) -> dict[str, Any]:
        """As records say it: on the call, so that nobody takes it for the service's own."""
        told: dict[str, Any] = {"name": self.name, "kind": self.kind, "call": self.call}
        if self.seconds:
            told["ms"] = round(self.seconds * 1000, 3)
        if self.status:
            told["status"] = self.status
        if self.how:
            told["how"] = self.how
        return told | {"performed": self.after} if self.kind in ("errors", "timeouts") else told


@dataclass
class Answer:
    """A service's whole answer that is held back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Faults:
    """``asked``: a variant's ``faults``, each with its name, kind and settings."""

    asked: Sequence[Mapping[str, Any]]
    seed: int
    _calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    _first: dict[tuple[str, str], Answer] = field(default_factory=dict)
    _stale: Counter[tuple[str, str]] = field(default_factory=Counter)

    @staticmethod
    def of(variant: Mapping[str, Any]) -> Faults | None:
        asked = [one for one in variant.get("faults", ()) if one["kind"] in _KINDS]
        return Faults(asked, int(variant.get("seed", 0))) if asked else None

    def next(self, door: str, method: str = "POST", *, tool: bool = False) -> Injected | None:
        """What happens to this call, which is the next of its door. A tool's that only reads is a GET."""
        place: Place = "models" if door == MODELS else "tools" if tool else "services"
        for one in self.asked:
            if one["where"] and door not in one["where"]:
                continue
            if one["kind"] == "stale" and (door == MODELS or method != "GET"):
                continue
            self._calls[one["name"], door] += 1
            number = self._calls[one["name"], door]
            chance = random.Random(hashlib.sha256(f"{self.seed}:{one['name']}:{door}:{number}".encode()).digest())
            if self._hit(one, door, number, chance):
                return _KINDS[one["kind"]](one, place, number, chance)
        return None

    def _hit(self, one: Mapping[str, Any], door: str, number: int, chance: random.Random) -> bool:
        drawn = chance.random()
        if one["calls"]:
            return number in one["calls"]
        first = 1 + hashlib.sha256(f"{self.seed}:{one['name']}:{door}".encode()).digest()[0] % _FIRST
        return bool(one["share"] > 0 and (number == first or drawn < one["share"]))

    # ---- stale answers ----

    @property
    def keeps_answers(self) -> bool:
        return any(one["kind"] == "stale" for one in self.asked)

    def stale(self, service: str, path: str, fresh: Answer, allowed: bool) -> Answer | None:
        """What the address answered first, when that was something else and it may be served: once more, or None."""
        key = (service, path)
        first = self._first.get(key)
        if first is None:
            if fresh.status == 200 and len(self._first) < STALE_URLS:
                self._first[key] = fresh
            return None
        most = next(one["answers"] for one in self.asked if one["kind"] == "stale")
        if not allowed or first.body == fresh.body or self._stale[key] >= most:
            return None
        self._stale[key] += 1
        return first


def _latency(one: Mapping[str, Any], place: Place, number: int, chance: random.Random) -> Injected:
    seconds = min(float(one["most"]), float(one["median"]) * math.exp(float(one["spread"]) * chance.gauss(0, 1)))
    return Injected(one["name"], "latency", number, seconds=round(seconds, 3))


def _errors(one: Mapping[str, Any], place: Place, number: int, chance: random.Random) -> Injected:
    statuses = one["model_statuses"] if place == "models" else one["statuses"]
    status = chance.choice(list(statuses))
    after = _after(one, place, chance)
    how = chance.choice(list(one["tool_errors"])) if place == "tools" else ""
    return Injected(one["name"], "errors", number, status=status, after=after, how=how)


def _timeouts(one: Mapping[str, Any], place: Place, number: int, chance: random.Random) -> Injected:
    return Injected(one["name"], "timeouts", number, seconds=float(one["hold"]), after=_after(one, place, chance))


def _broken(one: Mapping[str, Any], place: Place, number: int, chance: random.Random) -> Injected:
    how = "cut" if place == "models" else chance.choice(list(one["how"]))
    return Injected(one["name"], "broken", number, seconds=float(one["seconds"]) if how == "drip" else 0.0, how=how)


def _stale(one: Mapping[str, Any], place: Place, number: int, chance: random.Random) -> Injected:
    return Injected(one["name"], "stale", number)


_KINDS: dict[str, Callable[[Mapping[str, Any], Place, int, random.Random], Injected]] = {
    "latency": _latency,
    "errors": _errors,
    "timeouts": _timeouts,
    "broken": _broken,
    "stale": _stale,
}


def _after(one: Mapping[str, Any], place: Place, chance: random.Random) -> bool:
    """A model's work is its answer: one that is lost was never paid for here."""
    drawn = chance.random() < 0.5
    return place != "models" and (one["effect"] == "after" or (one["effect"] == "either" and drawn))


def broken_body(body: bytes) -> bytes:
    """Half of it, at least a byte short."""
    return body[: len(body) // 2]


async def drips(body: bytes, seconds: float) -> AsyncIterator[bytes]:
    """All of it, over so many seconds."""
    piece = max(1, -(-len(body) // _DRIPS))
    for at in range(0, len(body), piece):
        await asyncio.sleep(seconds * piece / max(1, len(body)))
        yield body[at : at + piece]


def service_error(status: int) -> web.Response:
    """As proxies and services say it."""
    said = {429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable"}
    body = json.dumps({"error": said.get(status, "error"), "status": status}).encode()
    headers = {"Retry-After": "1"} if status in (429, 503) else {}
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


#: status -> (type, code, message), as OpenAI's API documents its errors.
_OPENAI = {
    429: ("requests", "rate_limit_exceeded", "Rate limit reached for requests. Please try again in 1s."),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "That model is currently overloaded with other requests. Please retry your request."),
    529: ("server_error", None, "The engine is currently overloaded, please try again later"),
}
#: status -> (type, message), as Anthropic's API documents its errors.
_ANTHROPIC = {
    429: ("rate_limit_error", "Number of requests has exceeded your rate limit. Please try again later."),
    500: ("api_error", "Internal server error"),
    503: ("api_error", "Service unavailable"),
    529: ("overloaded_error", "Overloaded"),
}


def model_error(provider: str, status: int, call: int) -> web.Response:
    """In the shape of the provider's own; its clients try again as they would in earnest. OpenAI has no 529: it is its 503."""
    headers = {"retry-after": "1"} if status == 429 else {}
    if provider == "anthropic":
        kind, message = _ANTHROPIC[status]
        request_id = f"req_{call:024d}"
        body: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
        headers["request-id"] = request_id
    else:
        kind, code, message = _OPENAI[status]
        body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
        status = 503 if status == 529 else status
    return web.Response(status=status, body=json.dumps(body).encode(), content_type="application/json", headers=headers)


async def hang_up(request: web.BaseRequest, seconds: float = 0.0) -> web.Response:
    """Close the connection without a word, after so long. What is returned reaches nobody."""
    await asyncio.sleep(seconds)
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)
