"""The report as one HTML file: no script, no request, readable on a phone and on paper."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from podctl.reports import attack, charts
from podctl.reports.model import LISTED_ATTEMPTS, LISTED_FLIPS, LISTED_STRATA, Report
from podctl.reports.page import ENVIRONMENT
from podctl.reports.wording import VERDICT_WORD
from podctl.stats import units
from podctl.stats.summary import Quantiles


def render_html(report: Report) -> str:
    """The whole page. It is well-formed XML too, whatever the strings in the run are."""
    summary = report.summary
    counted = [a for a in report.run.plain.attempts if a.cause.counts]
    return ENVIRONMENT.get_template("report.html.j2").render(
        title=f"{VERDICT_WORD[report.run.verdict]}: {report.run.info.agent_name} {report.run.info.agent_version}, {report.run.info.scenario}",
        is_simulated=report.simulated,
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
        attack=report.attack,
        attack_heads=(attack.HEAD, attack.UTILITY_HEAD),
        attack_success=[] if report.attack is None else list(attack.success_rows(report.attack)),
        attack_utility=[] if report.attack is None else list(attack.utility_rows(report.attack)),
        attack_facts=[] if report.attack is None else list(attack.facts(report.attack)),
        attack_cases=[] if report.attack is None else list(attack.case_rows(report.attack.cases)),
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
