"""How long the command line takes to say something."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.effort import Effort, seconds
from benchmarks.projects import NOOP, environment, make_project
from benchmarks.table import Row, ms, spread


def measure(effort: Effort) -> list[Row]:
    project = make_project(effort.directory / "p", tickets=10, command=NOOP)
    project.podctl("run", "scenario.yaml")

    def command(*arguments: str) -> list[float]:
        def run() -> None:
            subprocess.run(arguments, cwd=project.root, env=environment(), capture_output=True, check=True)

        run()  # warm: bytecode, page cache
        return ms(seconds(run, effort.times(20)))

    bare = command(sys.executable, "-c", "pass")
    with_click = command(sys.executable, "-c", "import click")
    floor = f"Python {spread(bare, 'ms')}, with click imported {spread(with_click, 'ms')}"
    podctl = (sys.executable, "-m", "podctl")
    return [
        Row("podctl --help", command(*podctl, "--help"), "ms", floor, target=150),
        Row("podctl get runs", command(*podctl, "get", "runs"), "ms", floor, target=150),
    ]
