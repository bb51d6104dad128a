"""Whether anything grows faster than what is asked for: more attempts in a run, more pods at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.projects import environment, make_project
from benchmarks.table import Row
from benchmarks.throughput import Rate, rate

#: In a run ten times as long an attempt may cost this much more and still be called linear: so far what is measured spreads.
LINEAR = 1.15
PODS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Run:
    """``cpu`` in milliseconds and ``store`` in KiB of disk, an attempt; ``peak_mb`` of podctl's process."""

    attempts: int
    rate: float
    cpu: float
    store: float
    peak_mb: float


def measure(effort: Effort) -> list[Row]:
    lengths = effort.pick([2, 4], [20, 100], [100, 1000], [100, 1000, 10_000])
    alone = effort.pick([2, 4], [100, 1000], [100, 1000, 10_000])
    return [
        *_lengths("no services", lengths, effort.directory / "local", _on_this_machine),
        *_lengths("podctl without pods (memory backend)", alone, effort.directory / "memory", _in_memory),
        *_pods(effort),
    ]


def _lengths(what: str, lengths: list[int], directory: Path, run: Callable[[Path, int], Run]) -> list[Row]:
    rows: list[Row] = []
    before: Run | None = None
    for attempts in lengths:
        here = run(directory / str(attempts), attempts)
        beside = (
            f"{here.cpu:.3g} ms of processor time and {here.store:.0f} KiB of store an attempt, podctl {here.peak_mb:.0f} MB"
        )
        rows.append(Row(f"{attempts:,} attempts, 8 pods, {what}", [here.rate], "/s", beside))
        if before is not None:
            rows += _ratios(before, here)
        before = here
    return rows


def _ratios(short: Run, long: Run) -> list[Row]:
    """An attempt of the longer run, as a multiple of one of the shorter."""
    megabytes = (long.peak_mb - short.peak_mb) / (long.attempts - short.attempts) * 1000
    return [
        Row(f"  an attempt's processor time, times that of {short.attempts:,}", [long.cpu / short.cpu], "×", "", LINEAR),
        Row(f"  an attempt's store, times that of {short.attempts:,}", [long.store / short.store], "×", "", LINEAR),
        Row("  podctl's memory for 1,000 attempts more", [megabytes], "MB"),
    ]


def _on_this_machine(directory: Path, attempts: int) -> Run:
    project = make_project(directory, services=0, tickets=attempts, run={"pods": 8})
    found = rate(project, attempts)  # and a run of one attempt before it
    return Run(attempts, found.rate, found.cpu, _size(project.store) / (attempts + 1), found.peak_mb)


def _in_memory(directory: Path, attempts: int) -> Run:
    project = make_project(directory, services=0, tickets=attempts, run={"pods": 8})
    command = [sys.executable, "-m", "benchmarks.in_memory", str(project.scenario), str(project.store)]
    done = subprocess.run(command, cwd=directory, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    if found["passed"] != attempts:
        raise RuntimeError(f"{found['passed']} of {attempts} attempts passed on the memory backend")
    each = 1000 * found["cpu"] / attempts
    return Run(attempts, attempts / found["seconds"], each, _size(project.store) / attempts, found["peak_mb"])


def _pods(effort: Effort) -> list[Row]:
    rows: list[Row] = []
    one: Rate | None = None
    for pods in effort.pick(PODS[1:2], PODS, PODS):
        made = effort.pick(2, 10 + 2 * pods, 60 + 10 * pods)
        project = make_project(effort.directory / f"p{pods}", services=2, tickets=made, run={"pods": pods})
        found = rate(project, made)
        one = one or found
        beside = f"{found.cpu:.0f} ms of processor time an attempt, {found.cpu / one.cpu:.2f} times that of one pod"
        rows.append(Row(f"{pods} pod{'s' * (pods > 1)}, two services each", [found.rate], "/s", beside))
    return rows


def _size(directory: Path) -> float:
    """KiB of disk."""
    return sum(path.stat().st_blocks for path in directory.rglob("*")) / 2
