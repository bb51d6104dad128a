"""Lists: runs, attempts, pods."""

from __future__ import annotations

import time
from pathlib import Path

import click

from podctl.cli.common import emit_json, machine_state, open_store, output_option, store_option, table
from podctl.errors import ExitCode, PodctlError


@click.command("get")
@click.argument("what", type=click.Choice(["runs", "attempts", "pods"]))
@click.argument("run", required=False)
@store_option
@output_option("json", "name")
def get_command(what: str, run: str | None, store: Path | None, output: str) -> int:
    """List runs, the attempts of a run, or the pods on this machine.

    \b
    podctl get runs
    podctl get attempts latest -o json
    podctl get pods
    """
    {"runs": _runs, "attempts": _attempts, "pods": _pods}[what](run, store, output)
    return 0


def _runs(_: str | None, store: Path | None, output: str) -> None:
    from podctl.stats.units import dollars

    with_store = open_store(store)
    summaries = with_store.list_runs()
    if output == "name":
        for summary in summaries:
            click.echo(summary.info.id)
        return
    rows = [
        (
            summary.info.id,
            summary.info.scenario,
            f"{summary.info.agent_name} {summary.info.agent_version}",
            summary.status,
            summary.verdict if summary.status == "finished" else "-",
            f"{summary.passed}/{summary.ended}",
            f"{summary.ended}/{summary.planned}",
            dollars(summary.spent_dollars) + (" simulated" if summary.info.simulated else ""),
        )
        for summary in summaries
    ]
    headings = ("RUN", "SCENARIO", "AGENT", "STATUS", "VERDICT", "PASSED", "DONE", "SPENT")
    if output == "json":
        emit_json("RunList", [dict(zip((h.lower() for h in headings), row, strict=True)) for row in rows])
    elif not rows:
        click.echo("no runs yet: podctl run SCENARIO, or podctl demo", err=True)
    else:
        table(headings, rows)


def _attempts(run: str | None, store: Path | None, output: str) -> None:
    from podctl.evidence import codec
    from podctl.stats.units import dollars

    opened = open_store(store)
    found = opened.find_run(run or "latest")
    if output == "json":
        emit_json("AttemptList", [codec.to_json(attempt) for attempt in opened.load_run(found).attempts])
        return
    attempts = opened.list_attempts(found)
    if output == "name":
        for attempt in attempts:
            click.echo(attempt.id)
    else:
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
            )
            for attempt in attempts
        ]
        table(("ATTEMPT", "TICKET", "STRATUM", "OUTCOME", "CAUSE", "TIME", "COST", "BOUNDARY"), rows)


def _pods(_: str | None, store: Path | None, output: str) -> None:
    state = machine_state()
    rows = []
    for record in state.records():
        alive = record.owner.alive()
        left = (record.expires_ns - time.time_ns()) / 1e9
        status = ("kept" if record.kept else "running") if alive and left > 0 else "orphan"
        rows.append(
            (record.id, record.run, status, str(record.owner.pid), f"{max(0, left):.0f}s", str(state.directory(record.id)))
        )
    headings = ("POD", "RUN", "STATUS", "OWNER", "TTL", "DIRECTORY")
    if output == "json":
        emit_json("PodList", [dict(zip((h.lower() for h in headings), row, strict=True)) for row in rows])
    elif output == "name":
        for row in rows:
            click.echo(row[0])
    elif not rows:
        click.echo("no pods on this machine", err=True)
    else:
        table(headings, rows)


@click.command("describe")
@click.argument("what", type=click.Choice(["run", "pod"]))
@click.argument("name", default="latest")
@store_option
def describe_command(what: str, name: str, store: Path | None) -> int:
    """Show one run or one pod in full.

    \b
    podctl describe run latest
    podctl describe pod POD
    """
    import yaml

    if what == "run":
        from podctl.evidence import codec

        opened = open_store(store)
        result = opened.load_run(opened.find_run(name))
        body = {"run": codec.to_json(result.info), "status": result.status, "verdict": result.verdict}
        body["findings"] = [codec.to_json(finding) for finding in result.findings]
        body["attempts"] = len(result.attempts)
        body["spent_dollars"] = None if result.spent_dollars is None else str(result.spent_dollars)
        body["notes"] = list(result.notes)
    else:
        from dataclasses import asdict

        record = machine_state().read(name)
        if record is None:
            raise PodctlError(f"no pod {name}", code="no-such-pod", hint="podctl get pods", exit_code=ExitCode.USAGE)
        body = asdict(record)
        body["owner"]["alive"] = record.owner.alive()
    click.echo(yaml.safe_dump(_plain(body), sort_keys=False, allow_unicode=True).rstrip())
    return 0


def _plain(value: object) -> object:
    """Tuples as lists: YAML has no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
