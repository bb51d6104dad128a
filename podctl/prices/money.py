"""Tokens and pod hours times their prices, exactly."""

from __future__ import annotations

from decimal import Decimal

from podctl.evidence.records import Tokens
from podctl.spec.prices import ComputeRates, Price, TieredPrice

_MILLION = Decimal(1_000_000)
_GIGABYTE = Decimal(2**30)


def dollars_of_call(price: Price, tokens: Tokens, long_cache_write: int = 0) -> Decimal:
    """One call; ``long_cache_write`` of ``tokens.cache_write`` were written to live an hour."""
    if isinstance(price, TieredPrice):
        whole = tokens.input + tokens.cache_read + tokens.cache_write
        price = next((long for long in reversed(price.long) if whole > long.above), price)
    read = price.input if price.cache_read is None else price.cache_read
    write = price.input if price.cache_write is None else price.cache_write
    hour = write if price.cache_write_hour is None else price.cache_write_hour
    cost = tokens.input * price.input + tokens.cache_read * read + (tokens.output + tokens.reasoning) * price.output
    return (cost + (tokens.cache_write - long_cache_write) * write + long_cache_write * hour) / _MILLION


def without_cache(tokens: Tokens) -> Tokens:
    """The same call where no cache is: what was read from it or written to it is plain input."""
    return Tokens(tokens.input + tokens.cache_read + tokens.cache_write, 0, 0, tokens.output, tokens.reasoning)


def dollars_of_pod(rates: ComputeRates, seconds: float, cpu_s: float, memory: int) -> Decimal:
    """A pod's time at max(request, usage) × hours × rate, of processor and of memory.

    ``cpu_s`` is processor time in ``seconds`` of wall time, ``memory`` the most bytes in use.
    """
    hours = Decimal(repr(seconds)) / 3600
    cores = max(Decimal(repr(rates.cpu)), Decimal(repr(cpu_s)) / Decimal(repr(seconds)) if seconds else Decimal(0))
    gigabytes = max(rates.memory, memory) / _GIGABYTE
    return hours * (cores * rates.cpu_hour + gigabytes * rates.gigabyte_hour)
