"""MCP servers in a cluster's pods: behind the same door, over both transports, started anew for each attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from plain_tools import CALLS, HTTP, LOST, STDIO, lose_an_answer, outputs, said_by, with_servers

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster"), pytest.mark.campaign]


def test_servers_of_both_transports_are_behind_the_same_door(tmp_path: Path) -> None:
    tools = {"web": {"word": "ai-writable"}, "desk": {"word": "read"}}
    project = with_servers(tmp_path / "p", {"web": HTTP, "desk": STDIO}, tools, {"web": CALLS, "desk": CALLS})
    done = project.podctl(*lose_an_answer(project, "web"), "--backend", "kubernetes", timeout=240)
    plain = {"web": said_by("web"), "desk": said_by("desk")}
    heard = ["word 1", LOST.format("word"), plain["web"]["called"][2]]
    faulted = {**plain, "web": {**plain["web"], "called": heard}}
    expected = {one.id: faulted if one.variant else plain for one in project.run().attempts}
    assert outputs(project) == expected and len(expected) == 4, done.stdout + done.stderr
    left = project.podctl("gc", "--dry-run", "--backend", "kubernetes")
    assert left.stdout.startswith("0 to remove"), left.stdout
