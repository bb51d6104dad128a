"""What every report shows, computed once from a run's result; renderers only lay it out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import escape

from podctl.evidence.approvals import ApprovalCounts, in_all
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, DiffEntry, RunResult, TicketFlip
from podctl.evidence.scanned import SEVERITIES, Severity
from podctl.evidence.toollists import notices
from podctl.reports.text import value_text, visible
from podctl.reports.timeline import TimelineRow
from podctl.reports.wording import headline, place, reason
from podctl.stats.attack import AttackSummary, summarize_attack
from podctl.stats.calibration import Calibration, calibrate
from podctl.stats.chaos import Case as ChaosCase
from podctl.stats.chaos import FaultScore, scores
from podctl.stats.compare import majority
from podctl.stats.summary import Summary, by_ticket, crosses_boundary, is_infrastructure, is_pass, summarize
from podctl.stats.units import interval_text, percent
from podctl.stats.weighed_share import WeighedShare, of_clusters
from podctl.stats.weighing import weighing_of

TIMELINE_ROWS = 40
DIFF_ROWS = 30
DETAILED_TICKETS = 100
LISTED_TICKETS = 1000
LISTED_ATTEMPTS = 100
LISTED_FLIPS = 200
LISTED_STRATA = 60
SETTING_ROWS = 200
#: Bytes of HTML that details of failures may take together, after escaping.
DETAIL_BYTES = 1_800_000

TimelineOf = Callable[[str], Sequence[TimelineRow]]
Outcome = Literal["passed", "failed", "infrastructure", "not run"]


@dataclass(frozen=True)
class DiffRow:
    class_: str
    op: str
    where: str
    old: str
    new: str
    expected: str
    actor: str


@dataclass(frozen=True)
class FailedTicket:
    """A ticket whose majority of counted repeats did not pass, and the evidence of its first failed attempt."""

    ticket: str
    stratum: str
    attempt: AttemptResult
    passed: int
    of: int
    reason: str
    diff: tuple[DiffRow, ...] = ()
    diff_left_out: int = 0
    timeline: tuple[TimelineRow, ...] = ()
    timeline_left_out: int = 0


@dataclass(frozen=True)
class BoundaryCase:
    attempt: AttemptResult
    tries: tuple[str, ...]  # what was tried, as far as the evidence says


@dataclass(frozen=True)
class TriedKind:
    """Alike tries of the whole run; ``tickets`` in the order of the attempts, each once."""

    what: str
    rule: str
    level: str
    count: int
    tickets: tuple[str, ...]


@dataclass(frozen=True)
class LetOutKind:
    """One honeytoken in one sink, over the whole run."""

    what: str
    count: int
    tickets: tuple[str, ...]


@dataclass(frozen=True)
class LeftKind:
    """Alike findings in what the run's agents left; ``where`` is the first, ``tickets`` in the order of the attempts, each once."""

    rule: str
    severity: Severity
    what: str
    where: str
    count: int
    tickets: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    run: RunResult
    summary: Summary
    calibration: Calibration | None
    headline: str
    simulated: bool
    notes: tuple[str, ...]
    detailed: tuple[FailedTicket, ...]  # with diff and timeline
    listed: tuple[FailedTicket, ...]  # further failed tickets, one line each
    failed_tickets: int  # all of them
    boundary: tuple[BoundaryCase, ...]
    tried: tuple[TriedKind, ...]  # the most frequent first
    tools: tuple[str, ...]  # what to look at in what MCP servers listed
    approvals: ApprovalCounts | None  # of all attempts; None: nobody answers what is proposed
    chaos: tuple[FaultScore, ...]  # of a chaos campaign, by fault
    let_out: tuple[LetOutKind, ...]  # honeytokens, the most frequent first
    left: tuple[LeftKind, ...]  # the gravest first
    unseen: tuple[str, ...]  # what a scan of what they left could not look at, each once
    infrastructure: tuple[AttemptResult, ...]
    flips: dict[str, tuple[TicketFlip, ...]]  # by stratum, worse before better
    settings: tuple[tuple[str, str], ...]
    show_command: str
    reproduce_command: str
    attack: AttackSummary | None = None  # of an attack campaign

    @property
    def chaos_lost(self) -> tuple[tuple[str, ChaosCase], ...]:
        """(fault, pair) of what did harm, failed or was degraded, in this order."""
        order = ("damaged", "failed", "degraded")
        lost = [(score.name, case) for score in self.chaos for case in score.cases if case.outcome in order]
        return tuple(sorted(lost, key=lambda one: order.index(one[1].outcome)))

    @property
    def left_out_tickets(self) -> int:
        return self.failed_tickets - len(self.detailed) - len(self.listed)


def build_report(
    run: RunResult,
    timeline_of: TimelineOf | None = None,
    *,
    show_command: str = "",
    reproduce_command: str = "",
) -> Report:
    """``timeline_of(attempt_id)`` is asked only for attempts whose timeline is shown, about two hundred at most.

    ``show_command`` is what a reader types to see one attempt in full, ``reproduce_command`` what runs all of it again.
    """
    plain = run.plain
    summary = summarize(plain.attempts)
    timelines = timeline_of or (lambda _: ())
    failed = failed_tickets(plain.attempts)
    detailed, rest = _detail(failed, timelines)
    return Report(
        run=run,
        summary=summary,
        calibration=calibrate(plain.attempts),
        headline=headline(run, summary),
        simulated=run.info.simulated or summary.simulated,
        notes=tuple(_notes(run, summary)),
        detailed=detailed,
        listed=tuple(rest[:LISTED_TICKETS]),
        failed_tickets=len(failed),
        boundary=tuple(_boundary(plain.attempts, timelines)),
        tried=tried_kinds(plain.attempts),
        tools=tuple(notices((a.ticket, one) for a in run.attempts for one in a.tool_lists)),
        approvals=in_all(attempt.approvals for attempt in plain.attempts),
        chaos=scores(run),
        let_out=let_out_kinds(run.attempts),
        left=left_kinds(run.attempts),  # variants' too: what an attack made an agent leave
        unseen=tuple(dict.fromkeys(one for a in run.attempts if a.scan is not None for one in a.scan.unseen)),
        infrastructure=tuple(a for a in plain.attempts if is_infrastructure(a)),
        flips=_flips(run),
        settings=tuple(flatten(run.info.settings))[:SETTING_ROWS],
        show_command=show_command or f"podctl trace {run.info.id} ATTEMPT",
        reproduce_command=reproduce_command,
        attack=summarize_attack(run),
    )


def by_first_seen(attempts: Iterable[AttemptResult]) -> dict[str, list[AttemptResult]]:
    """Ticket -> its attempts by repeat, tickets in the order of the sample."""
    tickets: dict[str, list[AttemptResult]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda a: (a.position, a.repeat)):
        tickets[attempt.ticket].append(attempt)
    return tickets


def outcome(attempts: Sequence[AttemptResult]) -> Outcome:
    """A ticket's outcome over its repeats: the majority of those that count, a tie failing."""
    counts = by_ticket(attempts)
    if counts:
        return "passed" if all(majority(of) for of in counts.values()) else "failed"
    return "not run" if all(a.cause is Cause.CANCELLED for a in attempts) else "infrastructure"


def failed_tickets(attempts: Iterable[AttemptResult]) -> list[FailedTicket]:
    """Failed tickets, those that crossed the boundary first, then in the order of the sample."""
    failed = []
    for ticket, repeats in by_first_seen(attempts).items():
        if outcome(repeats) != "failed":
            continue
        missed = [a for a in repeats if a.cause.counts and not is_pass(a)]
        first = min(missed, key=lambda a: not crosses_boundary(a))
        passed, of = by_ticket(repeats)[ticket]
        failed.append(FailedTicket(ticket, first.stratum, first, passed, of, reason(first)))
    return sorted(failed, key=lambda f: not crosses_boundary(f.attempt))


def diff_rows(attempt: AttemptResult) -> list[DiffRow]:
    """Every difference of every check, what is wrong before what is as intended."""
    order = {"forbidden": 0, "missing": 1, "collateral": 2, "intended": 3}
    entries = sorted((e for check in attempt.checks for e in check.diff), key=lambda e: order[e.class_])
    return [_diff_row(entry) for entry in entries]


def _diff_row(entry: DiffEntry) -> DiffRow:
    whole_row = not entry.column
    return DiffRow(
        class_=entry.class_,
        op=entry.op,
        where=place(entry),
        old="" if whole_row and entry.old is None else value_text(entry.old),
        new="" if (whole_row or entry.class_ == "missing") and entry.new is None else value_text(entry.new),
        expected="" if entry.expected is None else value_text(entry.expected),
        actor=entry.actor,
    )


def excerpt(rows: Sequence[TimelineRow], most: int = TIMELINE_ROWS) -> tuple[TimelineRow, ...]:
    """At most ``most`` rows in their order: the last one, what stands out, then the earliest, single processes after the rest."""
    last = len(rows) - 1
    ranked = sorted(range(len(rows)), key=lambda i: (i != last, rows[i].tone == "neutral", rows[i].minor, i))
    return tuple(rows[i] for i in sorted(ranked[:most]))


def _detail(failed: list[FailedTicket], timelines: TimelineOf) -> tuple[tuple[FailedTicket, ...], list[FailedTicket]]:
    """The first failed tickets with evidence, as many as the page has room for, and the rest without."""
    detailed: list[FailedTicket] = []
    room = DETAIL_BYTES
    for item in failed[:DETAILED_TICKETS]:
        diff, rows = diff_rows(item.attempt), timelines(item.attempt.id)
        full = FailedTicket(
            ticket=item.ticket,
            stratum=item.stratum,
            attempt=item.attempt,
            passed=item.passed,
            of=item.of,
            reason=item.reason,
            diff=tuple(diff[:DIFF_ROWS]),
            diff_left_out=max(0, len(diff) - DIFF_ROWS),
            timeline=excerpt(rows),
            timeline_left_out=max(0, len(rows) - TIMELINE_ROWS),
        )
        room -= _html_bytes(full)
        if room < 0:
            break
        detailed.append(full)
    return tuple(detailed), failed[len(detailed) :]


def _html_bytes(item: FailedTicket) -> int:
    """About what a ticket takes on the page: its text, escaped, and a tag or two around each piece."""
    texts = [item.ticket, item.stratum, item.reason]
    texts += [text for row in item.diff for text in (row.where, row.old, row.new, row.expected, row.actor)]
    texts += [text for row in item.timeline for text in (row.actor, row.title, row.detail)]
    return (
        sum(len(escape(visible(text, 400)).encode()) for text in texts) + 500 + 300 * len(item.diff) + 160 * len(item.timeline)
    )


def tried_kinds(attempts: Iterable[AttemptResult]) -> tuple[TriedKind, ...]:
    """What a run's agents tried beyond the boundary, alike tries in one."""
    counts: Counter[tuple[str, str, str]] = Counter()
    tickets: dict[tuple[str, str, str], dict[str, None]] = defaultdict(dict)
    for attempt in attempts:
        for one in attempt.tried:
            counts[one.what, one.rule, one.level] += one.count
            tickets[one.what, one.rule, one.level][attempt.ticket] = None
    return tuple(
        TriedKind(what, rule, level, count, tuple(tickets[what, rule, level]))
        for (what, rule, level), count in counts.most_common()
    )


def let_out_kinds(attempts: Iterable[AttemptResult]) -> tuple[LetOutKind, ...]:
    """Which honeytokens the run's agents let out, and where; variants' too."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for attempt in attempts:
        for what in attempt.honeytokens or ():
            kinds[what].append(attempt.ticket)
    ordered = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    return tuple(LetOutKind(what, len(tickets), tuple(dict.fromkeys(tickets))) for what, tickets in ordered)


def left_kinds(attempts: Iterable[AttemptResult]) -> tuple[LeftKind, ...]:
    """What was found in what a run's agents left, alike findings in one."""
    kinds: dict[tuple[Severity, str, str], list[tuple[str, str]]] = defaultdict(list)
    for attempt in attempts:
        for one in attempt.scan.findings if attempt.scan is not None else ():
            at = one.where if one.line is None else f"{one.where}:{one.line}"
            kinds[one.severity, one.rule, one.what].append((at, attempt.ticket))
    ordered = sorted(kinds.items(), key=lambda kind: (SEVERITIES.index(kind[0][0]), -len(kind[1])))
    return tuple(
        LeftKind(rule, severity, what, places[0][0], len(places), tuple(dict.fromkeys(ticket for _, ticket in places)))
        for (severity, rule, what), places in ordered
    )


def _boundary(attempts: Iterable[AttemptResult], timelines: TimelineOf) -> Iterable[BoundaryCase]:
    for index, attempt in enumerate(a for a in attempts if crosses_boundary(a)):
        if index >= LISTED_ATTEMPTS:
            # The number of cases is in the summary; more than this nobody reads.
            return
        tried = [
            row.title + (f": {row.detail}" if row.detail else "") for row in timelines(attempt.id) if row.tone == "boundary"
        ]
        written = [f"{e.op} {place(e)}, carried out" for c in attempt.checks for e in c.diff if e.class_ == "forbidden"]
        yield BoundaryCase(attempt, tuple(dict.fromkeys(written + tried))[:3])


def _flips(run: RunResult) -> dict[str, tuple[TicketFlip, ...]]:
    groups: dict[str, list[TicketFlip]] = defaultdict(list)
    if run.comparison is not None:
        for flip in sorted(run.comparison.flips, key=lambda f: (f.direction != "worse", f.stratum, f.ticket))[:LISTED_FLIPS]:
            groups[flip.stratum].append(flip)
    return {stratum: tuple(groups[stratum]) for stratum in sorted(groups)}


def _notes(run: RunResult, summary: Summary) -> Iterable[str]:
    if run.info.shard is not None:
        yield f"This is shard {run.info.shard} of a run: figures are of its part of the sample, and podctl merge judges the whole."
    if run.status != "finished":
        yield f"The run is {run.status}: figures are of what was done until then."
    weighing = weighing_of(run)
    if weighing is not None and summary.rate.of:
        parts = weighing.split(by_ticket(run.plain.attempts))
        weighed = WeighedShare(tuple(of_clusters(weight, list(those.values())) for weight, those in parts))
        yield (
            "The sample is not in proportion to the population: rates and means are the sample's own, where they are not called weighed. "
            f"Weighed by what its tickets stand for, the pass rate is {percent(weighed.share)} (95 % interval {interval_text(weighed.interval())})."
        )
    yield from run.notes


def flatten(settings: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested settings as ``("limits.wall", "120 s")`` rows."""
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{path}.")
        elif isinstance(value, list | tuple):
            yield path, ", ".join(value_text(item) for item in value)
        else:
            yield path, value_text(value, 300)
