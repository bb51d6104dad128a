"""What the cluster's controller holds and takes while its test pods only wait, by their number.

Needs KUBECONFIG, PODCTL_IMAGE, kubectl, podctl installed in the cluster (or its TestRun resource, and somebody with the rights), and an empty
PostgreSQL database in PODCTL_STORE_URL.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.effort import Effort
from benchmarks.projects import environment, make_project
from benchmarks.table import Row

_NAMESPACE = "default"
_TICKS = os.sysconf("SC_CLK_TCK")
_READY_S = 600.0
#: A controller gives back once a minute what making pods took.
_STEADY_S = 65.0
AIM = 100


def measure(effort: Effort) -> list[Row]:
    numbers = effort.pick([1], [1, 4], [1, 8, 16, 24])
    held: dict[int, float] = {}
    taken: dict[int, float] = {}
    for number in numbers:
        held[number], taken[number] = _waiting(effort.directory / str(number), number, effort.pick(2.0, 20.0, _STEADY_S))
    rows = []
    for number in numbers:
        rows.append(
            Row(f"controller, {number} waiting test pods: memory", [held[number]], "MB", "its gateways and stores apart")
        )
        rows.append(Row(f"controller, {number} waiting test pods: processor", [taken[number]], "% of a core"))
    if len(numbers) > 1:
        for name, found, unit, most in (("memory", held, "MB", 150.0), ("processor", taken, "% of a core", 5.0)):
            slope, base = statistics.linear_regression(list(found), list(found.values()))
            told = f"a straight line through the {len(found)} above: {base:.3g} and {slope:.3g} a pod; not measured"
            rows.append(
                Row(f"controller, {AIM} waiting test pods: {name}, extrapolated", [base + AIM * slope], unit, told, most)
            )
    return rows


def _waiting(directory: Path, pods: int, seconds: float) -> tuple[float, float]:
    """MB and percent of a core, of the controller alone, while so many agents sleep."""
    directory.mkdir()
    sleeping = ["/bin/sh", "-c", "sleep 1200"]
    limits = {"wall": "30m", "memory": "64Mi"}
    run = {"pods": pods, "repeats": 1}
    project = make_project(directory / "p", services=1, tickets=pods, command=sleeping, limits=limits, run=run)
    name = f"bench-{secrets.token_hex(3)}"
    archive = directory / "project.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(project.root, ".")
    body = {
        "apiVersion": "podctl.dev/v1alpha1",
        "kind": "TestRun",
        "metadata": {"name": name},
        "spec": {"scenario": "scenario.yaml", "source": {"configMaps": [name]}},
    }
    _kubectl("-n", _NAMESPACE, "create", "configmap", name, f"--from-file={archive}")
    try:
        with _controller(directory, name, pods) as pid:
            _kubectl("apply", "-f", "-", given=body)
            _until_ready(name, pods)
            time.sleep(5)
            before, began = _cpu_s(pid), time.monotonic()
            time.sleep(seconds)
            share = (_cpu_s(pid) - before) / (time.monotonic() - began) * 100
            return _resident_mb(pid), share
    finally:
        _kubectl("delete", "testrun", name, "--ignore-not-found")  # its namespaces go with it
        _kubectl("-n", _NAMESPACE, "delete", "configmap", name)
        _kubectl("-n", _NAMESPACE, "delete", "lease", "podctl-controller", "--ignore-not-found")


@contextmanager
def _controller(directory: Path, name: str, pods: int) -> Iterator[int]:
    settings = {
        **environment(),
        "PODCTL_NAMESPACE": _NAMESPACE,
        "PODCTL_POD": name,
        "PODCTL_STATE": str(directory / "state"),
        "PODCTL_PORT": "0",
        "PODCTL_MAX_PODS": str(pods),
    }
    log = directory / "log"
    with open(log, "wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "podctl", "controller"], env=settings, stdout=file, stderr=file)
    try:
        yield process.pid
        if process.poll() is not None:
            raise RuntimeError(f"the controller ended:\n{log.read_text()[-2000:]}")
    finally:
        process.terminate()
        process.wait(timeout=300)


def _until_ready(name: str, pods: int) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        found: dict[str, Any] = json.loads(_kubectl("get", "testrun", name, "-o", "json")).get("status", {})
        agents = _kubectl(
            "get", "pods", "-A", "-l", f"podctl.dev/run={found.get('run', 'none')},app.kubernetes.io/component=agent",
            "--field-selector=status.phase=Running", "-o", "name",
        )  # fmt: skip
        if len(agents.split()) == pods:
            return
        if time.monotonic() > deadline or found.get("state") in ("Refused", "Finished"):
            raise RuntimeError(f"{pods} agents did not run: {found}")
        time.sleep(2)


def _kubectl(*arguments: str, given: object = None) -> str:
    if shutil.which("kubectl") is None:
        raise RuntimeError("kubectl is not on PATH")
    done = subprocess.run(
        ["kubectl", *arguments], input=None if given is None else json.dumps(given), capture_output=True, text=True, timeout=400
    )
    if done.returncode:
        raise RuntimeError(f"kubectl {' '.join(arguments)}: {done.stderr[-2000:]}")
    return done.stdout


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS:"))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
