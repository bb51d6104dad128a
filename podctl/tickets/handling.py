"""How long people took for tickets, by stratum: from a number in each ticket's row."""

from __future__ import annotations

import statistics

from podctl.errors import SpecError
from podctl.projection.rates import HandlingTimes
from podctl.spec.load import load_model
from podctl.spec.models import Tickets
from podctl.spec.problems import printable, shown
from podctl.spec.volume import BaselineTickets
from podctl.tickets.mapping import Missing, Reading
from podctl.tickets.sources import load_population


def handling_times(spec: BaselineTickets) -> HandlingTimes:
    """Means of seconds, over the tickets that have the number; a stratum in which none has is left out.

    Raises `SpecError` for tickets that cannot be read, numbers below 0, and where no ticket has one.
    """
    tickets = load_model(spec.file, Tickets)
    population, reading = load_population(tickets), Reading.of(tickets)
    found: dict[str, list[float]] = {}
    for ticket, row in zip(population.tickets, population.rows, strict=True):
        try:
            number = reading.number(row, spec.path, "baseline")
        except Missing:
            continue
        except ValueError as error:
            raise _unfit(spec, f"ticket {printable(ticket.id, 60)}: {error}") from error
        if number is None:
            continue
        if number < 0:
            raise _unfit(spec, f"ticket {printable(ticket.id, 60)} has {number:g}, below 0")
        seconds = number * spec.each
        found.setdefault(ticket.stratum, []).append(seconds if spec.at_most is None else min(seconds, spec.at_most))
    every = [seconds for some in found.values() for seconds in some]
    if not every:
        raise _unfit(spec, f"no ticket has {printable(spec.path, 60)}")
    source = f"{printable(spec.path, 60)} of {len(every):,} tickets of {spec.file.name}"
    return HandlingTimes(source, {name: statistics.fmean(some) for name, some in found.items()}, statistics.fmean(every))


def _unfit(spec: BaselineTickets, why: str) -> SpecError:
    return SpecError(
        f"the baseline cannot be taken from {printable(shown(spec.file))}: {why}",
        code="baseline-invalid",
        unchanged="nothing was projected",
        hint="baseline.tickets.path leads to a number in each ticket's row; podctl tickets FILE shows the tickets",
    )
