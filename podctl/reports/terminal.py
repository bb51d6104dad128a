"""The end of a run on a terminal: verdict, findings, strata, money, time, and where the report is."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from podctl.evidence.results import Verdict
from podctl.reports import attack, chaos
from podctl.reports.model import Report
from podctl.reports.text import encodable, visible
from podctl.reports.wording import (
    VERDICT_GLYPH,
    VERDICT_WORD,
    approvals_text,
    attribution_lines,
    cost_text,
    fidelity_text,
    finding_label,
    money_text,
    rates_text,
)
from podctl.stats.units import dollars, interval_text, percent, plural, seconds

_STYLE: dict[Verdict, str] = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}
_LISTED = 10
#: Tickets that a line names.
_TICKETS = 3


def write_summary(report: Report, stream: TextIO, *, paths: Mapping[str, Path] | None = None) -> None:
    """``paths`` are files that were written, by what they are. Colour only on a terminal and without ``NO_COLOR``."""
    terminal = stream.isatty()
    stream.write(
        render_terminal(
            report,
            paths=paths or {},
            width=_width(terminal),
            color=terminal and not os.environ.get("NO_COLOR"),
            encoding=getattr(stream, "encoding", None) or "ascii",
        )
    )


def render_terminal(
    report: Report, *, paths: Mapping[str, Path], width: int = 80, color: bool = False, encoding: str = "utf-8"
) -> str:
    """The summary in characters that ``encoding`` has."""
    page = _Page(width, color, encoding)
    run = report.run
    if report.simulated:
        page.line("SIMULATED: figures come from a scripted model, not from a real one", "bold yellow")
    page.line(f"{VERDICT_GLYPH[run.verdict]} {report.headline}", _STYLE[run.verdict])
    if run.findings:
        page.table(("requirement", "verdict", "measured", "required"), _findings(report), numbers=0)
        for finding in run.findings:
            if finding.verdict != "pass":
                page.line(f"{finding_label(finding.name)}: {finding.message}")
    if report.attack is not None:
        _attack(page, report)
    if report.tried:
        page.line("tried beyond the boundary:")
        page.table(("what", "rule", "it says", "tickets", "times"), _tried(report), numbers=1)
        if len(report.tried) > _LISTED:
            page.line(f"  and {plural(len(report.tried) - _LISTED, 'more kind')}, in the JSON report")
    if report.chaos:
        page.line("under faults, against the same tickets without them:")
        page.table(
            chaos.HEAD,
            ((visible(name, 40), *cells) for name, *cells in chaos.rows(report.chaos)),
            numbers=7,
        )
        for fault, case in report.chaos_lost[:_LISTED]:
            page.line(f"  {visible(case.ticket, 40)} under {fault}: {case.outcome}: {visible(case.why, 160)}")
        if len(report.chaos_lost) > _LISTED:
            page.line(f"  and {plural(len(report.chaos_lost) - _LISTED, 'more pair')}, in the JSON report")
    for notice in report.tools[:_LISTED]:
        page.line(f"tools: {visible(notice, 300)}", "yellow")
    if len(report.tools) > _LISTED:
        page.line(f"tools: and {len(report.tools) - _LISTED} more, in the JSON report")
    if report.let_out:
        page.line("honeytokens let out:")
        page.table(("which, and where", "tickets", "attempts"), _let_out(report), numbers=1)
        if len(report.let_out) > _LISTED:
            page.line(f"  and {plural(len(report.let_out) - _LISTED, 'more place')}, in the JSON report")
    if report.left:
        page.line("left behind:")
        page.table(("what", "severity", "where, first", "tickets", "times"), _left(report), numbers=1)
        if len(report.left) > _LISTED:
            page.line(f"  and {plural(len(report.left) - _LISTED, 'more kind')}, in the JSON report")
    page.table(("kind of ticket", "passed", "rate", "95 % interval", "per ticket", "time"), _strata(report), numbers=5)
    for line in _facts(report):
        page.line(line)
    for item in (report.detailed + report.listed)[:_LISTED]:
        page.line(f"  {visible(item.ticket, 40)}  {visible(item.reason, 120)}")
    if report.failed_tickets > _LISTED:
        page.line(f"  and {plural(report.failed_tickets - _LISTED, 'more failed ticket')}; one in full: {report.show_command}")
    for note in report.notes[:10]:
        page.line(f"note: {visible(note, 300)}")
    for name, path in paths.items():
        page.line(f"{name}: {path}", wrap=False)
    return page.text()


def _attack(page: _Page, report: Report) -> None:
    assert report.attack is not None
    page.table(attack.HEAD, attack.success_rows(report.attack), numbers=4)
    page.table(attack.UTILITY_HEAD, attack.utility_rows(report.attack), numbers=4)
    for line in attack.facts(report.attack):
        page.line(visible(line, 300))
    for outcome, where, planted, told in list(attack.case_rows(report.attack.cases))[:_LISTED]:
        page.line(f"  {outcome}  {visible(where, 50)}  {visible(planted, 60)}: {visible(told, 160)}")
    if len(report.attack.cases) > _LISTED:
        page.line(f"  and {plural(len(report.attack.cases) - _LISTED, 'more attempt')}; one in full: {report.show_command}")


class _Page:
    """Lines and tables laid out by rich, made of nothing but what the stream's encoding can carry."""

    def __init__(self, width: int, color: bool, encoding: str) -> None:
        self._buffer = io.StringIO()
        self._encoding = encoding
        self._box = box.SIMPLE_HEAD if encodable("─", encoding) == "─" else box.ASCII2
        self._console = Console(
            file=self._buffer,
            width=width,
            force_terminal=color,
            color_system="standard" if color else None,
            highlight=False,
            emoji=False,
            markup=False,
            legacy_windows=False,
        )

    def line(self, text: str, style: str = "", *, wrap: bool = True) -> None:
        self._console.print(self._shown(text, style), soft_wrap=not wrap)

    def table(self, columns: tuple[str, ...], rows: Iterable[tuple[Cell, ...]], *, numbers: int) -> None:
        """The last ``numbers`` columns hold figures, aligned right."""
        table = Table(box=self._box, pad_edge=False, padding=(0, 1), show_edge=False)
        for index, name in enumerate(columns):
            # Cutting with an ellipsis would hide what an agent wrote; folding shows all of it.
            table.add_column(name, justify="right" if index >= len(columns) - numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(self._shown(*cell) if isinstance(cell, tuple) else self._shown(cell) for cell in row))
        self._console.print()
        self._console.print(table)
        self._console.print()

    def text(self) -> str:
        # Rich pads tables to their width; copied text should not carry that.
        return "\n".join(line.rstrip() for line in self._buffer.getvalue().splitlines()) + "\n"

    def _shown(self, text: str, style: str = "") -> Text:
        return Text(encodable(visible(text), self._encoding), style)


Cell = str | tuple[str, str]


def _width(terminal: bool) -> int:
    if not terminal:
        return 80
    try:
        return max(40, min(os.get_terminal_size().columns, 140))
    except OSError:
        return 80


def _findings(report: Report) -> Iterator[tuple[Cell, ...]]:
    for finding in report.run.findings:
        verdict = (f"{VERDICT_GLYPH[finding.verdict]} {VERDICT_WORD[finding.verdict]}", _STYLE[finding.verdict])
        yield finding_label(finding.name), verdict, visible(finding.measured, 200), visible(finding.required, 200)


def _tried(report: Report) -> Iterator[tuple[Cell, ...]]:
    for one in report.tried[:_LISTED]:
        yield visible(one.what, 60), visible(one.rule, 60), one.level, _named(one.tickets), str(one.count)


def _let_out(report: Report) -> Iterator[tuple[Cell, ...]]:
    for one in report.let_out[:_LISTED]:
        yield visible(one.what, 80), _named(one.tickets), str(one.count)


def _left(report: Report) -> Iterator[tuple[Cell, ...]]:
    for one in report.left[:_LISTED]:
        yield visible(one.what, 60), one.severity, visible(one.where, 60), _named(one.tickets), str(one.count)


def _named(tickets: Sequence[str]) -> str:
    more = f" and {len(tickets) - _TICKETS} more" if len(tickets) > _TICKETS else ""
    return ", ".join(visible(ticket, 20) for ticket in tickets[:_TICKETS]) + more


def _strata(report: Report) -> Iterator[tuple[Cell, ...]]:
    for stratum in report.summary.strata[:20]:
        rate = stratum.rate
        yield (
            visible(stratum.name, 40),
            f"{rate.passed} of {rate.of}",
            "unknown" if rate.share is None else percent(rate.share),
            "" if rate.interval is None else interval_text(rate.interval),
            cost_text(stratum.dollars, rate.of),
            "" if stratum.seconds_per_ticket is None else seconds(stratum.seconds_per_ticket),
        )


def _facts(report: Report) -> Iterator[str]:
    run, summary, comparison = report.run, report.summary, report.run.comparison
    money = (
        f"money: {cost_text(summary.counted_dollars, summary.rate.of)} a ticket, {dollars(run.spent_dollars)} spent in this run"
    )
    yield money + (f", attempts {money_text(summary.dollars)}" if summary.dollars.unknown else "")
    if summary.second_quantiles is not None and summary.seconds_per_ticket is not None:
        q = summary.second_quantiles
        yield f"time: {seconds(summary.seconds_per_ticket)} a ticket, half within {seconds(q.p50)}, 95 % within {seconds(q.p95)}"
    if comparison is not None:
        worse = sum(f.direction == "worse" for f in comparison.flips)
        yield (
            f"baseline: {visible(comparison.baseline_agent, 80)}, {rates_text(comparison)} on "
            f"{plural(comparison.common_tickets, 'common ticket')}, {worse} worse, {len(comparison.flips) - worse} better"
        )
        for line in attribution_lines(comparison.attribution):
            yield f"  {visible(line, 400)}"
        for note in comparison.notes[:_LISTED]:
            yield f"  {visible(note, 400)}"
    if report.approvals is not None:
        yield f"approvals: {approvals_text(report.approvals)}"
    if run.info.fidelity:
        yield f"fidelity: {fidelity_text(run.info.fidelity)}"
    if summary.infrastructure or summary.not_run:
        yield f"apart: {summary.infrastructure} ended by infrastructure, {summary.not_run} not run"
    if report.failed_tickets:
        yield f"failed: {plural(report.failed_tickets, 'ticket')}"
