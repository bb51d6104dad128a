"""What the records of an attempt come to: model calls with an answer, tokens, dollars, counts, phases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from podctl.evidence.records import TOKEN_KINDS, Record, Tokens


def mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def number(value: object) -> float | None:
    """A finite number that is no boolean; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def tokens_of(record: Record) -> Tokens | None:
    """None when the provider did not say."""
    told = record.data.get("tokens")
    if not isinstance(told, dict):
        return None
    return Tokens.from_json({kind: int(number(told.get(kind)) or 0) for kind in TOKEN_KINDS})


def dollars_of(record: Record) -> Decimal | None:
    try:
        amount = Decimal(str(record.data.get("dollars")))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.t, record.writer, record.seq))


def without_answered_starts(records: Iterable[Record]) -> list[Record]:
    """The gateway records a model call when it starts and again when it is settled; the second stands for both."""
    kept = list(records)
    settled = {_call_id(record) for record in kept if record.kind == "model.call" and not is_start(record)}
    return [record for record in kept if not (is_start(record) and _call_id(record) in settled)]


def is_start(record: Record) -> bool:
    return record.kind == "model.call" and record.data.get("status") == "started"


def _call_id(record: Record) -> str:
    return str(record.data.get("call_id") or f"{record.writer}/{record.seq}")


@dataclass(frozen=True)
class Totals:
    """``dollars`` is None when the cost of some model call is not known; ``wall_s`` None when no record says it."""

    counts: dict[str, int]  # record kind -> number
    tokens: Tokens  # of the calls that say
    untold: int  # calls whose tokens are not known
    dollars: Decimal | None
    simulated: bool
    wall_s: float | None
    phases: dict[str, float]  # seconds


def totals(records: Sequence[Record]) -> Totals:
    settled = without_answered_starts(records)
    calls = [record for record in settled if record.kind == "model.call"]
    dollars: Decimal | None = Decimal(0)
    for call in calls:
        cost = dollars_of(call)
        dollars = None if dollars is None or cost is None else dollars + cost
    usage = next((record.data for record in reversed(settled) if record.kind == "usage"), {})
    timed = {name: number(value) for name, value in mapping(usage.get("phases")).items()}
    return Totals(
        counts=dict(Counter(record.kind for record in settled)),
        tokens=sum((tokens_of(call) or Tokens() for call in calls), Tokens()),
        untold=sum(tokens_of(call) is None for call in calls),
        dollars=dollars,
        simulated=any(call.data.get("simulated") is True for call in calls),
        wall_s=number(usage.get("wall_s")),
        phases={name: seconds for name, seconds in timed.items() if seconds is not None},
    )
