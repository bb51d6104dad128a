"""What this machine can do."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

import click

from podctl.cli.common import emit_json, output_option
from podctl.errors import ExitCode


@click.command("doctor")
@output_option("json")
def doctor_command(output: str) -> int:
    """Try everything that isolation needs, and say what to type where it is missing.

    Exits with 3 when a run of an untrusted agent would be refused.

    \b
    podctl doctor
    podctl doctor -o json
    """
    from podctl.backends.local.backend import LocalBackend
    from podctl.backends.local.state import State
    from podctl.controller.run import missing

    findings = asyncio.run(LocalBackend(State.open()).check())
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
