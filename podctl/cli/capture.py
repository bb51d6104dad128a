"""What a capture would take, and taking it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import emit_json, is_quiet, output_option, table

if TYPE_CHECKING:
    from podctl.capture.capturing import Plan
    from podctl.capture.postgres_schema import DumpPrograms


@click.command("plan")
@click.argument("file", type=click.Path(path_type=Path))
@output_option("json")
def plan_command(file: Path, output: str) -> int:
    """Show what a capture would take: how many rows by each reference, found by their keys; nothing is copied.

    \b
    podctl data plan capture.yaml
    podctl data plan capture.yaml -o json | jq '.items.tables'
    """
    from podctl.capture.capturing import plan_capture
    from podctl.capture.showing import facts

    plan, engine = plan_capture(file, _programs(), _said)
    engine.close()
    if output == "json":
        emit_json("CapturePlan", facts(plan))
    else:
        _show(plan)
    return 0


@click.command("capture")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The seed's directory.")
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
def capture_command(file: Path, out: Path, key: Path | None, template: bool, replace: bool) -> int:
    """Take what a capture file says out of a live database, in one read-only snapshot, masked before it is written.

    \b
    podctl data capture capture.yaml -o seeds/orders
    and in topology.yaml:  seed: {captured: seeds/orders}
    """
    from podctl.capture.building import refuse_taken
    from podctl.capture.capturing import plan_capture, write_seed
    from podctl.capture.masked import masking_of
    from podctl.controller.trial import LocalTrial
    from podctl.data.captured import MANIFEST
    from podctl.spec.capture import Capture
    from podctl.spec.load import load_model

    spec = load_model(file, Capture)
    refuse_taken(out, MANIFEST, replace=replace)
    masking = masking_of(spec, key, out)
    plan, engine = plan_capture(file, _programs(), _said)
    try:
        trial = LocalTrial(spec.name, engine.facts.database, _said) if template else None
        seed = write_seed(plan, engine, spec, out, masking, trial, replace=replace, said=_said)
    finally:
        engine.close()
    rows, size = sum(one.rows for one in seed.tables), sum(one.bytes for one in seed.tables)
    tables = sum(one.rows > 0 for one in seed.tables)
    click.echo(f"{out}: {rows:,} rows of {tables} tables, {size / 1e6:,.1f} MB  sha256:{seed.digest[:16]}")
    for one in seed.tables:
        for reference, count in one.nulled.items():
            click.echo(f"emptied: {reference} of {count:,} rows, whose parents were not taken")
    for what, why in seed.not_mirrored.items():
        click.echo(f"not mirrored: {what}: {why}")
    _tell_of_unmatched(plan)
    if spec.unmasked:
        click.echo(f"NOT MASKED: {spec.unmasked}")
    if not template:
        click.echo("not tried: the first run will show whether it can be loaded")
    return 0


def _programs() -> DumpPrograms:
    from podctl.backends.local.postgres import programs
    from podctl.capture.postgres_schema import DumpPrograms

    ours = programs()
    return DumpPrograms(ours.root / "bin", ours.major)


def _said(text: str) -> None:
    if not is_quiet():
        click.echo(f"{text} …", err=True)


def _show(plan: Plan) -> None:
    from podctl.capture.showing import edge_lines, table_lines, total

    table(["EDGE", "KIND", "TO", "ROWS", "NOTE"], edge_lines(plan))
    click.echo("")
    table(["TABLE", "TAKEN", "OF", "SIZE", "WHY"], table_lines(plan))
    click.echo("")
    click.echo(total(plan))
    _tell_of_unmatched(plan)


def _tell_of_unmatched(plan: Plan) -> None:
    for one in plan.unmatched:
        click.echo(f"{one.values:,} values at {one.what} are in no row of {one.column}: {one.tickets:,} tickets name them")
