"""Prices pinned: list prices of a day with what was agreed, and what has changed since."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TypeVar

import yaml

from podctl.errors import SpecError
from podctl.evidence.safe import printable
from podctl.prices.listed import find_listed, installed_data, list_price
from podctl.prices.reprice import Book
from podctl.spec.base import API_VERSION
from podctl.spec.prices import AgreedPrice, LockedPrice, Price, PriceLock, Prices, TieredPrice

P = TypeVar("P", bound=Price)
_KINDS = ("input", "output", "cache_read", "cache_write", "cache_write_hour")


def lock(prices: Prices, more: Mapping[str, AgreedPrice], day: date) -> PriceLock:
    """The models of ``prices`` and ``more``, at the prices of ``day``.

    Raises `SpecError` with every model whose price nobody knows, and every agreement that is over.
    """
    problems: list[str] = []
    models: dict[str, LockedPrice] = {}
    for name, agreed in sorted({**more, **prices.models}.items()):
        try:
            models[name] = _locked(name, agreed, day)
        except SpecError as error:
            problems.append(f"{printable(name)}: {error.what}" + (f" ({error.hint})" if error.hint else ""))
    if problems:
        raise SpecError(
            "nobody knows what some of the models cost" if len(problems) > 1 else "nobody knows what one of the models costs",
            code="price-unknown",
            cause="\n".join(problems),
            unchanged="nothing was locked",
        )
    return PriceLock(
        apiVersion=API_VERSION,
        kind="PriceLock",
        day=day,
        genai_prices=installed_data(),
        models=models,
        compute=prices.compute,
    )


def _locked(name: str, agreed: AgreedPrice, day: date) -> LockedPrice:
    if agreed.until is not None and agreed.until < day:
        raise SpecError(f"what was agreed ended on {agreed.until}", code="price-ended")
    found = find_listed(name, agreed.listed)
    if found is None and agreed.listed:
        raise SpecError(f"genai-prices lists no {printable(agreed.listed)}", code="price-unknown")
    listed, ordinary, batch = "", None, None
    if found is not None and (agreed.price is None or agreed.listed):
        listed = found[0]
        ordinary = list_price(found[1], found[2], day)
        batch = list_price(found[1], found[2], day, batch=True)
    paid = agreed.price or _less(ordinary, agreed.discount)
    if paid is None and ordinary is None:
        hint = "write what it costs you under price:, or its name there under listed: PROVIDER/MODEL"
        raise SpecError("genai-prices does not list it by tokens", code="price-unknown", hint=hint)
    return LockedPrice(
        listed=listed,
        list_price=ordinary,
        agreed_price=paid,
        batch_list=batch,
        batch_agreed=agreed.batch or _less(batch, agreed.discount),
        until=agreed.until,
        note=agreed.note,
    )


def _less(price: TieredPrice | None, discount: float) -> TieredPrice | None:
    """None without a discount: then nothing but the list price is agreed."""
    if price is None or not discount:
        return None
    part = 1 - Decimal(repr(discount))

    def cut(one: P) -> P:
        return one.model_copy(update={kind: amount * part for kind in _KINDS if (amount := getattr(one, kind)) is not None})

    return cut(price).model_copy(update={"long": tuple(map(cut, price.long))})


@dataclass(frozen=True)
class Drift:
    """How a locked model stands today. ``what`` is empty where nothing changed."""

    model: str
    what: str


def drift(locked: PriceLock, today: date) -> list[Drift]:
    """Every model of the lock against what the installed genai-prices says of today, and agreements that ended."""
    return [Drift(name, "; ".join(_changes(price, today))) for name, price in sorted(locked.models.items())]


def _changes(price: LockedPrice, today: date) -> list[str]:
    said = []
    if price.until is not None and price.until < today:
        said.append(f"what was agreed ended on {price.until}")
    if not price.listed:
        return said
    found = find_listed("", price.listed)
    if found is None:
        return [*said, "is listed no more"]
    for batch, before in ((False, price.list_price), (True, price.batch_list)):
        now = list_price(found[1], found[2], today, batch)
        if now != before:
            name = "the list price of batches" if batch else "the list price"
            said.append(f"{name} was {price_text(before)} and is {price_text(now)}")
    return said


def price_text(price: TieredPrice | None) -> str:
    """``$1.25 in, $10 out`` for a million tokens."""
    if price is None:
        return "unknown"
    more = [
        (price.cache_read, "cache read"),
        (price.cache_write, "cache write"),
        (price.cache_write_hour, "hour's cache write"),
    ]
    parts = [(price.input, "in"), (price.output, "out"), *more]
    text = ", ".join(f"${amount.normalize():f} {name}" for amount, name in parts if amount is not None)
    return text + "".join(
        f"; above {step.above:,} tokens ${step.input.normalize():f} in, ${step.output.normalize():f} out" for step in price.long
    )


def check_not_ended(locked: PriceLock, today: date) -> None:
    """Raises `SpecError` when something is priced by an agreement that is over."""
    ended = [f"{name}: {price.until}" for name, price in sorted(locked.models.items()) if price.until and price.until < today]
    if ended:
        raise SpecError(
            "what was agreed on prices is over",
            code="price-ended",
            cause="\n".join(ended),
            hint="write the new agreement into your prices file, then: podctl prices lock",
        )


def locked_book(locked: PriceLock) -> Book:
    return lambda use: locked.models.get(use.model)


def listed_book(day: date) -> Book:
    """List prices of a day, of the provider that was called where it lists the model, else of whoever does."""

    @cache
    def price(provider: str, model: str) -> LockedPrice | None:
        found = (find_listed(model, f"{provider}/{model}") if provider else None) or find_listed(model)
        if found is None or (ordinary := list_price(found[1], found[2], day)) is None:
            return None
        return LockedPrice(listed=found[0], list_price=ordinary, batch_list=list_price(found[1], found[2], day, batch=True))

    return lambda use: price(use.provider, use.model)


def write_lock(path: Path, locked: PriceLock) -> None:
    """The whole file, or the one before. Raises OSError."""
    value = locked.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    text = "# Written by podctl prices lock. Prices are dollars for a million tokens.\n" + yaml.safe_dump(
        value, sort_keys=False
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
