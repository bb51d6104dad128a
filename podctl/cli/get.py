"""Lists: runs, attempts, pods."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from podctl.cli.common import emit_json, machine_state, open_store, output_option, store_option, table
from podctl.errors import ExitCode, PodctlError

if TYPE_CHECKING:
    from podctl.evidence.store_read import StorePlace
    from podctl.evidence.store_rows import RunSummary


@click.command("get")
@click.argument("what", type=click.Choice(["runs", "attempts", "pods"]))
@click.argument("run", required=False)
@store_option
@output_option("json", "name")
def get_command(what: str, run: str | None, store: StorePlace, output: str) -> int:
    """List runs, the attempts of a run, or the pods on this machine.

    \b
    podctl get runs
    podctl get attempts latest -o json
    podctl get pods
    """
    {"runs": _runs, "attempts": _attempts, "pods": _pods}[what](run, store, output)
    return 0


def _runs(_: str | None, store: StorePlace, output: str) -> None:
    from podctl.stats.units import dollars

    summaries = open_store(store).list_runs()
    if output == "json":
        from podctl.reports.jsonreport import plain

        emit_json("RunList", plain(summaries))
        return
    if output == "name":
        for summary in summaries:
            click.echo(summary.info.id)
        return
    rows = [
        (
            summary.info.id,
            summary.info.scenario + (f" suite {summary.info.suite}" if summary.info.suite else ""),
            f"{summary.info.agent_name} {summary.info.agent_version}",
            summary.status,
            _verdict(summary),
            f"{summary.passed}/{summary.ended}",
            _done(summary),
            dollars(summary.spent_dollars) + (" simulated" if summary.info.simulated else ""),
        )
        for summary in summaries
    ]
    headings = ("RUN", "SCENARIO", "AGENT", "STATUS", "VERDICT", "PASSED", "DONE", "SPENT")
    if not rows:
        click.echo("no runs yet: podctl run SCENARIO, or podctl demo", err=True)
    else:
        table(headings, rows)


def _done(summary: RunSummary) -> str:
    plain = f"{summary.ended}/{summary.planned}"
    return f"{plain} and {summary.variants_ended}/{summary.variants_planned} varied" if summary.variants_planned else plain


def _verdict(summary: RunSummary) -> str:
    if summary.info.shard is not None:
        return f"shard {summary.info.shard}"
    return summary.verdict if summary.status == "finished" else "-"


def _attempts(run: str | None, store: StorePlace, output: str) -> None:
    from podctl.stats.units import dollars

    opened = open_store(store)
    found = opened.find_run(run or "latest")
    if output == "json":
        from podctl.reports.jsonreport import plain

        emit_json("AttemptList", plain(opened.load_run(found).attempts))
        return
    attempts = opened.list_attempts(found)
    if output == "name":
        for attempt in attempts:
            click.echo(attempt.id)
    else:
        campaign = any(attempt.variant is not None for attempt in attempts)
        rows = [
            (
                attempt.id,
                attempt.ticket,
                attempt.stratum,
                "pass" if attempt.passed else "FAIL",
                attempt.cause.value,
                f"{attempt.wall_s:.2f}s",
                dollars(attempt.dollars),
                str(attempt.boundary_attempts or ""),
                *([attempt.variant.name if attempt.variant else "plain"] if campaign else []),
            )
            for attempt in attempts
        ]
        headings = ("ATTEMPT", "TICKET", "STRATUM", "OUTCOME", "CAUSE", "TIME", "COST", "BOUNDARY")
        table((*headings, "VARIANT") if campaign else headings, rows)


def _pods(_: str | None, store: StorePlace, output: str) -> None:
    from podctl.reports.jsonreport import plain

    state = machine_state()
    pods = []
    for record in state.records():
        alive = record.owner.alive()
        left = (record.expires_ns - time.time_ns()) / 1e9
        status = ("kept" if record.kept else "running") if alive and left > 0 else "orphan"
        pods.append((record, status, left))
    if output == "json":
        emit_json("PodList", [{**plain(record), "status": status} for record, status, _ in pods])
    elif output == "name":
        for record, _, _ in pods:
            click.echo(record.id)
    elif not pods:
        click.echo("no pods on this machine", err=True)
    else:
        rows = [
            (record.id, record.run, status, str(record.owner.pid), f"{max(0, left):.0f}s", str(state.directory(record.id)))
            for record, status, left in pods
        ]
        table(("POD", "RUN", "STATUS", "OWNER", "TTL", "DIRECTORY"), rows)


@click.command("describe")
@click.argument("what", type=click.Choice(["run", "pod"]))
@click.argument("name", default="latest")
@store_option
def describe_command(what: str, name: str, store: StorePlace) -> int:
    """Show one run or one pod in full.

    \b
    podctl describe run latest
    podctl describe pod POD
    """
    import yaml

    from podctl.reports.jsonreport import plain

    if what == "run":
        opened = open_store(store)
        body = plain(opened.load_run(opened.find_run(name)))
        body["attempts"] = len(body["attempts"])
    else:
        record = machine_state().read(name)
        if record is None:
            raise PodctlError(f"no pod {name}", code="no-such-pod", hint="podctl get pods", exit_code=ExitCode.USAGE)
        body = plain(record)
        body["owner"]["alive"] = record.owner.alive()
    click.echo(yaml.safe_dump(body, sort_keys=False, allow_unicode=True).rstrip())
    return 0
