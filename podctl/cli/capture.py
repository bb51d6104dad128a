"""What a capture would take, and taking it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import emit_json, is_quiet, output_option, table

if TYPE_CHECKING:
    from podctl.capture.planning import Plan
    from podctl.capture.postgres_schema import DumpPrograms
    from podctl.data.captured import CapturedSeed


@click.command("plan")
@click.argument("file", type=click.Path(path_type=Path))
@output_option("json")
def plan_command(file: Path, output: str) -> int:
    """Show what a capture would take: how many rows by each reference, found by their keys; nothing is copied.

    \b
    podctl data plan capture.yaml
    podctl data plan capture.yaml -o json | jq '.items.tables'
    """
    from podctl.capture.planning import opened
    from podctl.capture.showing import facts

    with opened([file], _programs()) as (source,):
        plan = source.plan(_said)
    if output == "json":
        emit_json("CapturePlan", facts(plan))
    else:
        _show(plan)
    return 0


@click.command("capture")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The seed's directory; of several files the one in which each has its own, by its name.",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="PODCTL_MASKING_KEY",
    help="The masking key's file.  [default: where podctl data key makes it]",
)
@click.option(
    "--no-template", "template", flag_value=False, default=True, help="Do not try the seed in a PostgreSQL of this machine."
)
@click.option("--replace", is_flag=True, help="Take the place of a captured seed that is there, once this one is whole.")
def capture_command(files: tuple[Path, ...], out: Path, key: Path | None, template: bool, replace: bool) -> int:
    """Take what a capture file says out of a live database, in one read-only snapshot, masked before it is written.

    \b
    podctl data capture capture.yaml -o seeds/orders
    and in topology.yaml:  seed: {captured: seeds/orders}
    podctl data capture orders.yaml billing.yaml -o seeds     # of one moment: seeds/orders, seeds/billing
    """
    from podctl.capture.building import refuse_taken
    from podctl.capture.capturing import Order, write_seeds
    from podctl.capture.masked import masking_of
    from podctl.capture.planning import opened
    from podctl.controller.trial import LocalTrial
    from podctl.data.captured import MANIFEST
    from podctl.masking.watch import Knowledge
    from podctl.spec.capture import Capture
    from podctl.spec.load import load_model

    # Asked to end, it takes away what it has half made, as after ^C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    specs = [load_model(file, Capture) for file in files]
    targets = [out] if len(files) == 1 else [out / spec.name for spec in specs]
    for target in targets:
        refuse_taken(target, MANIFEST, replace=replace)
    known = Knowledge()
    maskings = [masking_of(spec, key, target, known) for spec, target in zip(specs, targets, strict=True)]
    with opened(files, _programs()) as sources:
        orders = []
        for source, target, masking in zip(sources, targets, maskings, strict=True):
            trial = LocalTrial(source.spec.name, source.engine.facts.database, _said) if template else None
            orders.append(Order(source, source.plan(_said), target, masking, trial))
        seeds = write_seeds(orders, replace=replace, said=_said)
    for order, seed in zip(orders, seeds, strict=True):
        _tell(order.target, seed, order.plan)
    if seeds[0].together.get("same_moment"):
        click.echo("all are of one and the same moment: no transaction lies between them")
    elif seeds[0].together:
        click.echo(f"NOT OF ONE MOMENT: {seeds[0].together['apart_ms']} ms lie between the snapshots")
    if not template:
        click.echo("not tried: the first run will show whether it can be loaded")
    return 0


def _tell(target: Path, seed: CapturedSeed, plan: Plan) -> None:
    rows, size = sum(one.rows for one in seed.tables), sum(one.bytes for one in seed.tables)
    tables = sum(one.rows > 0 for one in seed.tables)
    click.echo(f"{target}: {rows:,} rows of {tables} tables, {size / 1e6:,.1f} MB  sha256:{seed.digest[:16]}")
    for one in seed.tables:
        for reference, count in one.nulled.items():
            click.echo(f"emptied: {reference} of {count:,} rows, whose parents were not taken")
    for what, why in seed.not_mirrored.items():
        click.echo(f"not mirrored: {what}: {why}")
    _tell_of_unmatched(plan)
    _tell_of_the_past(plan)
    if "unmasked" in seed.masking:
        click.echo(f"NOT MASKED: {seed.masking['unmasked']}")
    if "unmasked" in seed.tickets:
        click.echo(f"TICKETS NOT MASKED: {seed.tickets['unmasked']}")


def _programs() -> DumpPrograms:
    from podctl.backends.local.postgres import programs
    from podctl.capture.postgres_schema import DumpPrograms

    ours = programs()
    return DumpPrograms(ours.root / "bin", ours.major)


def _said(text: str) -> None:
    if not is_quiet():
        click.echo(f"{text} …", err=True)


def _show(plan: Plan) -> None:
    from podctl.capture.showing import edge_lines, past_lines, table_lines, total

    table(["EDGE", "KIND", "TO", "ROWS", "NOTE"], edge_lines(plan))
    click.echo("")
    table(["TABLE", "TAKEN", "OF", "SIZE", "WHY"], table_lines(plan))
    click.echo("")
    click.echo(total(plan))
    _tell_of_unmatched(plan)
    if plan.past:
        click.echo("")
        table(["TICKETS", "STATE", "REFERENCE", "WHY", "SUCH AS"], past_lines(plan))
        click.echo("")
        _tell_of_the_past(plan)


def _tell_of_the_past(plan: Plan) -> None:
    from podctl.capture.showing import past_total

    if plan.past:
        click.echo(past_total(plan))
        for note in plan.past.notes:
            click.echo(f"history: {note}")


def _tell_of_unmatched(plan: Plan) -> None:
    for one in plan.unmatched:
        click.echo(f"{one.values:,} values at {one.what} are in no row of {one.column}: {one.tickets:,} tickets name them")
