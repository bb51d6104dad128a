"""Continuous integration: try what a change touches, say so where people look, name what may be cached."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from podctl.cli.common import backend_option, emit_json, output_option, store_option, table
from podctl.cli.common import open_store as open_reader
from podctl.cli.run import progress_for, say, show

if TYPE_CHECKING:
    from podctl.ci.picking import Picked
    from podctl.ci.trying import Here, Plan, PutTogether, Tried
    from podctl.evidence.store import Store
    from podctl.evidence.store_read import StorePlace


@click.group("ci", invoke_without_command=True)
@click.option("--base", metavar="REVISION", envvar="PODCTL_BASE", help="The branch, tag or commit to compare with.")
@click.option(
    "--scenario",
    "scenarios",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Only this one; may be repeated. [default: all below here]",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default="podctl-ci", show_default=True, help="Where reports go."
)
@click.option("--dry-run", is_flag=True, help="List what would be run, and run nothing.")
@click.option("--shard", metavar="I/N", help="Make part I of N of every run, and judge nothing.")
@click.option(
    "--merge",
    "merged",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="A store with shards to put together, instead of running; may be repeated.",
)
@click.option("--name", default="podctl", show_default=True, help="Tells comments of several uses on one pull request apart.")
@click.option("--strict", is_flag=True, help="Exit with 5 when a verdict is inconclusive.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@backend_option
@store_option
@click.pass_context
def ci_command(context: click.Context, /, **given: Any) -> int | None:
    """Try every agent that a change can have made act otherwise, hold it against what it was, and write all reports.

    An agent is tried when a file that its digest covers, or one around it (scenario, topology, seeds, services, tickets,
    checks), is other than in the base. What it was in the base is run too, unless the store has that run.

    \b
    podctl ci --base main
    podctl ci --base main --dry-run
    podctl ci --base main --shard 2/4 --store shard
    podctl ci --base main --merge shard-1 --merge shard-2

    Exit codes: the worst of the runs', as podctl run has them; 0 when there is nothing to try.
    """
    if context.invoked_subcommand is not None:
        return None
    return _try(**given)


def _try(
    *,
    base: str | None,
    scenarios: tuple[Path, ...],
    out: Path,
    dry_run: bool,
    shard: str | None,
    merged: tuple[Path, ...],
    name: str,
    strict: bool,
    quiet: bool,
    backend: str,
    store: StorePlace,
) -> int:
    from podctl.ci.files import Against, write_all
    from podctl.ci.git import Repository
    from podctl.ci.picking import pick
    from podctl.ci.trying import attempt, named, open_store, plan, worst
    from podctl.errors import ExitCode, SpecError
    from podctl.runs.shards import parsed

    if base is None:
        raise SpecError("podctl ci needs something to compare with", code="usage", hint="podctl ci --base main")
    if shard and (merged or strict):
        what = "--merge" if merged else "--strict"
        raise SpecError(
            f"--shard and {what} do not go together", code="usage", hint="make every shard, then merge: --merge STORE"
        )
    part = parsed(shard) if shard else None
    repository = Repository.at(Path.cwd())
    commit, head = repository.base(base), repository.head()
    tree = _own_tree(store.directory.absolute(), commit)
    opened: Store | None = None
    try:
        picked = pick(repository, commit, Path.cwd(), scenarios, tree)
        against = Against(base, commit, name)
        for unused in picked.unused:
            say(f"{os.path.relpath(unused)} has changed, and no scenario has an agent of that name: it is not tried")
        if not picked.cases:
            click.echo(_nothing(picked, base, commit))
            if not (dry_run or part):
                write_all([], against, out, dict(os.environ))
            return int(ExitCode.DONE)
        if not dry_run or store.url or (store.directory / "store.db").exists():
            opened = open_store(store)
        runs = opened.list_runs() if opened is not None else []
        plans = [plan(case, runs, (head, commit), part) for case in picked.cases]
        if opened is None or dry_run:
            _list(plans)
            return int(ExitCode.DONE)
        tried: list[Tried] = []
        with progress_for(quiet) as listener:
            maker = _maker(opened, store, merged, backend, listener)
            for one in plans:
                say(f"{named(one.head)}: {'; '.join(one.case.reasons)}; baseline {one.baseline}")
                tried.append(attempt(one, maker, strict=strict))
                if tried[-1].code is ExitCode.INTERRUPTED:
                    return int(ExitCode.INTERRUPTED)
        cases = _written(tried, opened, out, judged=part is None)
        if part is None:
            write_all(cases, against, out, dict(os.environ))
            say(f"reports: {out}")
        return int(worst(tried))
    finally:
        if opened is not None:
            opened.close()
        shutil.rmtree(tree, ignore_errors=True)
        with suppress(OSError):
            store.directory.rmdir()  # when nothing else was put there


def _own_tree(store: Path, commit: str) -> Path:
    """Where the base's agents are checked out; those of processes that were killed are removed."""
    for left in store.glob("base-*-*"):
        number = left.name.rpartition("-")[2]
        if number.isdigit() and not Path(f"/proc/{number}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return store / f"base-{commit[:12]}-{os.getpid()}"


def _nothing(picked: Picked, base: str, commit: str) -> str:
    from podctl.stats.units import plural

    looked = f"{plural(picked.scenarios, 'scenario')} and {plural(picked.agents, 'agent')}"
    return f"nothing to try: of {looked} nothing has changed since {base} ({commit[:10]})"


def _maker(opened: Store, place: StorePlace, merged: tuple[Path, ...], backend: str, listener: Any) -> Here | PutTogether:
    from podctl.ci.trying import Here, PutTogether
    from podctl.cli.merge import store_in

    if merged:
        return PutTogether(opened, [store_in(directory) for directory in merged], say)
    return Here(place, opened, backend, listener, say)


def _written(tried: list[Tried], store: Store, out: Path, *, judged: bool) -> list[tuple[Tried, Any]]:
    """Each case's report, shown and, where there is a verdict, written."""
    from podctl.ci.files import write_case
    from podctl.reports.model import build_report

    cases = []
    for number, one in enumerate(tried):
        same = [other.plan.case.name for other in tried[:number]].count(one.plan.case.name)
        report = write_case(one, store, out, f"-{same + 1}" if same else "") if judged else build_report(one.result)
        show(report, {}, "table")
        cases.append((one, report))
    return cases


def _list(plans: list[Plan]) -> None:
    from podctl.stats.units import dollars

    rows = []
    for one in plans:
        limits, agent = one.head.bundle.scenario.limits, one.case.bundle.agent
        runs = [one.head, *([one.base] if one.base is not None and one.stored is None else [])]
        attempts = sum(len(run.planned) for run in runs)
        most = sum((min(run.run_dollars, limits.dollars * len(run.planned)) for run in runs), Decimal(0))
        paid = one.head.bundle.scenario.model.mode in ("live", "record")
        cost = f"{dollars(most)}" if paid else "$0"
        rows.append(
            (
                one.case.bundle.scenario.name,
                f"{agent.name} {agent.version}",
                one.baseline,
                str(attempts),
                cost,
                "; ".join(one.case.reasons),
            )
        )
    table(("SCENARIO", "AGENT", "BASELINE", "ATTEMPTS", "AT MOST", "WHY"), rows)


@ci_command.command("comment")
@click.argument("out", type=click.Path(path_type=Path, file_okay=False), default="podctl-ci")
@click.option(
    "--pull", type=click.IntRange(1), metavar="NUMBER", envvar="PODCTL_PULL", help="The pull request. [default: GITHUB_REF's]"
)
@click.option(
    "--author", default="github-actions[bot]", show_default=True, help="Whose comment is replaced: who the token writes as."
)
def comment_command(out: Path, pull: int | None, author: str) -> int:
    """Put what podctl ci wrote into OUT on the pull request: one comment, replaced by later runs.

    Takes GITHUB_TOKEN, GITHUB_API_URL and GITHUB_REPOSITORY from the environment. Where the token may not write, as on a
    pull request from a fork, the job's summary has it all, and that is said.

    \b
    podctl ci comment podctl-ci --pull 12
    """
    import json

    from podctl.ci.comments import Conversation, MayNotComment
    from podctl.ci.files import COMMENT, RESULT
    from podctl.errors import SpecError

    try:
        text = (out / COMMENT).read_text("utf-8")
        tried = bool(json.loads((out / RESULT).read_text("utf-8"))["cases"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"there is nothing to say in {out}", code="ci-no-result", cause=str(error), hint="podctl ci writes it"
        ) from error
    conversation = Conversation.of(os.environ, pull)
    if conversation is None:
        click.echo("no pull request, no comment")
        return 0
    try:
        click.echo(conversation.put(text, text.split("\n", 1)[0], author, only_replace=not tried))
    except MayNotComment as error:
        note = f"not commented: the token may not write to pull request {conversation.number} ({error}); is it from a fork?"
        click.echo(f"{note} The job's summary has the result.")
        _to_summary(note)
    return 0


def _to_summary(text: str) -> None:
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        from podctl.reports.markdown import prose

        with open(summary, "a", encoding="utf-8") as file:
            file.write(f"\n{prose(text)}\n")


@ci_command.command("cache-key")
@click.argument("scenarios", nargs=-1, type=click.Path(path_type=Path), metavar="SCENARIO...")
@output_option("json", "github")
@store_option
def cache_key_command(scenarios: tuple[Path, ...], output: str, store: StorePlace) -> int:
    """Name the directories that jobs may keep for one another, and keys by their content.

    SCENARIO: whose; without, all below here. The keys are the same wherever the checkout lies.

    \b
    podctl ci cache-key scenario.yaml
    podctl ci cache-key -o github >> "$GITHUB_OUTPUT"
    """
    from dataclasses import asdict

    from podctl.ci.caches import caches, github_outputs
    from podctl.ci.git import Repository
    from podctl.ci.picking import scenarios_below
    from podctl.spec.load import load_bundle

    files = scenarios or scenarios_below(Repository.at(Path.cwd()), Path.cwd())
    there = (store.directory / "store.db").exists()
    found = caches([load_bundle(path) for path in files], open_reader(store) if there else None, store.directory.absolute())
    if output == "github":
        click.echo(github_outputs(found))
    elif output == "json":
        emit_json("CacheList", [asdict(cache) for cache in found])
    else:
        table(("CACHE", "KEY", "DIRECTORY"), [(cache.name, cache.key, " ".join(map(str, cache.paths))) for cache in found])
    return 0
