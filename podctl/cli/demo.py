"""The example shop, from anywhere."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from podctl.cli.common import open_store, shipped
from podctl.errors import ExitCode

EXAMPLE = ("fixtures/shop", "scenarios")


@click.command("demo")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default="podctl-demo")
@click.option("--sample", default="60", show_default=True, metavar="N|all", help="Tickets to draw.")
@click.option("--pods", default=2, show_default=True, type=click.IntRange(1, 64))
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def demo_command(directory: Path, sample: str, pods: int, quiet: bool) -> int:
    """Run two versions of the example shop's agent on the same tickets and compare them.

    Writes the example into DIRECTORY, so that you can change it and run it again.

    \b
    podctl demo
    podctl demo --sample 20 --pods 4
    """
    from podctl.cli.run import load, progress_for, say, show
    from podctl.controller.host import host_run
    from podctl.controller.run import prepare
    from podctl.evidence.store_read import StorePlace
    from podctl.reports.files import write_reports

    copy_example(directory)
    store = StorePlace(directory / ".podctl")
    baseline: str | None = None
    written: dict[str, Path] = {}
    for agent in ("rules-v1", "rules-v2"):
        say(f"\n{agent}: the same {sample} tickets, {pods} pods")
        given: dict[str, Any] = {"agent": directory / f"fixtures/shop/agents/{agent}.yaml", "sample": sample, "pods": pods}
        prepared = prepare(load(directory / "scenarios/shop.yaml", given))
        with progress_for(quiet) as listener:
            outcome = host_run(prepared, store, baseline=baseline, listener=listener, say=say)
        if outcome.interrupted:
            return int(ExitCode.INTERRUPTED)
        report, written = write_reports(outcome.result, open_store(store), {})
        show(report, written, "table")
        baseline = outcome.result.info.id
    ticket = next((attempt.ticket for attempt in outcome.result.attempts if not attempt.passed), None)
    say(f"\nopen {written['html']}")
    if ticket:
        say(f"follow a ticket that failed:  cd {directory} && podctl trace latest {ticket}")
    return 0


def copy_example(directory: Path) -> None:
    """Copy the example from the wheel or the checkout; files that are there already stay as they are."""
    root = shipped()
    for part in EXAMPLE:
        for source in sorted((root / part).rglob("*")):
            target = directory / part / source.relative_to(root / part)
            if source.is_file() and "__pycache__" not in source.parts and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
