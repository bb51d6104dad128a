"""What a container of a test pod runs, and when its server answers."""

from __future__ import annotations

import asyncio
import inspect
import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from podctl.backends import seccomp
from podctl.backends.inpod import confine
from podctl.backends.servicing import behind_port, stub_argv
from podctl.data.connect import DatabaseUnreachable, connect
from podctl.data.database import PostgresDatabase
from podctl.data.roles import service_role
from podctl.errors import EnvironmentProblem
from podctl.pods.values import placeholders
from podctl.spec.models import FileText, Service, Topology
from podctl.spec.placeholders import expand

ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "TZ": "UTC"}
PYTHON = "python3"
TEMPLATE_DATABASE = "podctl_template"
SERVER_LOG = "log/postgresql.json"
SCRIPTS = "/podctl/scripts"
_ANSWERS_S = 20.0
#: The end of the shell that waits in an agent's container: "$confine" and "$filters" are the first two arguments of `confined`.
#: The agent's own PATH says nothing about where Python is.
BECOME_AGENT = """\
confine=$1 filters=$2
shift 2
for python in /usr/local/bin/python3 /usr/bin/python3 /bin/python3; do [ -x "$python" ] && break; done
exec "$python" -I -S -c "$confine" "$filters" "$@" </dev/null >/podctl/io/stdout 2>/podctl/io/stderr
"""


@dataclass(frozen=True)
class Launch:
    environment: dict[str, str]
    argv: list[str]
    directory: str
    texts: Mapping[str, str] = field(default_factory=dict)


def service_launch(topology: Topology, name: str, handles: Mapping[str, PostgresDatabase]) -> Launch:
    """How a service starts, with its own credentials for the databases."""
    service: Service = topology.services[name]
    if service.mode == "stubbed":
        return Launch(dict(ENVIRONMENT), stub_argv(service, PYTHON, f"{SCRIPTS}/", "0.0.0.0"), "/")
    credentials = {database: (service_role(name), handle.service_passwords[name]) for database, handle in handles.items()}
    values = placeholders(topology, PYTHON, credentials)
    given = {key: expand(value, values) for key, value in service.environment.items()}
    argv = [expand(part, values) for part in (*service.command, *service.arguments)]
    if service.image is not None:
        # The image has its own PATH, and a home that an arbitrary user may not write to.
        texts = {path: expand(file.text, values) for path, file in service.files.items() if isinstance(file, FileText)}
        return Launch({"HOME": "/tmp", **given}, argv, service.working_directory or "", texts)
    environment = {**ENVIRONMENT, "HOST": "0.0.0.0", "PORT": str(service.ports[0]), **given}
    argv = behind_port(service, argv, PYTHON, f"{SCRIPTS}/", "0.0.0.0")
    return Launch(environment, argv, str(service.directory or "/"))


def confined(argv: Sequence[str]) -> tuple[str, ...]:
    """The arguments of a shell that ends in `BECOME_AGENT`."""
    filters = {machine: seccomp.program(machine).hex() for machine in seccomp.AUDIT_ARCH}
    return (inspect.getsource(confine), json.dumps(filters), *argv)


def exit_or_signal(code: int) -> tuple[int | None, int | None]:
    """Exit code or signal of a container's first process: engines report one that died of signal N as exit code 128 + N."""
    return (None, code - 128) if code - 128 in signal.valid_signals() else (code, None)


async def until_answers(name: str, conninfo: str, timeout_s: float = _ANSWERS_S) -> None:
    """Wait for a server. Raises `EnvironmentProblem`."""
    began = time.monotonic()
    while True:
        try:
            connection = await connect(conninfo, "postgres")
        except DatabaseUnreachable as error:
            waited = time.monotonic() - began
            if waited > timeout_s:
                raise EnvironmentProblem(
                    f"database {name} does not answer", code="not-ready", cause=error.cause, hint="podctl logs says more"
                ) from error
            await asyncio.sleep(min(0.5, max(0.05, waited / 6)))
            continue
        await connection.close()
        return
