"""Several agents on one sample, as text, as JSON and as a page: the figures of each, and how each differs from the first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from podctl.reports import charts
from podctl.reports.jsonreport import plain
from podctl.reports.page import ENVIRONMENT
from podctl.reports.text import columns, visible
from podctl.reports.wording import VERDICT_WORD, cost_text
from podctl.spec.models import API_VERSION
from podctl.stats.side_by_side import THIN, Against, Difference, Side, SideBySide
from podctl.stats.units import dollars, interval_text, percent, plural, seconds


@dataclass(frozen=True)
class Figure:
    """A line of the table of differences, in words."""

    name: str
    difference: str
    range: str
    told: str


def comparison_json(found: SideBySide) -> str:
    """``{apiVersion, kind: RunComparison, sameSample, simulated, level, sides, others}``."""
    head = {"apiVersion": API_VERSION, "kind": "RunComparison", "sameSample": found.same_sample, "simulated": found.simulated}
    return json.dumps({**head, **plain(found)}, indent=2, ensure_ascii=True, allow_nan=False) + "\n"


def comparison_text(found: SideBySide) -> str:
    """Plain text for a terminal; ends with a newline."""
    lines = ["SIMULATED: figures come from a scripted model, not from a real one"] if found.simulated else []
    lines += [f"{' '.join(sentence(found))}", ""]
    headings = ("RUN", "AGENT", "VERDICT", "RESOLVED", "RATE", "95 % INTERVAL", "A TICKET", "A RESOLVED ONE", "TIME A TICKET")
    lines += [*columns(headings, [(side.info.id, *_cells(side)) for side in found.sides]), ""]
    for side, other in zip(found.sides[1:], found.others, strict=True):
        of = f"{visible(side.agent, 60)} against {visible(found.sides[0].agent, 60)}, {plural(other.common_tickets, 'common ticket')}"
        rows = [(figure.name, figure.difference, figure.range, figure.told) for figure in figures(other)]
        lines += [of, *columns(("DIFFERENCE", "BY", f"{percent(found.level)} RANGE", "SAYS"), rows), ""]
    return "\n".join([*lines, *(f"! {note}" for note in notes(found))]) + "\n"


def render_comparison(found: SideBySide, command: str = "") -> str:
    """The whole page."""
    strong, rest = sentence(found)
    return ENVIRONMENT.get_template("comparison_page.html.j2").render(
        title=f"{plural(len(found.sides), 'agent')} side by side",
        is_simulated=found.simulated,
        strong=strong,
        rest=rest,
        sides=[(side, _cells(side)) for side in found.sides],
        others=[(side, other, figures(other)) for side, other in zip(found.sides[1:], found.others, strict=True)],
        notes=list(notes(found)),
        level=found.level,
        rates_chart=rates_chart([(side.agent, side) for side in found.sides]),
        costs_chart=costs_chart([(side.agent, side) for side in found.sides]),
        command=command,
    )


def sentence(found: SideBySide) -> tuple[str, str]:
    """What to remember: the first range, and the rest of the sentence."""
    first, side, other = found.sides[0], found.sides[1], found.others[0]
    sample = "the same" if found.same_sample else "not the same"
    if len(found.others) > 1:
        apart = sum(bool(one.pass_rate.told_apart) for one in found.others)
        return (
            f"{apart} of {plural(len(found.others), 'agent')}",
            f"can be told apart from {_named(first)} by the share of tickets resolved, on {plural(first.rate.tickets, 'ticket')}; "
            f"the samples are {sample}.",
        )
    rate = figures(other)[0]
    strong = rate.range if other.pass_rate.low is not None else rate.difference
    which = f"is how far {_named(side)} differs from {_named(first)} in tickets resolved ({percent(found.level)} range)"
    if other.pass_rate.low is None:
        which = f"is what is known of how far {_named(side)} differs from {_named(first)} in tickets resolved"
    cost = figures(other)[1]
    return strong, f"{which}: {rate.told}; a ticket's cost changes by {cost.difference} ({cost.told}). {_sample(other)}"


def _sample(other: Against) -> str:
    common = plural(other.common_tickets, "ticket")
    return f"Both worked the same {common}." if other.same_sample else f"The samples are not the same: {common} count in both."


def figures(other: Against) -> tuple[Figure, ...]:
    return (
        _figure("tickets resolved", other.pass_rate, _points, more_is_better=True),
        _figure("cost of a ticket", other.cost_per_ticket, _signed_dollars),
        _figure("cost of a resolved ticket", other.cost_per_resolved, _signed_dollars),
        _figure("time of a ticket", other.seconds_per_ticket, _signed_seconds),
    )


def _figure(name: str, found: Difference, unit: Callable[[float], str], more_is_better: bool = False) -> Figure:
    if found.value is None:
        return Figure(name, "unknown", "none", found.why)
    if found.low is None or found.high is None:
        return Figure(name, unit(found.value), "none", found.why)
    told = "not told apart"
    if found.told_apart:
        told = "better" if (found.value > 0) == more_is_better else "worse"
    low = unit(found.low).removesuffix(" points")
    return Figure(name, unit(found.value), f"{low} to {unit(found.high)}", told)


def notes(found: SideBySide) -> Iterator[str]:
    """What a reader must know before believing the table."""
    for side, other in zip(found.sides, (None, *found.others), strict=True):
        name = f"{visible(side.info.id, 60)}: "
        if side.status != "finished":
            yield f"{name}the run is {side.status}: figures are of what was done until then"
        if side.not_run or side.infrastructure:
            yield f"{name}{side.infrastructure:,} attempts ended by infrastructure, {side.not_run:,} not run: they do not count"
        if side.stopped_early:
            yield f"{name}it was stopped as worse than its baseline: the tickets that it worked are no sample"
        if side.info.shard is not None:
            yield f"{name}it is shard {side.info.shard} of a run: podctl merge makes the whole"
        if other is not None:
            if other.common_tickets < THIN:
                yield f"{name}low confidence: fewer than {THIN} tickets in common with the first"
            yield from (f"{name}{visible(note, 300)}" for note in other.notes[:10])
    strata = {stratum for side in found.sides for stratum in side.info.strata}
    if len(strata) > 1:
        yield "figures are of the sample as it was drawn, not weighted to the population: podctl project does that"
    if len(found.others) > 1:
        yield f"each range is of {percent(found.level)}, so that all ranges of one figure hold together in 95 % of cases"


def rates_chart(sides: list[tuple[str, Side]]) -> str:
    rows = [
        charts.Ranged(name, side.rate.share, side.rate.interval.low, side.rate.interval.high)
        for name, side in sides
        if side.rate.share is not None and side.rate.interval is not None
    ]
    return charts.ranges(rows, percent, "Share of tickets resolved", most=1.0)


def costs_chart(sides: list[tuple[str, Side]]) -> str:
    rows = [charts.Ranged(name, float(side.cost_per_ticket)) for name, side in sides if side.cost_per_ticket is not None]
    return charts.ranges(rows, lambda value: dollars(Decimal(repr(value))), "Dollars of a ticket")


def _cells(side: Side) -> tuple[str, ...]:
    rate = side.rate
    resolved = "nothing was resolved" if rate.passed == 0 else "unknown"
    return (
        visible(side.agent, 60),
        VERDICT_WORD[side.verdict] if side.status == "finished" and side.info.shard is None else "-",
        f"{rate.passed:,} of {rate.of:,}",
        "unknown" if rate.share is None else percent(rate.share),
        "none" if rate.interval is None else interval_text(rate.interval),
        cost_text(side.dollars, rate.of),
        resolved if side.cost_per_resolved is None else dollars(side.cost_per_resolved),
        "unknown" if side.seconds_per_ticket is None else seconds(side.seconds_per_ticket),
    )


def _named(side: Side) -> str:
    return visible(side.agent, 80)


def _points(value: float) -> str:
    return f"{value * 100 + 0.0:+.1f} points".replace("-", "−")


def _signed_dollars(value: float) -> str:
    return _signed(value, lambda size: dollars(Decimal(repr(size))))


def _signed_seconds(value: float) -> str:
    return _signed(value, seconds)


def _signed(value: float, unit: Callable[[float], str]) -> str:
    return ("−" if value < 0 else "+") + unit(abs(value))
