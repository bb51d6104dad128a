"""Locks and re-pricing: exact where it can be, unknown where it cannot, an error for a model nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from podctl.errors import SpecError
from podctl.evidence import codec
from podctl.evidence.causes import Cause
from podctl.evidence.records import Record, Tokens
from podctl.evidence.results import AttemptResult
from podctl.evidence.usage import ModelUse, merged, uses_of
from podctl.prices.lock import check_not_ended, drift, listed_book, lock, locked_book, write_lock
from podctl.prices.reprice import reprice, repriced
from podctl.spec.load import load_model
from podctl.spec.prices import AgreedPrice, LockedPrice, LongPrice, PriceLock, Prices, TieredPrice

DAY = date(2026, 11, 22)
FLAT = TieredPrice(input=Decimal(2), output=Decimal(8), cache_read=Decimal(1))
STEEP = TieredPrice(input=Decimal(1), output=Decimal(1), long=(LongPrice(above=1000, input=Decimal(10), output=Decimal(10)),))


SOME = Tokens(100, 20, 0, 30, 10)


def use(model: str = "m", tokens: Tokens = SOME, calls: int = 1, **more: object) -> ModelUse:
    whole = tokens.input + tokens.cache_read + tokens.cache_write
    return ModelUse(**{"provider": "openai", "model": model, "calls": calls, "tokens": tokens, "largest_input": whole} | more)  # type: ignore[arg-type]


def attempt(*uses: ModelUse, number: int = 1, **more: object) -> AttemptResult:
    given = {"models": uses, "model_calls": sum(one.calls for one in uses), "dollars": Decimal("0.5"), **more}
    return AttemptResult(f"{number:04d}-1", f"t{number}", "s", 1, number, Cause.COMPLETED, True, **given)  # type: ignore[arg-type]


def book(**prices: TieredPrice) -> dict[str, LockedPrice]:
    return {name: LockedPrice(list_price=price) for name, price in prices.items()}


def no_calls(attempt: AttemptResult) -> Sequence[ModelUse]:
    raise AssertionError("the evidence is not needed")


def test_the_same_tokens_at_other_prices() -> None:
    found = reprice([attempt(use()), attempt(use(), number=2)], lambda use: book(m=FLAT).get(use.model), {}, no_calls)
    one = Decimal(100 * 2 + 20 * 1 + 40 * 8) / 1_000_000
    assert found.total == {
        "paid": 2 * one,
        "listed": 2 * one,
        "uncached": 2 * Decimal(120 * 2 + 40 * 8) / 1_000_000,
        "batched": None,
    }
    assert found.before == 1
    assert found.models[0].tokens == Tokens(200, 40, 0, 60, 20)
    assert "batches cost of m" in found.unknown["batched"]


def test_another_models_price() -> None:
    prices = book(m=FLAT, small=TieredPrice(input=Decimal(1), output=Decimal(1)))
    found = reprice([attempt(use())], lambda use: prices.get(use.model), {"m": "small"}, no_calls)
    assert (found.models[0].model, found.models[0].priced_as) == ("m", "small")
    assert found.total["paid"] == Decimal(160) / 1_000_000


def test_a_model_nobody_knows_is_an_error_and_never_free() -> None:
    attempts = [attempt(use("a"), use("m"), use("b"))]
    with pytest.raises(LookupError, match="a, b"):
        reprice(attempts, lambda use: book(m=FLAT).get(use.model), {}, no_calls)


def test_usage_that_never_came_is_unknown_and_never_free() -> None:
    silent = use(tokens=Tokens(), unknown=1, dollars=None)
    found = reprice([attempt(use()), attempt(silent, number=2)], lambda use: book(m=FLAT).get(use.model), {}, no_calls)
    assert found.total["paid"] is None
    assert found.known["paid"] == Decimal(540) / 1_000_000
    assert found.unknown["paid"] == "1 of the calls never said their tokens"
    one = repriced(attempt(silent), lambda use: book(m=FLAT).get(use.model), {}, no_calls)
    assert one.dollars is None


def test_many_short_calls_are_not_a_long_one() -> None:
    short = use(tokens=Tokens(input=3000), calls=4, largest_input=900)
    found = reprice([attempt(short)], lambda use: book(m=STEEP).get(use.model), {}, no_calls)
    assert found.total["paid"] == Decimal(3000) / 1_000_000


def test_which_calls_were_long_is_read_from_the_evidence() -> None:
    calls = [use(tokens=Tokens(input=1500)), use(tokens=Tokens(input=500)), use("other", tokens=Tokens(input=9))]
    mixed = attempt(*merged(calls))
    found = reprice([mixed], lambda use: book(m=STEEP, other=STEEP).get(use.model), {}, lambda attempt: calls)
    assert found.total["paid"] == Decimal(1500 * 10 + 500 + 9) / 1_000_000


def test_a_run_older_than_the_count_is_read_from_its_evidence() -> None:
    records = [
        Record(1, "model.call", "agent", {"call_id": "a", "status": "started", "provider": "openai", "model": "m"}),
        Record(2, "model.call", "agent", {"call_id": "a", "status": 200, "provider": "openai", "model": "m", "dollars": "0.1",
                                          "tokens": {"input": 5, "cache_write": 7, "output": 1}}),
        Record(3, "model.call", "agent", {"call_id": "b", "status": "started", "provider": "openai", "model": "m"}),
    ]  # fmt: skip
    (whole,) = merged(uses_of(records))
    assert (whole.calls, whole.unknown, whole.dollars) == (2, 1, None)
    assert whole.tokens == Tokens(input=5, cache_write=7, output=1)
    assert whole.long_cache_write is None
    old = attempt(models=None, model_calls=1)
    found = reprice([old], lambda use: book(m=FLAT).get(use.model), {}, lambda attempt: uses_of(records[:2]))
    assert found.total["paid"] == Decimal(12 * 2 + 8) / 1_000_000
    assert found.notes == ("how long written caches live was not recorded: they are taken to live five minutes",)


def test_a_result_from_before_the_count_is_read() -> None:
    written = codec.to_json(attempt(use()))
    assert codec.from_json(AttemptResult, written) == attempt(use())
    del written["models"]
    assert codec.from_json(AttemptResult, written).models is None


def prices(**models: AgreedPrice) -> Prices:
    return Prices(
        apiVersion="podctl/v1", kind="Prices", models={name.replace("_", "-"): price for name, price in models.items()}
    )


def test_a_lock_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = lock(prices(gpt_5_mini=AgreedPrice(discount=0.15), own=AgreedPrice(price=FLAT, until=date(2026, 12, 31))), {}, DAY)
    write_lock(tmp_path / "prices.lock", made)
    assert load_model(tmp_path / "prices.lock", PriceLock) == made
    assert [path.name for path in tmp_path.iterdir()] == ["prices.lock"]
    mini = made.models["gpt-5-mini"]
    assert mini.list_price is not None and mini.agreed_price is not None
    assert mini.agreed_price.input == mini.list_price.input * Decimal("0.85")
    assert mini.paid_in_batches is not None and mini.batch_list is not None
    assert mini.paid_in_batches.output == mini.batch_list.output * Decimal("0.85")
    assert made.models["own"].list_price is None and made.models["own"].paid_in_batches is None
    assert locked_book(made)(use("own")) == made.models["own"]


def test_everything_without_a_price_is_told_at_once() -> None:
    unknown = prices(nobody=AgreedPrice(), other=AgreedPrice(listed="openai/nobody"), gpt_5=AgreedPrice(until=date(2026, 1, 1)))
    with pytest.raises(SpecError) as raised:
        lock(unknown, {}, DAY)
    assert [line.split(":")[0] for line in raised.value.cause.splitlines()] == ["gpt-5", "nobody", "other"]


def test_what_changed_since_is_told() -> None:
    locked = lock(prices(gpt_5=AgreedPrice(until=DAY)), {}, DAY)
    assert [one.what for one in drift(locked, DAY)] == [""]
    dearer = locked.models["gpt-5"].model_copy(update={"list_price": FLAT})
    (one,) = drift(locked.model_copy(update={"models": {"gpt-5": dearer}}), date(2026, 12, 1))
    assert one.what.startswith(
        f"what was agreed ended on {DAY}; the list price was $2 in, $8 out, $1 cache read and is $1.25 in"
    )
    with pytest.raises(SpecError, match="over"):
        check_not_ended(locked, date(2026, 12, 1))
    check_not_ended(locked, DAY)


def test_list_prices_are_the_called_providers_own() -> None:
    found = listed_book(DAY)
    mini = found(use("gpt-5-mini"))
    assert mini is not None and mini.listed == "openai/gpt-5-mini"
    sonnet = found(use("claude-sonnet-4-5", provider="anthropic"))
    assert sonnet is not None and sonnet.list_price is not None and sonnet.list_price.long[0].above == 200_000
    assert found(use("scripted-anything")) is None
