"""Attempts a second of an agent that does nothing, each in a fresh state, isolated and recorded."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import dataclass

from benchmarks.effort import Effort
from benchmarks.projects import SMALL_SERVICE, STANDARD_SERVICE, Project, make_project
from benchmarks.table import Row

PODS = 8
ATTEMPTS = 1000


@dataclass(frozen=True)
class Rate:
    """``cpu`` is milliseconds of the whole machine's processor time an attempt, niced work of others left out."""

    attempts: int
    seconds: float
    cpu: float
    peak_mb: float

    @property
    def rate(self) -> float:
        return self.attempts / self.seconds


def measure(effort: Effort) -> list[Row]:
    attempts = 200 if effort.quick else ATTEMPTS
    rows = []
    for name, services, source, target in (
        ("two services", 2, SMALL_SERVICE, 15.0),
        ("two http.server services", 2, STANDARD_SERVICE, None),
        ("no services", 0, SMALL_SERVICE, None),
    ):
        made = attempts if target else attempts // 4
        project = make_project(
            effort.directory / name.replace(" ", "-"), services=services, service=source, tickets=made, run={"pods": PODS}
        )
        found = rate(project, made)
        beside = f"{found.cpu:.0f} ms of processor time an attempt: two cores could do {2000 / found.cpu:.1f}/s"
        rows.append(
            Row(f"no-op agent, {PODS} pods, {made:,} attempts, {name}", [found.rate], "/s", beside, target, at_least=True)
        )
    return rows


def rate(project: Project, attempts: int, *options: str) -> Rate:
    """One whole run, from the command's start to its end. Raises `RuntimeError` when an attempt did not pass."""
    project.podctl("run", "scenario.yaml", "--sample", "1")  # the template is there, bytecode too
    before, began = _busy(), time.perf_counter()
    done = project.podctl("run", "scenario.yaml", "-o", "json", *options)
    took = time.perf_counter() - began
    busy = _busy() - before
    passed = sum(attempt["passed"] for attempt in json.loads(done.stdout)["attempts"])
    if passed != attempts:
        raise RuntimeError(f"{passed} of {attempts} attempts passed")
    return Rate(attempts, took, busy / attempts * 1000, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


def _busy() -> float:
    """Seconds of processor time of the whole machine so far: a pod's processes are nobody's children."""
    user, _nice, system, _idle, _wait, irq, softirq, *_ = open("/proc/stat").readline().split()[1:]
    return sum(map(int, (user, system, irq, softirq))) / 100
