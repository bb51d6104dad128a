"""A run's attempts as arrays: what each used and how it ended, by ticket and stratum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from podctl.errors import ExitCode, PodctlError
from podctl.evidence.approvals import ApprovalCounts, in_all
from podctl.evidence.causes import Cause
from podctl.evidence.records import TOKEN_KINDS
from podctl.evidence.results import AttemptResult, RunInfo
from podctl.projection.resampling import Floats
from podctl.stats.summary import is_infrastructure, is_pass

#: What is known of an attempt, in the order of the columns. ``dollars`` are the model's, not a number where unknown.
COLUMNS = ("dollars", "hours", "resolved", "handed_over", "wrong", *TOKEN_KINDS, "calls", "attention_hours")
#: Endings that leave a wrong outcome behind which looks like a right one, or changes that must not be.
_WRONG = (Cause.COMPLETED, Cause.BOUNDARY_VIOLATION)


@dataclass(frozen=True)
class Drawn:
    """Tickets of one stratum that had the same chance to be drawn, with an attempt that counts.

    ``attempts``: attempts × `COLUMNS`; ``owners``: the ticket of each, 0 to ``tickets`` − 1. They stand for ``share`` of the
    stratum's population, which is ``population`` tickets, of which ``sampled`` were drawn, or ``by_name`` had to be in the sample.
    """

    attempts: Floats
    owners: np.ndarray[tuple[int], np.dtype[np.int64]]
    tickets: int
    share: float
    population: int
    sampled: int
    by_name: bool = False

    def per_ticket(self, column: Floats) -> Floats:
        """Mean over each ticket's attempts."""
        counts = np.bincount(self.owners, minlength=self.tickets)
        return np.bincount(self.owners, weights=column, minlength=self.tickets) / counts

    def within(self, column: Floats) -> float | None:
        """Variance among attempts on the same ticket, pooled; None without repeats."""
        freedom = len(self.owners) - self.tickets
        if freedom < 1:
            return None
        return float(((column - self.per_ticket(column)[self.owners]) ** 2).sum() / freedom)

    @property
    def repeats(self) -> float:
        """Attempts a ticket: the harmonic mean, as variances of means have it."""
        return self.tickets / float((1 / np.bincount(self.owners, minlength=self.tickets)).sum())


@dataclass(frozen=True)
class Sampled:
    """``strata``: name -> its groups, none where no ticket counts. ``certain``: tickets that were in the sample by name.

    Counts of attempts: ``attempts`` in all; ended by ``infrastructure``; ``not_run``; of ``unpriced`` the dollars are not known.
    ``approvals``: of what those that count proposed, on ``proposing`` tickets; None where nobody answered.
    """

    info: RunInfo
    strata: Mapping[str, tuple[Drawn, ...]]
    attempts: int
    counted: int
    infrastructure: int
    not_run: int
    unpriced: int
    certain: int
    simulated: bool
    approvals: ApprovalCounts | None = None
    proposing: int = 0

    @property
    def tickets(self) -> int:
        return sum(group.tickets for groups in self.strata.values() for group in groups)

    @property
    def population(self) -> dict[str, int]:
        return {name: there for name, (_, there) in self.info.strata.items()}


def sampled(info: RunInfo, attempts: Iterable[AttemptResult]) -> Sampled:
    """Takes attempts one at a time and keeps a few numbers of each. Raises `PodctlError` for costs below 0."""
    if info.suite:
        raise PodctlError(
            f"run {info.id} worked the suite {info.suite}, which is no sample",
            code="suite-no-sample",
            cause="its cases were kept because they went wrong: what real tickets cost and come to, they do not say",
            unchanged="nothing was kept",
            hint="project a run whose tickets were drawn from a source",
            exit_code=ExitCode.USAGE,
        )
    certain = frozenset(map(str, (info.settings.get("sample") or {}).get("include") or ()))
    rows: dict[str, dict[str, list[list[float]]]] = {}
    counts = dict.fromkeys(("attempts", "counted", "infrastructure", "not_run", "unpriced"), 0)
    simulated = info.simulated
    approvals: ApprovalCounts | None = None
    proposing: set[str] = set()
    for attempt in attempts:
        counts["attempts"] += 1
        counts["infrastructure"] += is_infrastructure(attempt)
        counts["not_run"] += attempt.cause is Cause.CANCELLED
        if not attempt.cause.counts:
            continue
        counts["counted"] += 1
        counts["unpriced"] += attempt.dollars is None
        simulated = simulated or attempt.simulated
        approvals = in_all((approvals, attempt.approvals))
        if attempt.approvals is not None and attempt.approvals.proposed:
            proposing.add(attempt.ticket)
        rows.setdefault(attempt.stratum, {}).setdefault(attempt.ticket, []).append(_row(attempt))
    names = sorted({*info.strata, *rows})
    strata = {name: _groups(info.strata.get(name, (0, 0)), rows.get(name, {}), certain) for name in names}
    return Sampled(
        info=info,
        strata=strata,
        certain=sum(ticket in certain for tickets in rows.values() for ticket in tickets),
        simulated=simulated,
        approvals=approvals,
        proposing=len(proposing),
        **counts,
    )


def _row(attempt: AttemptResult) -> list[float]:
    if (attempt.dollars is not None and attempt.dollars < 0) or attempt.wall_s < 0:
        raise PodctlError(
            f"attempt {attempt.id} says that it cost {attempt.dollars} dollars and took {attempt.wall_s} seconds",
            code="projection-negative",
            unchanged="nothing was projected",
            hint="a cost below 0 is no cost: podctl audit verify shows whether the evidence is what was sealed",
            exit_code=ExitCode.ENVIRONMENT,
        )
    resolved = is_pass(attempt)
    wrong = not resolved and attempt.cause in _WRONG
    return [
        float("nan") if attempt.dollars is None else float(attempt.dollars),
        attempt.wall_s / 3600,
        float(resolved),
        float(not resolved and not wrong),
        float(wrong),
        *(float(getattr(attempt.tokens, kind)) for kind in TOKEN_KINDS),
        float(attempt.model_calls),
        0.0 if attempt.approvals is None else attempt.approvals.attention_s / 3600,
    ]


def _groups(
    drawn: tuple[int, int], tickets: Mapping[str, Sequence[Sequence[float]]], certain: frozenset[str]
) -> tuple[Drawn, ...]:
    """Those that had to be in the sample stand for themselves, the others for the rest of the stratum (Horvitz and Thompson 1952).

    Where no chance was left, those by name stand for all of it, as `podctl.tickets.sample` has it. None where nothing counts.
    """
    taken, population = drawn
    by_name = {ticket: rows for ticket, rows in tickets.items() if ticket in certain}
    by_chance = {ticket: rows for ticket, rows in tickets.items() if ticket not in certain}
    named = len(by_name)
    if not by_chance:
        # Where chance drew some of which none counts, those that were named tell nothing of the others.
        return (_group(by_name, 1.0, population, named, by_name=named < population),) if 0 < named == taken else ()
    if not named:
        return (_group(by_chance, 1.0, population, taken),)
    return (
        _group(by_name, named / population, named, named, by_name=True),
        _group(by_chance, 1 - named / population, population - named, taken - named),
    )


def _group(
    tickets: Mapping[str, Sequence[Sequence[float]]], share: float, population: int, sampled: int, *, by_name: bool = False
) -> Drawn:
    owners = np.repeat(np.arange(len(tickets)), [len(rows) for rows in tickets.values()])
    attempts = np.array([row for rows in tickets.values() for row in rows], dtype=np.float64)
    return Drawn(attempts, owners, len(tickets), share, population, sampled, by_name)
