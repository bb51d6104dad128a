"""From a run's sample to the real workload."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import open_store, output_option, store_option
from podctl.cli.prices import AtPrices
from podctl.errors import ExitCode, PodctlError

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace


#: Of a number of tickets.
_DIGITS = 12


@click.command("project")
@click.argument("run", default="latest")
@click.option(
    "--volume",
    required=True,
    metavar="FILE|N|population",
    help="A Volume file; how many tickets, by the mix of the run's population; or that population itself, once.",
)
@click.option("--level", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True, help="How sure ranges are.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed gives the same figures.")
@click.option(
    "--replications", type=click.IntRange(1_000, 1_000_000), default=10_000, show_default=True, help="Of the bootstrap."
)
@click.option("--prices", type=click.Path(path_type=Path), help="A Prices file or a lock: the run's tokens at those prices.")
@click.option("--what-if", is_flag=True, help="Do not keep it: no bill will be compared with it.")
@click.option("--strict", is_flag=True, help="Exit with 5 when the total is unknown or has no range.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write the page for those who decide, too.")
@click.option("--pdf", type=click.Path(path_type=Path, dir_okay=False), help="Write that page as PDF, too.")
@output_option("json")
@store_option
def project_command(
    run: str, volume: str, store: StorePlace, prices: Path | None, what_if: bool, strict: bool, output: str, **given: Any
) -> int:
    """Project a run's sample to the real workload: what it will cost and take, with the range of each figure.

    \b
    podctl project latest --volume 20000
    podctl project latest --volume volume.yaml
    podctl project latest --volume volume.yaml -o json
    podctl project latest --volume volume.yaml --html decision.html --pdf decision.pdf

    A Volume file says how many tickets of each stratum there will be, and what people, pods and rework cost:
    docs/projection.md. Without one, only what the models cost is in the total. The projection is kept, so that
    the bill can be compared with it: podctl bills.
    """
    import time
    from dataclasses import replace

    from podctl.evidence.results import plain_of
    from podctl.projection.estimate import Known, Settings, project
    from podctl.projection.model import to_json
    from podctl.projection.rates import PodPrice
    from podctl.projection.sample import sampled
    from podctl.reports.projection import render_projection
    from podctl.reports.text import encodable

    opened = open_store(store)
    head = opened.load_head(opened.find_run(run))
    priced = None if prices is None else AtPrices(opened, head.info.id, prices)
    sample = sampled(head.info, plain_of(opened.each_attempt(head.info.id) if priced is None else priced.attempts()))
    wanted = _volume(volume, sample.population)
    pods = None if priced is None or priced.pod_hour is None else PodPrice(priced.pod_hour, priced.source)
    known = Known(_measured(wanted), pods, head.status, time.time_ns())
    made = project(sample, wanted, Settings(given["level"], given["replications"], given["seed"]), known)
    if priced is not None:
        made = replace(made, assumptions=(*made.assumptions, f"The run's tokens are priced again: {priced.source}."))
    if output == "json":
        click.echo(json.dumps(to_json(made), indent=2, allow_nan=False))
    else:
        click.echo(encodable(render_projection(made), sys.stdout.encoding), nl=False)
    if given["html"] or given["pdf"]:
        from podctl.cli.bills import ledger
        from podctl.projection.ledger import calibration
        from podctl.reports.files import write_pages
        from podctl.reports.leadership import render_leadership, track_record

        page = render_leadership(
            head, made, track_record(calibration(*ledger(opened))), _again(head.info.id, volume, prices, given)
        )
        for line in write_pages(page, given["html"], given["pdf"]):
            click.echo(line, err=True)
    if not what_if:
        _keep(store, to_json(made))
    return int(ExitCode.INCONCLUSIVE) if strict and made.total.low is None else 0


def _again(run: str, volume: str, prices: Path | None, given: dict[str, Any]) -> str:
    """What prints the same figures again."""
    options = {"--volume": volume, "--level": given["level"], "--seed": given["seed"], "--replications": given["replications"]}
    if prices is not None:
        options["--prices"] = prices
    return shlex.join(["podctl", "project", run, *(str(part) for option in options.items() for part in option)])


def _keep(place: StorePlace, body: dict[str, Any]) -> None:
    from podctl.clock import SystemClock
    from podctl.evidence.store import Store
    from podctl.projection.ledger import projection_id

    opened = Store.at(place, SystemClock())
    name = projection_id(body)
    new = opened.keep_projection(name, body)
    opened.close()
    click.echo(f"{'kept' if new else 'kept before'} as {name}: podctl bills --help says how its bill is entered", err=True)


def _volume(given: str, population: dict[str, int]) -> Any:
    """The Volume that was named. Raises `SpecError`."""
    from podctl.spec.load import load_volume
    from podctl.spec.volume import Volume

    head = {"apiVersion": "podctl/v1", "kind": "Volume"}
    if given == "population":
        return Volume.model_validate({**head, "name": "population", "of": "population"})
    if given.isdecimal() and given.isascii() and len(given) <= _DIGITS:
        return Volume.model_validate({**head, "name": "tickets", "tickets": int(given)})
    path = Path(given)
    if not path.is_file() and not path.suffix:
        raise PodctlError(
            f"--volume {given!r} is neither a number of tickets nor a file",
            code="usage",
            hint="a number such as 20000, a file of kind Volume, or population",
            exit_code=ExitCode.USAGE,
        )
    return load_volume(path, population)


def _measured(volume: Any) -> Any:
    """What tickets of the volume's baseline say that people took; None where it names none. Raises `SpecError`."""
    baseline = volume.baseline
    if baseline is None or baseline.tickets is None:
        return None
    from podctl.tickets.handling import handling_times

    return handling_times(baseline.tickets)
