"""The files a run leaves: its report in the store, others where they were asked for, and exports."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from podctl.errors import EnvironmentProblem
from podctl.evidence.export_atif import to_atif
from podctl.evidence.export_otlp import to_otlp
from podctl.evidence.identity import Identity
from podctl.evidence.log import EvidenceProblem
from podctl.evidence.reading import read_attempt
from podctl.evidence.results import RunResult
from podctl.evidence.store_read import StoreReader
from podctl.faults import point
from podctl.reports.html import render_html
from podctl.reports.jsonreport import render_json
from podctl.reports.junit import render_junit
from podctl.reports.markdown import render_markdown
from podctl.reports.model import Report, build_report
from podctl.reports.pdf import render_pdf, renderer
from podctl.reports.timeline import TimelineRow, timeline

_KEPT = "the run and its evidence are as they were"


def write_reports(
    result: RunResult, store: StoreReader, extra: Mapping[str, Path], *, keep: bool = True
) -> tuple[Report, dict[str, Path]]:
    """The HTML report in the run's directory, unless not to ``keep``, and what else was asked for: the report, and kind -> path."""
    run = result.info.id

    def timeline_of(attempt: str) -> list[TimelineRow]:
        try:
            return timeline(read_attempt(store.evidence_directory(run, attempt)))
        except (EvidenceProblem, OSError):
            return []

    report = build_report(result, timeline_of, show_command=f"podctl trace {run} ATTEMPT", reproduce_command=_again(result))
    kept = f"run {run} and its evidence are kept; its verdict is {result.verdict}"
    written = {}
    if keep:
        written["html"] = store.run_directory(run) / "report.html"
        _write(written["html"], render_html(report), kept, f"podctl report {run}")
    renderers: dict[str, Callable[[], str]] = {
        "html": lambda: render_html(report),
        "junit": lambda: render_junit(report),
        "markdown": lambda: render_markdown(report),
        "json": lambda: render_json(report),
    }
    for kind, path in extra.items():
        _write(path, renderers[kind](), kept, f"podctl report {run} --{kind} {shlex.quote(str(path))}")
        written[kind] = path
    return report, written


def write_pages(html: str, html_path: Path | None, pdf_path: Path | None) -> list[str]:
    """A page as HTML, as PDF or as both; a line a file, which says what made it. The PDF is made before anything is written."""
    made = render_pdf(html) if pdf_path is not None else b""
    written = []
    if html_path is not None:
        _write(html_path, html, _KEPT)
        written.append(f"html: {html_path}")
    if pdf_path is not None:
        _write(pdf_path, made, _KEPT)
        written.append(f"pdf: {pdf_path}, by {renderer()}")
    return written


def export(result: RunResult, store: StoreReader, form: str, out: Path) -> int:
    """Write a run's evidence for other tools; the number of files."""
    if form == "junit":
        _write(out, render_junit(build_report(result)), _KEPT)
        return 1
    render = to_atif if form == "atif" else to_otlp
    for attempt in result.attempts:
        records = read_attempt(store.evidence_directory(result.info.id, attempt.id))
        text = json.dumps(render(records, Identity.of(result.info, attempt, records)), indent=1)
        _write(out / f"{attempt.id}.{form}.json", text, _KEPT)
    return len(result.attempts)


def _again(result: RunResult) -> str:
    settings = result.info.settings
    suite = f" --suite {settings['suite']}" if "suite" in settings else ""
    return f"podctl run {settings.get('scenario', 'SCENARIO')}{suite}"


def write_page(path: Path, text: str) -> None:
    """Whole or not at all. Raises `EnvironmentProblem`."""
    _write(path, text, "the runs and their reports are as they were")


def _write(path: Path, content: str | bytes, kept: str, again: str = "") -> None:
    """``kept`` says what a failure does not touch, ``again`` what to type after it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        point("report.drafted")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise EnvironmentProblem(
            f"{path} could not be written",
            code="report-unwritten",
            cause=str(error),
            unchanged=kept,
            hint=f"when that is mended: {again}" if again else "",
        ) from error
