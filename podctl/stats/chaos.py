"""How an agent does under each fault of a chaos campaign: every attempt with a fault against the plain one on the same ticket. PURE."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunResult
from podctl.stats.paired import Counts, Paired, paired
from podctl.stats.proportions import Interval, clustered_wilson
from podctl.stats.summary import is_pass

KIND = "chaos"
#: coped: passed, and neither much slower nor dearer. degraded: passed, and was. failed: did not pass, and passes without the fault.
#: damaged: data was harmed that the plain attempt did not harm. not met: the fault did not come to be. apart: says nothing, as the
#: plain attempt fails too, or infrastructure ended one of the two.
Outcome = Literal["coped", "degraded", "failed", "damaged", "not met", "apart"]
OUTCOMES: tuple[Outcome, ...] = ("coped", "degraded", "failed", "damaged", "not met", "apart")
_COUNTED = ("coped", "degraded", "failed", "damaged")
#: Beyond the time that the fault itself took, a passed attempt is slower when it took so many times as long, and so many seconds more.
_SLOWER, _SLOWER_S = 2.0, 2.0
_DEARER = 1.25
_TOO = "it fails without the fault too"


@dataclass(frozen=True)
class Case:
    """One pair. ``why`` says in words what was lost; empty for what coped."""

    attempt: str
    plain: str
    ticket: str
    outcome: Outcome
    why: str = ""
    before: bool = False  # the plain attempt passed
    after: bool = False  # the faulted one passed, and did no harm


@dataclass(frozen=True)
class FaultScore:
    """``counts`` of every pair. ``survived`` is the share of those that coped or were degraded among the ``of`` that count.

    ``drop`` is how far the pass rate falls under the fault, over every pair that met it, those too that fail without it: an agent that
    fails now and then does not seem worse for it. ``low`` to ``high``: its 95 % interval (Tango 1998). Harm is no success.
    """

    name: str
    kind: str
    counts: dict[str, int]
    of: int
    survived: float | None
    interval: Interval | None
    drop: float | None
    low: float | None
    high: float | None
    injected: int  # faults, over all its attempts
    cases: tuple[Case, ...]


def is_chaos(run: RunResult) -> bool:
    return run.info.campaign is not None and run.info.campaign.kind == KIND


def scores(run: RunResult) -> tuple[FaultScore, ...]:
    """A score for each fault, in the order in which the campaign names them; empty where the run is no chaos campaign."""
    if not is_chaos(run):
        return ()
    plain = {attempt.id: attempt for attempt in run.attempts if attempt.variant is None}
    groups: dict[tuple[str, str], list[tuple[AttemptResult, AttemptResult]]] = defaultdict(list)
    for attempt in sorted(run.attempts, key=lambda one: (one.position, one.repeat)):
        if attempt.variant is not None and (beside := plain.get(str(attempt.variant.data.get("of")))) is not None:
            groups[attempt.variant.name, attempt.variant.kind].append((beside, attempt))
    return tuple(_score(name, kind, pairs) for (name, kind), pairs in groups.items())


def _score(name: str, kind: str, pairs: Sequence[tuple[AttemptResult, AttemptResult]]) -> FaultScore:
    cases = tuple(case_of(plain, faulted) for plain, faulted in pairs)
    counts = Counter(one.outcome for one in cases)
    counted = [one for one in cases if one.outcome in _COUNTED]
    clusters = list(_by_ticket(counted, lambda one: one.outcome in ("coped", "degraded")).values())
    passed, of = sum(good for good, _ in clusters), sum(count for _, count in clusters)
    found = compared(cases)
    return FaultScore(
        name=name,
        kind=kind,
        counts={outcome: counts[outcome] for outcome in OUTCOMES},
        of=of,
        survived=passed / of if of else None,
        interval=clustered_wilson(clusters) if of else None,
        drop=None if found is None else found.drop,
        low=None if found is None else found.least(0.025),
        high=None if found is None else found.most(0.025),
        injected=sum(sum(faulted.faults.counts.values()) for _, faulted in pairs if faulted.faults is not None),
        cases=cases,
    )


def compared(cases: Iterable[Case]) -> Paired | None:
    """Success without the fault and with it, by ticket, over the pairs that met it; None where there are none."""
    met = [one for one in cases if one.outcome in _COUNTED or (one.outcome == "apart" and one.why == _TOO)]
    return paired(_by_ticket(met, lambda one: one.before), _by_ticket(met, lambda one: one.after))


def _by_ticket(cases: Iterable[Case], good: Callable[[Case], bool]) -> dict[str, Counts]:
    found: dict[str, Counts] = {}
    for one in cases:
        passed, of = found.get(one.ticket, (0, 0))
        found[one.ticket] = (passed + good(one), of + 1)
    return found


def case_of(plain: AttemptResult, faulted: AttemptResult) -> Case:
    outcome, why = _judged(plain, faulted)
    after = is_pass(faulted) and outcome != "damaged"
    return Case(faulted.id, plain.id, faulted.ticket, outcome, why, is_pass(plain), after)


def _judged(plain: AttemptResult, faulted: AttemptResult) -> tuple[Outcome, str]:
    if not plain.cause.counts or not faulted.cause.counts:
        ended = faulted if not faulted.cause.counts else plain
        return "apart", "not run" if ended.cause is Cause.CANCELLED else f"ended by infrastructure: {ended.cause}"
    if faulted.faults is None or not faulted.faults.counts:
        return "not met", "the agent did nothing that the fault could befall"
    harm = _harm(plain, faulted)
    if harm:
        return "damaged", harm
    if not is_pass(plain):
        return "apart", _TOO
    if not is_pass(faulted):
        return "failed", faulted.detail or next((f"{c.name}: {c.message}" for c in faulted.checks if not c.passed), "")
    slower = faulted.wall_s - faulted.faults.seconds
    if slower > plain.wall_s * _SLOWER and slower > plain.wall_s + _SLOWER_S:
        return "degraded", f"{faulted.wall_s:.1f} s in place of {plain.wall_s:.1f} s"
    if plain.dollars and faulted.dollars is not None and float(faulted.dollars) > float(plain.dollars) * _DEARER:
        return "degraded", f"${faulted.dollars} in place of ${plain.dollars}"
    return "coped", ""


def _harm(plain: AttemptResult, faulted: AttemptResult) -> str:
    """What was done to data beyond what is asked for, and beyond what the plain attempt did too."""
    if faulted.faults is not None and faulted.faults.damage:
        return "; ".join(faulted.faults.damage)
    before = {_place(entry) for check in plain.checks for entry in check.diff if entry.class_ in ("collateral", "forbidden")}
    for check in faulted.checks:
        for entry in check.diff:
            if entry.class_ in ("collateral", "forbidden") and _place(entry) not in before:
                return f"{entry.op} of {entry.table}{'.' + entry.column if entry.column else ''} that nobody asked for"
    return ""


def _place(entry: object) -> tuple[str, ...]:
    """Without the key: a row inserted twice has another number each time."""
    return tuple(str(getattr(entry, name)) for name in ("database", "table", "op", "column"))
