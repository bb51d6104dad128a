"""The official clients, unmodified, through a real gateway process to a provider on loopback."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from fake_provider import TEXT, FakeProvider
from gateway_rig import KEY, REAL_KEY, Rig, live, rigged

from podctl.evidence.records import Tokens
from podctl.gateway.contract import GatewayLost, totals_of

TOOL = {"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}
CHAT_TOKENS = Tokens(input=600, cache_read=400, output=200, reasoning=100)
CHAT_DOLLARS = Decimal("0.0044")  # (600 × 2 + 400 × 0.5 + 300 × 10) / 1e6
MESSAGE_TOKENS = Tokens(input=500, cache_read=200, cache_write=100, output=50)
MESSAGE_DOLLARS = Decimal("0.0019")  # (500 × 2 + 200 × 0.5 + 100 × 3 + 50 × 10) / 1e6


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    fake = FakeProvider()
    yield fake
    fake.stop()


def chat(model: str = "fake-ok", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 400} | more


def test_openai_chat_is_metered_as_the_provider_said(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open(who={"id": "spiffe://x", "digest": "d"})
        client = rig.openai()
        plain = await client.chat.completions.create(**chat())
        assert plain.choices[0].message.content == TEXT
        streamed, usage = "", []
        async for chunk in await client.chat.completions.create(**chat(stream=True)):
            usage.append(chunk.usage)
            assert chunk.choices, "the chunk that only reports usage was not asked for"
            streamed += chunk.choices[0].delta.content or ""
        assert streamed == TEXT and not any(usage)
        asked = [
            c async for c in await client.chat.completions.create(**chat(stream=True, stream_options={"include_usage": True}))
        ]
        assert asked[-1].usage is not None and asked[-1].usage.prompt_tokens == 1000
        calls = ""
        async for chunk in await client.chat.completions.create(**chat(stream=True, tools=[TOOL])):
            for call in chunk.choices[0].delta.tool_calls or []:
                calls += (call.function and call.function.arguments) or ""
        assert json.loads(calls) == {"order": 17}
        tooled = await client.chat.completions.create(**chat(tools=[TOOL]))
        assert tooled.choices[0].message.tool_calls[0].function.name == "lookup"

        totals, records = await rig.close()
        assert totals.tokens == sum([CHAT_TOKENS] * 5, Tokens())
        assert totals.dollars == totals.dollars_upper == CHAT_DOLLARS * 5
        assert (totals.model_calls, totals.provider_failures, totals.tokens_known) == (5, 0, True)
        assert totals_of(records) == totals
        finals = [r.data for r in records if r.kind == "model.call" and r.data["status"] != "started"]
        assert [call["status"] for call in finals] == [200] * 5
        assert [bool(call["tool_calls"]) for call in finals] == [False, False, False, True, True]
        assert finals[3]["tool_calls"][0] == {"id": "call_1", "name": "lookup", "arguments": '{"order": 17}'}
        assert finals[1]["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": TEXT}]
        assert {record.who["digest"] for record in rig.records()} == {"d"}
        path, headers, _ = provider.seen[0]
        assert path == "/v1/chat/completions" and headers["authorization"] == f"Bearer {REAL_KEY}"
        everything = (tmp_path / "0001-1.gw").read_text()
        assert REAL_KEY not in everything and KEY not in everything

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_openai_responses_and_embeddings(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        client = rig.openai()
        answer = await client.responses.create(model="fake-ok", input="hi", max_output_tokens=400)
        assert answer.output_text == TEXT
        said = ""
        async for event in await client.responses.create(model="fake-ok", input="hi", max_output_tokens=400, stream=True):
            said += getattr(event, "delta", "")
        assert said == TEXT
        await client.embeddings.create(model="fake-embed", input="hi", encoding_format="float")
        assert [model.id async for model in client.models.list()] == ["fake-ok"]
        totals, _ = await rig.close()
        assert totals.tokens == CHAT_TOKENS + CHAT_TOKENS + Tokens(input=8)
        assert totals.dollars == CHAT_DOLLARS * 2 + Decimal("0.000016")
        assert (totals.model_calls, totals.http_calls) == (3, 1)

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_anthropic_messages_are_metered_as_the_provider_said(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        client = rig.anthropic()
        asked: dict[str, Any] = {"model": "fake-claude", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
        plain = await client.messages.create(**asked)
        assert plain.content[0].text == TEXT
        tool = {"name": "lookup", "input_schema": {"type": "object"}}
        async with client.messages.stream(**asked, tools=[tool]) as stream:
            final = await stream.get_final_message()
        assert final.content[1].input == {"order": 17}
        counted = await client.messages.count_tokens(model="fake-claude", messages=asked["messages"])
        assert counted.input_tokens == 42
        totals, records = await rig.close()
        assert totals.tokens == MESSAGE_TOKENS + MESSAGE_TOKENS
        assert totals.dollars == MESSAGE_DOLLARS * 2
        assert totals_of(records) == totals
        assert provider.seen[0][1]["x-api-key"] == REAL_KEY
        last = [r.data for r in records if r.kind == "model.call"][-1]
        assert last["finish_reasons"] == ["tool_use"] and last["tool_calls"][0]["arguments"] == '{"order": 17}'

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_a_stream_reaches_the_agent_while_the_provider_still_speaks(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        loop = asyncio.get_running_loop()
        began = loop.time()
        times = []
        async for _ in await rig.openai().chat.completions.create(**chat("fake-pausing", stream=True)):
            times.append(loop.time() - began)
        assert times[0] < 0.7 and times[-1] > 1.0

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_a_providers_misbehaviour_is_a_provider_failure(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        client = rig.openai()
        assert (await client.chat.completions.create(**chat("fake-429-once"))).choices
        for model, status in (("fake-500", 500), ("fake-redirect", 502), ("fake-huge", 502)):
            with pytest.raises(openai.InternalServerError) as caught:
                await client.chat.completions.create(**chat(model))
            assert caught.value.status_code == status
        assert provider.counts["fake-500"] == 3 and provider.counts["fake-redirect"] == 1
        with pytest.raises((openai.APIConnectionError, aiohttp.ClientError, Exception)) as cut:
            _ = [chunk async for chunk in await client.chat.completions.create(**chat("fake-half", stream=True))]
        assert "closed" in str(cut.value) or "Connection" in str(cut.value)
        assert (await client.chat.completions.create(**chat("fake-no-usage"))).usage is None
        for model in ("fake-echo-key", "fake-echo-cut-key"):
            with pytest.raises(openai.BadRequestError) as echoed:
                await client.chat.completions.create(**chat(model))
            assert REAL_KEY not in str(echoed.value) and "[redacted]" in str(echoed.value)
        totals, records = await rig.close()
        assert totals.provider_failures == 4  # 500, redirect, huge, half
        assert totals.dollars is None and not totals.tokens_known
        finals = {r.data["model"]: r.data for r in records if r.kind == "model.call" and r.data["status"] != "started"}
        assert finals["fake-429-once"]["retries"] == [{"status": 429, "waited": 0.05}]
        assert finals["fake-500"]["dollars"] == finals["fake-redirect"]["dollars"] == "0"
        unknown = ("fake-huge", "fake-half", "fake-no-usage")
        assert all(finals[model]["dollars"] is None and finals[model]["tokens"] is None for model in unknown)
        reserved = sum(Decimal(finals[model]["reserved"]["dollars"]) for model in unknown)
        assert totals.dollars_upper == CHAT_DOLLARS + reserved
        assert totals_of(records) == totals

    asyncio.run(rigged(tmp_path, work, live(provider.url), response_cap=100_000))


def test_an_unreachable_provider_costs_nothing(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        with pytest.raises(openai.InternalServerError):
            await rig.openai().chat.completions.create(**chat())
        totals, records = await rig.close()
        assert (totals.provider_failures, totals.dollars) == (1, Decimal(0))
        assert len(records[-1].data["retries"]) == 2

    asyncio.run(rigged(tmp_path, work, live("http://127.0.0.1:1")))


def test_only_the_attempts_own_key_opens_its_door(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        with pytest.raises(openai.InternalServerError) as closed:
            await rig.openai().chat.completions.create(**chat())
        assert closed.value.status_code == 503
        await rig.open("0001-1", key="one")
        assert (await rig.openai("one").chat.completions.create(**chat())).choices
        await rig.close("0001-1")
        await rig.open("0002-1", key="two")
        with pytest.raises(openai.AuthenticationError):
            await rig.openai("one").chat.completions.create(**chat())
        with pytest.raises(anthropic.AuthenticationError):
            await rig.anthropic("one").messages.create(model="fake-claude", max_tokens=5, messages=[])
        totals, records = await rig.close("0002-1")
        assert (totals.refused, totals.model_calls) == (2, 0)
        assert [record.kind for record in records] == ["gateway.refused"] * 2
        assert len(provider.seen) == 1

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_ways_out_through_the_provider_are_refused(tmp_path: Path, provider: FakeProvider) -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}}]}
    inline = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        client, other = rig.openai(), rig.anthropic()
        refused = [
            client.responses.create(model="fake-ok", input="hi", tools=[{"type": "web_search"}]),
            client.responses.create(model="fake-ok", input="hi", previous_response_id="resp_0"),
            client.chat.completions.create(**chat(messages=[image])),
            client.chat.completions.create(**chat(web_search_options={})),
        ]
        for call in refused:
            with pytest.raises(openai.BadRequestError) as caught:
                await call
            assert caught.value.type == "podctl_refused"
        ask: dict[str, Any] = {"model": "fake-claude", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
        with pytest.raises(anthropic.BadRequestError):
            await other.messages.create(**ask, tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}])
        with pytest.raises(anthropic.BadRequestError):
            await other.messages.create(**ask, extra_body={"mcp_servers": [{"type": "url", "url": "https://x"}]})
        assert not provider.seen
        assert (await other.messages.create(**ask, tools=[{"type": "bash_20250124", "name": "bash"}])).content
        assert (await client.chat.completions.create(**chat(messages=[inline]))).choices
        with pytest.raises(openai.BadRequestError) as unpriced:
            await client.chat.completions.create(**chat("nobody-knows"))
        assert "model.prices" in str(unpriced.value)
        totals, records = await rig.close()
        assert (totals.boundary_attempts, totals.refused) == (6, 7)
        assert totals_of(records) == totals
        assert {record.data["via"] for record in records if record.kind == "boundary.attempt"} == {"model"}

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_closing_an_attempt_cuts_its_calls_and_counts_them_at_their_reservation(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        call = asyncio.create_task(rig.openai().with_options(max_retries=0).chat.completions.create(**chat("fake-slow")))
        while not provider.seen:
            await asyncio.sleep(0.01)
        running = await rig.gateway.totals()
        assert running.dollars is None and running.dollars_upper > 0
        totals, records = await rig.close()
        with pytest.raises(openai.APIConnectionError):
            await call
        assert totals.dollars is None and totals.dollars_upper == running.dollars_upper
        assert records[-1].data["status"] == "cancelled" and totals_of(records) == totals

    asyncio.run(rigged(tmp_path, work, live(provider.url), drain=0.05))


def test_a_killed_gateway_loses_no_cent(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        client = rig.openai().with_options(max_retries=0)
        await client.chat.completions.create(**chat())
        call = asyncio.create_task(client.chat.completions.create(**chat("fake-slow")))
        while len(provider.seen) < 2:
            await asyncio.sleep(0.01)
        os.kill(rig.gateway.pid, signal.SIGKILL)
        with pytest.raises(openai.APIConnectionError):
            await call
        with pytest.raises(GatewayLost):
            await rig.gateway.close_attempt("0001-1")
        totals = totals_of(rig.records())
        reserved = Decimal(rig.records()[-1].data["reserved"]["dollars"])
        assert totals.dollars is None and reserved > 0
        assert totals.dollars_upper == CHAT_DOLLARS + reserved and totals.tokens == CHAT_TOKENS
        assert totals.model_calls == 2

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_an_agent_that_hangs_up_still_pays_for_its_answer(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        stream = await rig.openai().chat.completions.create(**chat("fake-pausing", stream=True))
        async for _ in stream:
            break
        await stream.close()
        while rig.records()[-1].data["status"] == "started":
            await asyncio.sleep(0.02)
        totals, _ = await rig.close()
        assert totals.dollars == CHAT_DOLLARS and totals.provider_failures == 0

    asyncio.run(rigged(tmp_path, work, live(provider.url)))
