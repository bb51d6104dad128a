"""What this machine can do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from podctl.cli.common import backend_option, emit_json, is_quiet, output_option
from podctl.errors import ExitCode


@click.command("doctor")
@click.option("--escape", is_flag=True, help="Make two pods and try to get out of one, as an agent would; 20 s to 2 minutes.")
@backend_option
@output_option("json")
def doctor_command(escape: bool, backend: str, output: str) -> int:
    """Try everything that isolation needs, and say what to type where it is missing.

    Exits with 3 when a run of an untrusted agent would be refused; with --escape, when a check failed or proved nothing.

    \b
    podctl doctor
    podctl doctor --escape
    podctl doctor --escape --backend docker
    """
    from podctl.backends.local.state import State

    if escape:
        return _escape(backend, output)
    asked = {"local": lambda: _local(State.open()), "kubernetes": _cluster, "docker": _engine}[backend]
    return _findings(asyncio.run(asked()), output)


async def _local(state: Any) -> list[Any]:
    from podctl.backends.local.backend import LocalBackend

    return await LocalBackend(state).check()


async def _cluster() -> list[Any]:
    from podctl.backends.kubernetes.backend import KubernetesBackend

    backend = await KubernetesBackend.open(os.environ)
    try:
        return await backend.check()
    finally:
        await backend.close()


async def _engine() -> list[Any]:
    from podctl.backends.docker.backend import DockerBackend

    backend = await DockerBackend.open(os.environ)
    try:
        return await backend.check()
    finally:
        await backend.close()


def _findings(findings: list[Any], output: str) -> int:
    from podctl.controller.run import missing

    if output == "json":
        emit_json("Doctor", [asdict(finding) for finding in findings])
    else:
        mark = {"yes": "ok ", "partly": "~  ", "no": "NO "}
        for finding in findings:
            click.echo(f"{mark[finding.state]} {finding.name:12} {finding.detail}")
            if finding.state != "yes" and finding.remedy:
                click.echo(f"    {'':12} → {finding.remedy}")
    lacking = missing(findings)
    if lacking:
        click.echo(f"untrusted agents are refused here: {', '.join(finding.name for finding in lacking)}", err=True)
        return int(ExitCode.ENVIRONMENT)
    return 0


def _escape(backend: str, output: str) -> int:
    from podctl.backends.escape.checks import CHECKS
    from podctl.backends.escape.level import level, refused
    from podctl.evidence.safe import printable

    def say(text: str) -> None:
        if not is_quiet():
            click.echo(text, err=True)

    results = asyncio.run(_proved(backend, say))
    if output == "json":
        emit_json("EscapeSuite", [{**asdict(result), "cannot": CHECKS[result.name]} for result in results])
    else:
        for result in results:
            click.echo(f"{result.state:14} {result.name:25} cannot {CHECKS[result.name]}")
            if result.state != "PASS":
                click.echo(f"{'':14} {'':25} {printable(result.detail)}")
            if result.state in ("FAIL", "INCONCLUSIVE"):
                click.echo(f"{'':14} {'':25} control: {printable(result.control) or 'none'}")
        click.echo(level(results))
    bad = refused(results)
    if bad:
        names = ", ".join(result.name for result in bad)
        click.echo(f"untrusted agents are refused here: {names}", err=True)
        return int(ExitCode.ENVIRONMENT)
    return 0


async def _proved(backend: str, say: Callable[[str], None]) -> list[Any]:
    """The suite's results on this backend, and kept."""
    from podctl.backends.escape.suite import run_suite

    world, ledger = await _world(backend)
    try:
        results = await run_suite(world, ledger.file.parent, say)
        ledger.keep(results)
        return results
    finally:
        await world.backend.close()


async def _world(backend: str) -> tuple[Any, Any]:
    if backend == "docker":
        from podctl.backends.docker.backend import DockerBackend
        from podctl.backends.docker.escape import DockerWorld

        docker = await DockerBackend.open(os.environ, ttl_s=900)
        return DockerWorld(docker), await docker.ledger()
    if backend == "kubernetes":
        from podctl.backends.kubernetes.backend import KubernetesBackend
        from podctl.backends.kubernetes.escape import KubernetesWorld

        cluster = await KubernetesBackend.open(os.environ, ttl_s=900)
        return KubernetesWorld(cluster), await cluster.ledger()
    from podctl.backends.local.escape import LocalWorld
    from podctl.backends.local.escape_level import ledger
    from podctl.backends.local.state import State

    state = State.open()
    return LocalWorld(state), ledger(state)
