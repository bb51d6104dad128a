"""The loop back: tickets that went wrong become reviewed cases of a suite."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from podctl.cli.common import open_store, store_option
from podctl.cli.named import append_to_log, lines_shown
from podctl.errors import SpecError

if TYPE_CHECKING:
    from podctl.evidence.results import RunInfo
    from podctl.evidence.store_read import StorePlace, StoreReader
    from podctl.learn.choosing import Chosen
    from podctl.learn.proposing import Seen
    from podctl.spec.bundle import Bundle
    from podctl.spec.suite import Case, Suite
    from podctl.tickets.types import Ticket

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_suite_option = click.option("--suite", type=_PATH, help="The suite's directory.  [default: suites/SCENARIO'S-NAME]")
_masking_option = click.option("--masking", type=_FILE, help="A Masking file: tickets are kept as its rules mask them.")
_masking_key_option = click.option(
    "--masking-key", type=_FILE, help="The masking key's file.  [default: where podctl data key makes it]"
)
_unmasked_option = click.option(
    "--unmasked", default="", metavar="REASON", help="Why tickets may be kept as their source has them."
)
_by_option = click.option("--by", default="", metavar="NAME", help="Who learns it.  [default: this account]")


class _FromRun(click.Group):
    """`podctl learn RUN` is `podctl learn from RUN`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["from", *args]
        return super().resolve_command(ctx, args)


@click.group("learn", cls=_FromRun)
def learn_command() -> None:
    """Tickets that went wrong become cases of a suite: proposed by podctl, reviewed by people, run by `podctl run --suite`.

    \b
    podctl learn latest                                   propose what failed, was attacked or is confusing
    podctl learn review suites/shop                       look at what is proposed
    podctl learn accept suites/shop/cases/T-1.yaml --by ana
    podctl learn incident T-7 --scenario scenario.yaml --because "refunded twice"
    """


@learn_command.command("from")
@click.argument("run")
@_suite_option
@click.option("--scenario", type=_FILE, help="The run's scenario.  [default: the file it was run from]")
@click.option(
    "--ticket", "tickets", multiple=True, metavar="ID", help="This ticket, also when it is like a case; again for more."
)
@click.option("--because", default="", metavar="TEXT", help="With --ticket: why, where the evidence shows nothing.")
@click.option("--failed", is_flag=True, help="Only tickets that no attempt passed.")
@click.option(
    "--confusing", is_flag=True, help="Only tickets that passed and did not, at a limit, or against the agent's confidence."
)
@click.option("--attacked", is_flag=True, help="Only tickets on which the boundary was tried or a honeytoken let out.")
@click.option("--most", type=click.IntRange(1, 1_000), default=50, show_default=True, help="Cases that are proposed at once.")
@_masking_option
@_masking_key_option
@_unmasked_option
@_by_option
@store_option
def from_command(
    run: str, suite: Path | None, tickets: tuple[str, ...], store: StorePlace, most: int, by: str, **given: Any
) -> int:
    """Propose cases out of a run: its tickets, each with the rows it began with, its reference and where it comes from.

    \b
    podctl learn latest
    podctl learn latest --failed --suite suites/refunds
    podctl learn latest --ticket T-0258 --because "right, but rude"
    """
    from podctl.learn.choosing import choose, fallen_for, named

    reader = open_store(store)
    whole = reader.load_run(reader.find_run(run))
    result, info = whole.plain, whole.info
    bundle = _bundle_of(info, given["scenario"], store)
    population = _as_run(reader, info, bundle)
    flags = [kind for kind in ("failed", "confusing", "attacked") if given[kind]]
    found = choose(result.attempts, info.settings.get("limits", {}), flags or ("attacked", "failed", "confusing"))  # type: ignore[arg-type]
    fallen, elsewhere = fallen_for(whole.attempts) if given["attacked"] or not flags else ([], 0)
    found = [*fallen, *(one for one in found if one.ticket not in {had.ticket for had in fallen})]
    if tickets:
        by_ticket = {one.ticket: one for one in found}
        found = []
        for ticket in dict.fromkeys(tickets):
            one = by_ticket.get(ticket) or (named(ticket, result.attempts, given["because"]) if given["because"] else None)
            if one is None:
                raise _not_wrong(ticket, info, worked=any(a.ticket == ticket for a in result.attempts))
            found.append(one)
    kept = _kept_as(bundle, [_as_given(population[one.ticket], one) for one in found], given)
    seen = _seen(bundle, by, given["unmasked"], info)
    planted = bundle.scenario.honeytokens
    proposals = [_proposed(reader, one, ticket, seen, planted) for one, ticket in zip(found, kept, strict=True)]
    if elsewhere:
        click.echo(
            f"{elsewhere} attempts fell for texts in answers or rows, which a case cannot plant: podctl attack makes them again",
            err=True,
        )
    return _propose(store, _suite_of(suite, bundle), bundle.path, proposals, most, info.id, by_name=bool(tickets))


@learn_command.command("incident")
@click.argument("what", metavar="TICKET|FILE")
@click.option("--scenario", type=_FILE, required=True, help="The scenario in which it is to be worked.")
@click.option("--because", required=True, metavar="TEXT", help="What went wrong.")
@_suite_option
@_masking_option
@_masking_key_option
@_unmasked_option
@_by_option
@store_option
def incident_command(
    what: str, scenario: Path, because: str, suite: Path | None, by: str, store: StorePlace, **given: Any
) -> int:
    """Propose a case that no run saw: a ticket of the scenario's source by its id, or every row of a file written as that source is.

    \b
    podctl learn incident T-0042 --scenario scenario.yaml --because "refunded twice"
    podctl learn incident incidents.csv --scenario scenario.yaml --because "outage of 3 March" --unmasked "made up by us"
    """
    from podctl.evidence.causes import Cause
    from podctl.evidence.results import AttemptResult
    from podctl.learn.choosing import Chosen
    from podctl.spec.load import load_bundle

    bundle = load_bundle(scenario)
    tickets = _incidents(bundle, what)
    kept = _kept_as(bundle, tickets, given, foreign=Path(what).suffix != "" and Path(what).exists())
    seen = _seen(bundle, by, given["unmasked"])
    proposals = []
    for ticket in kept:
        nothing = AttemptResult("", ticket.id, ticket.stratum, 1, 0, Cause.UNCLASSIFIED, False)
        proposals.append(_case(Chosen(ticket.id, "incident", because, nothing, ""), ticket, (), seen, None))
    return _propose(store, _suite_of(suite, bundle), bundle.path, proposals, len(proposals), "", by_name=True)


@learn_command.command("review")
@click.argument("what", type=_PATH, metavar="SUITE|CASE")
@click.option("--all", "every", is_flag=True, help="Cases that were accepted or rejected, too.")
def review_command(what: Path, every: bool) -> int:
    """Show what is proposed: the ticket, why it is here, what should come of it, the rows that are frozen.

    \b
    podctl learn review suites/shop
    podctl learn review suites/shop/cases/T-0258.yaml
    """
    from podctl.learn.library import open_case, open_suite
    from podctl.learn.reviewing import described

    if what.is_file() and what.absolute().parent.name == "cases":
        click.echo("\n".join(described(open_case(what)[2])))
        return 0
    file, suite, cases = open_suite(what)
    shown = [case for case in cases if every or case.review.status == "proposed"]
    for case in shown:
        click.echo("\n".join([*described(case), ""]))
    counts = {status: sum(case.review.status == status for case in cases) for status in ("proposed", "accepted", "rejected")}
    click.echo(f"suite {suite.name}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    if shown:
        click.echo(
            f"next: podctl learn accept {file.parent / 'cases' / shown[0].name}.yaml --by NAME, or podctl learn reject",
            err=True,
        )
    return 0


def _reviewing(function: Any) -> Any:
    for option in (
        store_option,
        click.option(
            "--key", type=_FILE, help="The key to sign with.  [default: $PODCTL_SIGNING_KEY, or podctl's own; none: not signed]"
        ),
        click.option("--by", required=True, metavar="NAME", help="Who reviewed."),
        click.argument("cases", nargs=-1, required=True, type=_FILE, metavar="CASE..."),
    ):
        function = option(function)
    return function


@learn_command.command("accept")
@_reviewing
@click.option("--because", default="", metavar="TEXT", help="What the reviewer has to say.")
@click.option("--as-done", is_flag=True, help="What the attempt did is right: it becomes the reference.")
def accept_command(cases: tuple[Path, ...], by: str, key: Path | None, because: str, as_done: bool, store: StorePlace) -> int:
    """Accept cases as they stand in their files: from now on they are run, and decide. Changing one afterwards needs a new review.

    \b
    podctl learn accept suites/shop/cases/T-0258.yaml --by ana
    podctl learn accept suites/shop/cases/T-0258.yaml --by ana --as-done
    """
    from podctl.learn.library import open_case
    from podctl.learn.reviewing import reference_lines

    opened = [open_case(file) for file in cases]
    changed = []
    for _, suite, case in opened:
        changed.append((suite, _with_done(case, suite, store) if as_done else case))
    for (file, _, _), (suite, case) in zip(opened, changed, strict=True):
        _say_review(store, file, suite, case, "accepted", by, because, key)
        if as_done:
            for line in reference_lines(case.reference):
                click.echo(f"  {line}")
    return 0


@learn_command.command("reject")
@_reviewing
@click.option("--because", required=True, metavar="TEXT", help="Why it is no case.")
def reject_command(cases: tuple[Path, ...], by: str, key: Path | None, because: str, store: StorePlace) -> int:
    """Reject cases: they stay in their files, are not run, and not proposed again.

    \b
    podctl learn reject suites/shop/cases/T-0258.yaml --by ana --because "the ticket is a test of ours"
    """
    from podctl.learn.library import open_case

    for file, suite, case in [open_case(file) for file in cases]:
        _say_review(store, file, suite, case, "rejected", by, because, key)
    return 0


# ---- parts ------------------------------------------------------------------------------


def _say_review(
    store: StorePlace,
    file: Path,
    suite: Suite,
    case: Case,
    status: Literal["accepted", "rejected"],
    by: str,
    because: str,
    key: Path | None,
) -> None:
    from podctl.learn.library import write_case
    from podctl.learn.reviewing import reviewed
    from podctl.signing import configured_key, read_key
    from podctl.spec.problems import shown

    signing = read_key(key) if key is not None else configured_key()
    done = reviewed(suite, case, status, by=by, at=_now(), because=because, key=signing)
    told = {"suite": suite.name, "case": case.name, "content": done.review.content, "for": by, "key": done.review.key}
    append_to_log(store, f"case.{status}", told, case.origin.run)
    try:
        path = write_case(file, done)
    except ValueError as error:
        raise SpecError(
            f"case {case.name} cannot be written: {error}", code="case-unwritable", unchanged="its file is as it was"
        ) from None
    signed = f"signed with key {signing.id}" if signing is not None else "not signed: there is no key (podctl audit key new)"
    click.echo(f"{status} {shown(path)}, {signed}")


def _with_done(case: Case, suite: Suite, store: StorePlace) -> Case:
    from podctl.learn.reviewing import with_done
    from podctl.spec.load import load_model
    from podctl.spec.models import Scenario

    if not case.origin.run:
        raise SpecError(
            f"case {case.name} is an incident that no run saw: nothing was done that could be right",
            code="case-as-done",
            unchanged="it was left as it is",
            hint="write its reference into the file",
        )
    reader = open_store(store)
    attempt = reader.load_attempt(case.origin.run, case.origin.attempt)
    directory = reader.evidence_directory(case.origin.run, case.origin.attempt)
    return with_done(case, load_model(suite.scenario, Scenario), attempt, directory)


def _bundle_of(info: RunInfo, named: Path | None, store: StorePlace) -> Bundle:
    """Raises `SpecError` where the run's tickets cannot be had from its scenario."""
    from podctl.spec.load import load_bundle

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
            f"the scenario of run {info.id} is not where it was: {lines_shown(str(named or info.settings.get('scenario')))}",
            code="no-scenario",
            unchanged="nothing was written",
            hint="name it: --scenario FILE",
        )
    return load_bundle(found)


def scenario_file(info: RunInfo, named: Path | None, store: StorePlace) -> Path | None:
    """The one that was named, or the file that the run was started from, from here or from beside the store; None when it is not there."""
    written = Path(info.settings.get("scenario", ""))
    places = [named] if named is not None else [written, store.directory.absolute().parent / written]
    return next((place for place in places if place.is_file()), None)


def _as_given(ticket: Ticket, chosen: Chosen) -> Ticket:
    """The ticket as the agent got it, with what was planted in its text."""
    from dataclasses import replace

    from podctl.attack.planning import around

    variant = chosen.attempt.variant
    return ticket if variant is None else replace(ticket, text=around(ticket.text, variant.data.get("pieces") or ()))


def _as_run(reader: StoreReader, info: RunInfo, bundle: Bundle) -> dict[str, Ticket]:
    """The run's tickets by their ids. Raises `SpecError` where they are not what the run worked."""
    from podctl.controller.run import population
    from podctl.tickets.sample import digest

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
    return SpecError(
        f"run {info.id} says nothing against {lines_shown(ticket)}"
        if worked
        else f"run {info.id} has no ticket {lines_shown(ticket)}",
        code="nothing-wrong" if worked else "no-such-ticket",
        unchanged="nothing was written",
        hint='--because "…" says why it is to be a case all the same' if worked else f"podctl get attempts {info.id}",
    )


def _kept_as(bundle: Bundle, tickets: Sequence[Ticket], given: dict[str, Any], foreign: bool = False) -> list[Ticket]:
    """Tickets as they may stand under version control. Raises `SpecError` for raw ones of which nobody said why."""
    from podctl.spec.tickets import Tickets

    if given["masking"] is not None:
        from podctl.masking.keys import KeyFile
        from podctl.spec.load import load_model
        from podctl.spec.masking import Masking
        from podctl.tickets.masked import mask_tickets

        policy = load_model(given["masking"], Masking)
        key, _ = KeyFile.of(policy.name, given["masking_key"]).read()
        return mask_tickets(tickets, policy, key)
    raw = foreign or (isinstance(bundle.tickets, Tickets) and bundle.tickets.pull is not None)
    if raw and not given["unmasked"]:
        raise SpecError(
            "these tickets are as production has them, and a suite is a directory that people share",
            code="tickets-raw",
            unchanged="nothing was written",
            hint="--masking FILE keeps them masked, as a captured seed is; or --unmasked says why they may be kept as they are",
        )
    return list(tickets)


def _incidents(bundle: Bundle, what: str) -> list[Ticket]:
    from podctl.controller.run import population
    from podctl.spec.checks import SOURCES
    from podctl.spec.tickets import Tickets
    from podctl.tickets.sources import load_tickets

    path = Path(what)
    if path.suffix.lower() in SOURCES and path.exists():
        if not isinstance(bundle.tickets, Tickets):
            raise SpecError(
                "the scenario's tickets are a suite: their file says nothing of how a source is written", code="usage"
            )
        return load_tickets(bundle.tickets.model_copy(update={"source": path.absolute(), "pull": None}))
    there = {ticket.id: ticket for ticket in population(bundle).tickets}
    if what not in there:
        raise SpecError(
            f"the source of {bundle.scenario.name} has no ticket {lines_shown(what)}, and there is no such file",
            code="no-such-ticket",
            unchanged="nothing was written",
            hint=f"a ticket's id, or a file: {', '.join(SOURCES)}",
        )
    return [there[what]]


def _seen(bundle: Bundle, by: str, unmasked: str, info: RunInfo | None = None) -> Seen:
    from podctl.evidence.audit_entries import who
    from podctl.learn.proposing import Seen
    from podctl.spec.resolved import seed_digests

    seeds = tuple(seed_digests(bundle).items())
    if info is None:
        return Seen(_now(), by or who(), unmasked=unmasked, seeds=seeds)
    agent = f"{info.agent_name} {info.agent_version}"
    return Seen(_now(), by or who(), info.id, agent, info.agent_digest, unmasked, seeds)


def _proposed(reader: StoreReader, chosen: Chosen, ticket: Ticket, seen: Seen, planted: Any) -> Case:
    from podctl.evidence.reading import read_attempt

    return _case(chosen, ticket, read_attempt(reader.evidence_directory(seen.run, chosen.attempt.id)), seen, planted)


def _case(chosen: Chosen, ticket: Ticket, records: Sequence[Any], seen: Seen, planted: Any) -> Case:
    from podctl.learn.freezing import frozen_state
    from podctl.learn.proposing import case_of

    try:
        return case_of(chosen, ticket, frozen_state(ticket.states, records, planted), seen)
    except ValueError as error:
        raise _unfit(ticket.id, error) from None


def _unfit(ticket: str, error: ValueError) -> SpecError:
    return SpecError(
        f"ticket {lines_shown(ticket)} cannot be a case: {lines_shown(str(error))}",
        code="case-unfit",
        unchanged="what was proposed before it stays",
        hint="name others by --ticket",
    )


def _suite_of(named: Path | None, bundle: Bundle) -> Path:
    return named or Path("suites") / bundle.scenario.name


def _propose(
    store: StorePlace, suite: Path, scenario: Path, proposals: Sequence[Case], most: int, run: str, *, by_name: bool
) -> int:
    """Write what is new; what is there already, or like what is there, is told and not added."""
    from podctl.learn.library import open_suite, write_case
    from podctl.learn.proposing import known

    if not proposals:
        click.echo("nothing to learn: no ticket failed, was attacked or is confusing")
        return 0
    file, spec, cases = open_suite(suite, scenario)
    there = list(cases)
    counts = {"proposed": 0, "like a case": 0, "there already": 0, "left for later": 0}
    for case in proposals:
        before = known(case, there)
        if before is not None and (before.same or not by_name):
            name = before.case.name
            counts["there already" if before.same else "like a case"] += 1
            changed = (
                f", with other words or another state: reject and remove {name} to learn it anew" if before.changed else ""
            )
            told = (
                f"is case {name}, {before.case.review.status}{changed}"
                if before.same
                else f"like case {name}: --ticket adds it all the same"
            )
        elif counts["proposed"] >= most:
            counts["left for later"] += 1
            continue
        else:
            if before is not None:
                case = case.model_copy(update={"origin": case.origin.model_copy(update={"like": before.case.name})})
            try:
                path = write_case(file, case)
            except ValueError as error:
                raise _unfit(case.ticket.id, error) from None
            append_to_log(
                store,
                "case.learned",
                {"suite": spec.name, "case": case.name, "origin": case.origin.kind, "content": case.content},
                run,
            )
            there.append(case)
            counts["proposed"] += 1
            told = f"{path}"
        click.echo(f"{lines_shown(case.ticket.id)}  {case.origin.kind}  {told}")
        if told.endswith(".yaml"):
            click.echo(f"  {lines_shown(case.origin.why)}")
    click.echo(
        f"suite {spec.name}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count or what == "proposed")
    )
    if counts["proposed"]:
        click.echo(f"next: podctl learn review {file.parent}", err=True)
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
