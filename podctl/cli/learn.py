"""The loop back: tickets that went wrong become reviewed cases of a suite."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from podctl.cli.common import open_store, store_option
from podctl.cli.named import append_to_log, lines_shown

if TYPE_CHECKING:
    from podctl.controller.learning import Learned, Learner
    from podctl.evidence.store_read import StorePlace
    from podctl.spec.suite import Case, Suite

_PATH = click.Path(path_type=Path)
_FILE = click.Path(path_type=Path, dir_okay=False)
_Command = Callable[..., int]
_Option = Callable[[_Command], _Command]
_NOT_ADDED = ("like a case", "there already", "left for later")


def _reason(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    if not text.strip():
        raise click.BadParameter("it says nothing")
    return text


def _with(*options: _Option) -> _Option:
    """These options of a command, and the store's."""
    every: list[_Option] = [*options, store_option]

    def add(function: _Command) -> _Command:
        for option in reversed(every):
            function = option(function)
        return function

    return add


_learning = _with(
    click.option("--suite", type=_PATH, help="The suite's directory.  [default: suites/SCENARIO'S-NAME]"),
    click.option("--masking", type=_FILE, help="A Masking file: tickets are kept as its rules mask them."),
    click.option("--masking-key", type=_FILE, help="The masking key's file.  [default: where podctl data key makes it]"),
    click.option("--unmasked", default="", metavar="REASON", help="Why tickets may be kept as their source has them."),
    click.option("--by", default="", metavar="NAME", help="Who learns it.  [default: this account]"),
)
_reviewing = _with(
    click.argument("cases", nargs=-1, required=True, type=_FILE, metavar="CASE..."),
    click.option("--by", required=True, metavar="NAME", help="Who reviewed."),
    click.option(
        "--key", type=_FILE, help="The key to sign with.  [default: $PODCTL_SIGNING_KEY, or podctl's own; none: not signed]"
    ),
)


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
@_learning
def from_command(
    run: str, suite: Path | None, tickets: tuple[str, ...], store: StorePlace, most: int, by: str, **given: Any
) -> int:
    """Propose cases out of a run: its tickets, each with the rows it began with, its reference and where it comes from.

    \b
    podctl learn latest
    podctl learn latest --failed --suite suites/refunds
    podctl learn latest --ticket T-0258 --because "right, but rude"
    """
    from podctl.controller.learning import Wanted, learnable_scenario, learned_from
    from podctl.stats.units import plural

    reader = open_store(store)
    run = reader.find_run(run)
    scenario = learnable_scenario(reader.load_run(run).info, given["scenario"], store)
    kinds: tuple[Any, ...] = tuple(kind for kind in ("failed", "confusing", "attacked") if given[kind])
    found = learned_from(reader, run, scenario, Wanted(kinds, tickets, given["because"]), _learner(by, given))
    if found.elsewhere:
        click.echo(
            f"{plural(found.elsewhere, 'attempt')} fell for texts in answers or rows, which a case cannot plant: podctl attack makes them again",
            err=True,
        )
    return _propose(store, suite, found, most, run, by_name=bool(tickets))


@learn_command.command("incident")
@click.argument("what", metavar="TICKET|FILE")
@click.option("--scenario", type=_FILE, required=True, help="The scenario in which it is to be worked.")
@click.option("--because", required=True, callback=_reason, metavar="TEXT", help="What went wrong.")
@_learning
def incident_command(
    what: str, scenario: Path, because: str, suite: Path | None, by: str, store: StorePlace, **given: Any
) -> int:
    """Propose a case that no run saw: a ticket of the scenario's source by its id, or every row of a file written as that source is.

    \b
    podctl learn incident T-0042 --scenario scenario.yaml --because "refunded twice"
    podctl learn incident incidents.csv --scenario scenario.yaml --because "outage of 3 March" --unmasked "made up by us"
    """
    from podctl.controller.learning import learned_of_incident

    found = learned_of_incident(scenario, what, because, _learner(by, given))
    return _propose(store, suite, found, len(found.cases), "", by_name=True)


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
    from podctl.learn.reviewing import reference_lines, with_what_was_done

    opened = [open_case(file) for file in cases]
    if as_done:
        opened = [(file, suite, with_what_was_done(case, suite, partial(open_store, store))) for file, suite, case in opened]
    for file, suite, case in opened:
        _say_review(store, file, suite, case, "accepted", by, because, key)
        if as_done:
            for line in reference_lines(case.reference):
                click.echo(f"  {line}")
    return 0


@learn_command.command("reject")
@_reviewing
@click.option("--because", required=True, callback=_reason, metavar="TEXT", help="Why it is no case.")
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
    from podctl.learn.library import write_reviewed
    from podctl.learn.reviewing import reviewed
    from podctl.signing import configured_key, read_key
    from podctl.spec.problems import shown

    signing = read_key(key) if key is not None else configured_key()
    done = reviewed(suite, case, status, by=by, at=_now(), because=because, key=signing)
    told = {"suite": suite.name, "case": case.name, "content": done.review.content, "for": by, "key": done.review.key}
    append_to_log(store, f"case.{status}", told, case.origin.run)
    path = write_reviewed(file, done)
    signed = f"signed with key {signing.id}" if signing is not None else "not signed: there is no key (podctl audit key new)"
    click.echo(f"{status} {shown(path)}, {signed}")


def _learner(by: str, given: Mapping[str, Any]) -> Learner:
    from podctl.controller.learning import Learner

    return Learner(by, _now(), given["masking"], given["masking_key"], given["unmasked"])


def _propose(store: StorePlace, suite: Path | None, found: Learned, most: int, run: str, *, by_name: bool) -> int:
    """Write what is new, and tell what became of each."""
    from podctl.learn.adding import added
    from podctl.learn.library import open_suite

    if not found.cases:
        click.echo("nothing to learn: no ticket failed, was attacked or is confusing")
        return 0
    file, spec, cases = open_suite(suite or Path("suites") / found.bundle.scenario.name, found.bundle.path)
    counts: Counter[str] = Counter()
    for one in added(file, cases, found.cases, most=most, by_name=by_name):
        counts[one.outcome] += 1
        case = one.case
        if one.path is not None:
            told = {"suite": spec.name, "case": case.name, "origin": case.origin.kind, "content": case.content}
            append_to_log(store, "case.learned", told, run)
        if one.outcome != "left for later":
            click.echo(f"{lines_shown(case.ticket.id)}  {case.origin.kind}  {one.words}")
        if one.path is not None:
            click.echo(f"  {lines_shown(case.origin.why)}")
    told_of = [f"{counts['proposed']} proposed", *(f"{counts[what]} {what}" for what in _NOT_ADDED if counts[what])]
    click.echo(f"suite {spec.name}: {', '.join(told_of)}")
    if counts["proposed"]:
        click.echo(f"next: podctl learn review {file.parent}", err=True)
    return 0


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
