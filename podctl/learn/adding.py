"""Proposed cases into a suite: what is new is written; what is there already, or like what is there, is told and not added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from podctl.learn.library import write_case
from podctl.learn.proposing import Known, known, unfit
from podctl.spec.suite import Case

Outcome = Literal["proposed", "like a case", "there already", "left for later"]


@dataclass(frozen=True)
class Added:
    """``path``: where a proposed case was written; ``before``: the case that it is, or is like."""

    case: Case
    outcome: Outcome
    path: Path | None = None
    before: Known | None = None

    @property
    def words(self) -> str:
        if self.path is not None or self.before is None:
            return str(self.path or self.outcome)
        name = self.before.case.name
        if not self.before.same:
            return f"like case {name}: --ticket adds it all the same"
        changed = (
            f", with other words or another state: reject and remove {name} to learn it anew" if self.before.changed else ""
        )
        return f"is case {name}, {self.before.case.review.status}{changed}"


def added(suite: Path, there: Sequence[Case], proposals: Sequence[Case], *, most: int, by_name: bool) -> Iterator[Added]:
    """``there``: the suite's cases; at most ``most`` are written. ``by_name``: somebody asked for these, so that one like another is written
    too. Raises `SpecError`; what was written before stays."""
    cases, left = list(there), most
    for case in proposals:
        before = known(case, cases)
        if before is not None and (before.same or not by_name):
            yield Added(case, "there already" if before.same else "like a case", before=before)
            continue
        if not left:
            yield Added(case, "left for later")
            continue
        if before is not None:
            case = case.model_copy(update={"origin": case.origin.model_copy(update={"like": before.case.name})})
        try:
            path = write_case(suite, case)
        except ValueError as error:
            raise unfit(case.ticket.id, error) from None
        cases.append(case)
        left -= 1
        yield Added(case, "proposed", path, before)
