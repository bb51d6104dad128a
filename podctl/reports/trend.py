"""An agent's versions over time: every finished run of a scenario, oldest first, as text, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from podctl.evidence.results import RunInfo, Verdict
from podctl.evidence.store_rows import RunSummary
from podctl.reports import charts
from podctl.reports.jsonreport import plain
from podctl.reports.page import ENVIRONMENT
from podctl.reports.text import columns, visible
from podctl.reports.wording import VERDICT_WORD, cost_text
from podctl.spec.models import API_VERSION
from podctl.stats.summary import Ended, Money, Rate, mean_seconds, money_of, rate_of
from podctl.stats.units import dollars, interval_text, percent, plural, seconds

#: The newest runs that are shown.
SHOWN = 40


@dataclass(frozen=True)
class Point:
    """One run. ``changed``: what of sample and specs is not as in the run before, so that both cannot simply be held together."""

    info: RunInfo
    verdict: Verdict
    rate: Rate
    dollars: Money
    seconds_per_ticket: float | None
    changed: tuple[str, ...]

    @property
    def agent(self) -> str:
        return f"{self.info.agent_name} {self.info.agent_version}".strip()

    @property
    def day(self) -> str:
        return datetime.fromtimestamp(self.info.started_ns // 10**9, UTC).strftime("%Y-%m-%d")


@dataclass(frozen=True)
class Trend:
    """``left_out``: older runs that are not among ``points``."""

    scenario: str
    points: tuple[Point, ...]
    left_out: int

    @property
    def simulated(self) -> bool:
        return any(point.info.simulated for point in self.points)


def chosen(runs: Iterable[RunSummary], scenario: str, agent: str = "") -> list[RunSummary]:
    """Finished runs, no shards and none of suites among them, oldest first; of one agent when it is named."""
    found = [
        run
        for run in runs
        if run.status == "finished"
        and run.info.shard is None
        and not run.info.suite
        and run.info.scenario == scenario
        and agent in ("", run.info.agent_name)
    ]
    return sorted(found, key=lambda run: (run.info.started_ns, run.info.id))


def point_of(run: RunSummary, attempts: Sequence[Ended], before: RunInfo | None) -> Point:
    counted = [attempt for attempt in attempts if attempt.cause.counts]
    return Point(run.info, run.verdict, rate_of(attempts), money_of(counted), mean_seconds(counted), _changed(before, run.info))


def _changed(before: RunInfo | None, info: RunInfo) -> tuple[str, ...]:
    if before is None:
        return ()
    pairs = (
        ("sample", before.sample_digest, info.sample_digest),
        ("specs", before.spec_digest, info.spec_digest),
        ("models", (before.model_mode, before.simulated), (info.model_mode, info.simulated)),
    )
    return tuple(name for name, old, new in pairs if old != new)


HEADINGS = ("Day", "Run", "Agent", "Verdict", "Resolved", "Rate", "95 % interval", "A ticket", "Time a ticket", "Not as before")


def trend_text(trend: Trend) -> str:
    """Plain text for a terminal; ends with a newline."""
    lines = ["SIMULATED: figures of at least one run come from a scripted model"] if trend.simulated else []
    lines += columns([name.upper() for name in HEADINGS], [cells(point) for point in trend.points])
    return "\n".join([*lines, *(f"! {note}" for note in notes(trend))]) + "\n"


def trend_json(trend: Trend) -> str:
    """``{apiVersion, kind: RunTrend, scenario, leftOut, simulated, points}``."""
    head = {"apiVersion": API_VERSION, "kind": "RunTrend", "simulated": trend.simulated}
    return json.dumps({**head, **plain(trend)}, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def render_trend(trend: Trend, command: str = "") -> str:
    """The whole page."""
    last = trend.points[-1]
    return ENVIRONMENT.get_template("trend.html.j2").render(
        title=f"{trend.scenario}, {plural(len(trend.points), 'run')}",
        is_simulated=trend.simulated,
        trend=trend,
        strong="unknown" if last.rate.interval is None else interval_text(last.rate.interval),
        last=last,
        rows=[cells(point) for point in trend.points],
        headings=HEADINGS,
        notes=notes(trend),
        rates_chart=charts.ranges(
            [
                charts.Ranged(_label(point), point.rate.share, point.rate.interval.low, point.rate.interval.high)
                for point in trend.points
                if point.rate.share is not None and point.rate.interval is not None
            ],
            percent,
            "Share of tickets resolved, by run",
            most=1.0,
        ),
        costs_chart=charts.ranges(
            [
                charts.Ranged(_label(point), float(point.dollars.known / point.rate.of))
                for point in trend.points
                if point.rate.of and not point.dollars.unknown
            ],
            lambda value: dollars(Decimal(repr(value))),
            "Dollars of a ticket, by run",
        ),
        command=command,
    )


def cells(point: Point) -> tuple[str, ...]:
    rate = point.rate
    return (
        point.day,
        visible(point.info.id, 60),
        visible(point.agent, 60),
        VERDICT_WORD[point.verdict],
        f"{rate.passed:,} of {rate.of:,}",
        "unknown" if rate.share is None else percent(rate.share),
        "none" if rate.interval is None else interval_text(rate.interval),
        cost_text(point.dollars, rate.of) + (" simulated" if point.info.simulated else ""),
        "unknown" if point.seconds_per_ticket is None else seconds(point.seconds_per_ticket),
        ", ".join(point.changed),
    )


def notes(trend: Trend) -> list[str]:
    found = []
    if trend.left_out:
        found.append(f"{plural(trend.left_out, 'older run')} not shown")
    if any(point.changed for point in trend.points):
        found.append("where sample, specs or models are not as before, a change of a figure need not be the agent's")
    if len(trend.points) > 1:
        found.append(
            "overlapping intervals do not say that two versions are alike: podctl compare holds them together ticket by ticket"
        )
    return found


def _label(point: Point) -> str:
    return f"{point.agent}, {point.day}"
