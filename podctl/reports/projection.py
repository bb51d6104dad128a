"""A projection as text: the sentence with the range first, then what it is made of, then what a reader must know."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from podctl.projection.model import Estimate, Projection, SteadyState, StratumProjection, Timing
from podctl.reports.text import columns, visible
from podctl.stats.units import dollars, percent, plural, seconds

PART_LABEL = {
    "models": "models",
    "pods": "pods",
    "approvals": "approvals by people",
    "fallback": "fallback to people",
    "rework": "rework of wrong outcomes",
}
_LISTED = 40
#: Units that stand once beside two numbers.
_BARE = {"tickets": "number", "tokens": "number", "pods": "number"}


def render_projection(projection: Projection) -> str:
    """Plain text for a terminal; ends with a newline."""
    lines: list[str] = []
    if projection.simulated:
        lines.append("SIMULATED: figures come from a scripted model, not from a real one")
    lines += [headline(projection), ""]
    lines += _money(projection)
    lines += ["", *_strata(projection)]
    if len({period.tickets for period in projection.periods}) > 1:
        lines += ["", *_periods(projection)]
    if projection.caps:
        lines += ["", *_caps(projection)]
    if projection.timing is not None:
        lines += ["", *_timing(projection.timing)]
    lines += ["", *_facts(projection), ""]
    lines += [f"! {visible(warning.text)}" for warning in projection.warnings]
    spoken = projection.assumptions + (projection.timing.assumptions if projection.timing is not None else ())
    lines += [f"* {visible(text)}" for text in spoken]
    return "\n".join(lines) + "\n"


def headline(projection: Projection) -> str:
    """The range in one sentence."""
    volume, total = projection.volume, projection.total
    agent = visible(f"{projection.agent_name} {projection.agent_version}", 100)
    which = "tickets of the population" if volume.of == "population" else "tickets"
    what = f"{agent} on {volume.tickets:,.0f} {which}"
    if volume.periods > 1:
        what += f" in {volume.periods} periods"
    parts = [PART_LABEL[part.name] for part in projection.parts if part.counted]
    of = f" for {', '.join(parts)}" if parts else ""
    if total.value is None:
        least = f"at least {money(total.at_least)}{of}; " if total.at_least is not None else ""
        return f"{what}: cost unknown: {least}{visible(total.why, 400)}."
    each = f"{amount(projection.per_ticket)} a ticket, {amount(projection.per_resolved)} a resolved one"
    if total.low is None:
        return f"{what}: {amount(total)}{of}, without a range: {visible(total.why, 400)}; {each}."
    return f"{what}: {range_text(total)} ({percent(projection.level)} range), best estimate {amount(total)}{of}; {each}."


def amount(estimate: Estimate) -> str:
    """The value in its unit; what is known of it, or ``unknown``."""
    if estimate.value is None:
        return "unknown" if estimate.at_least is None else f"≥ {_shown(estimate.at_least, estimate.unit)}"
    return _shown(estimate.value, estimate.unit)


def range_text(estimate: Estimate) -> str:
    """``$10,900 – $15,200``; ``-`` without one."""
    if estimate.low is None or estimate.high is None:
        return "-"
    unit = _BARE.get(estimate.unit, estimate.unit)
    return f"{_shown(estimate.low, unit)} – {_shown(estimate.high, unit)}"


def money(value: float | None) -> str:
    """Whole dollars from a thousand up: an estimate has no cents there."""
    if value is None:
        return "unknown"
    if abs(value) >= 1000:
        return f"{'-' if value < 0 else ''}${abs(value):,.0f}"
    return dollars(Decimal(repr(value)))


def _shown(value: float, unit: str) -> str:
    if unit == "dollars":
        return money(value)
    if unit == "share":
        return percent(value)
    if unit == "seconds":
        return seconds(value)
    if unit == "hours":
        return f"{value:,.0f} h" if abs(value) >= 100 else f"{value:,.1f} h" if abs(value) >= 1 else f"{value * 60:,.1f} min"
    return f"{_number(value)} {unit}" if unit in _BARE else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.2g}"


def _money(projection: Projection) -> list[str]:
    level = f"{percent(projection.level)} RANGE"
    rows = []
    for part in projection.parts:
        shown = amount(part.dollars) if part.dollars.value is not None or part.dollars.at_least is not None else "no rate"
        rows.append((PART_LABEL[part.name], amount(part.quantity), shown, range_text(part.dollars)))
    rows.append(("total", "", amount(projection.total), range_text(projection.total)))
    for other in projection.beside:
        if other.low is not None:
            rows.append((f"  by {other.method}", "", "", range_text(other)))
    rows.append(("a ticket", "", amount(projection.per_ticket), range_text(projection.per_ticket)))
    rows.append(("a resolved ticket", "", amount(projection.per_resolved), range_text(projection.per_resolved)))
    return columns(("COST", "QUANTITY", "DOLLARS", level), rows)


def _strata(projection: Projection) -> list[str]:
    rows = [_stratum(stratum) for stratum in projection.strata[:_LISTED]]
    headings = (
        "STRATUM",
        "TICKETS",
        "TRIED",
        "RESOLVED",
        "DOLLARS",
        f"{percent(projection.level)} RANGE",
        "A TICKET",
        "CONFIDENCE",
    )
    found = columns(headings, rows)
    if len(projection.strata) > _LISTED:
        found.append(f"and {len(projection.strata) - _LISTED} more: -o json")
    return found


def _stratum(stratum: StratumProjection) -> tuple[str, ...]:
    word = {"usual": "", "low": "low", "none": "nothing known"}[stratum.confidence]
    return (
        visible(stratum.name, 60) + (f" (as {visible(stratum.like, 40)})" if stratum.like else ""),
        f"{stratum.tickets:,.0f}",
        f"{stratum.counted:,}",
        amount(stratum.resolved_share),
        amount(stratum.dollars),
        range_text(stratum.dollars),
        amount(stratum.dollars_per_ticket),
        word,
    )


def _periods(projection: Projection) -> list[str]:
    rows = [
        (str(period.number), f"{period.tickets:,.0f}", amount(period.dollars), range_text(period.dollars))
        for period in projection.periods
    ]
    return columns(("PERIOD", "TICKETS", "DOLLARS", f"{percent(projection.level)} RANGE"), rows)


def _caps(projection: Projection) -> list[str]:
    rows = [
        (
            money(cap.dollars),
            amount(cap.reached),
            amount(cap.saves),
            amount(cap.lost),
            amount(cap.net),
            range_text(cap.net),
        )
        for cap in projection.caps
    ]
    headings = (
        "CAP A TICKET",
        "REACHED BY",
        "MODELS SAVE",
        "NOT RESOLVED",
        "TOTAL CHANGES BY",
        f"{percent(projection.level)} RANGE",
    )
    return columns(headings, rows)


def _timing(timing: Timing) -> list[str]:
    rows = [
        (
            str(clearing.pods),
            amount(clearing.hours),
            range_text(clearing.hours),
            _shown(clearing.divided, "hours"),
            clearing.bound_by,
        )
        for clearing in timing.clearing
    ]
    found = columns(("PODS", "CLEARED IN", "RANGE", "WORK / PODS", "HELD UP BY"), rows) if rows else []
    if timing.deadline is not None:
        hours = _shown(timing.deadline.hours, "hours")
        pods = timing.deadline.pods
        found.append(f"deadline  {hours}: " + (plural(pods, "pod") if pods is not None else f"not met: {timing.deadline.why}"))
    if timing.steady is not None:
        found.append(_arrivals(timing.steady))
    return found


def _arrivals(steady: SteadyState) -> str:
    text = f"arrivals  {_number(steady.per_hour)} tickets an hour on {plural(steady.pods, 'pod')}: "
    if not steady.stable:
        return (
            f"{text}the queue grows by {_number(steady.growth_per_hour)} an hour without end, held up by {steady.bound_by}; "
            f"{plural(steady.least_pods, 'pod')} at least keep up"
        )
    text += f"{steady.bound_by} {percent(steady.busy)} used, 95 % wait less than {amount(steady.wait_p95)}, {amount(steady.in_system)} there on average"
    return text + (f"; too many in {percent(steady.overloaded)} of redrawn samples" if steady.overloaded else "")


def _facts(projection: Projection) -> Iterator[str]:
    outcomes = projection.outcomes
    yield (
        f"outcomes  resolved {_with_range(outcomes.resolved_share)}; wrong {_with_range(outcomes.wrong)}, "
        f"handed over {_with_range(outcomes.handed_over)}"
    )
    if any(kind.tokens.value for kind in projection.tokens):
        kinds = ", ".join(
            f"{kind.kind.replace('_', ' ')} {_with_range(kind.tokens)}" for kind in projection.tokens if kind.tokens.value
        )
        yield f"tokens    {kinds}"
    yield f"time      pods {_with_range(projection.pod_hours)}; people {_with_range(projection.human_hours)}"
    if len(projection.periods) > 1 and len({period.tickets for period in projection.periods}) == 1:
        each = projection.periods[0]
        yield f"periods   {len(projection.periods)}, each {each.tickets:,.0f} tickets and {_with_range(each.dollars)}"
    if projection.budget is not None:
        over = "unknown" if projection.budget.over is None else percent(projection.budget.over)
        yield f"budget    {money(projection.budget.dollars)}: the chance to need more is {over}"
    if projection.mix is not None:
        yield f"mix       a ticket costs {amount(projection.per_ticket)}; at the run's own mix {amount(projection.mix.population)}"
    if projection.baseline is not None:
        base = projection.baseline
        money_of = f", {money(base.dollars)}; the agent saves {_with_range(base.saves)}" if base.dollars is not None else ""
        yield (
            f"people    without the agent {_shown(base.hours, 'hours')} ({base.minutes_per_ticket:,.1f} min a ticket, by {visible(base.source, 100)})"
            f"{money_of}"
        )
    if projection.coverage is not None:
        found = projection.coverage
        yield (
            f"coverage  the {percent(found.nominal)} range held the truth in {percent(found.achieved)} (± {percent(found.error)}) of "
            f"{found.populations:,} populations fitted to this run: {found.fitted}"
        )
    yield f"method    {projection.total.method or 'no range'}; seed {projection.seed}, {projection.replications:,} replications"


def _with_range(estimate: Estimate) -> str:
    text = amount(estimate)
    return text if estimate.low is None else f"{text} ({range_text(estimate)})"
