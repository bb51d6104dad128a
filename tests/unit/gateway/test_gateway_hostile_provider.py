"""A provider that does its worst: retried or failed with the right cause, in bounded time and memory, the budget held."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_rig import KEY, PRICE, REAL_KEY, Rig, peak_mib, rigged

from podctl.gateway.contract import totals_of
from podctl.spec.models import Upstream

USAGE = {"prompt_tokens": 10, "completion_tokens": 5}
DOLLARS = Decimal("0.00007")  # of USAGE, at PRICE
MIB = 1 << 20


def answered(body: Any, status: str = "200 OK", **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = {"content-type": "application/json", "content-length": str(len(data))}
    head |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode("latin-1") + data


def fine(**usage: Any) -> bytes:
    message = {"role": "assistant", "content": "fine"}
    return answered(
        {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage or USAGE}
    )


Behaviour = Callable[[asyncio.StreamWriter, int], Awaitable[None]]


class RawProvider:
    """Answers byte by byte as told: ``behave`` gets the writer and how often this was asked before."""

    def __init__(self, behave: Behaviour) -> None:
        self.now(behave)

    def now(self, behave: Behaviour) -> None:
        """Start anew with this behaviour."""
        self.behave = behave
        self.asked = self.under_way = self.most_under_way = 0
        self.keys: Counter[str] = Counter()
        self.at: list[float] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
                await reader.readexactly(int(length[1]) if length else 0)
                self.keys[(re.findall(rb"(?i)authorization: (.*)\r", head) or [b""])[0].decode()] += 1
                self.asked += 1
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                self.at.append(time.monotonic())
                try:
                    await self.behave(writer, self.asked - 1)
                    await writer.drain()
                finally:
                    self.under_way -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(behave: Behaviour) -> AsyncIterator[tuple[RawProvider, str]]:
    provider = RawProvider(behave)
    server = await asyncio.start_server(provider.handle, "127.0.0.1", 0)
    try:
        yield provider, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def saying(*answers: bytes) -> Behaviour:
    """One answer after another, the last one again and again."""

    async def behave(writer: asyncio.StreamWriter, before: int) -> None:
        writer.write(answers[min(before, len(answers) - 1)])

    return behave


async def ask(rig: Rig, base: str = "", **more: Any) -> tuple[int, bytes]:
    """Status and body; status 0 when the connection broke."""
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]} | more
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post((base or rig.base) + "/v1/chat/completions", json=body, headers=headers) as answer:
                return answer.status, await answer.read()
        except aiohttp.ClientError:
            return 0, b""


def against(
    directory: Path,
    work: Callable[[Rig, RawProvider], Awaitable[None]],
    behave: Behaviour = saying(fine()),  # noqa: B008
    scheme: str = "http",
    **config: Any,
) -> None:
    """``work`` with a gateway before a provider; afterwards evidence and totals must agree."""

    async def whole() -> None:
        async with serving(behave) as (provider, url):

            async def with_pod(rig: Rig) -> None:
                await rig.open_pod()
                await rig.open()
                await work(rig, provider)
                totals, records = await rig.close()
                assert totals_of(records) == totals
                assert REAL_KEY not in json.dumps([record.data for record in records])

            upstream = Upstream(mode="live", openai_url=f"{scheme}{url.removeprefix('http')}/v1", prices={"m": PRICE})
            await rigged(directory, with_pod, upstream, **config)

    asyncio.run(whole())


def last_call(rig: Rig) -> dict[str, Any]:
    return rig.records(kind="model.call")[-1].data


# ---- refusals ----


def test_a_provider_that_is_busy_is_asked_again_when_it_says(tmp_path: Path) -> None:
    cases = {
        None: 0.02,
        "0.2": 0.2,
        "86400": 0.4,
        formatdate(time.time() + 60, usegmt=True): 0.4,
        formatdate(0, usegmt=True): 0.0,
        "-5": 0.0,
        "nan": 0.02,
        "inf": 0.4,
        "soon \x9b31m": 0.02,
    }

    async def work(rig: Rig, provider: RawProvider) -> None:
        for said, waits in cases.items():
            provider.now(saying(answered({}, "429 Busy", **({} if said is None else {"retry_after": said})), fine()))
            assert (await ask(rig))[0] == 200
            assert provider.asked == 2
            assert waits <= provider.at[1] - provider.at[0] + 0.01, f"asked too early after {said}"
            assert last_call(rig)["retries"][0]["waited"] == pytest.approx(waits, abs=0.01), f"the wait after {said}"
            assert Decimal(last_call(rig)["dollars"]) == DOLLARS, "the refusal was not charged"

    against(tmp_path, work, retry_cap=0.4)


def test_a_provider_that_stays_busy_or_broken_is_named_and_costs_nothing(tmp_path: Path) -> None:
    async def work(rig: Rig, provider: RawProvider) -> None:
        for status in ("429 Busy", "500 Broken", "503 Away", "529 Overloaded"):
            provider.now(saying(answered({"error": {"message": "no"}}, status)))
            assert (await ask(rig))[0] == int(status[:3])
            assert provider.asked == 3
            call = last_call(rig)
            assert call["provider_failure"] and call["error"] == f"the provider answered {status[:3]}"
            assert call["dollars"] == "0"

    against(tmp_path, work)


def test_a_redirect_is_not_followed_and_the_key_not_sent_there(tmp_path: Path) -> None:
    async def work(rig: Rig, provider: RawProvider) -> None:
        async with serving(saying(fine())) as (elsewhere, target):
            for status in ("301 Moved", "302 Found", "303 Other", "307 Temporary", "308 Permanent"):
                provider.now(saying(answered({}, status, location=target + "/v1/chat/completions")))
                code, body = await ask(rig)
                assert code == 502 and b"redirect" in body
                assert last_call(rig)["provider_failure"] and last_call(rig)["dollars"] == "0"
                assert provider.asked == 1 and list(provider.keys) == [f"Bearer {REAL_KEY}"]
            assert elsewhere.asked == 0

    against(tmp_path, work)


# ---- broken answers ----


def drip(head: bytes, part: bytes) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter, before: int) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.05)

    return behave


def cut(data: bytes) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter, before: int) -> None:
        writer.write(data)
        await writer.drain()
        assert writer.transport is not None
        writer.transport.abort()

    return behave


STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
BROKEN: dict[str, tuple[Behaviour, str]] = {
    "nothing before the headers": (cut(b""), "the provider did not answer"),
    "half the headers": (cut(b"HTTP/1.1 200 OK\r\ncontent-ty"), "the provider did not answer"),
    "half a body": (cut(answered(b"{" + b" " * 900)[:-500]), "the answer broke off"),
    "half a stream": (cut(STREAM + b'data: {"choices": []}\n\ndata: {"cho'), "the stream ended early"),
    "a body that drips": (drip(answered(b"x" * 9999)[:-9999], b"x"), "the answer broke off"),
    "a stream that drips": (drip(STREAM, b": keep-alive\n\n"), "the answer broke off"),
    "headers that drip": (drip(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"), "the provider did not answer"),
    "headers without end": (saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * MIB), "the provider did not answer"),
    "no HTTP": (saying(b"\x16\x03\x01\x00\xff" * 99 + b"\r\n\r\n"), "the provider did not answer"),
    "no JSON": (saying(answered(b"<html>down for maintenance</html>")), "the answer is not a JSON object"),
    "a list": (saying(answered(b"[1, 2]")), "the answer is not a JSON object"),
    "too deep": (saying(answered(b'{"a":' * 100_000)), "the answer is not a JSON object"),
    "an empty body": (saying(answered(b"")), "the answer is not a JSON object"),
    "no content": (saying(b"HTTP/1.1 204 No Content\r\n\r\n"), "the answer is not a JSON object"),
}


def test_a_broken_answer_is_the_provider_s_failure_at_an_unknown_cost(tmp_path: Path) -> None:
    async def work(rig: Rig, provider: RawProvider) -> None:
        for how, (behave, error) in BROKEN.items():
            provider.now(behave)
            began = time.monotonic()
            await ask(rig, stream="stream" in how)
            assert time.monotonic() - began < 3, how
            call = last_call(rig)
            assert call["provider_failure"] and error in call["error"], (how, call["error"])
            assert provider.asked == 1, "an answer that may have been charged is not asked for twice"
            assert call["tokens"] is None and call["dollars"] is None, how
        provider.now(saying(fine()))
        assert (await ask(rig))[0] == 200, "the gateway goes on"

    against(tmp_path, work, call_timeout=0.5)


def test_usage_that_makes_no_sense_counts_at_the_reservation(tmp_path: Path) -> None:
    cases: list[Any] = [
        {"prompt_tokens": -1, "completion_tokens": 5},
        {"prompt_tokens": 10**30, "completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 2**40},
        {"prompt_tokens": "10", "completion_tokens": "5"},
        {"prompt_tokens": 1.5, "completion_tokens": True},
        {"completion_tokens": 5},
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}},
        "none of your business",
        None,
    ]

    async def work(rig: Rig, provider: RawProvider) -> None:
        for number, usage in enumerate(cases, start=1):
            provider.now(saying(answered({"model": "m", "choices": [], "usage": usage})))
            assert (await ask(rig))[0] == 200
            call = last_call(rig)
            assert call["tokens"] is None and call["dollars"] is None and not call["provider_failure"], usage
            assert (await rig.gateway.totals()).dollars_upper == number * Decimal(call["reserved"]["dollars"])

    against(tmp_path, work)


def test_hostile_headers_of_an_answer_do_no_harm(tmp_path: Path) -> None:
    odd = fine().replace(b"\r\n\r\n", b"\r\nx-request-id: \xff\x9b31m\r\nretry-after: \xf0\x9f\r\nset-cookie: a=b\r\n\r\n", 1)
    odd = odd.replace(b"application/json", b"application/json; charset=\xff")

    async def work(rig: Rig, provider: RawProvider) -> None:
        assert (await ask(rig))[0] == 200
        assert Decimal(last_call(rig)["dollars"]) == DOLLARS

    against(tmp_path, work, saying(odd))


def test_a_provider_without_tls_is_named(tmp_path: Path) -> None:
    async def work(rig: Rig, provider: RawProvider) -> None:
        code, body = await ask(rig)
        assert code == 502 and b"cannot be reached" in body
        assert provider.keys == Counter(), "the key was sent in the clear"
        assert last_call(rig)["dollars"] == "0"

    against(tmp_path, work, saying(fine()), scheme="https", connect_timeout=0.5)


# ---- size ----


def endless(head: bytes, part: bytes, total: int = 1 << 30) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter, before: int) -> None:
        writer.write(head)
        for _ in range(total // len(part)):
            writer.write(part)
            await writer.drain()

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BOMB = gzip.compress(b"x" * (256 * MIB), 6)
HUGE: dict[str, Behaviour] = {
    "a length of 1 GiB": endless(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n", b"x" * MIB
    ),
    "chunks": endless(CHUNKED, b"100000\r\n" + b"x" * MIB + b"\r\n"),
    "a stream": endless(STREAM, b'data: {"choices": [{"index": 0, "delta": {"content": "' + b"x" * MIB + b'"}}]}\n\n'),
    "one event of a stream": endless(STREAM, b"x" * MIB),
    "a compressed body": saying(answered(BOMB, content_encoding="gzip")),
}


@pytest.mark.campaign
def test_an_answer_of_a_gigabyte_is_cut_in_bounded_memory(tmp_path: Path) -> None:
    async def work(rig: Rig, provider: RawProvider) -> None:
        before = peak_mib(rig.gateway.pid)
        for how, behave in HUGE.items():
            provider.now(behave)
            await ask(rig, stream="stream" in how)
            call = last_call(rig)
            assert call["provider_failure"] and "longer than 16777216 bytes" in call["error"], (how, call["error"])
            assert peak_mib(rig.gateway.pid) - before < 6 * 16, f"{how}: several times what is kept of an answer"

    against(tmp_path, work, response_cap=16 * MIB)


# ---- the budget ----


@pytest.mark.parametrize("honest", [True, False], ids=["as reserved", "three times the reservation"])
def test_the_budget_holds_but_for_calls_in_flight(tmp_path: Path, honest: bool) -> None:
    """Three pods at once, thirty calls each, against one budget for the run.

    What is spent stays within the budget and, should a provider charge more than was reserved, what the calls under
    way at that moment cost beyond their reservations.
    """
    over = 1 if honest else 3
    budget = Decimal("0.02")

    async def behave(writer: asyncio.StreamWriter, before: int) -> None:
        await asyncio.sleep(0.05 + before % 5 * 0.02)
        writer.write(fine(prompt_tokens=10, completion_tokens=100 * over))

    async def work(rig: Rig, provider: RawProvider) -> None:
        names = [f"000{number}-1" for number in (2, 3, 4)]
        doors = []
        for name in names:
            await rig.open_pod(pod=name)
            await rig.open(name, pod=name, dollars=Decimal("0.01"))
            doors.append(rig.base)
        answers = await asyncio.gather(*(ask(rig, door) for _ in range(30) for door in doors))
        assert {status for status, _ in answers} == {200, 429}
        asked = provider.asked
        assert asked >= 3, "nothing was spent"
        if not honest:
            await asyncio.gather(*(ask(rig, door) for door in doors))
            assert provider.asked == asked, "a call was made with the budget overdrawn"
        charged = PRICE.input * 10 / 1_000_000 + PRICE.output * 100 * over / 1_000_000
        spent = {name: (await rig.close(name))[0].dollars for name in names}
        total = (await rig.gateway.totals()).dollars
        reserved = Decimal(rig.records(names[0], "model.call")[0].data["reserved"]["dollars"])
        beyond = max(Decimal(0), charged - reserved)
        assert total == asked * charged == sum(money or Decimal(0) for money in spent.values())
        at_once = budget // reserved  # what fits: the provider may see fewer at a time than the gateway has under way
        assert provider.most_under_way <= at_once
        assert total <= budget + at_once * beyond
        for name in names:
            assert spent[name] <= Decimal("0.01") + (Decimal("0.01") // reserved) * beyond
        assert honest or total > budget, "the provider charged no more than expected: this proves nothing"

    against(tmp_path, work, behave, run_dollars=budget)
