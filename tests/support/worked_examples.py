"""The worked examples on real data, where that data is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project

ROOT = Path(__file__).parents[2]
RETAIL = Path(os.environ.get("PODCTL_RETAIL_DATA", ROOT.parent / "shared" / "data" / "retail"))
TICKETS = Path(os.environ.get("PODCTL_TRIAGE_DATA", ROOT.parent / "shared" / "data" / "tickets" / "it-tickets.csv"))
needs_retail = pytest.mark.skipif(
    not (RETAIL / "db.json").exists(), reason=f"no retail data in {RETAIL}: set PODCTL_RETAIL_DATA"
)
needs_triage = pytest.mark.skipif(not TICKETS.exists(), reason=f"no {TICKETS}: set PODCTL_TRIAGE_DATA")


def prepare(example: str, data: Path, out: Path) -> Project:
    command = [sys.executable, str(ROOT / "fixtures" / example / "prepare.py"), "--data", str(data), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return Project(out)
