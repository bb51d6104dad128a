"""Tickets: what there is, what is drawn of it, freezing a sample, pulling from where tickets are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from podctl.cli.common import emit_json, output_option, table

#: What the table shows of many strata; JSON has all.
_LISTED = 40


class _Shows(click.Group):
    """`podctl tickets FILE` is `podctl tickets show FILE`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group("tickets", cls=_Shows)
def tickets_command() -> None:
    """Show a population of tickets and the sample of it; freeze a sample; pull tickets from where they are kept.

    \b
    podctl tickets scenario.yaml              the population, the sample, and what it has too few of
    podctl tickets freeze scenario.yaml       exactly these tickets from now on
    podctl tickets pull tickets.yaml          from GitHub, Jira, Zendesk, ServiceNow or a database to a file
    """


@tickets_command.command("show")
@click.argument("file", type=click.Path(path_type=Path), metavar="SCENARIO|TICKETS")
@click.option("--sample", type=str, metavar="N|all", help="Tickets to draw.")
@click.option("--seed", type=int, help="Seed of the sample.")
@output_option("json")
def show_command(file: Path, output: str, **given: Any) -> int:
    """The population, the sample, and what the sample under-represents; makes nothing.

    \b
    podctl tickets scenario.yaml
    podctl tickets tickets.yaml --sample 50 -o json
    """
    from dataclasses import asdict

    from podctl.tickets.drawing import drawn_sample
    from podctl.tickets.mapping import Reading
    from podctl.tickets.portrait import plain_words, portray
    from podctl.tickets.sources import load_population

    spec, sample = _tickets_and_sample(file, given)
    loaded = load_population(spec)
    drawn = drawn_sample(loaded.tickets, sample)
    portrait = portray(loaded, sample, drawn, Reading.of(spec))
    words = plain_words(portrait)
    if output == "json":
        emit_json("TicketSample", {**asdict(portrait), "words": words})
        return 0
    _show(portrait, words, loaded.dimensions, sample)
    return 0


@tickets_command.command("freeze")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--again", is_flag=True, help="Draw anew although there is a frozen sample.")
def freeze_command(scenario: Path, again: bool) -> int:
    """Draw a scenario's sample and write which tickets it has, with their digests, to the file that `sample.frozen` names.

    From then on a run works exactly these, and refuses when one of them changed.

    \b
    podctl tickets freeze scenario.yaml
    """
    from podctl.errors import SpecError
    from podctl.spec.load import load_bundle
    from podctl.tickets.drawing import freeze
    from podctl.tickets.suite import tickets_of

    bundle = load_bundle(scenario)
    sample = bundle.scenario.sample
    if sample.frozen is None:
        raise SpecError(
            "the scenario does not say where the frozen sample is",
            code="sample-frozen",
            unchanged="nothing was written",
            hint="add under sample: frozen: sample.json",
        )
    if sample.frozen.exists() and not again:
        raise SpecError(
            f"{sample.frozen.name} is there already",
            code="sample-frozen",
            unchanged="it was left as it is",
            hint="--again draws anew: results before and after do not compare",
        )
    drawn = freeze(tickets_of(bundle), sample, sample.frozen)
    click.echo(f"{len(drawn.tickets)} tickets in {sample.frozen.name}, sha256:{drawn.digest}")
    return 0


@tickets_command.command("pull")
@click.argument("tickets", type=click.Path(path_type=Path))
@click.option("--full", is_flag=True, help="Everything anew; without, what is new or changed since the last pull.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing of waits and progress.")
def pull_command(tickets: Path, full: bool, quiet: bool) -> int:
    """Write a snapshot of what `pull` in a tickets file names: GitHub, Jira, Zendesk, ServiceNow or a database.

    The token comes from the environment variable that the file names. A pull that is interrupted goes on where it was when the
    same is typed again; until it is complete the old snapshot stays.

    \b
    podctl tickets pull tickets.yaml
    """
    import asyncio

    from podctl.cli.common import is_quiet
    from podctl.cli.run import say
    from podctl.spec.load import load_model
    from podctl.spec.models import Tickets
    from podctl.stats.units import plural
    from podctl.tickets.pull.pull import pull

    spec = load_model(tickets, Tickets, absent=("source",))
    told = (lambda text: None) if quiet or is_quiet() else say
    done = asyncio.run(pull(spec, base=tickets.absolute().parent, full=full, say=told))
    click.echo(
        f"{plural(done.tickets, 'ticket')} in {spec.source.name}: {done.new} new, {done.changed} changed, {done.gone} gone"
    )
    click.echo(f"sha256:{done.digest}")
    return 0


def _tickets_and_sample(file: Path, given: dict[str, Any]) -> tuple[Any, Any]:
    from podctl.cli.run import load, sample_changes
    from podctl.errors import SpecError
    from podctl.spec.bundle import Bundle
    from podctl.spec.load import load_any
    from podctl.spec.models import Tickets
    from podctl.spec.tickets import Sample

    value = load_any(file)
    if isinstance(value, Bundle):
        bundle = load(file, given)
        if bundle.cases is not None:
            raise SpecError(
                f"the tickets of {file} are the suite {bundle.tickets.name}, and no sample of a population",
                code="suite-no-sample",
                hint=f"podctl suite show {bundle.scenario.tickets}",
            )
        return bundle.tickets, bundle.scenario.sample
    if not isinstance(value, Tickets):
        raise SpecError(f"{file} is a {type(value).__name__}", code="usage", hint="name a scenario, or a file of kind Tickets")
    return value, Sample().model_copy(update=sample_changes(given))


def _show(portrait: Any, words: list[str], dimensions: Any, sample: Any) -> None:
    from podctl.evidence.safe import printable

    parts = [f"{portrait.source} in the source"]
    if portrait.held_out:
        drawn_from = "the sample is drawn from them" if sample.part == "held-out" else "not drawn from"
        parts.append(f"{portrait.held_out} held out ({drawn_from})")
    if portrait.excluded:
        parts.append(f"{portrait.excluded} excluded")
    click.echo(f"tickets  {', '.join(parts)}")
    click.echo(f"sample   {portrait.sample} of {portrait.population}, {sample.design}, sha256:{portrait.digest[:16]}")
    for dimension in dimensions:
        click.echo(f"strata   {printable(dimension.name)}: {printable(dimension.how)}")
    click.echo("")
    rows = [
        (
            stratum.name,
            str(stratum.population),
            f"{stratum.population / portrait.population:.1%}",
            str(stratum.sample),
            f"{stratum.sample / portrait.sample:.1%}",
            "-" if stratum.weight is None else f"{stratum.weight:.1f}",
        )
        for stratum in sorted(portrait.strata, key=lambda one: -one.population)[:_LISTED]
    ]
    table(("STRATUM", "TICKETS", "SHARE", "SAMPLE", "SHARE", "WEIGHT"), rows)
    if len(portrait.strata) > _LISTED:
        click.echo(f"and {len(portrait.strata) - _LISTED} more: -o json")
    click.echo("")
    for line in words:
        click.echo(f"* {printable(line, 1000)}")
    if portrait.sample == portrait.population:
        click.echo("every ticket is in the sample")
    elif portrait.compared and not portrait.deviating:
        click.echo(f"of {portrait.compared} values of columns none is in the sample more or less often than chance explains")
