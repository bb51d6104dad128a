"""The controller on a real cluster, with its account's rights and under the policies: killed, doubled, left without, and still one run."""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from both_places import AGENT, TICKETS, told
from cluster import kubeconfig_of, kubectl
from postgres_server import serving
from project import Project, make_project

from podctl.clock import SystemClock
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("fence")]

NAMESPACE = "podctl-system"


class World:
    """A store, a project in a ConfigMap, and controllers as processes of this machine."""

    def __init__(self, root: Path, url: str, project: Project) -> None:
        self.root = root
        self.url = url
        self.name = f"t-{secrets.token_hex(3)}"
        self.kubeconfig = kubeconfig_of("podctl-controller", NAMESPACE, root / "kubeconfig")
        self.processes: list[subprocess.Popen[bytes]] = []
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(project.root, ".")
        (root / "project.tar.gz").write_bytes(packed.getvalue())
        made = kubectl("-n", NAMESPACE, "create", "configmap", self.name, f"--from-file={root / 'project.tar.gz'}")
        assert made.returncode == 0, made.stderr

    def start(self, identity: str = "first", fault: str = "") -> subprocess.Popen[bytes]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "PODCTL_STORE_URL": self.url,
            "PODCTL_NAMESPACE": NAMESPACE,
            "PODCTL_POD": f"{self.name}-{identity}",
            "PODCTL_STATE": str(self.root / f"state-{identity}"),
            "PODCTL_PORT": str(port),
            **({"PODCTL_FAULT": fault} if fault else {}),
        }
        log = open(self.root / f"log-{len(self.processes)}", "wb")
        process = subprocess.Popen([sys.executable, "-m", "podctl", "controller"], env=environment, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        return process

    def submit(self, **spec: Any) -> None:
        body = {
            "apiVersion": "podctl.dev/v1alpha1",
            "kind": "TestRun",
            "metadata": {"name": self.name},
            "spec": {"scenario": "scenario.yaml", "source": {"configMaps": [self.name]}, **spec},
        }
        done = kubectl("apply", "-f", "-", given=body)
        assert done.returncode == 0, done.stderr

    def status(self) -> dict[str, Any]:
        found = kubectl("get", "testrun", self.name, "-o", "json")
        status: dict[str, Any] = json.loads(found.stdout).get("status", {}) if found.returncode == 0 else {}
        return status

    def done(self) -> int:
        return int(self.status().get("attempts", {}).get("done", 0))

    def namespaces(self) -> list[str]:
        run = self.status().get("run", "none")
        return kubectl("get", "namespaces", "-l", f"podctl.dev/run={run}", "-o", "name").stdout.split()

    def until(self, what: Callable[[], bool], seconds: float = 150) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"{self.status()}\n{self.logs()}"
            time.sleep(0.3)

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.root.glob("log-*")))

    def result(self) -> RunResult:
        store = Store.open(self.root / "reader", SystemClock(), url=self.url)
        try:
            run = self.status()["run"]
            tries = {made.attempt: 0 for made in store.tries(run)}
            for made in store.tries(run):
                tries[made.attempt] += made.ended_ns is not None and not made.cut_off
            assert set(tries.values()) <= {1}, f"an attempt was made twice, or never: {tries}"
            return store.load_run(run)
        finally:
            store.close()

    def clean(self) -> None:
        kubectl("delete", "testrun", self.name, "--ignore-not-found", "--wait=false")
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in self.processes:
            process.wait(timeout=60)
        kubectl("-n", NAMESPACE, "delete", "configmap", self.name, "--ignore-not-found")
        kubectl("-n", NAMESPACE, "delete", "lease", "podctl-controller", "--ignore-not-found")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving() as made:
        yield made


@pytest.fixture
def world(tmp_path: Path, url: str) -> Iterator[World]:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario={"run": {"pods": 1}})
    made = World(tmp_path, url, project)
    yield made
    made.clean()


def expected(world: World) -> dict[str, Any]:
    """What the same scenario comes to on this machine."""
    project = Project(world.root / "p")
    done = project.podctl("run", "scenario.yaml", "-q", timeout=120)
    assert done.returncode in (0, 100), done.stderr
    return {name: told(attempt) for name, attempt in project.attempts().items()}


@pytest.mark.campaign
def test_a_killed_controller_is_followed_by_one_that_goes_on(world: World) -> None:
    first = world.start()
    world.submit()
    world.until(lambda: world.done() >= 1)
    store = Store.open(world.root / "early", SystemClock(), url=world.url)
    early = store.evidence_directory(world.status()["run"], store.list_attempts(world.status()["run"])[0].id)
    assert (early / "evidence.jsonl").stat().st_size > 1000, "evidence is in the store while the run goes on"
    store.close()
    first.kill()
    first.wait()
    world.start()
    world.until(lambda: world.status().get("state") == "Finished")
    status = world.status()
    conditions = {one["type"]: (one["status"], one["reason"]) for one in status["conditions"]}
    assert conditions == {
        "Accepted": ("True", "Admitted"),
        "Running": ("False", "Finished"),
        "Finished": ("True", "GateFailed"),
    }
    assert status["observedGeneration"] == 1
    assert status["attempts"] == {"planned": 3, "done": 3, "passed": 1}
    assert {attempt.ticket: told(attempt) for attempt in world.result().attempts} == expected(world)
    assert world.namespaces() == []
    row = kubectl("get", "testruns").stdout
    assert world.name in row and "Finished" in row and "fail" in row
    events = json.loads(kubectl("get", "events", "-n", "default", "-o", "json").stdout)["items"]
    assert any(one["involvedObject"]["name"] == world.name and one["reason"] == "Finished" for one in events)
    # From a laptop that has nothing but the store's address.
    laptop = Project(world.root / "p")
    shown = laptop.podctl("trace", status["run"], "1", "--store", world.url)
    assert shown.returncode == 0 and "row" in shown.stdout, shown.stderr
    verified = laptop.podctl("audit", "verify", status["run"], "--store", world.url)
    assert verified.returncode == 0 and "3 of 3 attempts are as sealed" in verified.stdout, verified.stdout


@pytest.mark.campaign
def test_a_testrun_that_is_deleted_takes_its_namespaces_along_also_without_a_controller(world: World) -> None:
    only = world.start()
    world.submit()
    world.until(lambda: bool(world.namespaces()) and world.status()["pods"] >= 1)
    run = world.status()["run"]
    only.kill()
    only.wait()
    assert kubectl("delete", "testrun", world.name, "--timeout=20s").returncode == 0, "nothing holds its deletion up"
    left = ["get", "namespaces", "-l", f"podctl.dev/run={run}", "-o", "name"]
    world.until(lambda: kubectl(*left).stdout == "", 60)
    world.start()
    time.sleep(8)
    assert kubectl(*left).stdout == "", "nobody begins it again"


def test_what_the_schema_and_the_controller_refuse(world: World) -> None:
    wrong = {"apiVersion": "podctl.dev/v1alpha1", "kind": "TestRun", "metadata": {"name": world.name}}
    both = {"scenario": "s", "source": {"configMaps": ["a"], "directory": "b"}}
    refused = kubectl("apply", "-f", "-", given={**wrong, "spec": both})
    assert refused.returncode != 0 and "either configMaps or a directory" in refused.stderr
    world.start()
    world.submit(pods=200)
    world.until(lambda: world.status().get("state") == "Refused", 60)
    assert "asks for 200 test pods at once, and this cluster allows 30" in world.status()["message"]
    changed = kubectl("patch", "testrun", world.name, "--type=merge", "-p", '{"spec":{"pods":1}}')
    assert changed.returncode != 0 and "make another TestRun" in changed.stderr
    assert (
        kubectl("patch", "testrun", world.name, "--type=merge", "-p", '{"spec":{"ttlSecondsAfterFinished":1}}').returncode == 0
    )
    world.until(lambda: kubectl("get", "testrun", world.name).returncode != 0, 30)


@pytest.mark.campaign
def test_a_leader_that_was_stopped_too_long_loses_and_one_run_comes_of_two_controllers(world: World) -> None:
    first = world.start("first")
    world.submit()
    world.until(lambda: world.done() >= 1)
    second = world.start("second")
    time.sleep(5)
    assert second.poll() is None
    first.send_signal(signal.SIGSTOP)
    world.until(lambda: world.status().get("state") == "Finished", 240)
    first.send_signal(signal.SIGCONT)
    first.wait(timeout=90)
    assert {attempt.ticket: told(attempt) for attempt in world.result().attempts} == expected(world)
    assert second.poll() is None
    assert world.namespaces() == []


@pytest.mark.campaign
@pytest.mark.parametrize("place", [1, 6, 12, 20, 30, 45, 60])
def test_killed_at_any_place_it_comes_to(world: World, place: int) -> None:
    world.submit()
    first = world.start(fault=f"kill:*:{place}")
    world.until(lambda: first.poll() is not None or world.status().get("state") == "Finished", 240)
    assert first.poll() == -signal.SIGKILL, "there are not so many places"
    world.start()
    world.until(lambda: world.status().get("state") == "Finished", 240)
    assert {attempt.ticket: told(attempt) for attempt in world.result().attempts} == expected(world)
    assert world.namespaces() == []
