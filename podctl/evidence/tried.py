"""What an agent tried beyond its boundary, by kind: alike tries are one line. Names are an agent's: bounded, and never trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from podctl.evidence.uses import kind_of_path

#: Different tries that are kept of an attempt; further ones are counted together.
_KEPT = 30
_LENGTH = 120
_OTHER = "others"


@dataclass(frozen=True)
class Tried:
    """``what`` is ``POST payments-api /refunds/{}`` or ``UPDATE table payments``; ``rule`` what decided, ``level`` what it says."""

    what: str
    rule: str
    level: str
    count: int = 1


def tried_of(data: Mapping[str, Any]) -> Tried:
    """Of ``boundary.attempt`` data."""
    target, detail = str(data.get("target", "")), str(data.get("detail", ""))
    method, _, path = detail.partition(" ")
    if data.get("via") == "http":
        what = f"{method} {target} {kind_of_path(path)}"
    elif data.get("via") == "sql":
        what = f"{' '.join(detail.split()[:1]).upper()[:20]} {target}"
    else:
        what = f"{'CALL' if data.get('via') == 'mcp' else data.get('via', '')} {target}"
    return Tried(what[:_LENGTH], str(data.get("policy", ""))[:_LENGTH], str(data.get("level", "human-only")))


def with_tried(before: Iterable[Tried], *more: Tried) -> tuple[Tried, ...]:
    """``before`` and ``more``, alike ones added up."""
    counted = {(one.what, one.rule, one.level): one for one in before}
    for one in more:
        key = (one.what, one.rule, one.level)
        if key not in counted and len(counted) >= _KEPT:
            one = replace(one, what=_OTHER, rule="", level="human-only")
            key = (one.what, one.rule, one.level)
        counted[key] = replace(one, count=one.count + (counted[key].count if key in counted else 0))
    return tuple(counted.values())
