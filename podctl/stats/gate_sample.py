"""One sample against a threshold."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal

from podctl.stats.gate_case import Asked, Case, meets, per_ticket, unknown
from podctl.stats.proportions import pass_hat_k
from podctl.stats.thresholds import Sides, mean_share_sides, mean_sides, share_sides
from podctl.stats.units import dollars, percent, plural, seconds
from podctl.stats.weighed_share import WeighedShare, of_clusters, of_shares

#: Figures of fewer tickets are called so: skewed costs and times have shown too little of themselves.
LOW_CONFIDENCE = 25


def pass_rate(case: Case) -> Asked | None:
    least = case.gate.pass_rate
    if least is None:
        return None
    rate, required = case.summary.rate, f"≥ {percent(least)}"
    if rate.share is None:
        return unknown("pass_rate", required, "no attempt counts")
    message = f"{rate.passed:,} of {rate.of:,} passed"
    if least in (0.0, 1.0):
        # No sample shows that nothing ever fails; whoever asks for every one means those of the sample.
        message += "; each has to" if least else ""
        return Asked("pass_rate", percent(rate.share), required, message, meets(rate.share >= least))
    if case.weighing is None:
        sides = share_sides(list(case.tickets.values()), least)
        return _share("pass_rate", rate.share, required, message, sides, len(case.tickets))
    groups = case.weighing.split(case.tickets)
    weighed = WeighedShare(tuple(of_clusters(weight, list(those.values())) for weight, those in groups))
    return _share("pass_rate", weighed.share, required, message + _weighed(weighed), weighed.sides(least), weighed.tickets)


def pass_hat(case: Case) -> Asked | None:
    asked = case.gate.pass_hat
    if asked is None:
        return None
    name, required = "pass_hat", f"pass^{asked.k} ≥ {percent(asked.share)}"
    each = {ticket: pass_hat_k(passed, of, asked.k) for ticket, (passed, of) in case.tickets.items() if of >= asked.k}
    values = list(each.values())
    if len(values) < 2:
        few = f"{plural(len(values), 'ticket')} had {asked.k} attempts that count"
        return unknown(name, required, few + f"; run with repeats of {asked.k} or more")
    share = math.fsum(values) / len(values)
    message = f"on average over {plural(len(values), 'ticket')} with {asked.k} or more attempts that count"
    if asked.share in (0.0, 1.0):
        return Asked(name, percent(share), required, message, meets(share >= asked.share))
    if case.weighing is None:
        return _share(name, share, required, message, mean_share_sides(values, asked.share), len(values))
    groups = case.weighing.split(each)
    weighed = WeighedShare(tuple(of_shares(weight, list(those.values())) for weight, those in groups))
    return _share(name, weighed.share, required, message + _weighed(weighed), weighed.sides(asked.share), len(values))


def _weighed(share: WeighedShare) -> str:
    text = "; strata weighed as in the population"
    if share.seen < 1 - 1e-9:
        text += f", of which {percent(1 - share.seen)} are of kinds that no ticket here is of: failing for a pass, passing for a fail"
    return text


def _share(name: str, share: float, required: str, message: str, sides: Sides, tickets: int) -> Asked:
    """A share that has to be reached."""
    return Asked(
        name=name,
        measured=percent(share),
        required=required,
        message=message,
        p_fail=sides.p_below,
        p_pass=sides.p_above,
        passes=f"; 95 % sure of at least {percent(sides.low)}",
        fails=f"; 95 % sure of at most {percent(sides.high)}",
        open=f"; 90 % interval {_range(percent, sides)}: the sample cannot tell",
        tickets=tickets,
        settles=sides.settles,
    )


def cost_per_ticket(case: Case) -> Asked | None:
    most = case.gate.cost_per_ticket
    if most is None:
        return None
    summary, required = case.summary, f"≤ {dollars(most)}"
    if summary.rate.of == 0:
        return unknown("cost_per_ticket", required, "no attempt counts")
    if summary.cost_per_ticket is None:
        at_least = summary.counted_dollars.known / summary.rate.of
        message = f"the cost of {plural(summary.counted_dollars.unknown, 'attempt')} is unknown; at least {dollars(at_least)} a ticket"
        return unknown("cost_per_ticket", required, message)
    values = per_ticket(case.sample, lambda a: float(a.dollars or 0))
    measured = dollars(summary.cost_per_ticket)
    return mean_at_most("cost_per_ticket", list(values.values()), float(most), measured, required, _over(case), _money)


def seconds_per_ticket(case: Case) -> Asked | None:
    most = case.gate.seconds_per_ticket
    if most is None:
        return None
    summary, required = case.summary, f"≤ {seconds(most)}"
    if summary.seconds_per_ticket is None:
        return unknown("seconds_per_ticket", required, "no attempt counts")
    values = per_ticket(case.sample, lambda a: a.wall_s)
    measured = seconds(summary.seconds_per_ticket)
    return mean_at_most("seconds_per_ticket", list(values.values()), most, measured, required, _over(case), seconds)


def mean_at_most(
    name: str,
    values: list[float],
    most: float,
    measured: str,
    required: str,
    message: str,
    shown: Callable[[float], str] | None,
) -> Asked:
    """The mean of one value a ticket, which has to be ``most`` at most; ``shown`` writes a bound of it, where that says something."""
    sides = mean_sides(values, most)
    if sides is None:
        return unknown(name, required, "one ticket says nothing of others", measured)
    if len(values) < LOW_CONFIDENCE:
        message += f"; low confidence: {plural(len(values), 'ticket')}"
    if sides.low == sides.high:
        return Asked(name, measured, required, message + "; every ticket the same", meets(sides.low <= most + 1e-12))
    return Asked(
        name=name,
        measured=measured,
        required=required,
        message=message,
        p_fail=sides.p_above,
        p_pass=sides.p_below,
        passes=f"; 95 % sure of at most {shown(sides.high)}" if shown else "; 95 % sure of no more than is allowed",
        fails=f"; 95 % sure of at least {shown(sides.low)}" if shown else "; 95 % sure of more than is allowed",
        open=(f"; 90 % interval {shown(max(0.0, sides.low))} to {shown(sides.high)}" if shown else "")
        + ": the sample cannot tell",
        tickets=len(values),
        settles=sides.settles,
    )


def _over(case: Case) -> str:
    text = f"mean over {plural(case.summary.rate.of, 'attempt')}" + as_drawn(case)
    return text + ("; simulated" if case.summary.simulated else "")


def as_drawn(case: Case) -> str:
    """What a figure says that does not weigh strata where it could."""
    return "" if case.weighing is None else ", strata as drawn"


def _range(shown: Callable[[float], str], sides: Sides) -> str:
    return f"{shown(sides.low)} to {shown(sides.high)}"


def _money(value: float) -> str:
    return dollars(Decimal(repr(round(value, 10))))
