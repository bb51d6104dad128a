"""What is judged, and how one requirement came out: what the rules of the gate take and give."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from podctl.evidence.results import AttemptResult, Comparison, EarlyStop, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.summary import Summary, by_ticket, summarize
from podctl.stats.weighing import Weighing, weighing_of

#: The chance of a wrong ``fail``, and of a wrong ``pass``.
ALPHA = 0.05


@dataclass(frozen=True)
class Asked:
    """One requirement. With a ``verdict`` it is decided; else ``p_fail`` and ``p_pass`` decide.

    ``open`` is what the message adds when they do not; ``settles`` tickets, in all, would.
    """

    name: str
    measured: str
    required: str
    message: str
    verdict: Verdict | None = None
    stands: bool = False  # even when the rest of the run is no sample
    p_fail: float = 1.0
    p_pass: float = 1.0
    open: str = ""
    fails: str = ""  # what the message adds when it failed, and when it passed
    passes: str = ""
    tickets: int = 0
    settles: int | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class Case:
    """``run`` and ``baseline`` have plain attempts alone; ``whole`` is the run with its campaign's variants."""

    run: RunResult
    gate: Gate
    baseline: RunResult | None
    comparison: Comparison | None
    stop: EarlyStop | None
    whole: RunResult

    @cached_property
    def sample(self) -> list[AttemptResult]:
        """The attempts that may decide: those on tickets in quarantine do not."""
        return [a for a in self.run.attempts if a.ticket not in self.run.info.quarantine]

    @cached_property
    def summary(self) -> Summary:
        return summarize(self.sample)

    @cached_property
    def tickets(self) -> dict[str, tuple[int, int]]:
        return by_ticket(self.sample)

    @cached_property
    def weighing(self) -> Weighing | None:
        return weighing_of(self.run)

    @cached_property
    def everything(self) -> Summary:
        return summarize(self.run.attempts) if self.quarantined else self.summary

    @cached_property
    def quarantined(self) -> int:
        return len({a.ticket for a in self.run.attempts} & self.run.info.quarantine.keys())

    @property
    def quarantined_share(self) -> float:
        return self.quarantined / max(1, len({a.ticket for a in self.run.attempts}))

    @property
    def is_whole(self) -> bool:
        summary = self.summary
        return (
            self.run.status == "finished"
            and self.stop is None
            and summary.rate.of > 0
            and summary.not_run == 0
            and summary.infrastructure_share <= self.gate.infrastructure_failures
            and self.quarantined_share <= self.gate.quarantined
        )


def unknown(name: str, required: str, message: str, measured: str = "unknown") -> Asked:
    return Asked(name, measured, required, message, "inconclusive")


def per_ticket(attempts: Sequence[AttemptResult], value: Callable[[AttemptResult], float]) -> dict[str, float]:
    """Ticket -> the mean over its attempts that count."""
    values: dict[str, list[float]] = defaultdict(list)
    for attempt in attempts:
        if attempt.cause.counts:
            values[attempt.ticket].append(value(attempt))
    return {ticket: math.fsum(each) / len(each) for ticket, each in values.items()}


def meets(condition: bool) -> Verdict:
    return "pass" if condition else "fail"
