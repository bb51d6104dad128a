"""This run against a baseline, ticket by ticket: only tickets that both worked can tell the versions apart."""

from __future__ import annotations

from podctl.evidence.results import Comparison, RunInfo, RunResult, TicketFlip
from podctl.evidence.toollists import lists_differ
from podctl.stats.attribution import attribute, failure
from podctl.stats.fidelity import differences
from podctl.stats.summary import by_ticket, mean_dollars, mean_seconds, money_of
from podctl.stats.weighed_pairs import compared
from podctl.stats.weighing import weighing_of


def compare(baseline: RunResult, run: RunResult) -> Comparison:
    """Over tickets with an attempt that counts in both runs and that are not in quarantine.

    Rates and ``p_worse`` are of the population where the sample is not in proportion to it, and ``weighed`` says so; costs and times are
    of the tickets as drawn. A ticket flips when its repeats' majority does, a tie being a failure; ``p_worse`` is of all its repeats.
    """
    aside = run.info.quarantine
    before, after = (by_ticket(a for a in one.attempts if a.ticket not in aside) for one in (baseline, run))
    weighing = weighing_of(run)
    pairs = compared(before, after, weighing)
    common = before.keys() & after.keys()
    strata = {a.ticket: a.stratum for a in run.attempts}
    # Why it fails now, or failed before.
    failures = {
        passes: {a.ticket: failure(a) for a in one.attempts if failure(a)} for passes, one in ((False, run), (True, baseline))
    }
    flips = tuple(
        TicketFlip(
            ticket=ticket,
            stratum=strata[ticket],
            direction="better" if majority(after[ticket]) else "worse",
            baseline_passed=before[ticket][0],
            baseline_of=before[ticket][1],
            passed=after[ticket][0],
            of=after[ticket][1],
            failure=failures[majority(after[ticket])].get(ticket, ""),
        )
        for ticket in sorted(common, key=lambda ticket: (strata[ticket], ticket))
        if majority(before[ticket]) != majority(after[ticket])
    )
    old = [a for a in baseline.attempts if a.cause.counts and a.ticket in common]
    new = [a for a in run.attempts if a.cause.counts and a.ticket in common]
    return Comparison(
        baseline_run=baseline.info.id,
        baseline_agent=f"{baseline.info.agent_name} {baseline.info.agent_version}",
        common_tickets=len(common),
        baseline_rate=pairs.rate_before if pairs else 0.0,
        rate=pairs.rate if pairs else 0.0,
        flips=flips,
        p_worse=pairs.p_worse if pairs else None,
        baseline_dollars_per_ticket=mean_dollars(money_of(old), len(old)),
        dollars_per_ticket=mean_dollars(money_of(new), len(new)),
        baseline_seconds_per_ticket=mean_seconds(old) or 0.0,
        seconds_per_ticket=mean_seconds(new) or 0.0,
        notes=notes_of(baseline, run),
        attribution=attribute(baseline, run, weighing),
        weighed=weighing is not None,
    )


def notes_of(baseline: RunResult, run: RunResult) -> tuple[str, ...]:
    """What besides the agent differs, and what is not compared."""
    aside = run.info.quarantine
    before, after = ({a.ticket for a in one.attempts if a.cause.counts and a.ticket not in aside} for one in (baseline, run))
    differences = _differences(baseline.info, run.info, len(before), len(after), len(before & after))
    return differences + _of_tools(baseline, run) + _aside(run)


def _of_tools(baseline: RunResult, run: RunResult) -> tuple[str, ...]:
    before, after = ([one for attempt in result.attempts for one in attempt.tool_lists] for result in (baseline, run))
    shown = f"podctl tools diff {baseline.info.id} {run.info.id}"
    return tuple(f"the tools of {server} say something else of themselves: {shown}" for server in lists_differ(before, after))


def _aside(run: RunResult) -> tuple[str, ...]:
    tickets = sorted({a.ticket for a in run.attempts} & run.info.quarantine.keys())
    return (f"quarantined tickets are not compared: {', '.join(tickets[:10])}",) if tickets else ()


def majority(counts: tuple[int, int]) -> bool:
    passed, of = counts
    return 2 * passed > of


def _differences(old: RunInfo, new: RunInfo, before: int, after: int, common: int) -> tuple[str, ...]:
    """What besides the agent differs, and so could explain a difference in outcome."""
    notes = []
    if old.sample_digest != new.sample_digest:
        notes.append(f"the samples differ: {common} common tickets of {before} in the baseline and {after} in this run")
    elif common < max(before, after):
        notes.append(f"only {common} tickets count in both runs ({before} in the baseline, {after} in this run)")
    if old.topology != new.topology:
        notes.append(f"the topologies differ: {old.topology} in the baseline, {new.topology} in this run")
    if old.spec_digest != new.spec_digest:
        notes.append("the spec files differ; what changed besides the agent may explain the difference")
    if old.labels.get("environment", "") != new.labels.get("environment", ""):
        notes.append("files around the agent differ, or may: services, seeds, checks, scripts")
    if old.model_mode != new.model_mode:
        notes.append(f"models were {old.model_mode} in the baseline and {new.model_mode} in this run")
    if old.simulated != new.simulated:
        notes.append(f"the figures of {'the baseline' if old.simulated else 'this run'} are simulated, the other run's are not")
    if old.repeats != new.repeats:
        notes.append(f"repeats differ: {old.repeats} in the baseline, {new.repeats} in this run")
    notes += differences(old.fidelity, new.fidelity)
    if old.agent_digest == new.agent_digest:
        notes.append("both runs are of the same agent digest: differences are noise or the environment's")
    return tuple(notes)
