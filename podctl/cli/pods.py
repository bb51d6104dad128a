"""Pods that are kept on purpose, to look inside."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from podctl.cli.common import machine_state
from podctl.errors import EnvironmentProblem, ExitCode, PodctlError, SpecError


@click.command("up")
@click.argument("scenario", type=click.Path(path_type=Path))
@click.option("--ttl", default="1h", show_default=True, help="Remove it after this long.")
def up_command(scenario: Path, ttl: str) -> int:
    """Make a pod of a scenario's topology and keep it; prints its name.

    \b
    pod=$(podctl up scenarios/shop.yaml)
    podctl exec $pod -- sh -c 'ls /agent'
    podctl psql $pod -c 'select count(*) from orders'
    podctl down $pod
    """
    from podctl.spec.base import parse_duration
    from podctl.spec.load import load_bundle

    try:
        seconds = parse_duration(ttl)
    except ValueError as error:
        raise SpecError(f"--ttl {ttl!r}: {error}", code="usage") from error
    load_bundle(scenario)
    state = machine_state()
    pod = f"kept-{secrets.token_hex(3)}"
    log = state.root / f"{pod}.log"
    keeper = subprocess.Popen(
        [sys.executable, "-m", "podctl.controller.keeper"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    orders = {"scenario": str(scenario.resolve()), "pod": pod, "ttl": seconds, "log": str(log)}
    keeper.stdin.write(json.dumps(orders) + "\n")
    keeper.stdin.close()
    answer = keeper.stdout.readline()
    if not answer:
        tail = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        raise EnvironmentProblem("the pod's keeper died", code="keeper-died", cause=tail, hint="podctl doctor, then podctl gc")
    reply = json.loads(answer)
    log.unlink(missing_ok=True)
    _raise_error(reply)
    click.echo(pod)
    return 0


@click.command("down")
@click.argument("pods", nargs=-1, required=True)
def down_command(pods: tuple[str, ...]) -> int:
    """Remove kept pods.

    \b
    podctl down kept-3fa2b1
    """
    state = machine_state()
    for pod in pods:
        _ask(pod, {"op": "down"})
        deadline = time.monotonic() + 30
        while state.directory(pod).exists():
            if time.monotonic() > deadline:
                raise EnvironmentProblem(f"pod {pod} is still there after 30 s", code="pod-stuck", hint="podctl gc")
            time.sleep(0.02)
        click.echo(f"{pod}: gone")
    return 0


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("pod")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--timeout", default=60.0, show_default=True, help="Seconds.")
def exec_command(pod: str, argv: tuple[str, ...], timeout: float) -> int:
    """Run a command in a kept pod as its agent would: same sandbox, same environment, same boundary.

    \b
    podctl exec kept-3fa2b1 -- sh -c 'cat /etc/hosts; ls /agent'
    """
    reply = _ask(pod, {"op": "exec", "argv": list(argv), "timeout": timeout})
    sys.stdout.buffer.write(base64.b64decode(reply["stdout"]))
    sys.stderr.buffer.write(base64.b64decode(reply["stderr"]))
    sys.stdout.flush()
    if reply["limit"]:
        click.echo(f"ended: the limit on {reply['limit']} was reached", err=True)
    return int(reply["code"])


@click.command("psql", context_settings={"ignore_unknown_options": True})
@click.argument("pod")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.option("--database", "-D", help="Which, when the topology has several.")
def psql_command(pod: str, arguments: tuple[str, ...], database: str | None) -> int:
    """Open a kept pod's database with psql, as its superuser.

    \b
    podctl psql kept-3fa2b1 -c 'select * from tickets limit 3'
    """
    from podctl.backends.local.postgres import programs

    reply = _ask(pod, {"op": "conninfo", "database": database})
    found = programs()
    facts = reply["conninfo"]
    environment = {**os.environ, "PGPASSWORD": facts.pop("password"), "LD_LIBRARY_PATH": str(found.root / "lib")}
    environment |= {f"PG{name.upper()}": value for name, value in facts.items()}
    sys.stdout.flush()
    return subprocess.run([str(found.root / "bin" / "psql"), *arguments], env=environment, check=False).returncode


@click.command("logs")
@click.argument("pod")
@click.argument("name")
def logs_command(pod: str, name: str) -> int:
    """Print what a service or database of a pod has printed.

    \b
    podctl logs kept-3fa2b1 orders-api
    """
    import asyncio

    from podctl.backends.local.backend import LocalBackend
    from podctl.evidence.safe import printable

    text = asyncio.run(LocalBackend(machine_state()).logs(pod, name)).decode("utf-8", "replace")
    for line in text.splitlines():
        click.echo(printable(line))
    return 0


def _ask(pod: str, request: dict[str, Any]) -> dict[str, Any]:
    path = machine_state().directory(pod) / "keeper.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            raise PodctlError(
                f"no kept pod {pod}", code="no-such-pod", hint="podctl get pods", exit_code=ExitCode.USAGE
            ) from error
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as stream:
            line = stream.readline()
    if not line:
        raise EnvironmentProblem(f"the keeper of pod {pod} died", code="keeper-died", hint="podctl gc")
    reply: dict[str, Any] = json.loads(line)
    _raise_error(reply)
    return reply


def _raise_error(reply: dict[str, Any]) -> None:
    if "error" in reply:
        raise EnvironmentProblem(
            reply["error"], code=reply.get("code", "keeper"), cause=reply.get("cause", ""), hint=reply.get("hint", "")
        )
