"""Inline SVG, each with a title and a description; every figure in a chart also stands in a table beside it.

Colours come from the page's style sheet by class, so that charts follow its dark, light and print themes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from podctl.reports.text import visible
from podctl.stats.calibration import Calibration
from podctl.stats.proportions import Interval
from podctl.stats.units import interval_text, percent


@dataclass(frozen=True)
class Bin:
    """Values in [low, high); the last bin includes everything above."""

    low: float
    high: float
    count: int
    last: bool = False


def bins_of(values: Sequence[float], most: int = 12) -> tuple[Bin, ...]:
    """Bins of a round width from zero. A long tail is gathered in the last one, which then is wider than it looks."""
    if not values:
        return ()
    ranked = sorted(values)
    p95 = ranked[math.ceil(0.95 * len(ranked)) - 1]
    top = ranked[-1] if ranked[-1] <= 2 * p95 else 1.5 * p95
    if top < 1e-9:  # A billionth of a dollar or second: nothing to spread out.
        return (Bin(0, 0, len(values), last=True),)
    width = _round_up(top / most)
    count = max(1, min(most, math.ceil(top / width + 1e-9)))
    totals = [0] * count
    for value in values:
        totals[min(count - 1, max(0, int(value / width)))] += 1
    return tuple(Bin(i * width, (i + 1) * width, total, last=i == count - 1) for i, total in enumerate(totals))


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9))


_HISTOGRAM = Markup(
    '<svg class="chart" viewBox="0 0 340 150" role="img"><title>{title}</title><desc>{desc}</desc>'
    '<line class="axis" x1="8" y1="120" x2="332" y2="120"/>{bars}{marks}'
    '<text x="8" y="138">{left}</text><text x="332" y="138" text-anchor="end">{right}</text></svg>'
)
_BAR = Markup('<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{w:.1f}" height="{h:.1f}"/>')
_MARK = Markup(
    '<line class="mark" x1="{x:.1f}" y1="18" x2="{x:.1f}" y2="120"/><text x="{tx:.1f}" y="12" text-anchor="{anchor}">{label}</text>'
)


#: Units of the drawing that a label needs.
_LABELS_APART = 80
#: From here on a label stands left of its line.
_FAR_RIGHT = 250


def histogram(bins: Sequence[Bin], marks: Sequence[tuple[str, float]], unit: Callable[[float], str], title: str) -> Markup:
    """``marks`` are labelled values (a median, a 95th percentile) shown as vertical lines, from left to right."""
    tallest = max(b.count for b in bins)
    slot = 324 / len(bins)
    bars = Markup("").join(
        _BAR.format(x=8 + i * slot + 1, y=120 - 96 * b.count / tallest, w=slot - 2, h=96 * b.count / tallest)
        for i, b in enumerate(bins)
        if b.count
    )
    end = bins[-1].high
    places = [(label, 8 + 324 * min(1.0, value / end) if end else 8.0) for label, value in marks]
    first, last = places[0][1], places[-1][1]
    if last - first < _LABELS_APART and (first <= _LABELS_APART or last > _FAR_RIGHT):
        # No room between the lines, nor on one side of them: the last one carries all labels.
        places = [*(("", x) for _, x in places[:-1]), (", ".join(label for label, _ in places), places[-1][1])]
    lines = []
    for index, (label, x) in enumerate(places):
        # Two neighbouring labels write away from each other.
        anchor = "end" if (index < len(marks) - 1 and x > _LABELS_APART) or x > _FAR_RIGHT else "start"
        lines.append(_MARK.format(x=x, tx=x + (-3 if anchor == "end" else 3), anchor=anchor, label=label))
    described = "; ".join(f"{unit(b.low)} to {'more' if b.last else unit(b.high)}: {b.count}" for b in bins if b.count)
    right = f"{unit(end)} and above" if bins[-1].last and end else unit(end)
    return _HISTOGRAM.format(title=title, desc=described, bars=bars, marks=Markup("").join(lines), left="0", right=right)


_WHISKER = Markup(
    '<svg class="whisker" viewBox="0 0 140 18" role="img"><title>{title}</title><desc>{desc}</desc>'
    '<rect class="track" x="6" y="7" width="128" height="4"/><rect class="span" x="{low:.1f}" y="5.5" width="{width:.1f}" height="7"/>'
    '{tick}<circle class="dot" cx="{at:.1f}" cy="9" r="4"/></svg>'
)
_TICK = Markup('<line class="mark" x1="{x:.1f}" y1="1" x2="{x:.1f}" y2="17"/>')


def whisker(share: float, interval: Interval, overall: float | None, name: str) -> Markup:
    """A share with its interval on a line from 0 to 100 %, and a tick where the whole run stands."""
    tick = "" if overall is None else f"; the whole run {percent(overall)}"
    return _WHISKER.format(
        title=f"Pass rate of {visible(name, 80)}",
        desc=f"{percent(share)}, 95 % interval {interval_text(interval)}{tick}",
        low=_across(interval.low),
        width=max(1.0, 128 * (interval.high - interval.low)),
        at=_across(share),
        tick="" if overall is None else _TICK.format(x=_across(overall)),
    )


def _across(share: float) -> float:
    return 6 + 128 * share


_TREND = Markup(
    '<svg class="chart" viewBox="0 0 460 150" role="img"><title>Share of attempts that passed, run by run</title><desc>{desc}</desc>'
    '<rect class="frame" x="44" y="8" width="412" height="112"/><line class="axis" x1="44" y1="64" x2="456" y2="64"/>{points}'
    '<text x="38" y="14" text-anchor="end">100 %</text><text x="38" y="68" text-anchor="end">50 %</text>'
    '<text x="38" y="122" text-anchor="end">0 %</text><text x="44" y="140">{first}</text>'
    '<text x="456" y="140" text-anchor="end">{last}</text></svg>'
)


def trend(runs: Sequence[tuple[str, float, Interval]]) -> Markup:
    """(version, share, interval) of each run, oldest first; empty for fewer than two."""
    if len(runs) < 2:
        return Markup("")
    apart = 392 / (len(runs) - 1)
    points = Markup("").join(
        _POINT.format(x=54 + apart * i, top=_rise(at.high), bottom=_rise(at.low), y=_rise(share), r=3.5)
        for i, (_, share, at) in enumerate(runs)
    )
    described = "; ".join(f"{visible(name, 40)}: {percent(share)}, {interval_text(at)}" for name, share, at in runs)
    return _TREND.format(desc=described, points=points, first=visible(runs[0][0], 30), last=visible(runs[-1][0], 30))


def _rise(share: float) -> float:
    return 120 - 112 * share


_CALIBRATION = Markup(
    '<svg class="chart square" viewBox="0 0 260 230" role="img"><title>Declared confidence against outcome</title><desc>{desc}</desc>'
    '<rect class="frame" x="40" y="8" width="200" height="180"/><line class="ideal" x1="40" y1="188" x2="240" y2="8"/>{points}'
    '<text x="40" y="203">0 %</text><text x="240" y="203" text-anchor="end">100 %</text>'
    '<text x="140" y="222" text-anchor="middle">declared confidence</text>'
    '<text x="36" y="188" text-anchor="end">0 %</text><text x="36" y="16" text-anchor="end">100 %</text>'
    '<text x="30" y="98" text-anchor="middle" transform="rotate(-90 30 98)">passed</text></svg>'
)
_POINT = Markup(
    '<line class="error" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>'
    '<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{r:.1f}"/>'
)


def calibration_chart(calibration: Calibration) -> Markup:
    """A point a bin, its area by the number of attempts; on the diagonal the agent knows how sure it may be."""
    points = Markup("").join(
        _POINT.format(
            x=40 + 200 * b.confidence,
            y=_up(b.share),
            top=_up(b.interval.high),
            bottom=_up(b.interval.low),
            r=3 + 5 * math.sqrt(b.attempts / calibration.declared),
        )
        for b in calibration.bins
    )
    described = "; ".join(f"{percent(b.confidence, 0)} declared, {percent(b.share, 0)} passed" for b in calibration.bins)
    return _CALIBRATION.format(desc=described, points=points)


def _up(share: float) -> float:
    return 188 - 180 * share


@dataclass(frozen=True)
class Ranged:
    """A value that is not below 0, with its range where it has one."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


#: Presentation attributes are for renderers that do not apply the page's style sheet inside of a drawing; style sheets come first.
_RANGES = Markup(
    '<svg class="chart" viewBox="0 0 340 {height}" role="img"><title>{title}</title><desc>{desc}</desc>{rows}'
    '<line class="axis" stroke="#bbb" x1="8" y1="{base}" x2="332" y2="{base}"/>'
    '<text x="8" y="{under}" font-size="11">0</text>'
    '<text x="332" y="{under}" font-size="11" text-anchor="end">{most}</text></svg>'
)
_RANGE_ROW = Markup(
    '<text x="8" y="{text}" font-size="11">{name}</text>'
    '<rect class="bar" fill="#46688a" fill-opacity="0.55" x="8" y="{top}" width="{width:.1f}" height="8"/>{whisker}'
)
_RANGE_WHISKER = Markup(
    '<path class="mark" stroke="#1d1c1a" fill="none" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {top}V{bottom}M{high:.1f} {top}V{bottom}"/>'
)
_ROW = 32


def ranges(rows: Sequence[Ranged], unit: Callable[[float], str], title: str, most: float = 0.0) -> Markup:
    """A bar a row from 0, and its range as a line with two ends. ``most`` is the axis' end; 0: the largest there is.

    Empty when there is nothing to draw a bar of.
    """
    end = most or max((max(row.value, row.high or 0.0) for row in rows), default=0.0)
    if end <= 0:
        return Markup("")

    def across(value: float) -> float:
        return 8 + 324 * min(1.0, max(0.0, value / end))

    drawn, said = [], []
    for at, row in enumerate(rows):
        top, bounds, range_text = _ROW * at + 17, Markup(""), ""
        if row.low is not None and row.high is not None:
            range_text = f" ({unit(row.low)} to {unit(row.high)})"
            bounds = _RANGE_WHISKER.format(low=across(row.low), high=across(row.high), middle=top + 4, top=top, bottom=top + 8)
        drawn.append(
            _RANGE_ROW.format(text=top - 4, name=visible(row.name, 48), top=top, width=across(row.value) - 8, whisker=bounds)
        )
        said.append(f"{visible(row.name, 80)}: {unit(row.value)}{range_text}")
    base = _ROW * len(rows)
    return _RANGES.format(
        title=title,
        desc="; ".join(said),
        rows=Markup("").join(drawn),
        base=base,
        under=base + 14,
        height=base + 18,
        most=unit(end),
    )
