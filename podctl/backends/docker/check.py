"""What an engine can do for a test pod, tried for real, with the proof and with what to type where it cannot."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from podctl.backends import seccomp
from podctl.backends.base import Finding
from podctl.backends.containers.launch import SCRIPTS
from podctl.backends.docker import objects
from podctl.backends.docker.engine import Answers, Engine
from podctl.backends.docker.execution import NOT_RECORDED
from podctl.backends.docker.leftovers import remove_pod
from podctl.backends.docker.networks import closed_network
from podctl.backends.docker.objects import Place, Settings
from podctl.backends.docker.problems import DockerProblem
from podctl.backends.inpod import scripts
from podctl.spec.models import Resources, Topology

_PORT = 20000
_LISTEN = f"import socket\ns = socket.create_server(('', {_PORT}))\nwhile True:\n    c, _ = s.accept()\n    c.close()\n"
#: An address that is nobody's (RFC 5737): what an open network would try to route.
_OUTSIDE = "192.0.2.1:80"
_ALONE = Topology(apiVersion="podctl/v1", kind="Topology", name="probe")
_NEEDED = (
    'set -e; python3 -c "import pwd; pwd.getpwuid(65534)"; command -v postgres || ls -d /usr/lib/postgresql/*/bin/postgres'
)


async def findings(engine: Engine, settings: Settings, place: Place) -> list[Finding]:
    """``place`` names what is made for the trial. Raises `DockerProblem` when the engine cannot be asked at all."""
    info = await engine.call("the engine's facts", engine.client.info)
    found = [
        Finding(
            "engine", "yes", f"Docker {info.get('ServerVersion')} at {engine.host}, cgroup {info.get('CgroupVersion', '1')}"
        ),
        _limits(info),
        _seccomp(info),
    ]
    if settings.runtime and settings.runtime not in (info.get("Runtimes") or {}):
        remedy = "unset PODCTL_DOCKER_RUNTIME, or add it to the engine"
        found.append(Finding("runtime", "no", f"the engine has no runtime {settings.runtime}", remedy))
    if all(finding.state == "yes" for finding in found):
        found += await _tried(engine, settings, place)
    found.append(_users(info))
    kernel = "an agent shares the kernel of the engine's machine" if not settings.runtime else f"runtime {settings.runtime}"
    remedy = "PODCTL_DOCKER_RUNTIME names one with a kernel of its own, such as runsc (gVisor)"
    found.append(Finding("kernel", "yes" if settings.runtime else "partly", kernel, remedy, required=False))
    usage = "an agent's processor time and peak memory are not measured on a Docker engine; its wall time is"
    found.append(Finding("usage", "partly", usage, "use the local backend for these figures", required=False))
    processes = f"an agent's processes are not recorded: {NOT_RECORDED}"
    found.append(Finding("processes", "partly", processes, "use the local backend for this record", required=False))
    return found


def _limits(info: dict[str, Any]) -> Finding:
    """An engine that cannot hold a limit discards it with a warning."""
    lacking = [
        word
        for word, key in (("memory", "MemoryLimit"), ("processes", "PidsLimit"), ("cpu", "CpuCfsQuota"))
        if not info.get(key)
    ]
    if lacking:
        remedy = "enable these control groups on the engine's machine"
        return Finding("limits", "no", f"the engine cannot limit {', '.join(lacking)}", remedy)
    return Finding("limits", "yes", "memory, processes and cpu")


def _seccomp(info: dict[str, Any]) -> Finding:
    options = [str(option) for option in info.get("SecurityOptions") or []]
    profile = next((option for option in options if option.startswith("name=seccomp")), "")
    if not profile or "unconfined" in profile:
        return Finding("seccomp", "no", "the engine filters no system calls", "use its default seccomp profile")
    machine = str(info.get("Architecture"))
    if machine not in seccomp.AUDIT_ARCH:
        known = ", ".join(seccomp.AUDIT_ARCH)
        return Finding("seccomp", "no", f"podctl has no filter for {machine}", f"use an engine on {known}")
    return Finding("seccomp", "yes", f"the engine's own profile ({profile}), and podctl's within it")


def _users(info: dict[str, Any]) -> Finding:
    options = " ".join(str(option) for option in info.get("SecurityOptions") or [])
    if "name=rootless" in options or "name=userns" in options:
        return Finding("users", "yes", "the engine maps the users of containers to others of the machine", required=False)
    detail = "user ids in containers are those of the machine; none is root, and none can become it"
    return Finding("users", "partly", detail, "userns-remap or a rootless engine", required=False)


async def _tried(engine: Engine, settings: Settings, place: Place) -> list[Finding]:
    """Make what a test pod has, and see what it holds."""
    try:
        await engine.image(settings.image)
        return await _in_containers(engine, settings, place)
    except DockerProblem as problem:
        return [Finding("test pod", "no", f"{problem.what}: {problem.cause}", problem.hint)]
    finally:
        await asyncio.shield(remove_pod(engine, place.pod))


async def _in_containers(engine: Engine, settings: Settings, place: Place) -> list[Finding]:
    subnet = await closed_network(engine, place, _ALONE, settings)
    where = objects.addresses(subnet, _ALONE)
    given = scripts()
    neighbour = objects.door(place, settings, given, where)
    target = replace(neighbour, argv=("python3", "-I", "-c", _LISTEN))
    asking = replace(neighbour, name=place.name("asking"), address=str(subnet[3]))
    await engine.start(target, Answers(["python3", "-I", f"{SCRIPTS}/probe.py", "until", f"{where.door}:{_PORT}"], 20.0))
    porch, service = await asyncio.gather(engine.start(objects.porch(place, settings, given, where)), engine.start(asking))
    program = objects.Program(objects.WAIT, {}, "/", {SCRIPTS: given}, Resources())
    run = objects.AgentRun("agent", program, 2**20, 2**20, {}, {})
    agent_box = replace(objects.agent(place, run, porch, settings), argv=objects.WAIT, shared={})
    agent = await engine.start(agent_box)
    missing = await engine.complaint(agent, ["/bin/sh", "-c", _NEEDED])
    if missing:
        remedy = "an image with python3, PostgreSQL 15 or later, and the user 65534 (nobody): docs/docker.md"
        return [Finding("image", "no", f"{settings.image} lacks something: {missing}", remedy)]
    facts = [f"{SCRIPTS}/facts.py"]
    control, host = f"{where.door}:{_PORT}", f"{subnet[1]}:{_PORT}"
    inside = json.loads(await engine.run(agent, ["python3", "-I", *facts, control, host, _OUTSIDE], 10_000))
    services = json.loads(await engine.run(service, ["python3", "-I", *facts, control, host, _OUTSIDE], 10_000))
    image = Finding("image", "yes", f"{settings.image} has what is needed")
    return [image, judged_agent(inside, place), judged_network(services, control, host)]


def judged_agent(facts: dict[str, Any], place: Place) -> Finding:
    status = facts["status"]
    wrong = []
    if facts["interfaces"] != ["lo"]:
        wrong.append(f"it has interfaces {', '.join(facts['interfaces'])}")
    if any(way != "nobody" for way in facts["ways"].values()):
        wrong.append(f"it reaches {facts['ways']}")
    if int(status["CapEff"], 16) or int(status["CapBnd"], 16):
        wrong.append(f"it has capabilities {status['CapEff']}")
    if status["NoNewPrivs"] != "1":
        wrong.append("it may gain privileges")
    if status["Seccomp"] != "2":
        wrong.append("its system calls are not filtered")
    if facts["root"]:
        wrong.append("it can write to its root")
    if facts["uid"] != place.uid:
        wrong.append(f"it runs as {facts['uid']}")
    if not facts["tmp"]:
        wrong.append("it cannot write to /tmp: the trial proves nothing")
    if wrong:
        return Finding(
            "agent", "no", f"NOT CONFINED: {'; '.join(wrong)}", "see what the engine does with a container's options"
        )
    return Finding("agent", "yes", "tried: loopback alone, no capability, no new privileges, seccomp filter, read-only root")


def judged_network(facts: dict[str, Any], control: str, host: str) -> Finding:
    ways = facts["ways"]
    proof = f"neighbour: {ways[control]}; the machine's own address: {ways[host]}; outside: {ways[_OUTSIDE]}"
    if ways[control] != "reached":
        return Finding("network", "no", f"inconclusive: {proof}", "see why containers of one network do not reach one another")
    if ways[_OUTSIDE] != "nobody" or ways[host] != "nobody":
        return Finding("network", "no", f"services are NOT CLOSED IN: {proof}", "an engine that honours internal networks")
    return Finding("network", "yes", f"services are closed in: {proof}")
