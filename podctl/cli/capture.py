"""What a capture would take, and taking it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import emit_json, is_quiet, output_option, table

if TYPE_CHECKING:
    from podctl.capture.capturing import Plan
    from podctl.capture.masked import Masking
    from podctl.capture.postgres_schema import DumpPrograms
    from podctl.spec.capture import Capture


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
    help="The key's file.  [default: MASKING.key in the user's configuration directory]",
)
@click.option("--replace", is_flag=True, help="Take the place of a captured seed that is there, once this one is whole.")
def capture_command(file: Path, out: Path, key: Path | None, replace: bool) -> int:
    """Take what a capture file says out of a live database, in one read-only snapshot, masked before it is written.

    \b
    podctl data capture capture.yaml -o seeds/orders
    and in topology.yaml:  seed: {captured: seeds/orders}
    """
    from podctl.capture.building import refuse_taken
    from podctl.capture.capturing import plan_capture, write_seed
    from podctl.data.captured import MANIFEST
    from podctl.spec.capture import Capture
    from podctl.spec.load import load_model

    spec = load_model(file, Capture)
    refuse_taken(out, MANIFEST, replace=replace)
    masking, masked = _masking(spec, key, out)
    plan, engine = plan_capture(file, _programs(), _said)
    try:
        seed = write_seed(plan, engine, spec, out, masking, masked, replace=replace, said=_said)
    finally:
        engine.close()
    rows, size = sum(one.rows for one in seed.tables), sum(one.bytes for one in seed.tables)
    emptied = sum(count for one in seed.tables for count in one.nulled.values())
    click.echo(
        f"{out}: {rows:,} rows of {sum(one.rows > 0 for one in seed.tables)} tables, {size / 1e6:,.1f} MB  sha256:{seed.digest[:16]}"
    )
    if emptied:
        click.echo(f"{emptied:,} references lead to rows that were not taken, and are empty")
    for what, why in seed.not_mirrored.items():
        click.echo(f"not mirrored: {what}: {why}")
    _tell_of_unmatched(plan)
    if spec.unmasked:
        click.echo(f"NOT MASKED: {spec.unmasked}")
    return 0


def _masking(spec: Capture, key: Path | None, out: Path) -> tuple[Masking | None, dict[str, str]]:
    """How each table is masked, and what the seed says of it. Raises `SpecError`."""
    from podctl.errors import SpecError

    if spec.masking is None:
        if spec.unmasked.strip():
            return None, {"unmasked": spec.unmasked.strip()}
        raise SpecError(
            "nothing says how the rows are masked",
            code="capture-unmasked",
            unchanged="nothing was read",
            hint="masking: with a Masking file, or unmasked: with the reason why nothing has to be",
        )
    from podctl.capture.masked import masking_of

    masking = masking_of(spec, key, out)
    return masking, masking.facts


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
