"""All runs of a store as a static site: one page with each agent's trend and runs, and beside it their reports."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from podctl.errors import EnvironmentProblem, PodctlError, SpecError
from podctl.evidence.store_read import StoreReader
from podctl.evidence.store_rows import RunSummary
from podctl.reports import charts
from podctl.reports.files import write_page, write_reports
from podctl.reports.page import ENVIRONMENT
from podctl.stats.proportions import Interval, clustered_wilson

PAGE = "index.html"
#: By this an index is told from a page of somebody else's.
_OURS = '<meta name="generator" content="podctl report --index" />'
#: A trend shows so many of the latest runs.
TREND = 60


@dataclass(frozen=True)
class Indexed:
    """A run in one line. ``share`` and ``interval`` (95 %, by ticket) are None when nothing counts; ``href`` is empty without a report."""

    summary: RunSummary
    share: float | None
    interval: Interval | None
    counted: int
    passed: int
    href: str

    @property
    def dollars_per_attempt(self) -> Decimal | None:
        spent = self.summary.spent_dollars
        return None if spent is None or not self.counted else spent / self.counted


@dataclass(frozen=True)
class Line:
    """An agent under a scenario; runs newest first."""

    scenario: str
    agent: str
    runs: tuple[Indexed, ...]

    @property
    def trend(self) -> tuple[Indexed, ...]:
        """The latest finished runs of the whole sample, oldest first."""
        whole = [one for one in self.runs if one.share is not None and is_whole(one.summary)]
        return tuple(reversed(whole[:TREND]))


def is_whole(run: RunSummary) -> bool:
    return run.status == "finished" and run.info.shard is None


def write_index(store: StoreReader, directory: Path) -> tuple[Path, int]:
    """Write ``index.html`` and ``runs/RUN.html``; the page, and how many runs it has. Reports that are there already stay.

    Raises `SpecError` where ``index.html`` is somebody else's, `EnvironmentProblem` when something cannot be written.
    """
    page = directory / PAGE
    if page.exists() and _OURS not in page.read_text("utf-8", errors="replace"):
        raise SpecError(
            f"{page} is not podctl's",
            code="index-exists",
            unchanged="nothing was written",
            hint="name a directory of its own",
        )
    runs, tallies = store.list_runs(), store.tallies()
    try:
        (directory / "runs").mkdir(parents=True, exist_ok=True)
        links = {run.info.id: _report(store, run, directory) for run in runs}
    except OSError as error:
        raise EnvironmentProblem(f"{directory} could not be written", code="report-unwritten", cause=str(error)) from error
    write_page(page, render_index(runs, tallies, links))
    return page, len(runs)


def render_index(runs: Sequence[RunSummary], tallies: Mapping[str, Sequence[tuple[int, int]]], links: Mapping[str, str]) -> str:
    """``tallies``: run -> (passed, of) of each ticket with attempts that count; ``links``: run -> its report, or empty."""
    lines = _lines(_indexed(run, tallies.get(run.info.id, ()), links.get(run.info.id, "")) for run in runs)
    trends = {(line.scenario, line.agent): _trend(line) for line in lines}
    return ENVIRONMENT.get_template("index.html.j2").render(lines=lines, trends=trends, runs=runs, ours=_OURS, most=TREND)


def _indexed(run: RunSummary, tickets: Sequence[tuple[int, int]], href: str) -> Indexed:
    passed, counted = sum(one for one, _ in tickets), sum(of for _, of in tickets)
    share, interval = (passed / counted, clustered_wilson(tickets)) if counted else (None, None)
    return Indexed(run, share, interval, counted, passed, href)


def _lines(runs: Iterable[Indexed]) -> list[Line]:
    """Those with the latest run first."""
    groups: dict[tuple[str, str], list[Indexed]] = defaultdict(list)
    for run in runs:
        groups[run.summary.info.scenario, run.summary.info.agent_name].append(run)
    return [Line(scenario, agent, tuple(of)) for (scenario, agent), of in groups.items()]


def _trend(line: Line) -> str:
    points = [(one.summary.info.agent_version, one.share, one.interval) for one in line.trend]
    return charts.trend([(name, share, at) for name, share, at in points if share is not None and at is not None])


def _report(store: StoreReader, run: RunSummary, directory: Path) -> str:
    """Copied where it has changed; made where the store has none. Empty for a run that is being worked on or cannot be read."""
    if run.status == "running":
        return ""
    made = store.run_directory(run.info.id) / "report.html"
    target = directory / "runs" / f"{run.info.id}.html"
    if not made.exists():
        try:
            write_reports(store.load_run(run.info.id), store, {})
        except PodctlError:
            return ""
    found, there = made.stat(), target.stat() if target.exists() else None
    if there is None or (there.st_size, there.st_mtime_ns) != (found.st_size, found.st_mtime_ns):
        shutil.copy2(made, target)
    return f"runs/{run.info.id}.html"
