"""List prices: what the installed genai-prices knows of a day, and which of its data that is.

What it does not know is unknown. Asked for batches of a model without a batch price it answers with the full price, without
a word; so a batch price counts only where the data have one for that very model.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from podctl.errors import SpecError
from podctl.spec.prices import DataPin, LongPrice, TieredPrice

_DATA = ("data.py", "data_units.py")
_BATCH = {"processing": "batch"}
#: genai-prices' name of a price for a million tokens -> ours
_KINDS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_hour",
}


def installed_data() -> DataPin:
    from importlib.metadata import version

    digest = hashlib.sha256()
    for name in _DATA:
        digest.update(files("genai_prices").joinpath(name).read_bytes())
    return DataPin(version=version("genai-prices"), sha256=digest.hexdigest())


@cache
def _snapshot() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def find_listed(model: str, listed: str | None = None) -> tuple[str, Any, Any] | None:
    """(PROVIDER/MODEL, provider, model) as genai-prices has it; None when it does not know the model."""
    provider, name = listed.split("/", 1) if listed else (None, model)
    try:
        found_provider, found = _snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    return f"{found_provider.id}/{found.id}", found_provider, found


def list_price(provider: Any, model: Any, day: date, batch: bool = False) -> TieredPrice | None:
    """The list price on ``day``, of the dearest hour where hours differ; of batches None unless the data have one.

    Raises `SpecError` where the price is not one of tokens alone.
    """
    hours = [datetime(day.year, day.month, day.day, hour, tzinfo=UTC) for hour in range(24)]
    if batch and not (any(model is own for own in provider.models) and _has_batch(model, hours[0])):
        return None
    context = _BATCH if batch else None
    prices = [_price(model.get_prices(hour, context), f"{provider.id}/{model.id}") for hour in hours]
    known = [price for price in prices if price is not None]
    return max(known, key=lambda price: price.input + price.output) if known else None


def _has_batch(model: Any, moment: datetime) -> bool:
    return any(
        variant.when == _BATCH and (variant.constraint is None or variant.constraint.active(moment))
        for variant in model.price_variants or ()
    )


def _price(found: Any, name: str) -> TieredPrice | None:
    given = {key: value for key, value in vars(found).items() if value is not None}
    if "requests_kcount" in given and "input_mtok" in given:
        raise SpecError(
            f"{name} has a price for each request besides that of tokens",
            code="price-per-request",
            cause="podctl prices tokens alone",
            hint="write what it costs you under price:",
        )
    kinds = {ours: given[theirs] for theirs, ours in _KINDS.items() if theirs in given}
    if "input" not in kinds:
        return None
    kinds.setdefault("output", Decimal(0))  # embeddings have none
    starts = sorted({tier.start for value in kinds.values() for tier in getattr(value, "tiers", ())})
    base = {kind: _at(value, 0) for kind, value in kinds.items()}
    long = tuple(LongPrice(above=start, **{kind: _at(value, start) for kind, value in kinds.items()}) for start in starts)
    return TieredPrice(**base, long=long)


def _at(value: Any, start: int) -> Decimal:
    """The price of calls just longer than ``start``."""
    if isinstance(value, Decimal):
        return value
    tiers = [tier.price for tier in value.tiers if tier.start <= start] if start else []
    return Decimal(tiers[-1] if tiers else value.base)
