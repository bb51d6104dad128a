"""A suite over agent versions: as text, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime

from podctl.reports import charts
from podctl.reports.jsonreport import plain
from podctl.reports.page import ENVIRONMENT
from podctl.reports.text import columns, visible
from podctl.spec.models import API_VERSION
from podctl.stats.standing import CaseStanding, Standing, VersionStanding
from podctl.stats.summary import Rate
from podctl.stats.units import interval_text, percent, plural

#: The newest versions of which single cases are shown.
SHOWN = 8
_NAMED = 20
_STANDINGS = ("no version passes", "every version passes", "not worked")


def headings(standing: Standing) -> list[str]:
    origins = list(standing.versions[-1].origins) if standing.versions else []
    return ["Version", "Since", "Runs", "Passed", "Rate", "95 % interval", "Of the same cases", *map(str.capitalize, origins)]


def cells(version: VersionStanding) -> list[str]:
    return [
        visible(version.agent, 60) + (" simulated" if version.simulated else ""),
        datetime.fromtimestamp(version.first_ns // 10**9, UTC).strftime("%Y-%m-%d"),
        str(len(version.runs)),
        _counts(version.rate),
        "unknown" if version.rate.share is None else percent(version.rate.share),
        "none" if version.rate.interval is None else interval_text(version.rate.interval),
        _counts(version.common),
        *(_counts(rate) for rate in version.origins.values()),
    ]


def _counts(rate: Rate) -> str:
    return f"{rate.passed:,} of {rate.of:,}" if rate.of else "-"


def case_headings(standing: Standing) -> list[str]:
    return ["Case", "Origin", *(visible(version.agent, 30) for version in standing.versions[-SHOWN:])]


def case_cells(case: CaseStanding) -> list[str]:
    shown = ["-" if result is None else f"{result[0]} of {result[1]}" for result in case.results[-SHOWN:]]
    return [visible(case.case.name, 60), case.case.origin, *shown]


def suite_text(standing: Standing) -> str:
    """Plain text for a terminal; ends with a newline."""
    lines = [f"suite {standing.suite}: {_sizes(standing)}", ""]
    if standing.versions:
        lines += [*columns([name.upper() for name in headings(standing)], [cells(one) for one in standing.versions]), ""]
    lines += columns([name.upper() for name in case_headings(standing)], [case_cells(one) for one in standing.cases])
    return "\n".join([*lines, "", *notes(standing)]) + "\n"


def _sizes(standing: Standing) -> str:
    return f"{len(standing.cases)} accepted, {standing.proposed} proposed, {standing.rejected} rejected"


def notes(standing: Standing) -> list[str]:
    return list(_notes(standing))


def _notes(standing: Standing) -> Iterator[str]:
    if not standing.versions:
        yield f"no version has worked it: podctl run --suite {standing.suite}"
        return
    for name in _STANDINGS:
        found = standing.of(name)
        if found:
            more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
            yield f"{name}: {', '.join(visible(one, 60) for one in found[:_NAMED])}{more}"
    for version in standing.versions:
        said = []
        if version.not_worked:
            said.append(f"has not worked {plural(version.not_worked, 'case')}")
        if version.outdated:
            said.append(f"{plural(version.outdated, 'attempt')} made before the case was last accepted, not counted")
        if said:
            yield f"{visible(version.agent, 60)}: {'; '.join(said)}"
    if len(standing.versions) > SHOWN:
        yield f"single cases are shown of the newest {SHOWN} of {len(standing.versions)} versions"
    yield "cases were kept because they went wrong: a rate here is of these cases, and of no population"


def suite_json(standing: Standing) -> str:
    """``{apiVersion, kind: SuiteStanding, suite, versions, cases, proposed, rejected}``; a case's ``standing`` in words."""
    body = plain(standing)
    for told, one in zip(body["cases"], standing.cases, strict=True):
        told["standing"] = one.standing
    return json.dumps({"apiVersion": API_VERSION, "kind": "SuiteStanding", **body}, indent=2, allow_nan=False) + "\n"


def render_suite(standing: Standing, command: str = "") -> str:
    """The whole page."""
    return ENVIRONMENT.get_template("suite.html.j2").render(
        title=f"suite {standing.suite}, {plural(len(standing.versions), 'version')}",
        is_simulated=any(one.simulated for one in standing.versions),
        standing=standing,
        sizes=_sizes(standing),
        headings=headings(standing),
        rows=[cells(one) for one in standing.versions],
        case_headings=case_headings(standing),
        case_rows=[case_cells(one) for one in standing.cases],
        notes=notes(standing),
        chart=charts.ranges(
            [
                charts.Ranged(one.agent, one.rate.share, one.rate.interval.low, one.rate.interval.high)
                for one in standing.versions
                if one.rate.share is not None and one.rate.interval is not None
            ],
            percent,
            "Share of the suite's cases passed, by version",
            most=1.0,
        ),
        command=command,
    )
