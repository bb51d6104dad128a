"""The page that somebody decides by: one sentence with the range, six rows, and what stands behind each of them.

It is made of a run's head and of its projection; attempts are not needed. Every chart has its figures in a table beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from podctl.evidence.results import GateFinding, RunResult, Verdict
from podctl.projection.ledger import Calibration, tally_text
from podctl.projection.model import Estimate, Part, Projection, StratumProjection, Unit
from podctl.reports import charts
from podctl.reports.page import ENVIRONMENT
from podctl.reports.projection import PART_LABEL, amount, money, range_text
from podctl.reports.text import visible
from podctl.reports.wording import VERDICT_WORD, finding_label, rates_text
from podctl.stats.units import dollars, percent, plural

LISTED = 12
#: Of a list, as many as a row of the table on top has room for.
_IN_SHORT = 3
_OF_VERDICT: dict[Verdict, str] = {"fail": "missed", "inconclusive": "left open", "pass": "met"}


@dataclass(frozen=True)
class Row:
    """One of the six: ``strong`` is what to remember, ``lines`` what goes with it."""

    name: str
    strong: str = ""
    lines: tuple[str, ...] = ()
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Leadership:
    """``range`` and ``rest`` are the sentence; ``rows`` are six at most."""

    range: str
    rest: str
    rows: tuple[Row, ...]


def render_leadership(head: RunResult, projection: Projection, track_record: Sequence[str] = (), command: str = "") -> str:
    """The whole page. ``head`` may be without attempts; ``track_record`` says how earlier projections compare with bills;
    ``command`` makes the page again. Raises ValueError when both are not of the same run."""
    if head.info.id != projection.run:
        raise ValueError(f"the projection is of run {projection.run}, not of {head.info.id}")
    counted = [part for part in projection.parts if part.counted and part.dollars.value is not None]
    strata = _by_money(projection.strata)
    return ENVIRONMENT.get_template("leadership.html.j2").render(
        title=f"{_agent(projection)} on {_tickets(projection)}: {VERDICT_WORD[head.verdict]}",
        is_simulated=projection.simulated or head.info.simulated,
        page=leadership(head, projection, track_record),
        run=head,
        projection=projection,
        strata=strata[:LISTED],
        strata_left_out=len(strata) - LISTED,
        track_record=track_record,
        command=command,
        amount=amount,
        range_text=range_text,
        money=money,
        part_label=PART_LABEL,
        parts_chart=_chart(((PART_LABEL[part.name], part.dollars) for part in counted), "Dollars by what they are spent on"),
        strata_chart=_chart(((one.name, one.dollars) for one in strata[:LISTED]), "Dollars by kind of ticket"),
        clearing_chart=_chart(
            ((plural(one.pods, "pod"), one.hours) for one in projection.timing.clearing[:LISTED]), "Hours until all are done"
        )
        if projection.timing
        else "",
        listed=LISTED,
    )


def track_record(found: Calibration) -> list[str]:
    """How earlier projections compare with bills, in sentences; empty without a bill that counts."""
    lines = []
    if found.as_stated is not None:
        lines.append(f"Earlier projections against their bills: {tally_text(found.as_stated)}.")
    if found.per_ticket is not None:
        lines.append(f"For the tickets that really came: {tally_text(found.per_ticket)}.")
    return lines


def leadership(head: RunResult, projection: Projection, track_record: Sequence[str] = ()) -> Leadership:
    first, rest = _sentence(projection)
    rows = (
        _verdict(head),
        _money(projection),
        _time(projection),
        _drivers(projection),
        _risks(projection),
        _basis(projection, track_record),
    )
    return Leadership(first, rest, rows)


def _agent(projection: Projection) -> str:
    return visible(f"{projection.agent_name} {projection.agent_version}".strip(), 100)


def _tickets(projection: Projection) -> str:
    volume = projection.volume
    text = f"{volume.tickets:,.0f} " + ("tickets of the population" if volume.of == "population" else "tickets")
    return text + (f" in {volume.periods} periods" if volume.periods > 1 else "")


def _sentence(projection: Projection) -> tuple[str, str]:
    total, what = projection.total, f"{_agent(projection)} on {_tickets(projection)}"
    resolved = projection.outcomes.resolved_share
    solves = "" if resolved.value is None else f"; it resolves {_with_range(resolved)} of them"
    if total.value is None:
        least = f"At least {money(total.at_least)}" if total.at_least is not None else "Not known"
        return least, f"for {what}: the total is unknown, because {_clause(total.why)}{solves}."
    if total.low is None:
        return f"About {amount(total)}, without a range,", f"for {what}: {_clause(total.why)}{solves}."
    return (
        range_text(total),
        f"({percent(projection.level)} range) for {what}, best estimate {amount(total)}{_for(projection)}{solves}.",
    )


def _for(projection: Projection) -> str:
    counted = [PART_LABEL[part.name] for part in projection.parts if part.counted]
    return f" for {', '.join(counted)}" if counted else ""


def _verdict(head: RunResult) -> Row:
    if head.status == "running":
        return Row("Verdict", "still running", ("Figures are of what was done so far.",), "inconclusive")
    lines: list[str] = []
    if head.status == "interrupted":
        lines.append("The run was interrupted: figures are of what was done until then.")
    if not head.findings:
        lines.append("Nothing was required of this run.")
    else:
        telling = [finding for finding in head.findings if finding.verdict == head.verdict]
        word = _OF_VERDICT[head.verdict]
        named = "; ".join(_finding(finding) for finding in telling[:_IN_SHORT])
        more = f"; {len(telling) - _IN_SHORT} more below" if len(telling) > _IN_SHORT else ""
        lines.append(f"{len(telling)} of {plural(len(head.findings), 'requirement')} {word}: {named}{more}.")
        if head.verdict == "inconclusive":
            lines += [_sentence_of(finding.message) for finding in telling[:_IN_SHORT] if finding.message]
    comparison = head.comparison
    if comparison is not None and comparison.common_tickets:
        before, now = comparison.baseline_dollars_per_ticket, comparison.dollars_per_ticket
        lines.append(
            f"Against {visible(comparison.baseline_agent, 100)} on {plural(comparison.common_tickets, 'common ticket')}: resolved "
            + rates_text(comparison)
            + (f", {dollars(before)} → {dollars(now)} a ticket." if before is not None and now is not None else ".")
        )
        early = comparison.early_stop
        if early is not None:
            saved = f", which saved about {dollars(early.dollars_saved)}" if early.dollars_saved is not None else ""
            lines.append(
                f"It was stopped {plural(early.attempts_not_made, 'attempt')} early, as worse than the baseline{saved}."
            )
    return Row("Verdict", "", tuple(lines), head.verdict)


def _finding(finding: GateFinding) -> str:
    return f"{finding_label(finding.name)} {finding.measured} (asked: {finding.required})"


def _money(projection: Projection) -> Row:
    total = projection.total
    if total.value is None:
        strong = f"at least {money(total.at_least)}, no upper bound" if total.at_least is not None else "unknown"
    elif total.high is None:
        strong = f"about {amount(total)}, no upper bound"
    else:
        strong = f"up to {money(total.high)}"
    lines = []
    if total.value is not None and total.low is not None:
        lines.append(f"Best estimate {amount(total)}, at least {money(total.low)}.")
    lines.append(f"{_with_range(projection.per_ticket)} a ticket; {_with_range(projection.per_resolved)} a resolved one.")
    budget = projection.budget
    if budget is not None:
        over = "unknown" if budget.over is None else percent(budget.over)
        lines.append(f"Budget {money(budget.dollars)}: the chance to need more is {over}.")
    base = projection.baseline
    if base is not None and base.dollars is not None:
        lines.append(f"People alone would cost {money(base.dollars)}; saved: {_with_range(base.saves)}.")
    missing = [PART_LABEL[part.name] for part in projection.parts if not part.counted]
    if missing:
        lines.append(f"Not in it, for want of a rate: {', '.join(missing)}.")
    return Row("Money", strong, tuple(lines))


def _time(projection: Projection) -> Row:
    timing, lines, strong = projection.timing, [], ""
    if timing is not None and timing.clearing:
        first, *others = timing.clearing
        if first.hours.value is None:
            lines.append(f"{plural(first.pods, 'pod')}: unknown, because {_clause(first.hours.why)}.")
        else:
            latest = first.hours.value if first.hours.high is None else first.hours.high
            strong = f"up to {amount(replace(first.hours, value=latest))} on {plural(first.pods, 'pod')}"
            lines.append(f"Best estimate {amount(first.hours)}; held up by {first.bound_by}.")
        if others:
            lines.append(
                "; ".join(f"{plural(one.pods, 'pod')}: {_with_range(one.hours)}" for one in others[: _IN_SHORT - 1]) + "."
            )
    if timing is not None and timing.deadline is not None:
        needed = timing.deadline
        answer = f"needs {plural(needed.pods, 'pod')}" if needed.pods is not None else f"is not met: {_clause(needed.why)}"
        lines.append(f"A deadline of {needed.hours:,.4g} h {answer}.")
    if timing is not None and timing.steady is not None:
        steady = timing.steady
        arriving = f"{steady.per_hour:,.4g} tickets an hour on {plural(steady.pods, 'pod')}"
        kept = f"95 % wait less than {amount(steady.wait_p95)}"
        if not steady.stable:
            kept = f"the queue grows without end; {plural(steady.least_pods, 'pod')} at least keep up"
        lines.append(f"{arriving}: {kept}.")
    work = [f"{_with_range(projection.pod_hours)} of pods"]
    if projection.human_hours.value or projection.human_hours.at_least:
        work.append(f"{_with_range(projection.human_hours)} of people")
    lines.append(
        f"Work: {', '.join(work)}" + (f"; people alone would need {_hours(projection)}." if projection.baseline else ".")
    )
    return Row("Time", strong, tuple(lines))


def _drivers(projection: Projection) -> Row:
    total = projection.covered_dollars.value or projection.total.value
    lines = []
    if total:
        parts = sorted(_priced(projection.parts), key=lambda part: -(part.dollars.value or 0.0))[:_IN_SHORT]
        named = ", ".join(f"{PART_LABEL[part.name]} {percent((part.dollars.value or 0.0) / total, 0)}" for part in parts)
        if len(parts) > 1:
            lines.append(f"Of the money: {named}.")
        tickets = projection.volume.covered or projection.volume.tickets
        known = [one for one in _by_money(projection.strata) if one.dollars.value]
        for one in known[:_IN_SHORT] if len(known) > 1 else ():
            share, of = (one.dollars.value or 0.0) / total, one.tickets / tickets if tickets else 0.0
            lines.append(f"{visible(one.name, 60)}: {percent(share, 0)} of the money on {percent(of, 0)} of the tickets.")
    mix = projection.mix
    if mix is not None:
        lines.append(
            f"A ticket costs {amount(projection.per_ticket)}; at the mix of the run's population it would be {amount(mix.population)}."
        )
    return Row("What drives it", "", tuple(lines) or ("No cost is known.",))


def _risks(projection: Projection) -> Row:
    texts = [_sentence_of(warning.text) for warning in projection.warnings]
    return Row(
        "What could break it",
        "",
        _in_short(texts) or ("No warning arose from the sample. What is assumed can still be wrong.",),
    )


def _basis(projection: Projection, track_record: Sequence[str]) -> Row:
    counted = f"{plural(projection.counted, 'ticket')} of {projection.sampled:,} sampled count"
    if projection.repeats > 1:
        counted += f", {projection.repeats} times each"
    lines = [f"{counted}.", *(_sentence_of(text) for text in projection.assumptions[: _IN_SHORT - 1])]
    found = projection.coverage
    if found is not None:
        lines.append(
            f"Tried on {found.populations:,} made-up populations like this run, the range held the truth in {percent(found.achieved)}."
        )
    lines.append(track_record[0] if track_record else "No projection of this kind has been held against a bill yet.")
    return Row("Assumptions and method", "", tuple(lines))


def _in_short(texts: Sequence[str]) -> tuple[str, ...]:
    if len(texts) <= _IN_SHORT:
        return tuple(texts)
    return (*texts[:_IN_SHORT], f"{len(texts) - _IN_SHORT} more below.")


def _priced(parts: Iterable[Part]) -> list[Part]:
    return [part for part in parts if part.counted and part.dollars.value is not None]


def _by_money(strata: Iterable[StratumProjection]) -> list[StratumProjection]:
    """The dearest first; what nothing is known of before them all."""
    return sorted(strata, key=lambda one: (one.dollars.value is not None, -(one.dollars.value or 0.0)))


def _chart(rows: Iterable[tuple[str, Estimate]], title: str) -> str:
    """Empty where a picture of one bar, or of none, would say nothing."""
    drawn: list[charts.Ranged] = []
    unit: Unit = "dollars"
    for name, estimate in rows:
        if estimate.value is not None and estimate.value >= 0:
            unit = estimate.unit
            drawn.append(charts.Ranged(name, estimate.value, estimate.low, estimate.high))
    if len(drawn) < 2:
        return ""
    return charts.ranges(drawn, lambda value: amount(Estimate(value, unit)), title)


def _with_range(estimate: Estimate) -> str:
    text = amount(estimate)
    return text if estimate.low is None else f"{text} ({range_text(estimate)})"


def _hours(projection: Projection) -> str:
    return amount(Estimate(projection.baseline.hours, "hours")) if projection.baseline else "unknown"


def _clause(text: str) -> str:
    return text.rstrip(". ") or "nobody said why"


def _sentence_of(text: str) -> str:
    """A clause with a capital and a full stop."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?…" else ".")
