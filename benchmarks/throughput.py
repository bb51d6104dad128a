"""Attempts a second of an agent that does nothing, each in a fresh state, isolated and recorded."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.effort import Effort
from benchmarks.machine import busy
from benchmarks.projects import ROOT, SMALL_SERVICE, STANDARD_SERVICE, Project, make_project
from benchmarks.table import Row

PODS = 8
ATTEMPTS = 1000
NO_PTRACE = (sys.executable, str(ROOT / "tests" / "support" / "without_ptrace.py"))


@dataclass(frozen=True)
class Rate:
    """``cpu`` is milliseconds of the whole machine's processor time an attempt, niced work of others left out."""

    attempts: int
    seconds: float
    cpu: float
    peak_mb: float
    phases: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.attempts / self.seconds

    def told(self) -> str:
        return ", ".join(f"{name} {took:.0f}" for name, took in self.phases.items()) + " ms at the median"


def measure(effort: Effort) -> list[Row]:
    attempts = effort.pick(4, 200, ATTEMPTS)
    rows: list[Row] = []
    for name, services, source, target, under in (
        ("two services", 2, SMALL_SERVICE, 15.0, ()),
        ("  where the kernel refuses to trace, so processes are not recorded", 2, SMALL_SERVICE, None, NO_PTRACE),
        ("  two http.server services", 2, STANDARD_SERVICE, None, ()),
        ("  no services", 0, SMALL_SERVICE, None, ()),
    ):
        made = attempts if target or under else attempts // 4
        project = make_project(
            effort.directory / str(len(rows)), services=services, service=source, tickets=made, run={"pods": PODS}
        )
        found = rate(project, made, under=under)
        cores = os.cpu_count() or 1
        most = f"{cores} processors could do {1000 * cores / found.cpu:.1f}/s"
        beside = f"{found.cpu:.0f} ms of processor time an attempt: {most}; {found.told()}"
        title = f"no-op agent, {PODS} pods, {made:,} attempts, {name}" if target else name
        rows.append(Row(title, [found.rate], "/s", beside, target, at_least=True))
    return rows


def rate(project: Project, attempts: int, *options: str, under: tuple[str, ...] = ()) -> Rate:
    """One whole run, from the command's start to its end. Raises `RuntimeError` when an attempt did not pass."""
    project.podctl("run", "scenario.yaml", "--sample", "1", under=under)  # the template is there, bytecode too
    before, began = busy(), time.perf_counter()
    done = project.podctl("run", "scenario.yaml", "-o", "json", *options, under=under)
    took = time.perf_counter() - began
    took_cpu = busy() - before
    made = json.loads(done.stdout)["attempts"]
    passed = sum(attempt["passed"] for attempt in made)
    if passed != attempts:
        raise RuntimeError(f"{passed} of {attempts} attempts passed")
    phases = {name: 1000 * statistics.median(attempt["phases"][name] for attempt in made) for name in made[0]["phases"]}
    return Rate(attempts, took, took_cpu / attempts * 1000, done.peak_mb, phases)
