"""What tokens cost: the scenario's table first, then genai-prices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from podctl.evidence.records import Tokens
from podctl.spec.models import Price

_MILLION = Decimal(1_000_000)


class Rates(Protocol):
    """A model's price."""

    @property
    def source(self) -> str:
        """Where the price comes from: ``scenario`` or ``genai-prices``."""

    def dollars(self, tokens: Tokens, long_cache_write: int = 0) -> Decimal:
        """``long_cache_write`` of ``tokens.cache_write`` were written to live an hour."""


@dataclass(frozen=True)
class TableRates:
    """A row of the scenario's table. Cache kinds without a price cost what input costs; reasoning is output."""

    price: Price
    source: str = "scenario"

    def dollars(self, tokens: Tokens, long_cache_write: int = 0) -> Decimal:
        price = self.price
        read = price.input if price.cache_read is None else price.cache_read
        write = price.input if price.cache_write is None else price.cache_write
        cost = tokens.input * price.input + tokens.cache_read * read + tokens.cache_write * write
        return (cost + (tokens.output + tokens.reasoning) * price.output) / _MILLION


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
    def __init__(self, table: Mapping[str, Price]) -> None:
        self._table = table
        self._known: dict[tuple[str, str], GenaiRates | None] = {}

    def find(self, provider: str, model: str) -> Rates | None:
        """The model's price, or None when nobody knows it."""
        if model in self._table:
            return TableRates(self._table[model])
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
