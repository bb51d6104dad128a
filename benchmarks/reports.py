"""What reports of large runs take: time, bytes and memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from benchmarks.big_store import RUN, make_store
from benchmarks.effort import Effort
from benchmarks.projects import environment
from benchmarks.table import Row

OTHER = f"{RUN}-other"
TARGET_S, TARGET_MB, TARGET_MEMORY_MB = 5, 5, 1000


def measure(effort: Effort) -> list[Row]:
    some, many = effort.pick(20, 2_000, 10_000), effort.pick(40, 10_000, 100_000)
    small, large = effort.directory / "small", effort.directory / "large"
    make_store(small, some, 40)
    make_store(small, some, 0, OTHER)
    make_store(large, many, 0)
    make_store(large, many, 0, OTHER)
    written = effort.directory / "written"
    rows = []
    for name, arguments in {
        "report": ("report", RUN, "--html", "{}.html", "--markdown", "{}.md"),
        "project --html": ("project", RUN, "--volume", "200000", "--html", "{}.html"),
        "compare --html": ("compare", RUN, OTHER, "--html", "{}.html"),
        "trend --html": ("trend", "--html", "{}.html"),
    }.items():
        command = [part.format(written / name.split()[0]) for part in arguments]
        found = [_run(small, command) for _ in range(effort.times(5))]
        memory = _run(large, command)[1]
        rows += [
            Row(
                f"podctl {name}, {some:,} attempts",
                [took for took, _ in found],
                "s",
                f"{found[0][1]:.0f} MB of memory",
                TARGET_S,
            ),
            Row("  the page", [_megabytes(Path(f"{written / name.split()[0]}.html"))], "MB", target=TARGET_MB),
        ]
        what = f"two runs of {many:,}" if OTHER in command else f"{many:,}"
        rows.append(Row(f"  memory for {what} attempts", [memory], "MB", target=TARGET_MEMORY_MB))
    comment = (written / "report.md").read_text("utf-8")
    return [*rows, Row("  the pull-request comment of podctl report", [len(comment)], "characters", target=60_000)]


def _run(store: Path, arguments: list[str]) -> tuple[float, float]:
    """(seconds, start to end; the most memory it held, MB)."""
    began = perf_counter()
    started = subprocess.Popen(
        [sys.executable, "-m", "podctl", *arguments, "--store", str(store)], env=environment(), stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(started.pid, 0)
    started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode != 0:
        raise RuntimeError(f"podctl {' '.join(arguments)} ended with {started.returncode}")
    return perf_counter() - began, used.ru_maxrss / 1024


def _megabytes(path: Path) -> float:
    return path.stat().st_size / 2**20
