"""Tickets that went wrong, in a run or where no run saw it, as cases that are proposed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from podctl.attack.planning import around
from podctl.controller.run import population
from podctl.errors import SpecError
from podctl.evidence.audit_entries import who
from podctl.evidence.causes import Cause
from podctl.evidence.reading import read_attempt
from podctl.evidence.records import Record
from podctl.evidence.results import AttemptResult, RunInfo
from podctl.evidence.safe import printable
from podctl.evidence.store_read import StorePlace, StoreReader
from podctl.learn.choosing import Chosen, choose, fallen_for, named
from podctl.learn.freezing import frozen_state
from podctl.learn.proposing import Seen, case_of, unfit
from podctl.masking.keys import KeyFile
from podctl.spec.bundle import Bundle
from podctl.spec.checks import SOURCES
from podctl.spec.load import load_bundle, load_model
from podctl.spec.masking import Masking
from podctl.spec.models import Honeytokens
from podctl.spec.resolved import seed_digests
from podctl.spec.suite import KINDS, Case, Kind
from podctl.spec.tickets import Tickets
from podctl.tickets.masked import mask_tickets
from podctl.tickets.sample import digest
from podctl.tickets.sources import load_tickets
from podctl.tickets.types import Ticket


@dataclass(frozen=True)
class Learner:
    """Who learns, when (UTC), and how tickets may stand in a suite, which people share: masked by a policy, or as they are because of
    what ``unmasked`` says."""

    by: str
    at: str
    masking: Path | None = None
    masking_key: Path | None = None
    unmasked: str = ""


@dataclass(frozen=True)
class Wanted:
    """``kinds``: none are all. ``tickets``: these alone; with ``because`` also those of which the evidence shows nothing."""

    kinds: tuple[Kind, ...] = ()
    tickets: tuple[str, ...] = ()
    because: str = ""


@dataclass(frozen=True)
class Learned:
    """``elsewhere``: attempts that fell for what no case can plant."""

    bundle: Bundle
    cases: list[Case]
    elsewhere: int = 0


def learned_from(reader: StoreReader, run: str, scenario: Path, wanted: Wanted, learner: Learner) -> Learned:
    """What of a run is worth a case. Raises `SpecError`."""
    whole = reader.load_run(run)
    result, info = whole.plain, whole.info
    bundle = load_bundle(scenario)
    population = _as_run(reader, info, bundle)
    found = choose(result.attempts, info.settings.get("limits", {}), wanted.kinds or KINDS)
    fallen, elsewhere = fallen_for(whole.attempts) if "attacked" in (wanted.kinds or KINDS) else ([], 0)
    found = [*fallen, *(one for one in found if one.ticket not in {had.ticket for had in fallen})]
    if wanted.tickets:
        by_ticket = {one.ticket: one for one in found}
        found = []
        for name in dict.fromkeys(wanted.tickets):
            chosen = by_ticket.get(name)
            if chosen is None and wanted.because:
                chosen = named(name, result.attempts, wanted.because)
            if chosen is None:
                raise _not_wrong(name, info, worked=any(attempt.ticket == name for attempt in result.attempts))
            found.append(chosen)
    kept = _kept_as(bundle, [_as_given(population[one.ticket], one) for one in found], learner)
    agent = f"{info.agent_name} {info.agent_version}"
    seen = replace(_seen(bundle, learner), run=info.id, agent=agent, digest=info.agent_digest)
    cases = []
    for one, ticket in zip(found, kept, strict=True):
        records = read_attempt(reader.evidence_directory(info.id, one.attempt.id))
        cases.append(_case(one, ticket, records, seen, bundle.scenario.honeytokens))
    return Learned(bundle, cases, elsewhere)


def learned_of_incident(scenario: Path, what: str, because: str, learner: Learner) -> Learned:
    """``what``: a ticket's id, or a file written as the scenario's source is. Raises `SpecError`."""
    bundle = load_bundle(scenario)
    path = Path(what)
    foreign = path.suffix.lower() in SOURCES and path.exists()
    seen = _seen(bundle, learner)
    cases = []
    for ticket in _kept_as(bundle, _of_file(bundle, path) if foreign else [_of_source(bundle, what)], learner, foreign):
        nothing = AttemptResult("", ticket.id, ticket.stratum, 1, 0, Cause.UNCLASSIFIED, False)
        cases.append(_case(Chosen(ticket.id, "incident", because, nothing, ""), ticket, (), seen, None))
    return Learned(bundle, cases)


def scenario_file(info: RunInfo, named: Path | None, store: StorePlace) -> Path | None:
    """The one that was named, or the file that the run was started from, from here or from beside the store; None when it is not there."""
    written = Path(info.settings.get("scenario", ""))
    places = [named] if named is not None else [written, store.directory.absolute().parent / written]
    return next((place for place in places if place.is_file()), None)


def learnable_scenario(info: RunInfo, named: Path | None, store: StorePlace) -> Path:
    """Raises `SpecError` where the run's tickets cannot be had from its scenario."""
    if info.suite or info.shard is not None:
        what = (
            f"worked the suite {info.suite}: its tickets are cases already" if info.suite else f"is shard {info.shard} of a run"
        )
        hint = (
            "podctl suite show says how they fare; learn from a run whose tickets were drawn: podctl get runs"
            if info.suite
            else "podctl merge, and learn from the whole"
        )
        raise SpecError(f"run {info.id} {what}", code="not-learned", unchanged="nothing was written", hint=hint)
    found = scenario_file(info, named, store)
    if found is None:
        raise SpecError(
            f"the scenario of run {info.id} is not where it was: {printable(str(named or info.settings.get('scenario')), 400)}",
            code="no-scenario",
            unchanged="nothing was written",
            hint="name it: --scenario FILE",
        )
    return found


def _as_given(ticket: Ticket, chosen: Chosen) -> Ticket:
    """The ticket as the agent got it, with what was planted in its text."""
    variant = chosen.attempt.variant
    return ticket if variant is None else replace(ticket, text=around(ticket.text, variant.data.get("pieces") or ()))


def _as_run(reader: StoreReader, info: RunInfo, bundle: Bundle) -> dict[str, Ticket]:
    """The run's tickets by their ids. Raises `SpecError` where they are not what the run worked."""
    there = {ticket.id: ticket for ticket in population(bundle).tickets}
    worked = [there.get(ticket) for ticket in reader.planned_tickets(info.id)]
    found = [ticket for ticket in worked if ticket is not None]
    if len(found) != len(worked) or digest(found) != info.sample_digest:
        at = f" (git checkout {info.revision[:12]})" if info.revision else ""
        raise SpecError(
            f"the tickets of {bundle.scenario.name} are not what run {info.id} worked",
            code="tickets-changed",
            cause=f"{len(worked) - len(found)} are gone"
            if len(worked) != len(found)
            else "their contents, references or states changed",
            unchanged="nothing was written",
            hint=f"restore what the run was made from{at}, or run it again",
        )
    return {ticket.id: ticket for ticket in found}


def _not_wrong(ticket: str, info: RunInfo, worked: bool) -> SpecError:
    shown = printable(ticket, 400)
    return SpecError(
        f"run {info.id} says nothing against {shown}" if worked else f"run {info.id} has no ticket {shown}",
        code="nothing-wrong" if worked else "no-such-ticket",
        unchanged="nothing was written",
        hint='--because "…" says why it is to be a case all the same' if worked else f"podctl get attempts {info.id}",
    )


def _kept_as(bundle: Bundle, tickets: Sequence[Ticket], learner: Learner, foreign: bool = False) -> list[Ticket]:
    """Tickets as they may stand under version control. Raises `SpecError` for raw ones of which nobody said why."""
    if learner.masking is not None:
        policy = load_model(learner.masking, Masking)
        key, _ = KeyFile.of(policy.name, learner.masking_key).read()
        return mask_tickets(tickets, policy, key)
    raw = foreign or (isinstance(bundle.tickets, Tickets) and bundle.tickets.pull is not None)
    if raw and not learner.unmasked:
        raise SpecError(
            "these tickets are as production has them, and a suite is a directory that people share",
            code="tickets-raw",
            unchanged="nothing was written",
            hint="--masking FILE keeps them masked, as a captured seed is; or --unmasked says why they may be kept as they are",
        )
    return list(tickets)


def _of_file(bundle: Bundle, path: Path) -> list[Ticket]:
    if not isinstance(bundle.tickets, Tickets):
        raise SpecError("the scenario's tickets are a suite: their file says nothing of how a source is written", code="usage")
    return load_tickets(bundle.tickets.model_copy(update={"source": path.absolute(), "pull": None}))


def _of_source(bundle: Bundle, ticket: str) -> Ticket:
    there = {ticket.id: ticket for ticket in population(bundle).tickets}
    if ticket not in there:
        raise SpecError(
            f"the source of {bundle.scenario.name} has no ticket {printable(ticket, 400)}, and there is no such file",
            code="no-such-ticket",
            unchanged="nothing was written",
            hint=f"a ticket's id, or a file: {', '.join(SOURCES)}",
        )
    return there[ticket]


def _seen(bundle: Bundle, learner: Learner) -> Seen:
    return Seen(learner.at, learner.by or who(), unmasked=learner.unmasked, seeds=tuple(seed_digests(bundle).items()))


def _case(chosen: Chosen, ticket: Ticket, records: Sequence[Record], seen: Seen, planted: Honeytokens | None) -> Case:
    try:
        return case_of(chosen, ticket, frozen_state(ticket.states, records, planted), seen)
    except ValueError as error:
        raise unfit(ticket.id, error) from None
