"""What an attempt used of each model: the quantities that prices apply to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from podctl.evidence.calls import dollars_of, is_start, tokens_of, without_answered_starts
from podctl.evidence.records import Record, Tokens


@dataclass(frozen=True)
class ModelUse:
    """Calls of one model, as the agent named it, at prices from one source.

    Of ``calls``, ``unknown`` never said their tokens: they are in no other count, and ``dollars`` is None.
    ``long_cache_write`` of ``tokens.cache_write`` were written to live an hour; None: nobody wrote it down.
    ``largest_input``: all the input tokens of the call that had most, for prices that change with a call's length.
    """

    provider: str
    model: str
    price_source: str = ""
    calls: int = 0
    unknown: int = 0
    tokens: Tokens = Tokens()
    long_cache_write: int | None = 0
    largest_input: int = 0
    dollars: Decimal | None = Decimal(0)

    def __add__(self, other: ModelUse) -> ModelUse:
        """Of the same model, provider and source."""
        hour = (self.long_cache_write, other.long_cache_write)
        return replace(
            self,
            calls=self.calls + other.calls,
            unknown=self.unknown + other.unknown,
            tokens=self.tokens + other.tokens,
            long_cache_write=None if None in hour else sum(part or 0 for part in hour),
            largest_input=max(self.largest_input, other.largest_input),
            dollars=None if self.dollars is None or other.dollars is None else self.dollars + other.dollars,
        )


def use_of(facts: Mapping[str, Any], tokens: Tokens | None, dollars: Decimal | None) -> ModelUse:
    """One model call by what its record says besides."""
    told = tokens or Tokens()
    # A record without the count is older than the count, or of a call whose tokens are unknown.
    hour = facts.get("long_cache_write", None if told.cache_write else 0)
    return ModelUse(
        provider=str(facts.get("provider") or ""),
        model=str(facts.get("model") or ""),
        price_source=str(facts.get("price_source") or ""),
        calls=1,
        unknown=int(tokens is None),
        tokens=told,
        long_cache_write=hour if isinstance(hour, int) and not isinstance(hour, bool) else None,
        largest_input=told.input + told.cache_read + told.cache_write,
        dollars=dollars,
    )


def merged(uses: Iterable[ModelUse]) -> tuple[ModelUse, ...]:
    """One for each model, provider and source, in the order of their first calls."""
    found: dict[tuple[str, str, str], ModelUse] = {}
    for use in uses:
        key = (use.provider, use.model, use.price_source)
        found[key] = found[key] + use if key in found else use
    return tuple(found.values())


def uses_of(records: Iterable[Record]) -> list[ModelUse]:
    """Every model call of an attempt's evidence; one that was begun and never settled is unknown."""
    calls = [record for record in without_answered_starts(records) if record.kind == "model.call"]
    return [
        use_of(call.data, None, None) if is_start(call) else use_of(call.data, tokens_of(call), dollars_of(call))
        for call in calls
    ]
