"""What became of an attempt's proposals, in numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

_ANSWERS = {"approved": "approved", "denied": "denied", "timed-out": "timed_out"}


@dataclass(frozen=True)
class ApprovalCounts:
    """``denied`` and ``timed_out`` are apart; ``failed`` counts approved actions that did not come to an answer. ``attention_s`` is of
    people, as the scenario states it for each proposal that was answered; ``delay_s`` what answers took, most of it only counted;
    ``people_s`` what those that people signed took, measured."""

    proposed: int = 0
    approved: int = 0
    denied: int = 0
    timed_out: int = 0
    executed: int = 0
    failed: int = 0
    simulated: int = 0  # answers of rules
    people: int = 0  # answers that a person signed
    attention_s: float = 0.0
    delay_s: float = 0.0
    people_s: float = 0.0

    def with_record(self, kind: str, data: Mapping[str, Any]) -> ApprovalCounts:
        """These and one record more."""
        if kind == "approval.proposed":
            return replace(self, proposed=self.proposed + 1)
        if kind == "approval.executed":
            return replace(self, executed=self.executed + 1)
        if kind == "approval.returned":
            return replace(self, failed=self.failed + bool(data.get("error")))
        name = _ANSWERS.get(str(data.get("answer"))) if kind == "approval.answered" else None
        if name is None:
            return self
        delay, signed = float(data.get("delay_s") or 0.0), bool(data.get("key"))
        return replace(
            self,
            **{name: getattr(self, name) + 1},
            simulated=self.simulated + bool(data.get("simulated")),
            attention_s=round(self.attention_s + float(data.get("attention_s") or 0.0), 3),
            delay_s=round(self.delay_s + delay, 3),
            people=self.people + signed,
            people_s=round(self.people_s + delay * signed, 3),
        )


def in_all(each: Iterable[ApprovalCounts | None]) -> ApprovalCounts | None:
    """Of several attempts together; None where nobody answered in any."""
    counts = [one for one in each if one is not None]
    if not counts:
        return None
    return ApprovalCounts(**{field.name: sum(getattr(one, field.name) for one in counts) for field in fields(ApprovalCounts)})
