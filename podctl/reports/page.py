"""What every page shares: templates whose every printed string is shown and never obeyed, and the words and units in them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from podctl.evidence.results import AttemptResult
from podctl.reports import wording
from podctl.reports.text import visible
from podctl.stats import units

#: Longest text of one cell or line; the detail budget of `reports.model` counts on it.
CLIP = 400


def _moment(ns: int) -> str:
    return datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if ns else "not yet"


def _change(old: Any, new: Any) -> str:
    """A relative change, ``+12 %``; empty where one side is unknown or nothing to divide by."""
    if old is None or new is None or not old:
        return ""
    shown = f"{(float(new) / float(old) - 1) * 100:+.0f} %"
    return shown.replace("-", "−") if shown[1:] != "0 %" else "0 %"


def _points(old: float, new: float) -> str:
    return f"{(new - old) * 100 + 0.0:+.1f} points".replace("-", "−")


def _grown(old: float, new: float) -> str:
    shown = wording.count_text(abs(new - old))
    return shown if shown == "0" else ("+" if new > old else "−") + shown


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
        count=wording.count_text,
        reason=wording.reason,
        approvals=wording.approvals_text,
        finding=wording.finding_label,
        moment=_moment,
        attempt=_reproduced,
        css=lambda name: Markup((Path(__file__).parent / "templates" / name).read_text("utf-8")),
    )
    environment.globals.update(
        change=_change,
        points=_points,
        grown=_grown,
        glyphs=wording.VERDICT_GLYPH,
        words=wording.VERDICT_WORD,
        cost_text=wording.cost_text,
        fidelity_text=wording.fidelity_text,
    )
    return environment


ENVIRONMENT = _environment()
