"""The report as one HTML file: no script, no request, readable on a phone and on paper."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from podctl.evidence.results import AttemptResult
from podctl.reports import charts, wording
from podctl.reports.model import LISTED_ATTEMPTS, LISTED_FLIPS, LISTED_STRATA, Report
from podctl.reports.text import visible
from podctl.stats import units
from podctl.stats.summary import Quantiles

#: Longest text of one cell or line; the detail budget of `reports.model` counts on it.
CLIP = 400


def render_html(report: Report) -> str:
    """The whole page. It is well-formed XML too, whatever the strings in the run are."""
    summary = report.summary
    counted = [a for a in report.run.attempts if a.cause.counts]
    return PAGES.get_template("report.html.j2").render(
        report=report,
        run=report.run,
        info=report.run.info,
        summary=summary,
        strata=[
            (
                s,
                charts.whisker(s.rate.share, s.rate.interval, summary.rate.share, s.name)
                if s.rate.share is not None and s.rate.interval
                else "",
            )
            for s in summary.strata[:LISTED_STRATA]
        ],
        cost=_distribution(
            [float(a.dollars) for a in counted if a.dollars is not None], summary.dollar_quantiles, _float_dollars, "Dollars"
        ),
        time=_distribution([a.wall_s for a in counted], summary.second_quantiles, units.seconds, "Wall time"),
        calibration_chart=charts.calibration_chart(report.calibration) if report.calibration else "",
        limits={"attempts": LISTED_ATTEMPTS, "flips": LISTED_FLIPS, "strata": LISTED_STRATA},
    )


def _distribution(values: list[float], quantiles: Quantiles | None, unit: Any, name: str) -> dict[str, Any] | None:
    if quantiles is None:
        return None
    bins = charts.bins_of(values)
    marks = [("median", quantiles.p50), ("p95", quantiles.p95)]
    title = f"{name} of an attempt"
    drawn = charts.histogram(bins, marks, unit, title) if bins[-1].high else ""
    return {"bins": bins, "quantiles": quantiles, "unit": unit, "svg": drawn}


def _float_dollars(value: float) -> str:
    return units.dollars(Decimal(f"{value:.6g}"))


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if ns else "not yet"


def _change(old: Any, new: Any) -> str:
    """A relative change, ``+12 %``; empty where one side is unknown or nothing to divide by."""
    if old is None or new is None or not old:
        return ""
    return f"{(float(new) / float(old) - 1) * 100:+.0f} %".replace("-", "−")


def _points(old: float, new: float) -> str:
    return f"{(new - old) * 100 + 0.0:+.1f} points".replace("-", "−")


def _reproduced(attempt: AttemptResult) -> str:
    return f"{attempt.id}, try {attempt.tries}" if attempt.tries > 1 else attempt.id


def _show(value: Any) -> Any:
    """Every string that a template prints passes here: nothing an agent wrote is ever obeyed, wherever it appears.

    A figure and its percent sign stay on one line.
    """
    return visible(value).replace(" %", "\u00a0%") if type(value) is str else value


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_show,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        clip=lambda text, limit=CLIP: visible(str(text), limit),
        percent=units.percent,
        interval=units.interval_text,
        dollars=units.dollars,
        seconds=units.seconds,
        plural=lambda count, one, many="": units.plural(count, one, many),
        number=lambda n: f"{n:,}",
        money=wording.money_text,
        cause=wording.cause_label,
        reason=wording.reason,
        finding=wording.finding_label,
        moment=_moment,
        attempt=_reproduced,
        css=lambda name: Markup((Path(__file__).parent / "templates" / name).read_text("utf-8")),
    )
    environment.globals.update(
        change=_change,
        points=_points,
        glyphs=wording.VERDICT_GLYPH,
        words=wording.VERDICT_WORD,
        cost_text=wording.cost_text,
        fidelity_text=wording.fidelity_text,
    )
    return environment


PAGES = _environment()
