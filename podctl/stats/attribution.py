"""Where two runs differ: kinds of tickets, reasons of failures, what the agent used. Pure, on tickets that count in both."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, Attribution, Change, RunResult, StratumChange
from podctl.stats.paired import holm, paired
from podctl.stats.summary import by_ticket
from podctl.stats.weighing import Weighing

#: Reasons and uses that are kept, those that changed most.
_KEPT = 20


def failure(attempt: AttemptResult) -> str:
    """The kind of an attempt's failure, alike for tickets that failed alike; empty when it passed."""
    if attempt.passed:
        return ""
    if attempt.cause is not Cause.COMPLETED:
        return attempt.cause.value.replace("_", " ")
    kinds = []
    for check in attempt.checks:
        if not check.passed:
            wrong = sorted({entry.class_ for entry in check.diff} - {"intended"})
            kinds.append(f"{check.name} ({', '.join(wrong)})" if wrong else check.name)
    return "; ".join(kinds)[:200] or "wrong result"


def attribute(baseline: RunResult, run: RunResult, weighing: Weighing | None = None) -> Attribution | None:
    """None without a ticket that counts in both. Shares and counts are of attempts on those tickets that count."""
    aside = run.info.quarantine
    common = by_ticket(baseline.attempts).keys() & by_ticket(run.attempts).keys() - aside.keys()
    old, new = ([a for a in one.attempts if a.ticket in common and a.cause.counts] for one in (baseline, run))
    if not common:
        return None
    reasons = _changes(_reasons(old), len(old), _reasons(new), len(new))
    uses = _changes(_uses(old), len(old), _uses(new), len(new))
    return Attribution(
        strata=_strata(old, new, weighing),
        reasons=_growth_first(reasons[:_KEPT]),
        uses=_growth_first(uses[:_KEPT]),
        totals=_totals(old, new),
        reasons_left_out=len(reasons[_KEPT:]),
        uses_left_out=len(uses[_KEPT:]),
    )


def _strata(old: Sequence[AttemptResult], new: Sequence[AttemptResult], weighing: Weighing | None) -> tuple[StratumChange, ...]:
    """The largest part of the fall first."""
    names = sorted({attempt.stratum for attempt in new})
    before, after = by_ticket(old), by_ticket(new)
    weights = dict.fromkeys(after, 1.0) if weighing is None else weighing.of_each(after)
    whole = math.fsum(weights.values())
    parts: dict[str, float] = defaultdict(float)
    for ticket, stratum in {attempt.ticket: attempt.stratum for attempt in new}.items():
        (passed, of), (now_passed, now_of) = before[ticket], after[ticket]
        parts[stratum] += weights[ticket] / whole * (passed / of - now_passed / now_of)
    found = {name: paired(before, by_ticket(a for a in new if a.stratum == name)) for name in names}
    pairs = {name: one for name, one in found.items() if one is not None}
    chances = holm([one.p_worse for one in pairs.values()])
    changes = [
        StratumChange(
            stratum=name,
            tickets=one.tickets,
            baseline_rate=one.rate_before,
            rate=one.rate,
            worse=one.worse,
            better=one.better,
            chance=chance,
            part_of_fall=parts[name],
        )
        for (name, one), chance in zip(pairs.items(), chances, strict=True)
    ]
    return tuple(sorted(changes, key=lambda change: (-change.part_of_fall, change.stratum)))


def _reasons(attempts: Sequence[AttemptResult]) -> Counter[str]:
    return Counter(kind for attempt in attempts if (kind := failure(attempt)))


def _uses(attempts: Sequence[AttemptResult]) -> Counter[str]:
    counted: Counter[str] = Counter()
    for attempt in attempts:
        counted.update(attempt.uses)
    return counted


def _changes(old: Mapping[str, int], before: int, new: Mapping[str, int], now: int) -> list[Change]:
    """By attempt; the largest first, whichever way."""
    changes = [Change(name, old.get(name, 0) / before, new.get(name, 0) / now) for name in old.keys() | new.keys()]
    changed = [one for one in changes if abs(one.now - one.before) > 1e-9]
    return sorted(changed, key=lambda one: (-abs(one.now - one.before), one.name))


def _growth_first(changes: Sequence[Change]) -> tuple[Change, ...]:
    """What grew most first, what fell most last."""
    return tuple(sorted(changes, key=lambda one: (one.before - one.now, one.name)))


_TOTALS: dict[str, Callable[[AttemptResult], float]] = {
    "model calls": lambda attempt: attempt.model_calls,
    "tokens": lambda attempt: attempt.tokens.total,
    "calls to services": lambda attempt: attempt.http_calls,
    "SQL statements": lambda attempt: attempt.statements,
    "row changes": lambda attempt: attempt.changes,
}


def _totals(old: Sequence[AttemptResult], new: Sequence[AttemptResult]) -> tuple[Change, ...]:
    means = (Change(name, sum(map(of, old)) / len(old), sum(map(of, new)) / len(new)) for name, of in _TOTALS.items())
    return tuple(one for one in means if one.before or one.now)
