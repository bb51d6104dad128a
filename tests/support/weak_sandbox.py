"""The escape probes in a sandbox that lacks one protection: what the suite must see."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from podctl.backends import seccomp
from podctl.backends.escape import probes
from podctl.backends.escape.checks import Result, judge_report, kernel_controls
from podctl.backends.escape.traps import Traps, planted
from podctl.backends.local import sandbox
from podctl.backends.local.escape import host_calls
from podctl.backends.local.files import GROUP, PASSWD
from podctl.backends.local.state import State

MODULES = ("probes_files", "probes_network", "probes_kernel")
PYTHON = "/usr/bin/python3"


def told(traps: Traps, **known: Any) -> dict[str, Any]:
    """The probes' plan where there is no pod, with what else is ``known``."""
    return {
        **vars(traps),
        "process": None,
        "state_file": None,
        "store_file": None,
        "decoy": "decoy-of-the-weak",
        "environment_canary": traps.canary,
        "host_pids": [traps.process.pid],
        "host_tcp": [traps.tcp],
        "host_tcp6": traps.tcp6,
        "host_udp": [traps.udp],
        "host_abstract": [traps.abstract],
        "host_sockets": [traps.path_socket],
        "outside": [],
        "routed": False,
        "no_doors": [],
        "doors_here": True,
        "mounts": [],
        "nosuid": True,
        "output_pipes": [],
        "past_door": [],
        "engine_sockets": [],
        "engine_ports": [],
        "api_server": [],
        "nameservers": [],
        "names": [],
        "host_directories": {},
        "host_files": [],
        "state_files": [str(traps.state_file)],
        "store_files": [str(traps.store_file)],
        "interpreter": [],
        "dns_canary": "canary.escape.invalid",
        "gateway": ["127.0.1.1", 80],
        "doors": [],
        "service": "echo",
        "service_address": "127.0.0.1",
        "neighbour_service": [("127.0.0.1", 9911)],
        "neighbour_database": [("127.0.0.1", 5499)],
        **known,
    }


async def look(state: State, weaken: str) -> dict[str, Result]:
    """Results by check, from bubblewrap started right here, without a pod, and without ``weaken``'s protection."""
    with tempfile.TemporaryDirectory(prefix="pw-", dir="/var/tmp") as name:
        directory = Path(name)
        async with planted(state.root, directory) as traps:
            for part in ("agent", "work", "etc"):
                (directory / part).mkdir()
            for script in Path(probes.__file__).parent.glob("probes*.py"):
                shutil.copy(script, directory / "agent")
            for file, text in (("hosts", "127.0.0.1 localhost echo\n"), ("passwd", PASSWD), ("group", GROUP)):
                (directory / "etc" / file).write_text(text)
            plan = told(traps)
            (directory / "work" / "plan.json").write_text(json.dumps(plan))
            host = await traps.controls() | kernel_controls(host_calls())
            await _run(state, directory, weaken)
            report = json.loads((directory / "work" / "report.json").read_text())
            return {result.name: result for result in judge_report(report, host)}


async def _run(state: State, directory: Path, weaken: str) -> None:
    box = sandbox.Sandbox(
        etc=str(directory / "etc"),
        binds=((str(directory / "agent"), "/agent"),),
        working_directory="/workspace",
        workspace=str(directory / "work"),
    )
    arguments = sandbox.arguments(box)
    if weaken != "network":
        arguments.insert(0, "--unshare-net")
    if weaken == "proc":
        arguments.remove("--unshare-pid")
        arguments[arguments.index("--proc")] = "--ro-bind"
        arguments.insert(arguments.index("/proc"), "/proc")
    if weaken == "files":
        at = arguments.index("--proc")
        arguments[at:at] = [part for path in (state.root, directory) for part in ("--bind", str(path), str(path))]
    fds = []
    environment = dict(os.environ) if weaken == "environment" else {}
    if weaken != "seccomp":
        read, write = os.pipe()
        os.write(write, seccomp.program())
        os.close(write)
        fds.append(read)
        arguments = ["--seccomp", str(read), *arguments]
    if weaken == "descriptors":
        fds.append(os.open("/", os.O_RDONLY))
    command: list[Any] = [sandbox.bwrap_path(), *arguments, "--", PYTHON, "/agent/probes.py", *MODULES]
    try:
        await asyncio.to_thread(
            subprocess.run,
            command,
            env=environment,
            pass_fds=fds,
            check=True,
            timeout=60,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
    finally:
        for fd in fds:
            os.close(fd)
