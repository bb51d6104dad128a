"""Suites of reviewed cases, over agent versions."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import open_store, output_option, store_option
from podctl.cli.compare import pages, show

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace

_PAGE = click.Path(path_type=Path, dir_okay=False)


@click.group("suite")
def suite_command() -> None:
    """Suites of reviewed cases: `podctl learn` makes them, `podctl run --suite` runs them.

    \b
    podctl suite show suites/shop
    """


@suite_command.command("show")
@click.argument("suite", type=click.Path(path_type=Path))
@click.option("--html", type=_PAGE, help="Write the page, too.")
@click.option("--pdf", type=_PAGE, help="Write the page as PDF, too.")
@output_option("json")
@store_option
def show_command(suite: Path, html: Path | None, pdf: Path | None, output: str, store: StorePlace) -> int:
    """How each agent version does on the suite's cases, oldest first: in all, by origin, on the cases that all worked, and case by case.

    \b
    podctl suite show suites/shop
    podctl suite show suites/shop --html suite.html
    """
    from podctl.learn.library import open_suite
    from podctl.reports.suite import render_suite, suite_json, suite_text
    from podctl.stats.standing import CaseFacts, standing

    _, spec, cases = open_suite(suite)
    reader = open_store(store)
    runs = [
        run for run in reader.list_runs() if run.info.suite == spec.name and run.status == "finished" and not run.info.shard
    ]
    accepted = [
        CaseFacts(case.name, case.ticket.id, case.origin.kind, _ns(case.review.at))
        for case in cases
        if case.review.status == "accepted"
    ]
    found = standing(
        spec.name,
        accepted,
        [(run.info, [one for one in reader.list_attempts(run.info.id) if one.variant is None]) for run in runs],
        proposed=sum(case.review.status == "proposed" for case in cases),
        rejected=sum(case.review.status == "rejected" for case in cases),
    )
    show(suite_json(found) if output == "json" else suite_text(found))
    again = shlex.join(["podctl", "suite", "show", str(suite)])
    pages(lambda: render_suite(found, again), html, pdf)
    return 0


def _ns(at: str) -> int:
    """A moment in UTC as reviews have it; 0 for one that somebody wrote otherwise."""
    try:
        return int(datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * 10**9
    except ValueError:
        return 0
