"""Commands about what users write; none of them makes a pod."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from podctl.cli.common import backend_option, output_option
from podctl.cli.run import suite_option


@click.command("init")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".")
def init_command(directory: Path) -> int:
    """Write a small project that works as it is: topology, tickets, boundary, an agent, a scenario.

    \b
    podctl init my-shop && cd my-shop && podctl run scenario.yaml
    """
    from podctl.spec.scaffold import scaffold

    for path in scaffold(directory):
        click.echo(path)
    where = "" if directory == Path() else f"cd {directory} && "
    click.echo(f"next: {where}podctl run scenario.yaml", err=True)
    return 0


@click.command("validate")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--resolved", is_flag=True, help="Print what takes effect: components put in place, every default filled in.")
def validate_command(files: tuple[Path, ...], resolved: bool) -> int:
    """Check spec files, a scenario with everything it refers to, tickets row by row; each mistake with its position.

    \b
    podctl validate scenarios/*.yaml
    podctl validate scenarios/shop.yaml --resolved
    """
    from podctl.errors import ExitCode, PodctlError
    from podctl.spec.load import load_any

    code = ExitCode.DONE
    for path in files:
        try:
            value = load_any(path)
            kind = _checked(value)
        except PodctlError as error:
            click.echo(error.render(), err=True)
            code = ExitCode.USAGE
        else:
            click.echo(_resolved(value, path) if resolved else f"{path}: a valid {kind}", nl=not resolved)
    return int(code)


def _resolved(value: Any, path: Path) -> str:
    """What takes effect, as YAML: of a scenario with all it refers to, as runs keep it."""
    from podctl.spec.bundle import Bundle
    from podctl.spec.resolved import plain, resolved
    from podctl.spec.writing import yaml_text

    return yaml_text(resolved(value) if isinstance(value, Bundle) else plain(value, path.absolute().parent))


def _checked(value: Any) -> str:
    """Its kind; what a file says may be right and the tickets it leads to wrong. Raises `SpecError`."""
    from podctl.spec.bundle import Bundle
    from podctl.spec.models import Tickets

    if isinstance(value, Bundle):
        from podctl.controller.run import prepare

        prepare(value)
        return "Scenario"
    if isinstance(value, Tickets):
        from podctl.tickets.sources import load_tickets

        load_tickets(value)
    return type(value).__name__


#: As `podctl.spec.shape.KINDS`, which help need not import.
_KINDS = (
    "Scenario",
    "Topology",
    "Tickets",
    "Agent",
    "Boundary",
    "Capture",
    "Masking",
    "Volume",
    "Prices",
    "PriceLock",
    "Ladder",
    "Component",
    "Suite",
    "Case",
    "Chaos",
)


@click.command("schema")
@click.argument("kind", required=False, type=click.Choice(_KINDS))
def schema_command(kind: str | None) -> int:
    """Print the JSON Schema of a kind of spec, or of all.

    \b
    podctl schema Scenario > scenario.schema.json
    """
    from podctl.spec.schema import json_schema

    click.echo(json.dumps(json_schema(kind), indent=2))
    return 0


@click.command("plan")
@click.argument("scenario", type=click.Path(path_type=Path))
@suite_option
@click.option("--agent", type=click.Path(path_type=Path), help="Another agent file than the scenario's.")
@click.option("--pods", type=click.IntRange(1, 256))
@click.option("--repeats", type=click.IntRange(1, 100))
@click.option("--sample", type=str, metavar="N|all")
@click.option("--seed", type=int)
@backend_option
@output_option("json")
def plan_command(scenario: Path, output: str, backend: str, **given: Any) -> int:
    """Show what a run would make and the most it could cost; makes nothing. Refuses what the backend could not run.

    \b
    podctl plan scenarios/shop.yaml
    """
    from podctl.cli.common import backend_class, emit_json
    from podctl.cli.run import load
    from podctl.controller.forecast import forecast
    from podctl.controller.run import prepare
    from podctl.pods.fit import refuse_unfit

    bundle = load(scenario, given)
    refuse_unfit(bundle.topology, backend, backend_class(backend).runs_images)
    facts = forecast(prepare(bundle))
    if output == "json":
        emit_json("Plan", facts)
        return 0
    for heading, lines in facts.items():
        click.echo(heading)
        for line in lines:
            click.echo(f"  {line}")
    return 0
