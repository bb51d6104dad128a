"""Run a scenario."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import F, backend_option, is_quiet, open_store, store_option
from podctl.faults import point

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace

_FILE = click.Path(path_type=Path, dir_okay=False)


suite_option = click.option(
    "--suite", type=click.Path(path_type=Path), help="Work a suite's accepted cases in place of the sample."
)


def report_options(function: F) -> F:
    """What reports to write, what to print, and whether an open verdict fails."""
    for option in (
        click.option("--strict", is_flag=True, help="Exit with 5 when the verdict is inconclusive."),
        click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", help="What to print on stdout."),
        click.option("--json", "json_file", type=_FILE, help="Also write the result as JSON here."),
        click.option("--markdown", type=_FILE, help="Also write a Markdown summary here."),
        click.option("--junit", type=_FILE, help="Also write JUnit XML here."),
        click.option("--html", type=_FILE, help="Also write the HTML report here."),
    ):
        function = option(function)
    return function


@click.command("run")
@click.argument("scenario", type=click.Path(path_type=Path), required=False)
@suite_option
@click.option("--agent", type=click.Path(path_type=Path), help="Another agent file than the scenario's.")
@click.option(
    "--baseline", metavar="RUN|BRANCH", help="Compare with this run, or the latest of this git branch, ticket by ticket."
)
@click.option("--resume", metavar="RUN", help="Go on with a run that did not finish; attempts that ended are not made again.")
@click.option("--pods", type=click.IntRange(1, 256), help="Pods at once.")
@click.option("--repeats", type=click.IntRange(1, 100), help="Attempts for each ticket.")
@click.option("--sample", type=str, metavar="N|all", help="Tickets to draw.")
@click.option("--seed", type=int, help="Seed of the sample and of the order.")
@click.option("--fail-fast", is_flag=True, help="With --baseline: end the run once this version is worse for certain.")
@click.option("--shard", metavar="I/N", help="Make part I of N alone; podctl merge puts the parts together.")
@click.option(
    "--attended/--headless",
    default=None,
    help="Whether people answer what agents propose (podctl approvals). [default: at a terminal, outside of CI]",
)
@report_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@backend_option
@store_option
def run_command(
    scenario: Path | None, store: StorePlace, strict: bool, quiet: bool, output: str, backend: str, **given: Any
) -> int:
    """Run an agent version over the sampled tickets in isolated test pods, and say whether it may go on.

    \b
    podctl run scenarios/shop.yaml
    podctl run scenarios/shop.yaml --agent fixtures/shop/agents/rules-v2.yaml --baseline latest
    podctl run scenarios/shop.yaml --resume latest
    podctl run scenarios/shop.yaml --shard 2/4
    podctl run --suite suites/shop

    Exit codes: 0 passed, 100 gate failed, 5 inconclusive under --strict, 2 a mistake in a spec, 3 the machine,
    4 passed but something was not removed, 130 interrupted.
    """
    from podctl.controller.host import exit_code, host_run
    from podctl.controller.run import prepare
    from podctl.reports.files import write_reports

    _refuse_blind(given["fail_fast"], given["baseline"])
    scenario = scenario_of(scenario, given["suite"])
    bundle = load(scenario, given)
    prepared = prepare(bundle, shard_of(given["shard"], given["baseline"], strict))
    point("run.prepared")
    with progress_for(quiet) as listener:
        outcome = host_run(
            prepared,
            store,
            baseline=given["baseline"],
            resume=given["resume"],
            listener=listener,
            say=say,
            backend=backend,
            nobody=nobody_asked(given["attended"]),
        )
    report, written = write_reports(outcome.result, open_store(store), files_of(given))
    point("run.reported")
    show(report, written, output)
    if outcome.result.status == "interrupted":
        part = f" --shard {prepared.shard}" if prepared.shard else ""
        part += f" --suite {given['suite']}" if given["suite"] else ""
        say(f"finish it with: podctl run {scenario} --resume {outcome.result.info.id}{part}")
    for problem in outcome.teardown_problems:
        say(f"not removed: {problem}")
    return int(exit_code(outcome, strict=strict))


def nobody_asked(attended: bool | None) -> str:
    """Why no person can be asked to approve anything; nothing where somebody can."""
    if attended is None and os.environ.get("CI"):
        return "this runs in CI"
    if attended is None and not sys.stderr.isatty():
        return "this runs without a terminal; --attended asks people all the same"
    return "this runs with --headless" if attended is False else ""


def _refuse_blind(fail_fast: bool, baseline: str | None) -> None:
    """Raises `SpecError`: what there is nothing to compare with cannot be seen to be worse."""
    from podctl.errors import SpecError

    if fail_fast and not baseline:
        raise SpecError(
            "--fail-fast needs --baseline",
            code="usage",
            cause="a run ends early when its version is worse than the baseline's",
            unchanged="nothing was made",
            hint="name a run or a git branch: --baseline latest",
        )


def files_of(given: dict[str, Any]) -> dict[str, Path]:
    """Kind of report -> where it was asked for."""
    names = {"html": "html", "junit": "junit", "markdown": "markdown", "json": "json_file"}
    return {kind: given[name] for kind, name in names.items() if given[name] is not None}


def shard_of(given: str | None, baseline: str | None, strict: bool) -> tuple[int, int] | None:
    """Raises `SpecError`, also where a shard is asked for what only the whole run has."""
    from podctl.errors import SpecError
    from podctl.runs.shards import parsed

    if given is None:
        return None
    if baseline or strict:
        option = "--baseline" if baseline else "--strict"
        raise SpecError(
            f"a shard has no verdict: {option} is for the whole run",
            code="usage",
            unchanged="nothing was made",
            hint=f"give {option} to podctl merge",
        )
    return parsed(given)


def load(scenario: Path, given: dict[str, Any]) -> Any:
    """The bundle with the command line's changes: flags come before the file."""
    from dataclasses import replace

    from podctl.spec.load import load_bundle, load_suite
    from podctl.spec.suite import Suite
    from podctl.spec.tickets import Sample

    overrides = {"agent": given["agent"]} if given.get("agent") else {}
    if given.get("suite"):
        from podctl.learn.library import suite_file

        overrides["tickets"] = suite_file(given["suite"])
        load_suite(overrides["tickets"])  # tickets of another kind are no suite
    bundle = load_bundle(scenario, overrides)
    changed = bundle.scenario
    if isinstance(bundle.tickets, Suite) and given.get("suite"):
        changed = changed.model_copy(update={"sample": Sample(), "gate": bundle.tickets.gate})
    run = {name: given[name] for name in ("pods", "repeats", "seed") if given.get(name) is not None}
    run |= {"fail_fast": True} if given.get("fail_fast") else {}
    sample = sample_changes(given)
    changed = changed.model_copy(
        update={"run": changed.run.model_copy(update=run), "sample": changed.sample.model_copy(update=sample)}
    )
    return replace(bundle, scenario=changed)


def sample_changes(given: dict[str, Any]) -> dict[str, Any]:
    """What ``--sample`` and ``--seed`` change in a sample. Raises `SpecError`."""
    from podctl.errors import SpecError

    changed: dict[str, Any] = {"seed": given["seed"]} if given.get("seed") is not None else {}
    if given.get("sample") is not None:
        if given["sample"] != "all" and not given["sample"].isdigit():
            raise SpecError(f"--sample {given['sample']!r} is neither a number nor all", code="usage")
        changed["size"] = "all" if given["sample"] == "all" else int(given["sample"])
    return changed


def scenario_of(scenario: Path | None, suite: Path | None) -> Path:
    """The scenario that was named, or the suite's own. Raises `SpecError`."""
    from podctl.learn.library import suite_file
    from podctl.spec.load import load_suite

    if scenario is not None:
        return scenario
    if suite is None:
        raise click.UsageError("Missing argument 'SCENARIO', or --suite.")
    return load_suite(suite_file(suite))[0].scenario


def host_campaign(
    prepared: Any, store: StorePlace, given: dict[str, Any], *, quiet: bool, strict: bool, output: str, backend: str
) -> int:
    """Make the attempts of a campaign, write and show its reports; the exit code. Raises `PodctlError`."""
    from podctl.controller.host import exit_code, host_run
    from podctl.reports.files import write_reports

    with progress_for(quiet) as listener:
        outcome = host_run(prepared, store, resume=given["resume"], listener=listener, say=say, backend=backend)
    report, written = write_reports(outcome.result, open_store(store), files_of(given))
    show(report, written, output)
    if outcome.result.status == "interrupted":
        say(f"finish it with the same options and --resume {outcome.result.info.id}")
    for problem in outcome.teardown_problems:
        say(f"not removed: {problem}")
    return int(exit_code(outcome, strict=strict))


def say(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def progress_for(quiet: bool) -> Iterator[Any]:
    """A listener that shows a run's progress on standard error."""
    from podctl.runs.runner import silent

    if quiet or is_quiet():
        yield silent
        return
    from podctl.reports.progress import Progress

    with Progress(sys.stderr) as progress:
        yield progress.update


def show(report: Any, written: dict[str, Path], output: str) -> None:
    if output == "json":
        from podctl.reports.jsonreport import render_json

        click.echo(render_json(report))
        return
    from podctl.reports.terminal import write_summary

    write_summary(report, sys.stdout, paths=written)
