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

    ``unknown``: way -> why. ``pods`` is None without compute rates. ``again``: attempts that took several tries, of which the last
    alone is here.
    """

    attempts: int
    tickets: int
    again: int
    simulated: bool
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
    """Takes attempts one at a time. Raises LookupError with every model whose price ``book`` does not know."""
    adding = _Adding(book, renamed, calls)
    pods, seconds = Decimal(0), Decimal(0)
    for attempt in attempts:
        adding.add(attempt)
        seconds += Decimal(repr(attempt.wall_s))
        if compute is not None:
            pods += dollars_of_pod(compute, attempt.wall_s, attempt.cpu_s, attempt.max_rss)
    return adding.whole(seconds / 3600, None if compute is None else pods)


class _Adding:
    """Attempts so far: what each model was used for, and what that costs each way."""

    def __init__(self, book: Book, renamed: Mapping[str, str], calls: Calls) -> None:
        self._book = book
        self._renamed = renamed
        self._calls = calls
        self._tickets: set[str] = set()
        self._attempts = self._again = self._untold = 0
        self._simulated = self._lives_unknown = False
        self._before: Decimal | None = Decimal(0)
        self._total = _nothing()
        self._known = dict.fromkeys(WAYS, Decimal(0))
        self._uses: dict[tuple[str, str], ModelUse] = {}
        self._costs: dict[tuple[str, str], dict[Way, Decimal | None]] = defaultdict(_nothing)
        self._unlisted: dict[Way, set[str]] = defaultdict(set)
        self._no_price: set[str] = set()

    def add(self, attempt: AttemptResult) -> None:
        self._attempts += 1
        self._again += attempt.tries > 1
        self._simulated = self._simulated or attempt.simulated
        self._tickets.add(attempt.ticket)
        self._before = _sum(self._before, attempt.dollars)
        mine = _nothing()
        for use in uses_of_attempt(attempt, self._calls):
            name = self._renamed.get(use.model, use.model)
            price = self._book(replace(use, model=name))
            if price is None:
                self._no_price.add(name)
                continue
            key, whole = (use.model, name), replace(use, provider="", price_source="")
            self._uses[key] = self._uses[key] + whole if key in self._uses else whole
            self._untold += use.unknown
            self._lives_unknown = self._lives_unknown or use.long_cache_write is None
            for way in WAYS:
                dollars = _priced(price, use, way, attempt, self._calls)
                if dollars is None and not use.unknown:
                    self._unlisted[way].add(name)
                self._costs[key][way] = _sum(self._costs[key][way], dollars)
                mine[way] = _sum(mine[way], dollars)
        for way in WAYS:
            self._total[way] = _sum(self._total[way], mine[way])
            self._known[way] += mine[way] or 0

    def whole(self, pod_hours: Decimal, pods: Decimal | None) -> Repricing:
        if self._no_price:
            raise LookupError(", ".join(sorted(self._no_price)))
        told = [f"{self._untold:,} of the calls never said their tokens"] if self._untold else []
        lives = "how long written caches live was not recorded: they are taken to live five minutes"
        return Repricing(
            attempts=self._attempts,
            tickets=len(self._tickets),
            again=self._again,
            simulated=self._simulated,
            before=self._before,
            known=self._known,
            total=self._total,
            unknown={
                way: "; ".join([*told, *_unlisted(way, sorted(self._unlisted[way]))])
                for way in WAYS
                if self._total[way] is None
            },
            models=tuple(
                ModelCost(*key, use.calls, use.unknown, use.tokens, use.dollars, self._costs[key])
                for key, use in sorted(self._uses.items())
            ),
            pod_hours=pod_hours,
            pods=pods,
            notes=(lives,) if self._lives_unknown else (),
        )


def _nothing() -> dict[Way, Decimal | None]:
    return dict.fromkeys(WAYS, Decimal(0))


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
