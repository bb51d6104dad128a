"""What rules answer to a proposal, as a scenario has them; drawn by a seed, so that a run can be repeated."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random
from statistics import NormalDist
from typing import Any, Literal

from podctl.spec.approvals import ApprovalRule, Approvals, Condition, Delay, is_called

#: A lognormal's p90 is this many standard deviations above its median, on the log scale.
_P90 = NormalDist().inv_cdf(0.9)
#: Of a delay that is drawn: a week, as of those that are written.
_LONGEST_S = 7 * 86_400.0
_NUMBER = re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)
_MISSING = object()
_OF_A_ROW = ("key", "values", "row")


@dataclass(frozen=True)
class Answer:
    """``answer`` is ``ask`` where people are to be asked. ``by`` names the rule, or is ``nobody``; times are seconds: how long the answer
    takes, how much of a person's attention, and how long people have."""

    answer: Literal["approved", "denied", "ask"]
    by: str
    reason: str = ""
    delay_s: float = 0.0
    attention_s: float = 0.0
    timeout_s: float = 0.0


def answer(spec: Approvals, rule: str, values: Mapping[str, Any], seed: str, parts: tuple[str, ...] = ()) -> Answer:
    """The answer of the first rule that covers what the boundary's ``rule`` recommends.

    ``values``: ``ticket``, and ``body``, ``arguments``, or ``key``, ``values`` and ``row``, as JSON; one that could not be read is not there.
    The same ``seed`` draws the same. ``parts``: names of what is recommended of it, such as ``UPDATE shop-db.orders.status``, where a rule
    may be about less than ``rule``: one that denies covers it by any of them, every other by all.
    """
    random = Random(seed)
    for number, one in enumerate(spec.rules, 1):
        covers = _covers(one, rule, values, parts)
        # What cannot be told does not approve, and does not go past a rule that denies.
        if covers or (covers is None and one.answer == "deny"):
            return _answer(one, f"rule {number}", random)
    return Answer("denied", "nobody", "no rule covers it")


def _answer(rule: ApprovalRule, by: str, random: Random) -> Answer:
    drawn = random.random()
    attention = rule.attention or 0.0
    if rule.answer == "person":
        return Answer("ask", by, rule.reason, attention_s=attention, timeout_s=rule.timeout)
    approved = rule.answer == "approve" or (rule.share is not None and drawn < rule.share)
    return Answer("approved" if approved else "denied", by, rule.reason, round(_drawn(rule.delay, random), 3), attention)


def _drawn(delay: float | Delay | None, random: Random) -> float:
    if not isinstance(delay, Delay):
        return delay or 0.0
    if delay.median is not None and delay.p90 is not None:
        sigma = math.log(delay.p90 / delay.median) / _P90
        return min(_LONGEST_S, delay.median * math.exp(sigma * random.gauss()))
    return random.uniform(delay.least or 0.0, delay.most or 0.0)


def _covers(rule: ApprovalRule, named: str, values: Mapping[str, Any], parts: tuple[str, ...]) -> bool | None:
    """None: a condition asks for what cannot be told."""
    enough = any if rule.answer == "deny" else all
    by_parts = bool(parts) and enough(is_called(part, rule.of) for part in parts)
    if not (is_called(named, rule.of) or by_parts):
        return False
    held = [_holds(wanted, place, values) for place, wanted in rule.when.items()]
    if False in held:
        return False
    return None if None in held else True


def _holds(wanted: Any, place: str, values: Mapping[str, Any]) -> bool | None:
    root, *names = place.split(".")
    if root not in values:
        return None
    found = values[root]
    if root in _OF_A_ROW and isinstance(found, dict):
        # A column's name may have dots; which there are the database knows, and no agent.
        column = next((".".join(names[:end]) for end in range(len(names), 0, -1) if ".".join(names[:end]) in found), None)
        found, names = (_MISSING, []) if column is None else (found[column], names[column.count(".") + 1 :])
    for name in names:
        found = found.get(name, _MISSING) if isinstance(found, dict) else _MISSING
    if not isinstance(wanted, Condition):
        return _same(found, wanted)
    if wanted.one_of is not None and not any(_same(found, one) for one in wanted.one_of):
        return False
    if wanted.bounds is None:
        return True
    number = _number(found)
    return None if number is None else wanted.bounds[0] <= number <= wanted.bounds[1]


def _same(found: Any, wanted: Any) -> bool:
    """As JSON has them: true is not 1, and 1 is not "1"."""
    if isinstance(found, bool) or isinstance(wanted, bool) or isinstance(found, str) or isinstance(wanted, str):
        return type(found) is type(wanted) and bool(found == wanted)
    return bool(found == wanted)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = (
        value
        if isinstance(value, str)
        else format(Decimal(repr(value)), "f")
        if isinstance(value, float)
        else str(value)
        if abs(value) < 10**18
        else ""
    )
    return Decimal(text) if _NUMBER.fullmatch(text) else None
