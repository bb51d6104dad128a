"""Whether anything grows faster than what is asked for: more attempts in a run, more pods at once."""

from __future__ import annotations

from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.projects import make_project
from benchmarks.table import Row
from benchmarks.throughput import Rate, rate

#: Of a run ten times as long an attempt may cost this much more and still be called linear; what is measured spreads so far.
LINEAR = 1.15
PODS = (1, 2, 4, 8, 16)


def measure(effort: Effort) -> list[Row]:
    return [*_attempts(effort), *_pods(effort)]


def _attempts(effort: Effort) -> list[Row]:
    lengths = effort.pick([2, 4], [20, 100], [100, 1000], [100, 1000, 10_000])
    rows, before = [], None
    for attempts in lengths:
        project = make_project(effort.directory / f"a{attempts}", services=0, tickets=attempts, run={"pods": 8})
        empty = _size(project.store)
        found = rate(project, attempts)
        here = (found, (_size(project.store) - empty) / attempts)
        beside = f"{found.cpu:.0f} ms of processor time and {here[1] / 1024:.1f} KiB of store an attempt, podctl {found.peak_mb:.0f} MB"
        rows.append(Row(f"{attempts:,} attempts, 8 pods, no services", [found.rate], "/s", beside))
        if before is not None:
            rows += _ratios(before, here, attempts)
        before = here
    return rows


def _ratios(before: tuple[Rate, float], here: tuple[Rate, float], attempts: int) -> list[Row]:
    """An attempt of the longer run, as a multiple of one of the run a tenth as long."""
    (short, short_size), (long, long_size) = before, here
    memory = f"podctl's memory grew by {(long.peak_mb - short.peak_mb) / (long.attempts - short.attempts) * 1000:.1f} MB for 1,000 more attempts"
    return [
        Row(f"  an attempt's processor time, times that of {short.attempts:,}", [long.cpu / short.cpu], "×", "", LINEAR),
        Row(f"  an attempt's store, times that of {short.attempts:,}", [long_size / short_size], "×", memory, LINEAR),
    ]


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


def _size(directory: Path) -> int:
    """Bytes of disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.rglob("*"))
