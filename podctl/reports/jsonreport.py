"""The report for programs. Money is a string of dollars, an unknown value null; keys are only ever added."""

from __future__ import annotations

import json
import math
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

from podctl.evidence.records import Tokens
from podctl.evidence.results import DiffEntry
from podctl.reports.attack import attack_json
from podctl.reports.model import Report
from podctl.spec.models import API_VERSION
from podctl.stats.summary import Money


def json_report(report: Report) -> dict[str, Any]:
    """``{apiVersion, kind: RunReport, verdict, headline, simulated, run, findings, summary, comparison, calibration, attempts, …}``."""
    run = report.run
    return {
        "apiVersion": API_VERSION,
        "kind": "RunReport",
        "verdict": run.verdict,
        "status": run.status,
        "headline": report.headline,
        "simulated": report.simulated,
        "run": plain(run.info),
        "spentDollars": plain(run.spent_dollars),
        "findings": plain(run.findings),
        "summary": plain(report.summary),
        "comparison": plain(run.comparison),
        "calibration": plain(report.calibration),
        "notes": list(report.notes),
        "tried": plain(report.tried),
        "tools": list(report.tools),
        "approvals": plain(report.approvals),
        "let_out": plain(report.let_out),
        "left": plain(report.left),
        "attack": attack_json(report.attack, plain),
        "chaos": plain(report.chaos),
        "attempts": plain(run.attempts),
    }


def render_json(report: Report) -> str:
    """ASCII, so that any string survives, lone surrogates included."""
    return json.dumps(json_report(report), indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Frozen values as JSON's own types, names in camelCase; free-form mappings keep their keys."""
    if isinstance(value, Tokens):
        return {**{_camel(name): count for name, count in value.to_json().items()}, "total": value.total}
    if isinstance(value, Money):
        return {"known": plain(value.known), "unknownAttempts": value.unknown, "total": plain(value.total)}
    if is_dataclass(value) and not isinstance(value, type):
        renamed = {"class_": "class"} if isinstance(value, DiffEntry) else {}
        return {renamed.get(f.name, _camel(f.name)): plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | bool) else str(value)


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)
