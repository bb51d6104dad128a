"""What tokens cost: the scenario's table first, then its price lock, or genai-prices where it has none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from podctl.evidence.records import Tokens
from podctl.prices.lock import check_not_ended
from podctl.prices.money import dollars_of_call
from podctl.spec.load import load_model
from podctl.spec.prices import Price, PriceLock


class Rates(Protocol):
    """A model's price."""

    @property
    def source(self) -> str:
        """Where the price comes from: ``scenario``, ``price lock DAY`` or ``genai-prices``."""

    def dollars(self, tokens: Tokens, long_cache_write: int = 0) -> Decimal:
        """``long_cache_write`` of ``tokens.cache_write`` were written to live an hour."""


@dataclass(frozen=True)
class TableRates:
    """A row of the scenario's table or of its price lock."""

    price: Price
    source: str = "scenario"

    def dollars(self, tokens: Tokens, long_cache_write: int = 0) -> Decimal:
        return dollars_of_call(self.price, tokens, long_cache_write)


@dataclass(frozen=True)
class GenaiRates:
    """The price that the genai-prices data set knows, tiers and hour-long cache writes included."""

    model: str
    provider: str
    source: str = "genai-prices"

    def dollars(self, tokens: Tokens, long_cache_write: int = 0) -> Decimal:
        from genai_prices import Usage, calc_price

        usage: dict[str, Any] = {
            "input_tokens": tokens.input + tokens.cache_read + tokens.cache_write,
            "cache_read_tokens": tokens.cache_read,
            "cache_write_tokens": tokens.cache_write,
            "output_tokens": tokens.output + tokens.reasoning,
        }
        if long_cache_write:
            usage["cache_write_1h_tokens"] = long_cache_write
        return Decimal(calc_price(Usage(**usage), self.model, provider_id=self.provider).total_price)


class PriceBook:
    """With a lock nothing is priced that neither it nor ``table`` has."""

    def __init__(self, table: Mapping[str, Price], lock: PriceLock | None = None) -> None:
        self._table = table
        self._lock = lock
        self._known: dict[tuple[str, str], GenaiRates | None] = {}

    def find(self, provider: str, model: str) -> Rates | None:
        """The model's price, or None when nobody knows it."""
        if model in self._table:
            return TableRates(self._table[model])
        if self._lock is not None:
            locked = self._lock.models.get(model)
            paid = None if locked is None else locked.paid
            return None if paid is None else TableRates(paid, f"price lock {self._lock.day}")
        if model.startswith("scripted-"):
            return None
        key = (provider, model)
        if key not in self._known:
            rates = GenaiRates(model, provider)
            try:
                rates.dollars(Tokens(input=1, output=1))
                self._known[key] = rates
            except (LookupError, ValueError):
                self._known[key] = None
        return self._known[key]


def upper_bound(rates: Rates, input_tokens: int, output_tokens: int) -> Decimal:
    """Dollars of a call whose whole input may turn out to be a cache write, the dearest kind of input."""
    plain = rates.dollars(Tokens(input=input_tokens, output=output_tokens))
    written = rates.dollars(Tokens(cache_write=input_tokens, output=output_tokens))
    return max(plain, written, rates.dollars(Tokens(cache_write=input_tokens, output=output_tokens), input_tokens))


def load_lock(path: Path) -> PriceLock:
    """Raises `SpecError` when it cannot be read, or something in it was agreed until a day that is over."""
    locked = load_model(path, PriceLock)
    check_not_ended(locked, datetime.now(UTC).date())
    return locked
