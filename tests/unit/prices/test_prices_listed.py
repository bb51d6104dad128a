"""List prices of the installed genai-prices against its own arithmetic."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage
from genai_prices.data_snapshot import get_snapshot

from podctl.errors import SpecError
from podctl.evidence.records import Tokens
from podctl.prices.listed import find_listed, list_price
from podctl.prices.money import dollars_of_call, dollars_of_pod, without_cache
from podctl.spec.prices import ComputeRates, Price

DAY = date(2026, 11, 22)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
BATCH = {"processing": "batch"}


def some_tokens(chance: random.Random) -> tuple[Tokens, int]:
    counts = [chance.choice([0, chance.randint(0, 1000), chance.randint(0, 300_000)]) for _ in range(5)]
    return Tokens(*counts), chance.randint(0, counts[2])


@pytest.mark.parametrize("batch", [False, True])
def test_a_listed_price_is_genai_prices_own_to_the_last_digit(batch: bool) -> None:
    chance, compared = random.Random(1), 0
    for provider in get_snapshot().providers:
        if provider.id not in ("openai", "anthropic", "google", "azure", "mistral", "x-ai"):
            continue
        for model in chance.sample(provider.models, min(30, len(provider.models))):
            try:
                price = list_price(provider, model, DAY, batch)
            except SpecError:
                continue
            if price is None:
                continue
            for _ in range(2):
                tokens, hour = some_tokens(chance)
                usage = {
                    "input_tokens": tokens.input + tokens.cache_read + tokens.cache_write,
                    "cache_read_tokens": tokens.cache_read,
                    "cache_write_tokens": tokens.cache_write,
                    "output_tokens": tokens.output + tokens.reasoning,
                } | ({"cache_write_1h_tokens": hour} if hour else {})
                context = BATCH if batch else None
                own = model.calc_price(Usage(**usage), provider, genai_request_timestamp=NOON, price_context=context)
                assert dollars_of_call(price, tokens, hour) == own.total_price, f"{provider.id}/{model.id}"
                compared += 1
    assert compared > (40 if batch else 200)


def test_of_prices_that_change_by_the_hour_the_dearest_is_taken() -> None:
    changing = []
    for provider in get_snapshot().providers:
        for model in provider.models if provider.id == "deepseek" else ():
            hours = {model.get_prices(NOON.replace(hour=hour)).input_mtok for hour in range(24)}
            price = list_price(provider, model, DAY)
            if len(hours) > 1 and price is not None:
                assert price.input == max(hours)
                changing.append(model.id)
    assert changing


def test_batches_have_a_price_only_where_the_data_have_one() -> None:
    found = find_listed("gpt-5")
    assert found is not None and found[0] == "openai/gpt-5"
    full, batch = list_price(found[1], found[2], DAY), list_price(found[1], found[2], DAY, batch=True)
    assert full is not None and batch is not None and batch.input * 2 == full.input
    assert list_price(found[1], found[2], date(2026, 10, 13), batch=True) is None  # before the data have one
    azure = find_listed("gpt-5", "azure/gpt-5")
    # genai-prices itself answers with the full price here, without a word.
    assert azure is not None and list_price(azure[1], azure[2], DAY, batch=True) is None


def test_the_day_decides() -> None:
    earlier = [
        (provider, model)
        for provider in get_snapshot().providers
        if provider.id in ("openai", "anthropic")
        for model in provider.models
        if list_price(provider, model, date(2024, 1, 1)) != list_price(provider, model, DAY)
    ]
    assert earlier


def test_who_is_not_listed_has_no_price() -> None:
    assert find_listed("nobody-knows-this") is None
    assert find_listed("gpt-5", "nowhere/gpt-5") is None


def test_a_cache_that_is_not_there() -> None:
    price = Price(
        input=Decimal(2), output=Decimal(8), cache_read=Decimal(1), cache_write=Decimal(3), cache_write_hour=Decimal(5)
    )
    tokens = Tokens(100, 20, 30, 7, 5)
    assert dollars_of_call(price, tokens, 10) * 1_000_000 == 100 * 2 + 20 * 1 + 20 * 3 + 10 * 5 + 12 * 8
    assert dollars_of_call(price, without_cache(tokens)) * 1_000_000 == 150 * 2 + 12 * 8
    bare = Price(input=Decimal(2), output=Decimal(8))
    assert dollars_of_call(bare, tokens, 10) * 1_000_000 == 150 * 2 + 12 * 8


def test_a_pod_costs_what_it_requests_or_what_it_uses() -> None:
    rates = ComputeRates(cpu_hour=Decimal("0.04"), gigabyte_hour=Decimal("0.01"), cpu=1, memory=2**30)
    assert dollars_of_pod(rates, 3600, cpu_s=100, memory=2**20) == Decimal("0.05")
    assert dollars_of_pod(rates, 3600, cpu_s=7200, memory=3 * 2**30) == Decimal("0.08") + Decimal("0.03")
    assert dollars_of_pod(rates, 0, cpu_s=0, memory=0) == 0
