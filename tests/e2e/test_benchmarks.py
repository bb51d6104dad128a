"""The benchmarks still work, each on next to nothing; what they measure is not looked at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import NAMES
from benchmarks.table import Row, render

ROOT = Path(__file__).resolve().parents[2]
#: What each benchmark's last row begins with.
LAST = {
    "cli": "podctl get runs",
    "pods": "sandbox: 1,000 times",
    "memory": "one pod more",
    "store": "podctl report",
    "audit": "bytes of a record by which",
    "compare": "podctl compare, 200 tickets, 3 others, σ = 1: of a resolved one",
    "reports": "  the pull-request comment",
    "throughput": "  no services",
    "growth": "2 pods",
    "gateway": "gateway adds to a stream",
    "tools": "the official client's call, through the gateway",
    "boundary": "decisions at 50 rules, one service and one method",
    "capture": "pgbench, reading one row",
    "data": "  loaded with its references added",
    "masking": "collisions of",
    "honeytokens": "honeytokens, 4 MiB of base64",
    "projection": "podctl project of",
    "gate": "gate: 2,000 tickets",
}


def test_every_benchmark_is_tried_here_but_docker() -> None:
    assert set(NAMES) == {*LAST, "containers"}


@pytest.mark.parametrize(
    "names",
    [
        ("boundary", "honeytokens"),
        pytest.param(
            (
                "cli",
                "store",
                "audit",
                "pods",
                "memory",
                "gateway",
                "tools",
                "throughput",
                "growth",
                "capture",
                "data",
                "masking",
                "projection",
                "gate",
                "compare",
                "reports",
            ),
            marks=pytest.mark.campaign,
        ),
    ],
)
def test_benchmarks_measure_something(names: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "benchmarks", "--tiny", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode in (0, 1), done.stderr
    for name in names:
        assert f"\n{LAST[name]}" in done.stdout, f"{name} left out a row:\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "not measured" not in done.stdout


def test_a_target_is_met_by_the_median_and_unmeasured_rows_meet_nothing() -> None:
    rows = [
        Row("quick", [1.0, 2.0, 900.0], "ms", "floor 1 ms", target=2),
        Row("slow", [1.0, 3.0, 4.0], "ms", target=2),
        Row("many", [14.0], "/s", target=15, at_least=True),
        Row("absent", [], "/s", "no engine", target=1),
    ]
    assert [row.met for row in rows] == [True, False, False, None]
    lines = render(rows).splitlines()
    assert lines[1].split() == ["quick", "2.00", "[1.00–900]", "ms", "≤", "2", "ms", "yes", "floor", "1", "ms"]
    assert "NO" in lines[2]
    assert lines[4].split() == ["absent", "not", "measured", "≤", "1", "/s", "no", "engine"]
