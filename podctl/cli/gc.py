"""Remove what dead runs left."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from podctl.cli.common import emit_json, machine_state, output_option
from podctl.errors import ExitCode


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@output_option("json")
def gc_command(dry_run: bool, output: str) -> int:
    """Remove pods whose podctl is dead or whose time is over; pods of living runs are left alone.

    \b
    podctl gc --dry-run
    podctl gc
    """
    from podctl.controller.sweep import orphans, remains, sweep

    state = machine_state()
    if dry_run:
        dead, living = orphans(state)
        for pod in dead:
            click.echo(f"would remove {pod}  {state.directory(pod)}")
        half = remains(state)
        for path in half:
            click.echo(f"would remove {path}")
        click.echo(f"{len(dead) + len(half)} to remove, {len(living)} of living runs")
        return 0
    receipt = asyncio.run(sweep(state))
    if output == "json":
        emit_json("Receipt", [asdict(removal) for removal in receipt.removals])
    else:
        for removal in receipt.removals:
            outcome = "gone" if removal.gone else f"STILL THERE {removal.detail}"
            click.echo(f"{removal.pod}  {removal.what}: {outcome}")
        click.echo(f"{receipt.pods} pods removed, {len(receipt.living)} of living runs left alone")
    return 0 if receipt.complete else int(ExitCode.TEARDOWN_INCOMPLETE)
