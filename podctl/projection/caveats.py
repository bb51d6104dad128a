"""What a reader of a projection must know besides its figures: warnings and assumptions, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podctl.projection.model import LEAST, THIN, Projection, Proposed, Warned
from podctl.projection.rates import Rates
from podctl.projection.sample import Sampled
from podctl.spec.volume import Volume
from podctl.stats.units import percent, plural, seconds

_LISTED = 8
#: Standard errors by which coverage must lie below its level to be spoken of.
_SURE = 2.0


def warnings_of(projection: Projection, sample: Sampled, rates: Rates, status: str) -> tuple[Warned, ...]:
    found = [
        *_of_strata(projection, sample),
        *_of_the_run(projection, sample, status),
        *_of_money(projection, rates),
        *_of_ranges(projection),
    ]
    return tuple(Warned(code, text) for code, text in found)


def _of_strata(projection: Projection, sample: Sampled) -> Iterator[tuple[str, str]]:
    wanted = [stratum for stratum in projection.strata if stratum.tickets > 0]
    if missing := [stratum for stratum in wanted if stratum.confidence == "none"]:
        tickets = sum(stratum.tickets for stratum in missing)
        yield (
            "not-sampled",
            f"nothing is known of {tickets:,.0f} of {projection.volume.tickets:,.0f} tickets: no ticket of "
            f"{_listed([stratum.name for stratum in missing])} counts in the run. Totals are unknown; what the other strata come "
            "to is a lower bound. Sample these strata, or say like: in the volume file",
        )
    if thin := [f"{stratum.name} ({stratum.counted})" for stratum in wanted if 0 < stratum.counted < THIN]:
        yield "low-confidence", f"low confidence: fewer than {THIN} tickets tell of {_listed(thin)}"
    if single := [stratum.name for stratum in wanted if stratum.counted == 1]:
        yield "single-ticket", f"one ticket alone tells of {_listed(single)}: how tickets differ there is in no range"
    if borrowed := [f"{stratum.name} (as {stratum.like})" for stratum in wanted if stratum.like]:
        yield "borrowed", f"other strata's tickets stand in for {_listed(borrowed)}, which nobody tried"
    named = [
        name
        for name, groups in sample.strata.items()
        if len(groups) == 1 and groups[0].by_name and any(stratum.name == name or stratum.like == name for stratum in wanted)
    ]
    if named:
        yield (
            "not-drawn",
            f"chance drew no ticket of {_listed(named)}: those in the sample were named, and no range covers that",
        )


def _of_the_run(projection: Projection, sample: Sampled, status: str) -> Iterator[tuple[str, str]]:
    if projection.simulated:
        yield "simulated", "simulated: figures come from a scripted model, not from a real one"
    if sample.infrastructure:
        yield (
            "infrastructure",
            f"infrastructure ended {plural(sample.infrastructure, 'attempt')} of {sample.attempts:,}: left out, and taken to be like the others of their strata",
        )
    planned = projection.sampled * projection.repeats
    missing = max(planned - sample.attempts, 0) + sample.not_run
    if missing or status != "finished":
        yield (
            "unfinished",
            f"the run is {status}: {missing:,} of {planned:,} attempts were not made, and those that were need not be like them",
        )


def _of_money(projection: Projection, rates: Rates) -> Iterator[tuple[str, str]]:
    if projection.parts and (
        unpriced := next((part for part in projection.parts if part.name == "models" and not part.counted), None)
    ):
        yield "unpriced", f"{unpriced.dollars.why}: the total is unknown, and what is known of it is a lower bound"
    left_out = [part for part in projection.parts if not part.counted and part.name != "models" and part.quantity.value != 0]
    if left_out:
        what = ", ".join(part.name for part in left_out)
        yield (
            "no-rate",
            f"not in the total, for want of a rate: {what}. A volume file says what they cost, of pods a price file too",
        )
    counted: dict[str, bool] = {part.name: part.counted for part in projection.parts}
    outcomes = projection.outcomes
    for name, part, estimate in (("wrong", "rework", outcomes.wrong), ("handed over", "fallback", outcomes.handed_over)):
        if estimate.value == 0 and estimate.high:
            room = "the total's range has room for that" if counted.get(part) else "what that costs is in no total"
            chance = percent(estimate.level or 0)
            yield (
                "not-seen",
                f"no sampled ticket was {name}; up to {estimate.high:,.0f} of the volume may be ({chance} range): {room}",
            )
    if projection.proposed is not None:
        yield from _of_proposals(projection.proposed)
    budget = projection.budget
    if budget is not None and budget.over is None:
        yield "no-chance", f"how likely the budget is to be passed cannot be told: {budget.why}"


def _of_proposals(proposed: Proposed) -> Iterator[tuple[str, str]]:
    what = f"{plural(proposed.proposals, 'proposal')} on {plural(proposed.tickets, 'ticket')}"
    if not proposed.attention:
        yield (
            "attention-unknown",
            f"{what}, and the run's scenario says of no answer how long a person is busy with it: that is in no figure. "
            "Say attention in its approvals.rules",
        )
    elif proposed.tickets < LEAST:
        yield "few-proposals", f"{what} alone tell how much people have to approve: fewer than {LEAST} tickets"


def _of_ranges(projection: Projection) -> Iterator[tuple[str, str]]:
    total = projection.covered_dollars
    if total.low is None and total.why and total.value:
        yield "no-range", f"the total has no range: {total.why}"
    found = projection.coverage
    if found is not None and found.achieved + _SURE * found.error < found.nominal:
        yield (
            "coverage",
            f"the {percent(found.nominal)} range held the truth in {percent(found.achieved)} of the populations that were tried: "
            "too few tickets for how much they vary; read it as that",
        )


def assumptions_of(projection: Projection, volume: Volume, rates: Rates) -> tuple[str, ...]:
    return tuple(_assumptions(projection, volume, rates))


def _assumptions(projection: Projection, volume: Volume, rates: Rates) -> Iterator[str]:
    if projection.volume.of == "population":
        yield "each ticket of the population is worked once more"
    else:
        yield "future tickets are like those that the sample was drawn from, stratum by stratum"
        if volume.strata is None:
            yield "the mix of strata stays that of the run's population"
    yield "models cost what they cost in the run, and answer as they did"
    yield "a pod is busy while the agent works; resets, grading and idle pods are not in its hours"
    if rates.pods is not None:
        yield f"an hour of a pod costs ${rates.pods:,.4g}, by {rates.pods_by}"
    if volume.uncertainty or any(one.uncertainty for one in map(volume.in_stratum, volume.strata or {})):
        yield "the volume scatters as the file says, for all periods together"
    elif projection.volume.of == "future":
        yield "the volume is exactly as given: say uncertainty in the volume file where it is not"
    if rates.people is not None:
        yield f"an hour of people costs ${rates.people:,.2f}; {_times('a ticket that is handed over takes', rates.fallback)}"
        yield _times("one that was wrong takes", rates.rework) + (
            f" and costs ${rates.rework_dollars:,.2f} besides" if rates.rework_dollars else ""
        )
        if rates.approval == 0 and projection.proposed is None:
            yield "nobody approves what the agent did"
    if projection.proposed is not None and projection.proposed.attention:
        yield _attention(projection.proposed)
        if rates.approval:
            yield "besides, people look at what the agent did, as the volume file says"
    if projection.caps:
        yield "a capped ticket costs its cap and goes to a person; what it saves in pod hours is not counted"


def _attention(proposed: Proposed) -> str:
    """Who answered in the run, and whose word the minutes are."""
    answered = []
    if proposed.by_rules:
        answered.append(f"rules answered {proposed.by_rules:,}, which is a simulation of people")
    if proposed.people_took is not None:
        answered.append(
            f"people answered {proposed.by_people:,}, {seconds(proposed.people_took)} after they were asked on average"
        )
    return (
        f"agents propose as in the run ({plural(proposed.proposals, 'proposal')} on {plural(proposed.tickets, 'sampled ticket')}: "
        f"{'; '.join(answered) or 'nobody answered'}), and one takes {seconds(proposed.attention)} of a person on average, "
        "as its scenario assumes: nobody measured that"
    )


def _times(what: str, hours: object) -> str:
    values = sorted(value for value in getattr(hours, "values", tuple)() if value is not None)
    if not values:
        return f"{what} nobody knows how long"
    if values[0] == values[-1]:
        return f"{what} {seconds(values[0] * 3600)}"
    return f"{what} {seconds(values[0] * 3600)} to {seconds(values[-1] * 3600)}, by stratum"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
