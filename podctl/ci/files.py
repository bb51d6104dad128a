"""What a tried change leaves for people and machines: a report of each case, one comment, one summary, one result."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.ci.trying import Tried
from podctl.errors import EnvironmentProblem
from podctl.evidence.results import RunResult
from podctl.evidence.store_read import StoreReader
from podctl.reports.files import write_reports
from podctl.reports.markdown import MAX_CHARACTERS, marker, prose, quoted, render_markdown
from podctl.reports.model import Report
from podctl.reports.wording import VERDICT_GLYPH, VERDICT_WORD, rates_text
from podctl.stats.summary import Summary
from podctl.stats.units import dollars, percent, plural

COMMENT, SUMMARY, RESULT = "comment.md", "summary.md", "result.json"
#: GitHub drops a step's summary above 1 MiB; bytes are left for who else writes to it.
_SUMMARY_BYTES = (1 << 20) - 4096
_LISTED = 200


@dataclass(frozen=True)
class Against:
    """What was looked at, and what the change was held against."""

    base: str  # as it was named
    commit: str
    name: str  # tells one use of podctl on a pull request from another


def write_case(tried: Tried, store: StoreReader, out: Path, ending: str = "") -> Report:
    """Every kind of report of the case, beside one another; ``ending`` tells cases of one name apart.

    Raises `EnvironmentProblem`.
    """
    stem = out / (file_name(tried.plan.case.name) + ending)
    kinds = {"html": ".html", "junit": ".junit.xml", "markdown": ".md", "json": ".json"}
    report, _ = write_reports(tried.result, store, {kind: stem.with_name(stem.name + end) for kind, end in kinds.items()})
    return report


def file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:120].strip(".-") or "case"


def write_all(cases: Sequence[tuple[Tried, Report]], against: Against, out: Path, environment: dict[str, str]) -> None:
    """``comment.md``, ``summary.md``, ``result.json``; the summary also where ``GITHUB_STEP_SUMMARY`` says.

    Raises `EnvironmentProblem`.
    """
    result: dict[str, Any] = {"apiVersion": "podctl/v1", "kind": "CiResult", "name": against.name}
    result |= {"base": against.base, "baseCommit": against.commit, "cases": [_plain(tried) for tried, _ in cases]}
    step = environment.get("GITHUB_STEP_SUMMARY", "")
    try:
        out.mkdir(parents=True, exist_ok=True)
        written = Path(step).stat().st_size if step and Path(step).exists() else 0
        summary = _fitting(cases, against, _SUMMARY_BYTES - written)
        (out / RESULT).write_text(json.dumps(result, indent=2) + "\n", encoding="ascii")
        (out / COMMENT).write_text(_fitting(cases, against, MAX_CHARACTERS), encoding="utf-8")
        (out / SUMMARY).write_text(summary, encoding="utf-8")
        if step:
            with open(step, "a", encoding="utf-8") as file:
                file.write(summary)
    except OSError as error:
        raise EnvironmentProblem(
            f"{error.filename or out} could not be written",
            code="ci-unwritten",
            cause=os.strerror(error.errno or 0),
            unchanged="the runs and their evidence are kept",
            hint="when that is mended: podctl report RUN",
        ) from error


def _fitting(cases: Sequence[tuple[Tried, Report]], against: Against, most: int) -> str:
    """At most ``most`` bytes: the table, and of each case's own report as much as has room, the same for all."""
    head = _head(cases, against)
    room = most - len(head.encode())
    parts = []
    for number, (_, report) in enumerate(cases):
        share = room // (len(cases) - number)
        # Most characters are one byte, none of those that reports print is more than four.
        text = render_markdown(report, min(share, MAX_CHARACTERS))
        while len(text.encode()) > share and len(text) > 1000:
            text = render_markdown(report, len(text) * 3 // 4)
        if len(text.encode()) > share:
            break
        parts.append(text.split("\n", 1)[1])
        room -= len(text.encode()) + 1
    return "\n".join([head, *parts])


def _head(cases: Sequence[tuple[Tried, Report]], against: Against) -> str:
    base = f"{quoted(against.base, 80)} ({quoted(against.commit[:10])})"
    lines = [marker(f"ci-{against.name}")]
    if not cases:
        lines += ["### podctl: nothing to try", "", f"No agent and nothing around one has changed since {base}."]
        return "\n".join(lines) + "\n"
    lines += [f"### podctl: {plural(len(cases), 'agent')} tried against {base}", ""]
    lines += ["| Scenario | Agent | Verdict | Resolved | Before | Spent | Why |", "|" + " --- |" * 7]
    for tried, report in cases[:_LISTED]:
        result, case = tried.result, tried.plan.case
        verdict = f"{VERDICT_GLYPH[result.verdict]} {VERDICT_WORD[result.verdict]}"
        cells = (
            quoted(case.bundle.scenario.name, 60),
            quoted(f"{result.info.agent_name} {result.info.agent_version}", 80),
            verdict,
            _resolved(report.summary),
            _before(result),
            prose(dollars(result.spent_dollars)) + (" (SIMULATED)" if report.simulated else ""),
            "; ".join(quoted(reason, 200) for reason in case.reasons),
        )
        lines.append("| " + " | ".join(cells) + " |")
    if len(cases) > _LISTED:
        lines += ["", f"{len(cases) - _LISTED} more are in the artifacts."]
    return "\n".join(lines) + "\n"


def _resolved(summary: Summary) -> str:
    rate = summary.rate
    return "unknown" if rate.share is None else f"{rate.passed:,} of {rate.of:,} ({percent(rate.share)})"


def _before(result: RunResult) -> str:
    compared = result.comparison
    if compared is None:
        return ""
    return rates_text(compared) if compared.weighed else percent(compared.baseline_rate)


def _plain(tried: Tried) -> dict[str, Any]:
    case, result = tried.plan.case, tried.result
    return {
        "scenario": case.bundle.scenario.name,
        "agent": result.info.agent_name,
        "version": result.info.agent_version,
        "reasons": list(case.reasons),
        "run": result.info.id,
        "baseline": None if result.comparison is None else result.comparison.baseline_run,
        "verdict": result.verdict,
        "exitCode": int(tried.code),
    }
