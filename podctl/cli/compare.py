"""Several runs in one view: agents on one sample, and an agent's versions over time."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from podctl.cli.common import open_store, output_option, store_option
from podctl.errors import ExitCode, PodctlError

if TYPE_CHECKING:
    from podctl.evidence.results import RunResult
    from podctl.evidence.store_read import StorePlace, StoreReader

_PAGE = click.Path(path_type=Path, dir_okay=False)


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--html", type=_PAGE, help="Write the page, too.")
@click.option("--pdf", type=_PAGE, help="Write the page as PDF, too.")
@output_option("json")
@store_option
def compare_command(runs: tuple[str, ...], html: Path | None, pdf: Path | None, output: str, store: StorePlace) -> int:
    """Hold agents or architectures together that worked the same sample: each against the first, ticket by ticket.

    \b
    podctl compare RUN RUN
    podctl compare BASELINE CANDIDATE OTHER --html compared.html
    """
    from podctl.reports.comparison import comparison_json, comparison_text, render_comparison
    from podctl.stats.side_by_side import side_by_side

    opened = open_store(store)
    found = [opened.find_run(run) for run in runs]
    if len(set(found)) != len(found) or len(found) < 2:
        raise PodctlError(
            "a comparison needs two different runs at least",
            code="usage",
            cause=f"given: {', '.join(found)}",
            hint="podctl get runs",
            exit_code=ExitCode.USAGE,
        )
    compared = side_by_side([partial(_run, opened, run) for run in found])
    again = shlex.join(["podctl", "compare", *found])
    show(comparison_json(compared) if output == "json" else comparison_text(compared))
    pages(lambda: render_comparison(compared, again), html, pdf)
    return 0


def _run(store: StoreReader, run: str) -> RunResult:
    from podctl.evidence.results import plain_of
    from podctl.stats.side_by_side import without_detail

    return replace(store.load_head(run), attempts=tuple(map(without_detail, plain_of(store.each_attempt(run)))))


@click.command("trend")
@click.argument("scenario", required=False)
@click.option("--agent", default="", help="Only runs of the agent of this name.")
@click.option("--html", type=_PAGE, help="Write the page, too.")
@click.option("--pdf", type=_PAGE, help="Write the page as PDF, too.")
@output_option("json")
@store_option
def trend_command(scenario: str | None, agent: str, html: Path | None, pdf: Path | None, output: str, store: StorePlace) -> int:
    """An agent's versions over time: the finished runs of a scenario, oldest first. Without a name, of the latest run's.

    \b
    podctl trend
    podctl trend shop-refunds --agent support-agent --html trend.html
    """
    from podctl.reports.trend import SHOWN, Trend, chosen, point_of, render_trend, trend_json, trend_text

    opened = open_store(store)
    runs = opened.list_runs()
    name = scenario if scenario is not None else next((run.info.scenario for run in runs if run.status == "finished"), "")
    found = chosen(runs, name, agent)
    if not found:
        raise PodctlError(
            "there is no finished run" + (f" of scenario {name!r}" if name else "") + (f" by agent {agent!r}" if agent else ""),
            code="no-run",
            hint="podctl get runs",
            exit_code=ExitCode.USAGE,
        )
    before = [None, *(run.info for run in found)]
    shown = list(zip(found, before, strict=False))[-SHOWN:]
    points = tuple(
        point_of(run, [one for one in opened.list_attempts(run.info.id) if one.variant is None], old) for run, old in shown
    )
    trend = Trend(name, points, len(found) - len(points))
    again = shlex.join(["podctl", "trend", name, *(["--agent", agent] if agent else [])])
    show(trend_json(trend) if output == "json" else trend_text(trend))
    pages(lambda: render_trend(trend, again), html, pdf)
    return 0


def show(text: str) -> None:
    from podctl.reports.text import encodable

    click.echo(encodable(text, sys.stdout.encoding), nl=False)


def pages(render: Callable[[], str], html: Path | None, pdf: Path | None) -> None:
    from podctl.reports.files import write_pages

    if html is None and pdf is None:
        return
    for line in write_pages(render(), html, pdf):
        click.echo(line, err=True)
