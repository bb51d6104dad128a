"""The escape probes in agents' containers that lack one protection: what the suite must see."""

from __future__ import annotations

import asyncio
import inspect
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import weak_sandbox
from docker.types import Mount
from engines import backend

from podctl.backends import seccomp
from podctl.backends.docker import objects
from podctl.backends.docker.backend import DockerBackend
from podctl.backends.docker.engine import Engine
from podctl.backends.docker.escape import DockerWorld
from podctl.backends.docker.leftovers import remove_pod
from podctl.backends.docker.networks import closed_network
from podctl.backends.docker.objects import Box
from podctl.backends.escape import probes
from podctl.backends.escape.checks import Result, judge_report, kernel_controls
from podctl.backends.escape.traps import planted
from podctl.backends.escape.world import CONTAINER
from podctl.backends.inpod import confine
from podctl.spec.models import Resources, Topology

_ALONE = Topology(apiVersion="podctl/v1", kind="Topology", name="weak")
#: In the place of the gateway's door.
_LISTEN = ("python3", "-c", "import socket\ns = socket.create_server(('127.0.1.1', 80))\nwhile True: s.accept()[0].close()")
_PROBE = """\
cp /given/* /tmp && cd /tmp && "$@" </dev/null >/dev/null && cat report.json
"""


def weakened(box: Box, weaken: str, engine: Engine) -> Box:
    """The container without ``weaken``'s protection."""
    options = dict(box.options)
    if weaken == "rights":
        options |= {"cap_drop": [], "user": "0:0", "security_opt": [], "read_only": False}
    if weaken == "filter":
        options["security_opt"] = ["no-new-privileges", "seccomp=unconfined"]
    if weaken == "processes":
        options["pid_mode"] = "host"
    if weaken == "socket":
        assert isinstance(engine.address, str)
        options |= {"user": "0:0", "mounts": [_mount(engine.address)]}
    network = "host" if weaken == "network" else box.network
    return replace(box, options=options, network=network)


def _mount(path: str) -> Any:
    return Mount("/run/docker.sock", path, type="bind")


async def look(weakenings: list[str]) -> dict[str, dict[str, Result]]:
    """Results by check for each of the weakenings; an empty one is the container as it should be."""
    used = await backend()
    world = DockerWorld(used)
    place = used.place("weak", "tests")
    try:
        with tempfile.TemporaryDirectory(prefix="pw-", dir="/var/tmp") as name:
            async with planted(Path(name), Path(name)) as traps:
                await world.plant("weak", traps)
                subnet = await closed_network(used.engine, place, _ALONE, used.settings)
                where = objects.addresses(subnet, _ALONE)
                porch = await used.engine.start(replace(objects.porch(place, used.settings, {}, where), argv=_LISTEN))
                inside = {**CONTAINER, "mounts": [*CONTAINER["mounts"], "/given"], "interpreter": ["/given"]}
                plan = weak_sandbox.told(traps, **await world.of_machine(), **inside, doors=[["127.0.1.1", 80]])
                host = await traps.controls() | await world.controls_of_machine(plan)
                host |= kernel_controls(await world.host_calls())
                reports = await asyncio.gather(*(_probe(used, place, porch, weaken, plan) for weaken in weakenings))
        return {
            weaken: {result.name: result for result in judge_report(report, host)}
            for weaken, report in zip(weakenings, reports, strict=True)
        }
    finally:
        await asyncio.gather(remove_pod(used.engine, place.pod), world.clear())
        await used.close()


async def _probe(used: DockerBackend, place: Any, porch: str, weaken: str, plan: dict[str, Any]) -> dict[str, list[Any]]:
    scripts = {path.name: path.read_bytes() for path in Path(probes.__file__).parent.glob("probes*.py")}
    given = {"plan.json": json.dumps(plan).encode(), "decoy.txt": plan["decoy"].encode()}
    program = objects.Program(
        objects.WAIT, {"ESCAPE_DECOY": plan["decoy"]}, "/", {"/agent": scripts, "/given": given}, Resources()
    )
    run = objects.AgentRun(f"agent-{weaken or 'sound'}", program, 2**20, 2**20, {}, {})
    sound = replace(objects.agent(place, run, porch, used.settings), argv=objects.WAIT, shared={})
    container = await used.engine.start(weakened(sound, weaken, used.engine))
    argv = ["python3", "-S", "/agent/probes.py", *weak_sandbox.MODULES]
    if weaken != "filter":
        filters = json.dumps({machine: seccomp.program(machine).hex() for machine in seccomp.AUDIT_ARCH})
        argv = ["python3", "-I", "-S", "-c", inspect.getsource(confine), filters, *argv]
    answer = await used.engine.run(container, ["/bin/sh", "-c", _PROBE, "sh", *argv], 2**20)
    return dict(json.loads(answer))
