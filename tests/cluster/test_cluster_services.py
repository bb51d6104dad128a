"""Services that start again in their Pods: what one did does not reach the next, whatever it tries."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cluster import backend

from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.objects import orders_port
from podctl.errors import EnvironmentProblem
from podctl.pods.plan import PodSpec, batches, steps
from podctl.spec.models import Topology

pytestmark = [pytest.mark.campaign, pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

#: Says at its port what it found when it started and what its mischief came to.
ROGUE = r"""
import ctypes, fcntl, json, os, resource, signal, socket, sys, time
orders, port, mischief = int(os.environ["ORDERS"]), int(os.environ["PORT"]), os.environ["MISCHIEF"].split()
places = ("/tmp", "/dev/shm", "/dev/mqueue")
libc = ctypes.CDLL(None, use_errno=True)

def attempt(call):
    try:
        return f"done: {call()}"
    except OSError as error:
        return f"refused: {type(error).__name__}"

def listens(at):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", at)) == 0

found = {
    "files": [f"{parent}/{name}" for place in places for parent, _, names in os.walk(place) for name in names if name != "rogue.py"],
    "message": open("/dev/termination-log").read(),
    "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()),
    "ports": [at for at in (9001, 9002) if listens(at)],
    "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "nice": os.getpriority(os.PRIO_PROCESS, 0),
    "blocking": [fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK == 0 for fd in (1, 2)],
    "shared": len(open("/proc/sysvipc/shm").readlines()) - 1,
}

def order(order):
    with socket.create_connection(("127.0.0.1", orders), 2) as far:
        far.sendall(json.dumps(order).encode() + b"\n")
        return far.recv(1000).decode()

def remain(at):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}:
                try: signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError): pass
            listener = socket.create_server(("0.0.0.0", at))
            while True: listener.accept()
        os._exit(0)

def traced():
    if libc.ptrace(16, 1, 0, 0) != 0:
        raise PermissionError
    return "attached"

def hide_files():
    for place in places[:2]:
        os.makedirs(f"{place}/a/b", exist_ok=True)
        open(f"{place}/a/b/left", "w").write("behind")
        os.symlink("/etc/passwd", f"{place}/link")
        os.mkfifo(f"{place}/pipe")
        os.chmod(f"{place}/a/b", 0)
        os.chmod(f"{place}/a", 0)
    open("/dev/mqueue/queue", "w")
    open("/dev/termination-log", "w").write("behind")

outcome = {}
if "attacks" in mischief:
    outcome = {
        "kill": attempt(lambda: os.kill(1, 9)), "stop": attempt(lambda: os.kill(1, 19)), "int": attempt(lambda: os.kill(1, 2)),
        "environ": attempt(lambda: open("/proc/1/environ").read()), "memory": attempt(lambda: open("/proc/1/mem", "rb+")),
        "descriptors": attempt(lambda: os.listdir("/proc/1/fd")), "trace": attempt(traced),
        "other port": attempt(lambda: socket.create_server(("127.0.0.1", orders))),
    }
    for fd in (1, 2):
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)
    hide_files()
    remain(9001)
    os.kill(os.getpid(), 0)
if "shared" in mischief:
    libc.shmget(4711, 4096, 0o1600)
if "attribute" in mischief:
    outcome["attribute"] = attempt(lambda: os.setxattr("/dev/termination-log", "user.left", b"behind"))
if "limit" in mischief:
    resource.prlimit(1, resource.RLIMIT_NOFILE, (60, 60))
if "nice" in mischief:
    os.setpriority(os.PRIO_PROCESS, 1, 10)
if "flood" in mischief:
    held = [socket.create_connection(("127.0.0.1", orders), 2) for _ in range(12)]

listener = socket.socket()
if "in use" not in os.environ["MISCHIEF"]:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("0.0.0.0", port))
listener.listen()
while True:
    connection, _ = listener.accept()
    with connection:
        if not connection.recv(65536):
            continue  # whether it is ready: until then no order is answered
        if "attacks" in mischief:
            outcome["order"] = attempt(lambda: order({"order": "clear", "key": "guess"}))
            outcome["no order"] = attempt(lambda: order(["clear"]))
        answer = json.dumps({"found": found, "outcome": outcome}).encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + answer)
"""
#: What each does; those that leave what cannot be undone get another Pod.
MISCHIEF = {name: name for name in ("attacks", "shared", "attribute", "limit", "nice", "flood")} | {"in-use": "in use"}
CLEAN = {
    "files": [],
    "message": "",
    "pids": [1],
    "ports": [],
    "nice": 0,
    "blocking": [True, True],
    "shared": 0,
}


@dataclass(frozen=True)
class Told:
    """What a service said of itself, and the uid of its Pod."""

    said: dict[str, Any]
    pod: str


@dataclass(frozen=True)
class Seen:
    """The same services in two generations of a pod, and why the pod of a short-lived one did not come up."""

    generations: list[dict[str, Told]]
    short: EnvironmentProblem

    def both(self, name: str) -> tuple[Told, Told]:
        first, second = self.generations
        return first[name], second[name]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, cluster: None) -> Seen:
    return asyncio.run(_see(tmp_path_factory.mktemp("rogue")))


def spec_of(name: str, services: dict[str, Any]) -> PodSpec:
    fields = {"apiVersion": "podctl/v1", "kind": "Topology", "name": name, "services": services}
    return PodSpec(f"{name}-{secrets.token_hex(4)}", "tests", Topology.model_validate(fields))


async def _see(directory: Path) -> Seen:
    (directory / "rogue.py").write_text(ROGUE)
    service = {"command": ["${python}", "-u", "rogue.py"], "directory": directory}
    environment = {"ORDERS": str(orders_port((8080,)))}
    rogues = {name: {**service, "environment": {**environment, "MISCHIEF": does}} for name, does in MISCHIEF.items()}
    spec, short = (
        spec_of("rogues", rogues),
        spec_of("short", {"short": {"command": ["/bin/sh", "-c", "echo no such luck; exit 3"]}}),
    )
    used = await backend()
    try:
        with pytest.raises(EnvironmentProblem) as caught:
            await _up(used, short)
        generations = [await _up(used, one) for one in (spec, replace(spec, generation=2))]
        return Seen(generations, caught.value)
    finally:
        await asyncio.gather(*(used.delete(one.id) for one in (spec, short)))
        await used.close()


async def _up(used: KubernetesBackend, spec: PodSpec) -> dict[str, Told]:
    for batch in batches(steps(spec, await used.observe(spec.id)), spec.topology):
        await asyncio.gather(*(used.apply(spec, step) for step in batch))
    pods = {}
    for pod in await used.cluster.list("Pod", objects.PREFIX + spec.id):
        if not pod["metadata"].get("deletionTimestamp"):
            pods[pod["metadata"]["labels"][objects.PURPOSE]] = pod["metadata"]["uid"]
    targets = {door.name: door.target for door in used.doors(spec.id, 0)[0] if door.target}
    return {name: Told(await _ask(Path(target)), pods[name]) for name, target in targets.items()}


async def _ask(target: Path) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(target))
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return dict(json.loads(answer.partition(b"\r\n\r\n")[2]))


def test_a_service_starts_again_in_its_pod_and_finds_nothing_of_the_one_before(seen: Seen) -> None:
    first, second = seen.both("attacks")
    assert first.pod == second.pod, "it was not another Pod"
    assert first.said["found"].items() >= CLEAN.items()
    assert second.said["found"] == first.said["found"]


def test_a_service_cannot_touch_what_starts_it(seen: Seen) -> None:
    outcome = seen.both("attacks")[0].said["outcome"]
    assert {name for name, how in outcome.items() if how.startswith("refused")} == {
        "environ",
        "memory",
        "descriptors",
        "trace",
        "other port",
    }
    assert outcome["kill"] == outcome["stop"] == outcome["int"] == "done: None", "sent, and not heard"
    assert outcome["order"] == outcome["no order"] == "done: ", "no answer without the key"


@pytest.mark.parametrize("name", [name for name in MISCHIEF if name != "attacks"])
def test_what_cannot_be_undone_costs_the_pod(seen: Seen, name: str) -> None:
    first, second = seen.both(name)
    if first.said["outcome"].get(name, "").startswith("refused"):
        pytest.skip("the node's files have no attributes")
    assert first.pod != second.pod
    assert second.said["found"].items() >= CLEAN.items()
    assert second.said["found"]["limits"] == first.said["found"]["limits"]


def test_a_service_that_ends_at_once_is_said_with_its_words(seen: Seen) -> None:
    assert (seen.short.code, seen.short.cause) == ("service-ended", "exit code 3; it said: no such luck")
