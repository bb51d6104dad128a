"""Model calls: screened, priced, reserved, sent, metered, recorded; streams pass through as they come."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import web

from podctl.evidence.records import Tokens
from podctl.gateway.attempts import Attempt
from podctl.gateway.budget import OverBudget
from podctl.gateway.contract import GatewayConfig
from podctl.gateway.faults import MODELS, Injected, broken_body, hang_up, model_error
from podctl.gateway.outcome import Hold, Outcome, cost, noting, provider_failed, told, with_usage
from podctl.gateway.prices import PriceBook, load_lock, upper_bound
from podctl.gateway.recordings import Recording, Recordings
from podctl.gateway.replies import EVIDENCE_FULL, AgentStream, TooLong, read_capped, refusal
from podctl.gateway.screen import Api, output_bound, screen
from podctl.gateway.scripted import answer as scripted_answer
from podctl.gateway.scripted import load_script
from podctl.gateway.upstream import Answer, Call, LiveProvider, Provider, ProviderFailure, of_bytes, request_digest
from podctl.gateway.usage import StreamReader, read_body

ROUTES: dict[tuple[str, str], tuple[Api, Provider]] = {
    ("POST", "/v1/chat/completions"): ("chat", "openai"),
    ("POST", "/v1/responses"): ("responses", "openai"),
    ("POST", "/v1/completions"): ("completions", "openai"),
    ("POST", "/v1/embeddings"): ("embeddings", "openai"),
    ("GET", "/v1/models"): ("models", "openai"),
    ("POST", "/v1/messages"): ("messages", "anthropic"),
    ("POST", "/v1/messages/count_tokens"): ("count_tokens", "anthropic"),
}

_UNBILLED = ("models", "count_tokens")


class Refused(Exception):
    """The call is answered by the gateway; ``response`` says why."""

    def __init__(self, response: web.Response) -> None:
        super().__init__()
        self.response = response


class ModelDoor:
    def __init__(self, config: GatewayConfig) -> None:
        """Raises `SpecError` when the script or the price lock cannot be used."""
        upstream = config.upstream
        self._config = config
        self._mode = upstream.mode
        self._book = PriceBook(upstream.prices, None if upstream.price_lock is None else load_lock(upstream.price_lock))
        self._live = LiveProvider(config) if self._mode in ("live", "record") else None
        self._script = load_script(upstream.script or Path("script")) if self._mode == "scripted" else None
        self._recordings = Recordings(upstream.recordings or Path("recordings"))
        self._source = {"replay": "recording", "scripted": "scripted"}.get(self._mode, "live")

    async def close(self) -> None:
        if self._live is not None:
            await self._live.close()

    async def handle(self, request: web.BaseRequest, api: Api, provider: Provider, attempt: Attempt) -> web.StreamResponse:
        try:
            call = await self._admit(request, api, provider, attempt)
            fault = await self._fault(request, call, attempt)
            if api in _UNBILLED:
                return await self._unbilled(call, attempt)
            hold = await self._hold(call, attempt)
        except Refused as refused:
            return refused.response
        return await self._metered(request, call, hold, attempt, fault)

    async def _fault(self, request: web.BaseRequest, call: Call, attempt: Attempt) -> Injected | None:
        """What a chaos campaign does to the call. Raises `Refused` with the answer where that stands in place of the provider's."""
        injected = None if attempt.faults is None else attempt.faults.next(MODELS)
        if injected is None:
            return None
        attempt.inject(MODELS, injected)
        if injected.kind == "errors":
            raise Refused(model_error(call.provider, injected.status, injected.call))
        if injected.kind == "timeouts":
            raise Refused(await hang_up(request, injected.seconds))
        if injected.kind == "latency":
            await asyncio.sleep(injected.seconds)
        return injected

    # ---- before the call ----

    async def _admit(self, request: web.BaseRequest, api: Api, provider: Provider, attempt: Attempt) -> Call:
        given = request.headers.get("x-api-key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        path = request.rel_url.path
        attempt.look_at_head("model call", request)
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), attempt.granted.key.encode()):
            raise _refuse(attempt, 401, "authentication_error", path, "the key is not this attempt's key")
        if attempt.full:
            raise _refuse(attempt, 429, "podctl_evidence_full", path, EVIDENCE_FULL)
        try:
            raw = await read_capped(request, self._config.request_cap, attempt.bodies)
        except TooLong:
            cap = self._config.request_cap
            raise _refuse(attempt, 413, "request_too_large", path, f"the request is longer than {cap} bytes") from None
        attempt.look("model call", raw)
        body = _object(raw) if request.method == "POST" else {}
        if body is None:
            raise _refuse(attempt, 400, "invalid_request_error", path, "the body is not a JSON object")
        found = screen(api, body)
        if found is not None:
            if found.way_out:
                attempt.way_out("model", found.what, found.reason)
            raise _refuse(attempt, 400, "podctl_refused", found.what, found.reason)
        if self._mode == "none":
            raise _refuse(attempt, 403, "podctl_no_model", path, "this scenario has no model (model.mode is none)")
        model = body.get("model")
        if api != "models" and not (isinstance(model, str) and 0 < len(model) <= 200):
            raise _refuse(attempt, 400, "invalid_request_error", path, "the request names no model")
        if api == "models" and "anthropic-version" in request.headers:
            provider = "anthropic"
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            digest = request_digest(request.method, path, body)
        except RecursionError:
            raise _refuse(attempt, 400, "invalid_request_error", path, "the body is nested too deep") from None
        return Call(api, provider, request.method, path, str(model or ""), body, raw, headers, digest)

    async def _hold(self, call: Call, attempt: Attempt) -> Hold:
        """The budget for the call, taken. Raises `Refused`."""
        recording = await self._recorded(call, attempt) if self._mode == "replay" else None
        rates = None if recording is not None else self._book.find(call.provider, call.model)
        if recording is not None:
            tokens, dollars = recording.reserved_tokens, recording.reserved_dollars
        elif rates is not None:
            into, out = len(call.sent), output_bound(call.api, call.body, self._config.default_output)
            tokens, dollars = into + out, upper_bound(rates, into, out)
        else:
            where = "model.prices" if self._config.upstream.price_lock is None else "model.prices, or to its price lock"
            reason = f"nobody knows the price of {call.model}: add it to the scenario under {where}"
            raise _refuse(attempt, 400, "podctl_unknown_price", call.model, reason)
        try:
            return Hold(attempt.reserve(tokens, dollars), rates, recording)
        except OverBudget as over:
            raise _refuse(attempt, 429, "podctl_budget_exhausted", f"{over.limit} budget", over.message) from over

    async def _recorded(self, call: Call, attempt: Attempt) -> Recording:
        occurrence = attempt.occurrences[call.digest]
        attempt.occurrences[call.digest] += 1
        try:
            found = await asyncio.to_thread(self._recordings.find, call.digest, occurrence, attempt.id)
        except (OSError, ValueError, KeyError) as error:
            raise self._miss(call, attempt, f"the recorded answer is damaged: {error}") from error
        if found is None:
            message = f"no recorded answer for this request to {call.path} (asked {occurrence + 1} times): record the run again"
            raise self._miss(call, attempt, message)
        return found

    def _miss(self, call: Call, attempt: Attempt, message: str) -> Refused:
        attempt.count(provider_failures=1)
        return _refuse(attempt, 502, "podctl_replay_miss", f"{call.model} {call.digest}", message)

    # ---- the call ----

    async def _metered(
        self, request: web.BaseRequest, call: Call, hold: Hold, attempt: Attempt, fault: Injected | None
    ) -> web.StreamResponse:
        call_id = uuid.uuid4().hex
        facts = {
            "call_id": call_id,
            "provider": call.provider,
            "api": call.api,
            "model": call.model,
            "stream": call.body.get("stream") is True,
            "request_digest": call.digest,
            "source": self._source,
            "simulated": self._mode == "scripted",
            "price_source": hold.price_source,
        }
        if fault is not None:
            facts["fault"] = fault.told()
        attempt.call_started(call_id, hold.reservation, facts, simulated=self._mode == "scripted")
        began = time.monotonic()
        outcome = Outcome()
        task = asyncio.current_task()
        assert task is not None
        attempt.other_tasks.discard(task)
        attempt.model_tasks.add(task)
        tokens, dollars = None, None
        try:
            broken = fault if fault is not None and fault.kind == "broken" else None
            response = await self._exchange(request, call, hold, outcome, began, broken)
            tokens, dollars = cost(outcome, hold)
            if self._mode == "record":
                await self._save(call, hold, outcome, tokens, dollars, attempt)
            return response
        finally:
            attempt.model_tasks.discard(task)
            ms = round((time.monotonic() - began) * 1000, 3)
            attempt.call_finished(call_id, tokens, dollars, {**facts, **told(call, outcome), "ms": ms})

    async def _exchange(
        self, request: web.BaseRequest, call: Call, hold: Hold, outcome: Outcome, began: float, fault: Injected | None
    ) -> web.StreamResponse:
        """Pass the answer on, filling in ``outcome``; a provider's failure becomes an answer too."""
        stream: AgentStream | None = None
        try:
            sent, strip = with_usage(call)
            async with self._open(sent, hold.recording) as answer:
                outcome.answer, outcome.tries = answer, tuple(answer.tries)
                outcome.chunks = [] if self._mode == "record" else None
                headers = {**answer.headers, "Content-Type": answer.content_type}
                failed = provider_failed(answer.status)
                if failed:
                    headers["x-should-retry"] = "false"
                if "text/event-stream" in answer.content_type and answer.status < 400:
                    reader = StreamReader(call.api, strip)
                    outcome.reading = reader.reading
                    stream = AgentStream(request, answer.status, headers)
                    await stream.start()
                    async for chunk in noting(answer.chunks, outcome, began):
                        await stream.write(reader.feed(chunk))
                        if fault is not None:
                            stream.cut()  # the rest is read, and paid for
                    await stream.write(reader.close())
                    response: web.StreamResponse = stream.response
                else:
                    body = b"".join([chunk async for chunk in noting(answer.chunks, outcome, began)])
                    outcome.reading = read_body(call.api, body)
                    given = body if fault is None else broken_body(body)
                    response = web.Response(status=answer.status, body=given, headers=headers)
                outcome.status = answer.status
                outcome.billed = answer.status < 400
                broken = answer.status < 400 and not outcome.reading.complete
                outcome.provider_failure = failed or broken
                if failed:
                    outcome.error = f"the provider answered {answer.status}"
                elif broken:
                    outcome.error = "the stream ended early" if stream else "the answer is not a JSON object"
                return response
        except ProviderFailure as failure:
            outcome.status, outcome.billed, outcome.error = 502, failure.billed, failure.message
            outcome.provider_failure = True
            outcome.tries = outcome.tries or tuple(failure.tries)
            if stream is not None:
                stream.cut()
                return stream.response
            return refusal(502, failure.kind, failure.message)

    def _open(self, call: Call, recording: Recording | None) -> AbstractAsyncContextManager[Answer]:
        if self._live is not None:
            return self._live.open(call)
        if recording is not None:
            chunks = of_bytes(list(recording.chunks))
            return _ready(Answer(recording.status, recording.content_type, recording.headers, chunks))
        assert self._script is not None
        status, kind, spoken = scripted_answer(self._script, call.api, _object(call.sent) or {}, call.model, call.digest)
        return _ready(Answer(status, kind, {}, of_bytes(spoken)))

    async def _save(
        self, call: Call, hold: Hold | None, outcome: Outcome, tokens: Tokens | None, dollars: Decimal | None, attempt: Attempt
    ) -> None:
        """Only whole answers are worth repeating; a failure does not use up its turn."""
        answer = outcome.answer
        if outcome.provider_failure or answer is None or outcome.chunks is None:
            return
        recording = Recording(
            status=answer.status,
            content_type=answer.content_type,
            headers=dict(answer.headers),
            chunks=tuple(outcome.chunks),
            tokens=tokens,
            dollars=dollars,
            reserved_tokens=0 if hold is None else hold.reservation.tokens,
            reserved_dollars=Decimal(0) if hold is None else hold.reservation.dollars,
            price_source="" if hold is None else hold.price_source,
            model=call.model,
            path=call.path,
        )
        occurrence = attempt.occurrences[call.digest]
        attempt.occurrences[call.digest] += 1
        try:
            await asyncio.to_thread(self._recordings.save, call.digest, occurrence, attempt.id, recording)
        except OSError as error:
            outcome.error = f"the answer could not be recorded: {error}"

    async def _unbilled(self, call: Call, attempt: Attempt) -> web.StreamResponse:
        """Calls that no model answers: recorded as HTTP calls, without cost, in replay only from recordings."""
        began = time.monotonic()
        if self._mode == "scripted":
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "podctl"} for name in self._config.upstream.prices
            ]
            response = web.json_response({"object": "list", "data": listed})
        else:
            recording = await self._recorded(call, attempt) if self._mode == "replay" else None
            outcome = Outcome()
            try:
                async with self._open(call, recording) as answer:
                    outcome.answer, outcome.chunks = answer, []
                    body = b"".join([chunk async for chunk in noting(answer.chunks, outcome, began)])
                    headers = {**answer.headers, "Content-Type": answer.content_type}
                    response = web.Response(status=answer.status, body=body, headers=headers)
                    outcome.provider_failure = provider_failed(answer.status)
            except ProviderFailure as failure:
                response, outcome.provider_failure = refusal(502, failure.kind, failure.message), True
            attempt.count(provider_failures=int(outcome.provider_failure))
            if self._mode == "record":
                await self._save(call, None, outcome, Tokens(), Decimal(0), attempt)
        ms = round((time.monotonic() - began) * 1000, 3)
        attempt.count(http_calls=1)
        attempt.record(
            "http.call",
            {"service": "model-provider", "method": call.method, "path": call.path, "status": response.status, "ms": ms},
        )
        return response


def _refuse(attempt: Attempt, status: int, kind: str, what: str, reason: str) -> Refused:
    attempt.refuse(what[:200], reason)
    return Refused(refusal(status, kind, reason))


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


@asynccontextmanager
async def _ready(answer: Answer) -> AsyncIterator[Answer]:
    yield answer
