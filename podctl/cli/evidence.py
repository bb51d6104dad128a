"""What a run left: timelines, diffs, exports, reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import open_store, store_option
from podctl.errors import ExitCode, PodctlError

if TYPE_CHECKING:
    from podctl.evidence.results import AttemptResult, RunInfo
    from podctl.evidence.store_read import StorePlace, StoreReader


def attempt_on(store: StorePlace, run: str, ticket: str, repeat: int) -> tuple[StoreReader, RunInfo, AttemptResult]:
    """The store, the run and the attempt on a ticket (or the attempt with that very id)."""
    opened = open_store(store)
    info = opened.load_info(opened.find_run(run))
    found = opened.find_attempt(info.id, ticket, repeat)
    if found is None:
        raise PodctlError(
            f"run {info.id} has no attempt on {ticket!r} (repeat {repeat})",
            code="no-such-attempt",
            hint=f"podctl get attempts {info.id}",
            exit_code=ExitCode.USAGE,
        )
    return opened, info, found


@click.command("trace")
@click.argument("run")
@click.argument("ticket")
@click.option("--repeat", default=1, show_default=True, help="Which of the attempts on the ticket.")
@click.option("--layer", type=click.Choice(["execution", "reasoning", "performance"]), multiple=True)
@click.option("--kind", multiple=True, help="Only records of this kind, such as sql.statement.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
@store_option
def trace_command(
    run: str, ticket: str, repeat: int, layer: tuple[str, ...], kind: tuple[str, ...], output: str, store: StorePlace
) -> int:
    """One attempt as a timeline: what the agent did, what changed, why it says so.

    \b
    podctl trace latest T-0042
    podctl trace latest 0007-1 --layer reasoning
    """
    import shutil

    from podctl.evidence.identity import Identity
    from podctl.evidence.reading import read_attempt
    from podctl.evidence.trace import render_text, timeline

    opened, info, attempt = attempt_on(store, run, ticket, repeat)
    records = read_attempt(opened.evidence_directory(info.id, attempt.id))
    if output == "json":
        for record in records:
            value = record.to_json()
            if (not layer or value["layer"] in layer) and (
                not kind or any(record.kind == one or record.kind.startswith(f"{one}.") for one in kind)
            ):
                click.echo(json.dumps(value))
        return 0
    width = shutil.get_terminal_size((110, 24)).columns
    found = timeline(records, Identity.of(info, attempt, records), layers=layer, kinds=kind)
    click.echo(render_text(found, width).rstrip())
    return 0


@click.command("diff")
@click.argument("run")
@click.argument("ticket")
@click.option("--repeat", default=1, show_default=True)
@store_option
def diff_command(run: str, ticket: str, repeat: int, store: StorePlace) -> int:
    """The rows an attempt changed, against what the reference says.

    \b
    podctl diff latest T-0042
    """
    from podctl.evidence.trace import render_diff

    _, _, attempt = attempt_on(store, run, ticket, repeat)
    click.echo(render_diff(attempt).rstrip())
    return 0


@click.command("report")
@click.argument("run", required=False)
@click.option("--index", type=click.Path(path_type=Path, file_okay=False), help="A static site of all runs, in this directory.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--markdown", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", type=click.Path(path_type=Path, dir_okay=False))
@store_option
def report_command(run: str | None, store: StorePlace, index: Path | None, **given: Path | None) -> int:
    """Write a run's reports again: HTML into the store, others where told. Or a site of all runs.

    \b
    podctl report latest --html report.html --junit junit.xml
    podctl report --index site
    """
    from podctl.reports.files import write_reports

    opened = open_store(store)
    if index is not None:
        return _index(opened, index, alone=run is None and not any(given.values()))
    result = opened.load_run(opened.find_run(run or "latest"))
    extra = {kind: path for kind, path in given.items() if path is not None}
    _, written = write_reports(result, opened, extra)
    for kind, path in written.items():
        click.echo(f"{kind}: {path}")
    return 0


def _index(store: StoreReader, directory: Path, *, alone: bool) -> int:
    """Raises `PodctlError`."""
    from podctl.reports.index import write_index
    from podctl.stats.units import plural

    if not alone:
        raise PodctlError(
            "--index is of all runs", code="usage", hint="podctl report --index DIRECTORY", exit_code=ExitCode.USAGE
        )
    page, count = write_index(store, directory)
    click.echo(f"{page}: {plural(count, 'run')}")
    return 0


@click.command("export")
@click.argument("run", default="latest")
@click.option("--format", "form", type=click.Choice(["otlp", "atif", "junit"]), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A directory, or a file for junit.")
@store_option
def export_command(run: str, form: str, out: Path, store: StorePlace) -> int:
    """Write a run's evidence in a format that other tools read; one file an attempt.

    \b
    podctl export latest --format atif --out trajectories/
    podctl export latest --format otlp --out traces/
    """
    from podctl.reports.files import export

    opened = open_store(store)
    result = opened.load_run(opened.find_run(run))
    count = export(result, opened, form, out)
    click.echo(f"{count} {'file' if count == 1 else 'files'} in {out}")
    return 0
