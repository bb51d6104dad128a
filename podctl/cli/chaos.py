"""A chaos campaign over a scenario."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import backend_option, store_option
from podctl.cli.run import host_campaign, load, report_options

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace

#: As `podctl.spec.chaos.FAULTS` and `podctl.runs.chaos.PROFILES`, which help need not import.
_FAULTS = ("latency", "errors", "timeouts", "broken", "stale", "rival", "migration", "clock")
_PROFILES = ("usual", "mild", "harsh")


@click.command("chaos")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME",
    help=f"Only this fault, of {', '.join(_FAULTS)} or the file's; repeatable.",
)
@click.option("--profile", type=click.Choice(_PROFILES), help="How bad they are (usual).")
@click.option("--file", "file", type=click.Path(path_type=Path), help="A Chaos file, in place of the built-in faults.")
@click.option("--chaos-seed", type=int, help="Seed of the faults (1, or the file's).")
@click.option("--agent", type=click.Path(path_type=Path), help="Another agent file than the scenario's.")
@click.option("--resume", metavar="RUN", help="Go on with a campaign that did not finish.")
@click.option("--pods", type=click.IntRange(1, 256), help="Pods at once.")
@click.option("--repeats", type=click.IntRange(1, 100), help="Plain attempts for each ticket, each with its own faults.")
@click.option("--sample", type=str, metavar="N|all", help="Tickets to draw.")
@click.option("--seed", type=int, help="Seed of the sample and of the order.")
@report_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@backend_option
@store_option
def chaos_command(
    scenario: Path,
    faults: tuple[str, ...],
    profile: str | None,
    file: Path | None,
    chaos_seed: int | None,
    store: StorePlace,
    strict: bool,
    quiet: bool,
    output: str,
    backend: str,
    **given: Any,
) -> int:
    """Work each ticket as it is and once more under each fault, and say what the agent does when things around it fail.

    \b
    podctl chaos scenario.yaml
    podctl chaos scenario.yaml --fault errors --fault timeouts --sample 20
    podctl chaos scenario.yaml --file chaos.yaml --resume latest

    Exit codes are those of podctl run: plain attempts decide as ever, and gate.chaos on the faults.
    """
    from dataclasses import replace

    from podctl.controller.run import prepare
    from podctl.runs.chaos import fitted, vary

    bundle = load(scenario, given)
    chaos, notes = fitted(_asked(file, faults, profile, chaos_seed), bundle, backend)
    prepared = prepare(bundle, vary=vary(chaos))
    prepared = replace(prepared, left_out=(*prepared.left_out, *notes))
    return host_campaign(prepared, store, given, quiet=quiet, strict=strict, output=output, backend=backend)


def _asked(file: Path | None, faults: tuple[str, ...], profile: str | None, seed: int | None) -> Any:
    """Raises `SpecError` for a mistake in the file, and where options say two things at once."""
    from podctl.errors import SpecError
    from podctl.runs.chaos import built_in, from_file, only

    if file is not None and profile is not None:
        raise SpecError(
            "--profile is about built-in faults, and --file brings its own", code="usage", unchanged="nothing was made"
        )
    return only(built_in(profile or "usual") if file is None else from_file(file), faults, seed)
