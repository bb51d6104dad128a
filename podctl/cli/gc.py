"""Remove what dead runs left."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import click

from podctl.cli.common import backend_option, emit_json, machine_state, output_option
from podctl.errors import ExitCode


@click.command("gc")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@backend_option
@output_option("json")
def gc_command(dry_run: bool, backend: str, output: str) -> int:
    """Remove pods whose podctl is dead or whose time is over; pods of living runs are left alone.

    \b
    podctl gc --dry-run
    podctl gc
    """
    from podctl.controller.sweep import orphans, remains, sweep

    if backend != "local":
        dead_pods, living, receipt = asyncio.run(_cluster(dry_run) if backend == "kubernetes" else _engine(dry_run))
        would_go = [f"{pod.id}  {pod.directory}" for pod in dead_pods]
    else:
        state = machine_state()
        names, living = orphans(state)
        would_go = [f"{pod}  {state.directory(pod)}" for pod in names] + [str(path) for path in remains(state)]
        receipt = None if dry_run else asyncio.run(sweep(state))
    if receipt is None:
        for what in would_go:
            click.echo(f"would remove {what}")
        click.echo(f"{len(would_go)} to remove, {len(living)} of living runs")
        return 0
    if output == "json":
        emit_json("Receipt", [asdict(removal) for removal in receipt.removals])
    else:
        for removal in receipt.removals:
            outcome = "gone" if removal.gone else f"STILL THERE {removal.detail}"
            click.echo(f"{removal.pod}  {removal.what}: {outcome}")
        click.echo(f"{receipt.pods} pods removed, {len(receipt.living)} of living runs left alone")
    return 0 if receipt.complete else int(ExitCode.TEARDOWN_INCOMPLETE)


async def _cluster(dry_run: bool) -> tuple[list[Any], list[Any], Any]:
    """The orphans and the living of the cluster of KUBECONFIG; and the receipt, unless nothing is to be removed."""
    from podctl.backends.kubernetes.api import Cluster
    from podctl.backends.kubernetes.namespaces import list_pods, remove_namespace
    from podctl.controller.elsewhere import orphans_among, sweep_among

    cluster = await Cluster.open()
    try:
        pods, now = await list_pods(cluster), cluster.now_ns()
        receipt = None if dry_run else await sweep_among(pods, now, lambda pod: remove_namespace(cluster, pod))
        return *orphans_among(pods, now), receipt
    finally:
        await cluster.close()


async def _engine(dry_run: bool) -> tuple[list[Any], list[Any], Any]:
    """The same of the Docker engine of DOCKER_HOST."""
    from podctl.backends.docker.engine import Engine
    from podctl.backends.docker.leftovers import list_pods, remove_pod
    from podctl.clock import SystemClock
    from podctl.controller.elsewhere import orphans_among, sweep_among

    engine = await Engine.open()
    try:
        pods, now = await list_pods(engine), SystemClock().wall_ns()
        receipt = None if dry_run else await sweep_among(pods, now, lambda pod: remove_pod(engine, pod))
        return *orphans_among(pods, now), receipt
    finally:
        await engine.close()
