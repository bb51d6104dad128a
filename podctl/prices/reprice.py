"""Old runs at other prices: the tokens that were measured, at what they would cost. No model is asked anything.

It cannot know what another model would have done: its tokens, steps and outcomes would be its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult
from podctl.evidence.usage import ModelUse, merged
from podctl.prices.money import dollars_of_call, dollars_of_pod, without_cache
from podctl.spec.prices import ComputeRates, LockedPrice, TieredPrice

#: At what is paid, at list prices, at what is paid if nothing were cached, and in batches.
Way = Literal["paid", "listed", "uncached", "batched"]
WAYS: tuple[Way, ...] = ("paid", "listed", "uncached", "batched")

#: An attempt's model calls, each for itself, as its evidence has them.
Calls = Callable[[AttemptResult], Sequence[ModelUse]]
#: A model's price; None: nobody knows it. Of a use, for the same name may be several providers'.
Book = Callable[[ModelUse], LockedPrice | None]


@dataclass(frozen=True)
class ModelCost:
    """What the attempts used of one model, and what it costs each way; None: unknown, with the reason in `Repricing.unknown`."""

    model: str
    priced_as: str
    calls: int
    untold: int  # calls that never said their tokens
    tokens: Tokens
    before: Decimal | None
    dollars: Mapping[Way, Decimal | None]


@dataclass(frozen=True)
class Repricing:
    """``known`` is what the attempts come to whose cost is known; ``total`` None when some cost is not.

    ``unknown``: way -> why. ``pods`` is None without compute rates.
    """

    attempts: int
    tickets: int
    before: Decimal | None
    known: Mapping[Way, Decimal]
    total: Mapping[Way, Decimal | None]
    unknown: Mapping[Way, str]
    models: tuple[ModelCost, ...]
    pod_hours: Decimal
    pods: Decimal | None
    notes: tuple[str, ...]


def reprice(
    attempts: Iterable[AttemptResult],
    book: Book,
    renamed: Mapping[str, str],
    calls: Calls,
    compute: ComputeRates | None = None,
) -> Repricing:
    """Raises LookupError with every model whose price ``book`` does not know."""
    worked: list[AttemptResult] = []
    uses: dict[tuple[str, str], list[ModelUse]] = defaultdict(list)
    costs: dict[tuple[str, str], dict[Way, Decimal | None]] = defaultdict(lambda: dict.fromkeys(WAYS, Decimal(0)))
    known, total = dict.fromkeys(WAYS, Decimal(0)), dict[Way, Decimal | None](dict.fromkeys(WAYS, Decimal(0)))
    pods = Decimal(0)
    untold, hour_unknown, no_price = 0, 0, set[str]()
    unlisted: dict[Way, set[str]] = defaultdict(set)
    for attempt in attempts:
        worked.append(attempt)
        if compute is not None:
            pods += dollars_of_pod(compute, attempt.wall_s, attempt.cpu_s, attempt.max_rss)
        mine = dict[Way, Decimal | None](dict.fromkeys(WAYS, Decimal(0)))
        for use in uses_of_attempt(attempt, calls):
            asked = replace(use, model=renamed.get(use.model, use.model))
            price = book(asked)
            if price is None:
                no_price.add(asked.model)
                continue
            key = (use.model, asked.model)
            uses[key].append(replace(use, provider="", price_source=""))
            untold += use.unknown
            hour_unknown += use.long_cache_write is None
            for way in WAYS:
                dollars = _priced(price, use, way, attempt, calls)
                if dollars is None and not use.unknown:
                    unlisted[way].add(asked.model)
                costs[key][way] = _sum(costs[key][way], dollars)
                mine[way] = _sum(mine[way], dollars)
        for way in WAYS:
            total[way] = _sum(total[way], mine[way])
            known[way] += mine[way] or 0
    if no_price:
        raise LookupError(", ".join(sorted(no_price)))
    models = []
    for key, parts in sorted(uses.items()):
        (whole,) = merged(parts)
        models.append(ModelCost(*key, whole.calls, whole.unknown, whole.tokens, whole.dollars, costs[key]))
    told = [f"{untold:,} of the calls never said their tokens"] if untold else []
    why = {way: "; ".join([*told, *_unlisted(way, sorted(unlisted[way]))]) for way in WAYS}
    notes = []
    if hour_unknown:
        notes.append("how long written caches live was not recorded: they are taken to live five minutes")
    return Repricing(
        attempts=len(worked),
        tickets=len({attempt.ticket for attempt in worked}),
        before=_total(attempt.dollars for attempt in worked),
        known=known,
        total=total,
        unknown={way: why[way] for way in WAYS if total[way] is None},
        models=tuple(models),
        pod_hours=sum((Decimal(repr(attempt.wall_s)) for attempt in worked), Decimal(0)) / 3600,
        pods=None if compute is None else pods,
        notes=tuple(notes),
    )


def repriced(attempt: AttemptResult, book: Book, renamed: Mapping[str, str], calls: Calls, way: Way = "paid") -> AttemptResult:
    """The attempt at other prices; its dollars are None where they are not known. Raises LookupError as `reprice`."""
    whole = reprice([attempt], book, renamed, calls)
    return replace(attempt, dollars=whole.total[way])


def uses_of_attempt(attempt: AttemptResult, calls: Calls) -> Sequence[ModelUse]:
    """Of runs older than the count, from the evidence."""
    if attempt.models is not None:
        return attempt.models
    return merged(calls(attempt)) if attempt.model_calls else ()


def _priced(price: LockedPrice, use: ModelUse, way: Way, attempt: AttemptResult, calls: Calls) -> Decimal | None:
    paid = {"batched": price.paid_in_batches, "listed": price.list_price}.get(way, price.paid)
    if use.unknown or paid is None:
        return None
    if use.calls < 2 or not paid.long:
        return _dollars(paid, use, way)
    if use.largest_input <= paid.long[0].above:
        return _dollars(paid.model_copy(update={"long": ()}), use, way)
    # Some calls were long, and which tokens were theirs only the calls themselves say.
    same = [
        one
        for one in calls(attempt)
        if (one.provider, one.model, one.price_source) == (use.provider, use.model, use.price_source)
    ]
    return sum((_dollars(paid, one, way) for one in same), Decimal(0))


def _dollars(price: TieredPrice, use: ModelUse, way: Way) -> Decimal:
    if way == "uncached":
        return dollars_of_call(price, without_cache(use.tokens))
    return dollars_of_call(price, use.tokens, use.long_cache_write or 0)


def _unlisted(way: Way, models: Sequence[str]) -> list[str]:
    if not models:
        return []
    return [f"nobody lists {'what batches cost of' if way == 'batched' else 'a price of'} {', '.join(models)}"]


def _sum(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    return None if one is None or other is None else one + other


def _total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    total: Decimal | None = Decimal(0)
    for amount in amounts:
        total = _sum(total, amount)
    return total
