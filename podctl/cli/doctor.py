"""What this machine can do."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict
from typing import Any

import click

from podctl.cli.common import backend_option, emit_json, is_quiet, output_option
from podctl.errors import ExitCode, SpecError


@click.command("doctor")
@click.option("--escape", is_flag=True, help="Make two pods and try to get out of one, as an agent would; about 20 s.")
@backend_option
@output_option("json")
def doctor_command(escape: bool, backend: str, output: str) -> int:
    """Try everything that isolation needs, and say what to type where it is missing.

    Exits with 3 when a run of an untrusted agent would be refused; with --escape, when a check failed or proved nothing.

    \b
    podctl doctor
    podctl doctor --escape
    """
    from podctl.backends.local.state import State

    if escape and backend != "local":
        raise SpecError(f"the escape suite has no probes for {backend} yet", code="usage", hint="podctl doctor --escape")
    if escape:
        return _escape(State.open(), output)
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


def _escape(state: Any, output: str) -> int:
    from podctl.backends.local.escape import run_suite
    from podctl.backends.local.escape_checks import CHECKS
    from podctl.backends.local.escape_level import keep, level, refused
    from podctl.evidence.safe import printable

    def say(text: str) -> None:
        if not is_quiet():
            click.echo(text, err=True)

    results = asyncio.run(run_suite(state, say))
    keep(state, results)
    if output == "json":
        emit_json("EscapeSuite", [{**asdict(result), "cannot": CHECKS[result.name]} for result in results])
    else:
        for result in results:
            click.echo(f"{result.state:12} {result.name:25} cannot {CHECKS[result.name]}")
            if result.state != "PASS":
                click.echo(f"{'':12} {'':25} {printable(result.detail)}")
                click.echo(f"{'':12} {'':25} control: {printable(result.control) or 'none'}")
        click.echo(level(results))
    bad = refused(results)
    if bad:
        names = ", ".join(result.name for result in bad)
        click.echo(f"untrusted agents are refused here: {names}", err=True)
        return int(ExitCode.ENVIRONMENT)
    return 0
