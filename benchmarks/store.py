"""Looking into a store of 10,000 attempts and a million records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.big_store import make_store
from benchmarks.effort import Effort, seconds
from benchmarks.projects import environment
from benchmarks.table import Row, ms, spread

ATTEMPTS, RECORDS_EACH = 10_000, 100


def measure(effort: Effort) -> list[Row]:
    attempts = effort.pick(20, ATTEMPTS // 5, ATTEMPTS)
    directory = effort.directory / ".podctl"
    make_store(directory, attempts, RECORDS_EACH)
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 2**20
    whole = f"{attempts:,} attempts, {attempts * RECORDS_EACH:,} records, {size:,.0f} MB"

    def command(*arguments: str) -> list[float]:
        def run() -> None:
            subprocess.run(arguments, cwd=effort.directory, env=environment(), capture_output=True, check=True)

        run()
        return ms(seconds(run, effort.times(5)))

    podctl = (sys.executable, "-m", "podctl")
    middle = f"T-{attempts // 2:05d}"
    evidence = directory / "runs" / "20261121-120000-abc123" / "attempts" / f"{attempts // 2:05d}-1" / "evidence.jsonl"
    return [
        Row(f"podctl get runs, {whole}", command(*podctl, "get", "runs"), "ms", target=500),
        Row("podctl get attempts", command(*podctl, "get", "attempts", "latest"), "ms", target=500),
        Row("podctl trace", command(*podctl, "trace", "latest", middle), "ms", _reading([evidence]), target=500),
        Row("podctl report", command(*podctl, "report", "latest"), "ms", _parsing(directory), target=5000),
    ]


def _reading(paths: list[Path]) -> str:
    return f"reading its evidence file {spread(ms(seconds(lambda: [path.read_bytes() for path in paths], 5)), 'ms')}"


def _parsing(directory: Path) -> str:
    """json.loads of every result in the store: no report can be had for less."""
    code = (
        "import json, sqlite3, sys\n"
        "for (text,) in sqlite3.connect(sys.argv[1]).execute('SELECT result FROM attempts'): json.loads(text)"
    )
    store = str(directory / "store.db")
    took = seconds(lambda: subprocess.run([sys.executable, "-c", code, store], check=True), 3)
    return f"reading and parsing its results alone {spread(ms(took), 'ms')}"
