"""A pull-request comment or job summary: short, and inert whatever is in the run."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from podctl.reports import attack, chaos
from podctl.reports.model import Report, diff_rows
from podctl.reports.text import visible
from podctl.reports.wording import (
    VERDICT_GLYPH,
    VERDICT_WORD,
    approvals_text,
    attribution_lines,
    cost_text,
    fidelity_text,
    finding_label,
    rates_text,
)
from podctl.stats.units import dollars, interval_text, percent, plural, seconds

#: GitHub refuses comments above 65,536 characters.
MAX_CHARACTERS = 60_000
_LISTED = 200
#: Pairs of a chaos campaign that are told one by one.
_PAIRS = 20
_ROOM_FOR_ENDING = 400


def marker(scenario: str) -> str:
    """The hidden first line by which a later run finds and replaces its own comment."""
    name = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9._-]", "-", scenario))[:80].strip("-")
    return f"<!-- podctl:{name} -->"


def quoted(text: str, limit: int = 160) -> str:
    """Text from a run as a code span: no mention, link, HTML or table cell can come of it.

    A backtick or a pipe would end the span or the cell, and no escape is safe in both; a look-alike stands for them.
    """
    shown = visible(text, limit).replace("`", "ˋ").replace("|", "¦").strip()
    return f"`{shown}`" if shown else "`(empty)`"


_PROSE = re.compile(r"[\w .,;:%()'=+\-–−→≤≥$]*")


def prose(text: str, limit: int = 300) -> str:
    """A sentence as it is when nothing in it could mean anything to Markdown; otherwise as `quoted` shows it."""
    shown = visible(text, limit)
    if not _PROSE.fullmatch(shown) or "_" in shown or "www." in shown.lower():
        return quoted(text, limit)
    return _literal(shown)


def _literal(text: str) -> str:
    """Two dollar signs in a line would be a formula on GitHub."""
    return text.replace("$", "\\$")


def render_markdown(report: Report, most: int = MAX_CHARACTERS) -> str:
    """At most ``most`` characters; what does not fit is counted in a last line."""
    lines: list[str] = []
    room = most - _ROOM_FOR_ENDING
    dropped = 0
    for line in _lines(report):
        room -= len(line) + 1
        if room < 0 or dropped:
            dropped += 1
        else:
            lines.append(line)
    if dropped:
        lines += ["", f"_{plural(dropped, 'more line')} in the full report._"]
    return "\n".join(lines) + "\n"


def _lines(report: Report) -> Iterator[str]:
    run, summary = report.run, report.summary
    yield marker(run.info.scenario)
    glyph, word = VERDICT_GLYPH[run.verdict], VERDICT_WORD[run.verdict]
    yield f"### {glyph} {word}: {quoted(run.info.scenario, 60)}" + (" (SIMULATED)" if report.simulated else "")
    yield ""
    yield _sentence(report)
    if report.simulated:
        yield ""
        yield "**SIMULATED**: figures come from a scripted model, not from a real one."
    yield ""
    yield from _table(
        ("Requirement", "Verdict", "Measured", "Required", "Remark"),
        (
            (prose(finding_label(f.name)), f"{VERDICT_GLYPH[f.verdict]} {VERDICT_WORD[f.verdict]}", *map(prose, (f.measured, f.required, f.message)))
            for f in run.findings
        ),
    )  # fmt: skip
    yield from _table(
        ("Kind of ticket", "Passed", "Rate", "95 % interval", "Per ticket", "Time"),
        (
            (
                quoted(s.name, 60),
                f"{s.rate.passed} of {s.rate.of}",
                "unknown" if s.rate.share is None else percent(s.rate.share),
                "" if s.rate.interval is None else interval_text(s.rate.interval),
                _literal(cost_text(s.dollars, s.rate.of)),
                "" if s.seconds_per_ticket is None else seconds(s.seconds_per_ticket),
            )
            for s in summary.strata[:60]
        ),
    )
    if report.attack is not None:
        yield "#### Under attack"
        yield ""
        for head, rows in (
            (attack.HEAD, attack.success_rows(report.attack)),
            (attack.UTILITY_HEAD, attack.utility_rows(report.attack)),
        ):
            yield from _table(head, ((prose(name), *map(prose, cells)) for name, *cells in rows))
        yield from (f"- {prose(line)}" for line in attack.facts(report.attack))
        yield from (
            f"- {outcome}: {quoted(where, 60)}, {quoted(planted, 80)}: {quoted(told)}"
            for outcome, where, planted, told in attack.case_rows(report.attack.cases)
        )
        yield ""
    yield from _under_faults(report)
    yield from _comparison(report)
    yield from _failures(report)
    if summary.infrastructure:
        yield f"{plural(summary.infrastructure, 'attempt')} ended by infrastructure ({percent(summary.infrastructure_share)}), apart from these figures."
        yield ""
    if report.approvals is not None:
        yield f"Approvals: {prose(approvals_text(report.approvals))}"
        yield ""
    for note in report.notes[:10]:
        yield f"- {prose(note)}"
    yield ""
    yield f"Run {quoted(run.info.id, 60)}, spent {_literal(dollars(run.spent_dollars))}, isolation: {prose(run.info.isolation, 300)}"
    if run.info.fidelity:
        yield ""
        yield f"Fidelity of the test pods: {prose(fidelity_text(run.info.fidelity), 300)}"


def _sentence(report: Report) -> str:
    rate, info = report.summary.rate, report.run.info
    agent = f"{quoted(info.agent_name, 60)} {quoted(info.agent_version, 60)}"
    if rate.share is None or rate.interval is None:
        return f"**{agent}: no attempt counts.**"
    text = f"**{agent} resolved {rate.passed:,} of {rate.of:,} ({percent(rate.share)}, 95 % interval {interval_text(rate.interval)})**"
    text += f", {_literal(cost_text(report.summary.counted_dollars, rate.of))} a ticket"
    if report.summary.seconds_per_ticket is not None:
        text += f", {seconds(report.summary.seconds_per_ticket)} a ticket"
    return text + "."


def _under_faults(report: Report) -> Iterator[str]:
    if not report.chaos:
        return
    yield "#### Under faults"
    yield ""
    yield from _table(chaos.HEAD, ((quoted(name, 40), *map(prose, cells)) for name, *cells in chaos.rows(report.chaos)))
    lost = report.chaos_lost
    yield from (
        f"- {one.outcome} under {quoted(name, 40)}: {quoted(one.ticket, 60)}: {quoted(one.why)}" for name, one in lost[:_PAIRS]
    )
    if len(lost) > _PAIRS:
        yield f"- {plural(len(lost) - _PAIRS, 'more pair')} in the full report"
    yield ""


def _comparison(report: Report) -> Iterator[str]:
    comparison = report.run.comparison
    if comparison is None:
        return
    worse = sum(f.direction == "worse" for f in comparison.flips)
    yield f"#### Against {quoted(comparison.baseline_agent, 100)}"
    yield ""
    yield (
        f"On {plural(comparison.common_tickets, 'common ticket')}: {rates_text(comparison)}, "
        f"{_literal(dollars(comparison.baseline_dollars_per_ticket))} → {_literal(dollars(comparison.dollars_per_ticket))} a ticket, "
        f"{seconds(comparison.baseline_seconds_per_ticket)} → {seconds(comparison.seconds_per_ticket)} a ticket; "
        f"{worse} worse, {len(comparison.flips) - worse} better."
    )
    yield ""
    yield from (f"- {prose(line)}" for line in attribution_lines(comparison.attribution))
    yield from (f"- {prose(note)}" for note in comparison.notes[:10])
    yield ""
    yield from _table(
        ("Kind of ticket", "Ticket", "Now", "Baseline", "This run", "Failure"),
        (
            (
                quoted(stratum, 60),
                quoted(f.ticket, 60),
                f.direction,
                f"{f.baseline_passed} of {f.baseline_of}",
                f"{f.passed} of {f.of}",
                quoted(f.failure, 80) if f.failure else "",
            )
            for stratum, flips in report.flips.items()
            for f in flips
        ),
    )


def _failures(report: Report) -> Iterator[str]:
    if not report.failed_tickets:
        return
    yield f"#### {plural(report.failed_tickets, 'failed ticket')}"
    yield ""
    shown = (report.detailed + report.listed)[:_LISTED]
    for item in shown:
        yield f"- {quoted(item.ticket, 60)} ({quoted(item.stratum, 60)}): {quoted(item.reason)}"
        wrong = [row for row in diff_rows(item.attempt) if row.class_ != "intended"][:3]
        yield from (f"  - {row.class_} {row.op} {quoted(row.where)}" for row in wrong)
    if report.failed_tickets > len(shown):
        yield f"- {report.failed_tickets - len(shown):,} more; one in full: {quoted(report.show_command)}"
    yield ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    body = list(rows)
    if not body:
        return
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    yield from ("| " + " | ".join(row) + " |" for row in body)
    yield ""
