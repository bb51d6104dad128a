"""MCP servers in Docker pods: behind the same door, over both transports, started anew for each attempt."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest
import service_images
from plain_tools import CALLS, HTTP, LOST, STDIO, lose_an_answer, outputs, said_by, with_servers

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]


@pytest.mark.campaign
def test_a_server_on_standard_input_is_behind_the_same_door(tmp_path: Path) -> None:
    project = with_servers(tmp_path / "p", {"desk": STDIO}, {"desk": {"word": "read"}}, {"desk": CALLS})
    done = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker", timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(outputs(project).values()) == [{"desk": said_by("desk")}] * 2


@pytest.mark.campaign
def test_servers_over_http_are_too_by_their_command_and_from_an_image(tmp_path: Path) -> None:
    """One by hand, one of the official package in an image of its own; under faults as well."""
    client = docker.from_env(timeout=300)
    crm = {"protocol": "mcp", "image": service_images.give_tools(client), "mcp": {"limits": {"echo": {"calls": 1}}}}
    client.close()
    tools = {"web": {"word": "read"}, "crm": {"add_note": "ai-writable", "echo": "read", "refund": "recommend"}}
    note = ["add_note", {"customer": 7, "text": "x"}]
    calls = {"web": CALLS, "crm": [note, note, ["echo", {"value": 1}], ["echo", {"value": 1}], ["refund", {}], ["fail", {}]]}
    project = with_servers(tmp_path / "p", {"web": HTTP, "crm": crm}, tools, calls)
    done = project.podctl(*lose_an_answer(project, "crm"), "--backend", "docker", timeout=240)
    run = project.run()
    plain = {
        "listed": ["add_note", "echo", "refund"],
        "called": [
            *("1 notes", "2 notes", "1"),
            "podctl_limit: an attempt may call crm.echo 1 times",
            "podctl_recommend: a person decides this (CALL crm.refund): recommend it, do not do it",
            "podctl_human_only: only people may use crm.fail (unlisted)",
        ],
    }
    faulted = {**plain, "called": ["1 notes", LOST.format("add_note"), *plain["called"][2:]]}
    expected = {one.id: {"web": said_by("web"), "crm": faulted if one.variant else plain} for one in run.attempts}
    assert outputs(project) == expected and len(expected) == 4, done.stdout + done.stderr
    left = project.podctl("gc", "--dry-run", "--backend", "docker")
    assert left.stdout.startswith("0 to remove"), left.stdout
