"""Tickets of another time on masked rows, on this machine and on an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from both_places import on_both
from capturing import Server
from postgres_server import serving
from travelled import NAMES, travelled

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]


@pytest.mark.campaign
def test_masked_tickets_on_what_they_were_opened_on_end_alike_here_and_there(tmp_path: Path) -> None:
    with serving() as url:
        project = travelled(Server(url), tmp_path / "p")
    local, there = on_both(project, "docker", "scenario.yaml", 170)
    assert {name: attempt["passed"] for name, attempt in local.items()} == {"T-0": True, "T-1": False, "T-2": True}
    assert there == local
    written = b"".join(path.read_bytes() for path in project.root.glob(".podctl/runs/**/*") if path.is_file())
    assert b"shelf one" in written and not [name for name in NAMES if name.encode() in written]
