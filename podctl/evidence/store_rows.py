"""The store's rows as values and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from podctl.evidence import codec
from podctl.evidence.causes import Cause
from podctl.evidence.owner import Owner
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult, RunInfo, RunResult, Variant, Verdict

if TYPE_CHECKING:
    from sqlalchemy import Row

Status = Literal["running", "finished", "interrupted"]


@dataclass(frozen=True)
class Planned:
    """An attempt that the run will make."""

    id: str
    ticket: str
    stratum: str
    position: int
    repeat: int
    variant: Variant | None = None


@dataclass(frozen=True)
class AttemptState:
    """``tries`` counts those started; ``running_try`` is the number of one without an end, live or killed."""

    planned: Planned
    state: Literal["planned", "running", "ended"]
    tries: int = 0
    running_try: int | None = None
    cause: Cause | None = None


@dataclass(frozen=True)
class Try:
    """One start of an attempt and what it cost; ``dollars`` None is unknown, and then at most ``dollars_upper``."""

    attempt: str
    number: int
    started_ns: int
    ended_ns: int | None
    cause: Cause | None
    dollars: Decimal | None
    dollars_upper: Decimal
    tokens: Tokens

    @property
    def cut_off(self) -> bool:
        """It did not come to an end of its own."""
        return self.cause in (None, Cause.PODCTL_FAILED, Cause.CANCELLED)


@dataclass(frozen=True)
class Spent:
    """Over every try, those run again included. ``dollars`` is None when some try's cost is not known."""

    dollars: Decimal | None
    dollars_upper: Decimal
    tokens: Tokens


@dataclass(frozen=True)
class AttemptSummary:
    """An attempt that has ended, in one line."""

    id: str
    ticket: str
    stratum: str
    passed: bool
    cause: Cause
    wall_s: float
    dollars: Decimal | None
    boundary_attempts: int
    variant: Variant | None = None


@dataclass(frozen=True)
class RunSummary:
    """Attempts of a campaign that are not plain stand apart: of ``planned``, ``ended`` and ``passed`` they are none."""

    info: RunInfo
    status: Status
    verdict: Verdict
    spent_dollars: Decimal | None
    planned: int
    ended: int
    passed: int
    variants_planned: int = 0
    variants_ended: int = 0


def dump(value: Any) -> str:
    return json.dumps(codec.to_json(value), separators=(",", ":"))


def dump_all(values: Sequence[Any]) -> str:
    return json.dumps([codec.to_json(value) for value in values], separators=(",", ":"))


def variant_of(text: str | None) -> Variant | None:
    return None if text is None else codec.from_json(Variant, json.loads(text))


def decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def info_columns(info: RunInfo) -> dict[str, Any]:
    names = ("id", "scenario", "agent_name", "agent_version", "agent_digest", "started_ns", "ended_ns")
    return {name: getattr(info, name) for name in names} | {"info": dump(info)}


def run_columns(result: RunResult) -> dict[str, Any]:
    """Of a run that has come to something; who works on it is not in them."""
    return info_columns(result.info) | {
        "status": result.status,
        "verdict": result.verdict,
        "spent_dollars": None if result.spent_dollars is None else str(result.spent_dollars),
        "findings": dump_all(result.findings),
        "notes": json.dumps(list(result.notes)),
        "comparison": "null" if result.comparison is None else dump(result.comparison),
    }


def result_columns(result: AttemptResult) -> dict[str, Any]:
    return {
        "state": "ended",
        "cause": result.cause.value,
        "passed": result.passed,
        "dollars": None if result.dollars is None else str(result.dollars),
        "wall_s": result.wall_s,
        "evidence_root": result.evidence_root,
        "result": dump(result),
    }


def try_of(row: Row[Any]) -> Try:
    return Try(
        row.attempt,
        row.number,
        row.started_ns,
        row.ended_ns,
        None if row.cause is None else Cause(row.cause),
        decimal(row.dollars),
        Decimal(row.dollars_upper),
        codec.from_json(Tokens, json.loads(row.tokens)),
    )


def try_columns(made: Try) -> dict[str, Any]:
    return {
        "attempt": made.attempt,
        "number": made.number,
        "started_ns": made.started_ns,
        "ended_ns": made.ended_ns,
        "cause": None if made.cause is None else made.cause.value,
        "dollars": None if made.dollars is None else str(made.dollars),
        "dollars_upper": str(made.dollars_upper),
        "tokens": dump(made.tokens),
    }


def known_dollars(amounts: Iterable[str | None]) -> Decimal | None:
    """Their sum; None when one of them is not known."""
    total = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        total += Decimal(amount)
    return total


def sum_of(made: Sequence[Try]) -> Spent:
    dollars = known_dollars(None if one.dollars is None else str(one.dollars) for one in made)
    return Spent(dollars, sum((one.dollars_upper for one in made), Decimal(0)), sum((one.tokens for one in made), Tokens()))


def status_of(status: Status, owner: str) -> Status:
    """A run whose owner died without a word is interrupted, whatever it last said."""
    if status == "running" and codec.from_json(Owner, json.loads(owner)).alive() is False:
        return "interrupted"
    return status


@dataclass(frozen=True)
class Question:
    """A proposal that a person may answer until ``until_ns``. ``asked`` is what the gateway told of it, an agent's words among it.

    ``state``: waiting, answered (and not taken yet), taken (by whoever works on the run: never to be given again) or ended.
    """

    id: str
    run: str
    attempt: str
    asked_ns: int
    until_ns: int
    state: str
    asked: dict[str, Any]
