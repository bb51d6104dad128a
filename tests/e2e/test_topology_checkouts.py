"""Public systems import without an edit. It needs checkouts of them: PODCTL_CHECKOUTS names the directory (docs/topology.md)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DIRECTORY = os.environ.get("PODCTL_CHECKOUTS", "")


@pytest.mark.skipif(
    not DIRECTORY, reason="NO CHECKOUTS of public systems, their import is not tested: PODCTL_CHECKOUTS is not set"
)
def test_public_systems_import_without_an_edit() -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "benchmarks.topologies"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.count("\n") > 2, done.stderr
    assert "NOT THERE" not in done.stderr, done.stderr
