"""The escape probes in agents' Pods that lack one protection: what the suite must see."""

from __future__ import annotations

import asyncio
import inspect
import json
import secrets
import tempfile
from pathlib import Path
from typing import Any

import weak_sandbox
from cluster import backend

from podctl.backends import seccomp
from podctl.backends.escape import probes
from podctl.backends.escape.checks import Result, judge_report, kernel_controls
from podctl.backends.escape.traps import planted
from podctl.backends.escape.world import CONTAINER
from podctl.backends.inpod import confine, scripts
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Object
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.escape import KubernetesWorld
from podctl.backends.kubernetes.objects import AGENT, COMPONENT, DOOR, Place
from podctl.backends.kubernetes.watching import Watched, ready
from podctl.spec.models import Resources

_PORT = 20000
#: In the place of a door.
_LISTEN = f"import socket\ns = socket.create_server(('', {_PORT}))\nwhile True: s.accept()[0].close()"
_NAMES = [{"ip": "127.0.0.1", "hostnames": ["echo"]}]
_WAIT = ["python3", "-c", "import time\nwhile True: time.sleep(3600)"]
_PROBE = """\
cp /given/* /tmp && cd /tmp || exit
sed -i "s/$2/$2-$1-/" plan.json
[ "$1" = filter ] && set -- || set -- python3 -I -S -c "$(cat confine.py)" "$(cat filters.json)"
"$@" python3 -S /agent/probes.py probes_files probes_network probes_kernel </dev/null >/dev/null && cat report.json
"""


def weakened(pod: Object, weaken: str) -> Object:
    """The Pod without ``weaken``'s protection."""
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    if weaken == "network":  # no policy selects it
        pod["metadata"]["labels"][COMPONENT] = "nobody"
    if weaken == "token":
        spec["automountServiceAccountToken"] = True
    if weaken == "processes":
        spec["hostPID"] = True
    if weaken == "host":
        spec["hostNetwork"] = True
    if weaken == "rights":
        spec["securityContext"] = {"runAsUser": 0}
        container["securityContext"] = {}
    return pod


async def look(weakenings: list[str]) -> dict[str, dict[str, Result]]:
    """Results by check for each of the weakenings; an empty one is the Pod as it should be."""
    used = await backend()
    world = KubernetesWorld(used)
    # Not a test pod's: what the cluster refuses in one is not what is looked for here.
    place = Place(f"weak-{secrets.token_hex(4)}", "tests")
    watched = Watched(used.cluster, place.namespace)
    try:
        with tempfile.TemporaryDirectory(prefix="pw-", dir="/var/tmp") as name:
            async with planted(Path(name), Path(name)) as traps:
                namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place.namespace}}
                await used.cluster.apply(namespace)
                await asyncio.gather(world.plant(f"weak-{secrets.token_hex(3)}", traps), _fence(used, place))
                await watched.start()
                door = objects.door_pod(place, used.settings)
                door["spec"]["containers"][0]["command"] = ["python3", "-c", _LISTEN]
                await _start(used, watched, door)
                at = (watched.pods[DOOR]["status"]["podIP"], _PORT)
                known = await world.of_cluster([watched.pods[DOOR]["status"]["hostIP"]])
                inside = {**CONTAINER, "mounts": [*CONTAINER["mounts"], "/given"], "interpreter": ["/given"]}
                plan = weak_sandbox.told(traps, **known, **inside, gateway=at, doors=[at])
                host = await traps.controls() | await world.controls_of_cluster(plan)
                host |= kernel_controls(await world.host_calls())
                await used.cluster.apply(objects.config_map(place, "given", _given(plan)))
                reports = await asyncio.gather(*(_probe(used, watched, place, weaken, traps.token) for weaken in weakenings))
                arrived = await world.datagrams()
        results = {}
        for weaken, report in zip(weakenings, reports, strict=True):
            results[weaken] = {result.name: result for result in judge_report(report, host)}
            if f"{traps.token}-{weaken}-".encode() in arrived:
                results[weaken]["udp-outside"] = Result("udp-outside", "FAIL", "it arrived")
        return results
    finally:
        await watched.close()
        await asyncio.gather(used.cluster.delete("Namespace", place.namespace), world.clear())
        await used.close()


def _given(plan: dict[str, Any]) -> dict[str, bytes]:
    filters = {machine: seccomp.program(machine).hex() for machine in seccomp.AUDIT_ARCH}
    return {
        "plan.json": json.dumps(plan).encode(),
        "decoy.txt": plan["decoy"].encode(),
        "confine.py": inspect.getsource(confine).encode(),
        "filters.json": json.dumps(filters).encode(),
    }


async def _fence(used: KubernetesBackend, place: Place) -> None:
    """As a test pod's: an agent reaches the door and nothing else."""
    allow = objects.default_deny(place)
    allow["metadata"]["name"] = "agent"
    to_door = {"to": [{"podSelector": {"matchLabels": {COMPONENT: DOOR}}}], "ports": [{"port": _PORT, "protocol": "TCP"}]}
    allow["spec"] = {
        "podSelector": {"matchLabels": {COMPONENT: AGENT}},
        "policyTypes": ["Ingress", "Egress"],
        "egress": [to_door],
    }
    shipped = {path.name: path.read_bytes() for path in Path(probes.__file__).parent.glob("probes*.py")}
    for body in (
        allow,
        objects.account(place),
        objects.config_map(place, objects.SCRIPTS, scripts()),
        objects.config_map(place, "probes", shipped),
    ):
        await used.cluster.apply(body)


async def _start(used: KubernetesBackend, watched: Watched, pod: Object) -> None:
    name = pod["metadata"]["name"]
    await used.cluster.apply(pod)
    await watched.until(f"{name} was not ready", lambda pods: ready(pods.get(name)), name, 60.0)


async def _probe(used: KubernetesBackend, watched: Watched, place: Place, weaken: str, token: str) -> dict[str, list[Any]]:
    name = f"weak-{weaken or 'none'}"
    run = objects.AgentRun(name, objects.Program((), name, "/tmp", (), Resources()), 64, 2**24, 2**16, 60, {}, {})
    template = objects.agent_job(place, run, _NAMES, used.settings)["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": place.meta(name, AGENT), "spec": template["spec"]}
    pod["metadata"]["labels"][COMPONENT] = AGENT
    spec, container = pod["spec"], pod["spec"]["containers"][1]
    spec["containers"] = [container]
    container |= {"command": _WAIT, "env": [{"name": "ESCAPE_DECOY", "value": "decoy-of-the-weak"}]}
    del container["envFrom"]
    spec["volumes"] = [one for one in spec["volumes"] if one["name"] in ("workspace", "tmp", "io")]
    for mount, config in (("/agent", "probes"), ("/given", "given")):
        spec["volumes"].append({"name": config, "configMap": {"name": config}})
        container["volumeMounts"].append({"name": config, "mountPath": mount, "readOnly": True})
    await _start(used, watched, weakened(pod, weaken))
    argv = ["/bin/sh", "-c", _PROBE, "sh", weaken, token]
    if weaken != "network":
        await asyncio.sleep(2.0)  # policies follow a Pod's start
    return dict(json.loads(await used.cluster.run(place.namespace, name, AGENT, argv, 2**20)))
