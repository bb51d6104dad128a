"""Budgets that hold, and runs that repeat without the provider."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from fake_provider import FakeProvider
from gateway_rig import KEY, PRICES, Rig, live, rigged

from podctl.gateway.budget import OverBudget, Purse, reserve
from podctl.gateway.client import Gateway
from podctl.gateway.contract import GatewayConfig, GatewayError
from podctl.gateway.scripted import Rule, Script, Turn, speak
from podctl.spec.models import Upstream

ASK: dict[str, Any] = {"model": "fake-ok", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 400}


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    fake = FakeProvider()
    yield fake
    fake.stop()


def test_a_call_that_does_not_fit_the_attempts_budget_is_not_made(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open("0001-1", tokens=2000)
        client = rig.openai()
        assert (await client.chat.completions.create(**ASK)).choices
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(**(ASK | {"max_tokens": 800}))
        assert caught.value.type == "podctl_budget_exhausted"
        assert len(provider.seen) == 1, "the client did not retry and nothing was sent"
        assert (await client.chat.completions.create(**(ASK | {"max_tokens": 5}))).choices, "what is left can be used"
        totals, _ = await rig.close("0001-1")
        assert totals.limits_hit == ("tokens",) and totals.refused == 1

        await rig.open("0002-1", dollars=Decimal("0.004"))
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**ASK)
        no_bound = {key: value for key, value in ASK.items() if key != "max_tokens"}
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(**no_bound)
        await rig.close("0002-1")
        assert [(event["attempt"], event["limit"]) for event in rig.events] == [("0001-1", "tokens"), ("0002-1", "dollars")]

    asyncio.run(rigged(tmp_path, work, live(provider.url)))


def test_the_runs_budget_holds_over_its_attempts(tmp_path: Path, provider: FakeProvider) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open("0001-1")
        assert (await rig.openai().chat.completions.create(**ASK)).choices
        await rig.close("0001-1")
        await rig.open("0002-1")
        with pytest.raises(openai.RateLimitError):
            await rig.openai().chat.completions.create(**ASK)
        totals, _ = await rig.close("0002-1")
        assert totals.limits_hit == ("run_dollars",)
        assert (await rig.gateway.totals()).dollars == Decimal("0.0044")

    asyncio.run(rigged(tmp_path, work, live(provider.url), run_dollars=Decimal("0.006")))


def test_concurrent_calls_cannot_pass_the_budget_together() -> None:
    attempt, run = Purse(dollars=Decimal(1)), Purse(dollars=Decimal(10))
    first = reserve(attempt, run, 10, Decimal("0.6"))
    with pytest.raises(OverBudget):
        reserve(attempt, run, 10, Decimal("0.6"))
    first.settle(10, Decimal("0.1"))
    second = reserve(attempt, run, 10, Decimal("0.6"))
    second.settle(None, None)
    assert attempt.taken_dollars == run.taken_dollars == Decimal("0.7"), "an unknown cost stays at its reservation"


async def raw(rig: Rig, body: dict[str, Any], path: str = "/v1/chat/completions") -> bytes:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession() as session, session.post(rig.base + path, json=body, headers=headers) as answer:
        return await answer.read()


def test_a_recorded_run_repeats_without_the_provider(tmp_path: Path) -> None:
    recordings = tmp_path / "recordings"
    claude = {"model": "fake-claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    asked = [(ASK, "/v1/chat/completions"), (ASK | {"stream": True}, "/v1/chat/completions"), (ASK, "/v1/chat/completions")]
    results: list[Any] = []

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        for attempt in ("0001-1", "0002-1"):
            await rig.open(attempt)
            answers = [await raw(rig, body, path) for body, path in [*asked, (claude, "/v1/messages")]]
            totals, _ = await rig.close(attempt)
            results.append((answers, totals.tokens, totals.dollars, totals.model_calls))

    provider = FakeProvider()
    upstream = live(provider.url, mode="record", recordings=recordings)
    (tmp_path / "a").mkdir()
    asyncio.run(rigged(tmp_path / "a", work, upstream))
    provider.stop()
    recorded, results[:] = list(results), []
    assert recorded[0][0][0] != recorded[0][0][2] != recorded[1][0][2]
    assert recorded[0][2] == Decimal("0.0044") * 3 + Decimal("0.0019") and b"[DONE]" in recorded[0][0][1]
    (tmp_path / "b").mkdir()
    replay = Upstream(mode="replay", recordings=recordings)
    asyncio.run(rigged(tmp_path / "b", work, replay))
    assert results == recorded

    async def other(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open("0099-3")
        assert await raw(rig, dict(reversed(list(ASK.items())))) == recorded[1][0][0], "key order and attempt do not matter"
        missed = await raw(rig, ASK | {"max_tokens": 401})
        assert b"podctl_replay_miss" in missed
        totals, _ = await rig.close("0099-3")
        assert totals.provider_failures == 1

    asyncio.run(rigged(tmp_path, other, replay))


def test_the_scripted_model_speaks_both_apis(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(
        """
rules:
  - tool: lookup
    history: 'order (?P<id>[0-9]+)'
    match: 'status=(?P<status>[a-z]+)'
    reply: 'Order ${id} is ${status}.'
  - match: 'order ([0-9]+)'
    offers: lookup
    calls: [{name: lookup, arguments: {order: '${1}'}}]
otherwise: 'I do not know.'
"""
    )
    function = {"name": "lookup", "parameters": {"type": "object"}}

    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        client, other = rig.openai(), rig.anthropic()
        said: list[Any] = [{"role": "user", "content": "Where is order 17?"}]
        tools: Any = [{"type": "function", "function": function}]
        first = await client.chat.completions.create(model="scripted-demo", messages=said, tools=tools)
        message = first.choices[0].message
        assert message.tool_calls[0].function.arguments == '{"order": "17"}' and first.usage.completion_tokens > 0
        said += [
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "status=lost"},
        ]
        text = ""
        async for chunk in await client.chat.completions.create(model="scripted-demo", messages=said, tools=tools, stream=True):
            text += chunk.choices[0].delta.content or ""
        assert text == "Order 17 is lost."
        ask: Any = {
            "model": "scripted-demo",
            "max_tokens": 50,
            "tools": [{"name": "lookup", "input_schema": {"type": "object"}}],
        }
        turns: list[Any] = [{"role": "user", "content": "Where is order 18?"}]
        async with other.messages.stream(**ask, messages=turns) as stream:
            final = await stream.get_final_message()
        assert final.content[0].input == {"order": "18"} and final.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": final.content[0].id, "content": "status=sent"}
        turns += [{"role": "assistant", "content": final.content}, {"role": "user", "content": [result]}]
        assert (await other.messages.create(**ask, messages=turns)).content[0].text == "Order 18 is sent."
        with pytest.raises(openai.BadRequestError):
            await client.chat.completions.create(model="scripted-unpriced", messages=said)
        totals, records = await rig.close()
        assert totals.simulated and totals.dollars is not None and totals.dollars > 0 and totals.model_calls == 4
        assert all(record.data["simulated"] for record in records if record.kind == "model.call")

    asyncio.run(rigged(tmp_path, work, Upstream(mode="scripted", script=script, prices=PRICES)))


def test_a_rule_whose_conditions_do_not_hold_says_nothing() -> None:
    turn = Turn(last="hello", role="user", last_tool=None, history="hello", offered=frozenset())
    assert (
        speak(Script(rules=(Rule(role="tool", reply="x"), Rule(offers="t", reply="x"), Rule(match="bye", reply="x"))), turn)
        is None
    )


def test_a_script_that_cannot_be_read_is_refused_before_the_run(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("rules: [{match: '(', reply: x}]")

    async def start() -> None:
        await Gateway.start(GatewayConfig(upstream=Upstream(mode="scripted", script=broken)))

    with pytest.raises(GatewayError, match=r"broken\.yaml"):
        asyncio.run(start())


def test_without_a_model_every_call_is_refused(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open()
        with pytest.raises(openai.PermissionDeniedError):
            await rig.openai().chat.completions.create(**ASK)
        with pytest.raises(openai.NotFoundError):
            await rig.openai().files.list()
        totals, _ = await rig.close()
        assert (totals.model_calls, totals.refused) == (0, 1)

    asyncio.run(rigged(tmp_path, work))
