"""MCP servers in Docker pods: behind the same door, started anew for each attempt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from plain_tools import AGENT, SAID, SERVER
from project import make_project, ticket

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]


@pytest.mark.campaign
def test_a_server_on_standard_input_is_behind_the_same_door(tmp_path: Path) -> None:
    scenario = {
        "run": {"pods": 1},
        "checks": [{"kind": "output", "name": "o", "path": "status", "equals": "done"}],
        "gate": {"boundary_violations": None},
    }
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("1"), ticket("2")], scenario=scenario)
    (project.root / "service" / "desk.py").write_text(SERVER)
    desk = {"protocol": "mcp", "mcp": {"transport": "stdio"}, "command": ["${python}", "-B", "desk.py"], "directory": "service"}
    header = {"apiVersion": "podctl/v1", "name": "desk"}
    (project.root / "topology.yaml").write_text(yaml.safe_dump({**header, "kind": "Topology", "services": {"desk": desk}}))
    boundary = {**header, "kind": "Boundary", "tools": {"desk": {"word": "read"}}}
    (project.root / "boundary.yaml").write_text(yaml.safe_dump(boundary))
    done = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    for attempt in project.run().attempts:
        result = project.store / "runs" / project.run().info.id / "attempts" / attempt.id / "result.json"
        assert json.loads(result.read_text())["output"] == SAID
