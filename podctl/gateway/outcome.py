"""What became of a model call: how its answer reads, what it costs, and what the record says of it."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, NamedTuple

from podctl.evidence.records import Tokens
from podctl.gateway.bounds import Budgeted, bounded
from podctl.gateway.budget import Reservation
from podctl.gateway.prices import Rates
from podctl.gateway.recordings import Recording
from podctl.gateway.upstream import Answer, Call
from podctl.gateway.usage import Reading

_MESSAGES_KEPT = 64 * 1024


def provider_failed(status: int) -> bool:
    """The answer says that the provider, or podctl's account with it, is at fault and not the request."""
    return status in (401, 403, 408, 429) or status >= 500


class Hold(NamedTuple):
    """A call that may go on: what is reserved for it, how it is priced, and its recorded answer in replay."""

    reservation: Reservation
    rates: Rates | None
    recording: Recording | None

    @property
    def price_source(self) -> str:
        if self.recording is not None:
            return self.recording.price_source
        return "" if self.rates is None else self.rates.source


@dataclass
class Outcome:
    """What became of a call; ``billed`` None: nobody knows."""

    status: int | str = "cancelled"
    reading: Reading | None = None
    billed: bool | None = None
    error: str | None = None
    provider_failure: bool = False
    first_byte_ms: float | None = None
    tries: tuple[dict[str, Any], ...] = ()
    chunks: list[bytes] | None = None
    answer: Answer | None = None


def with_usage(call: Call) -> tuple[Call, bool]:
    """Streams of chat completions are asked to report usage; then its extra chunk is not the agent's."""
    options = call.body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    if call.api not in ("chat", "completions") or call.body.get("stream") is not True or asked:
        return call, False
    kept = options if isinstance(options, dict) else {}
    body = {**call.body, "stream_options": {**kept, "include_usage": True}}
    return replace(call, sent=json.dumps(body).encode()), True


def cost(outcome: Outcome, hold: Hold) -> tuple[Tokens | None, Decimal | None]:
    """A call without an answer, and one answered with an error, cost nothing; None is unknown.

    Usage that did arrive is believed, also when the answer broke off after it.
    """
    if outcome.billed is False:
        return Tokens(), Decimal(0)
    if hold.recording is not None:
        return hold.recording.tokens, hold.recording.dollars
    reading = outcome.reading
    if reading is None or reading.tokens is None or hold.rates is None:
        return None, None
    return reading.tokens, hold.rates.dollars(reading.tokens, reading.long_cache_write)


def told(call: Call, outcome: Outcome) -> dict[str, Any]:
    """What the record says of the call's content, bounded; the last of ``messages`` is the answer."""
    reading = outcome.reading or Reading()
    room = Budgeted(_MESSAGES_KEPT)
    said = call.body.get("messages", call.body.get("input", call.body.get("prompt")))
    asked = said if isinstance(said, list) else [{"role": "user", "content": said}]
    instructions = call.body.get("system") or call.body.get("instructions")
    if instructions:
        asked = [{"role": "system", "content": instructions}, *asked]
    calls = bounded(reading.tool_calls)
    reply = {"role": "assistant", "content": bounded(reading.text, text=16 * 1024)} | ({"tool_calls": calls} if calls else {})
    told = {
        "status": outcome.status,
        "response_model": reading.response_model,
        "finish_reasons": reading.finish_reasons,
        "tool_calls": calls,
        "messages": [*room.messages(asked), reply],
        "error": outcome.error,
        "provider_failure": outcome.provider_failure,
        "first_byte_ms": outcome.first_byte_ms,
        "long_cache_write": reading.long_cache_write,
    }
    if room.cut:
        told["messages_truncated"] = True
    return told | ({"retries": list(outcome.tries)} if outcome.tries else {})


async def noting(chunks: AsyncIterator[bytes], outcome: Outcome, began: float) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        if outcome.first_byte_ms is None:
            outcome.first_byte_ms = round((time.monotonic() - began) * 1000, 3)
        if outcome.chunks is not None:
            outcome.chunks.append(chunk)
        yield chunk
