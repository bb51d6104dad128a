"""Services that run from images of somebody else's, on a real engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import docker
import pytest
import service_images
import yaml
from project import Project, make_project, ticket

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]

AGENT = """
import json, os, socket, urllib.request
found = json.load(urllib.request.urlopen("http://web.shop.svc:80/hello"))
with socket.create_connection(("store", 6380), 5) as store:
    store.sendall(b"look\\n")
    found["seen by the agent"] = store.makefile().readline().strip()
found["urls"] = [os.environ["WEB_URL"], os.environ["STORE_URL"], "WORKER_URL" in os.environ]
json.dump({"status": "done", "summary": "", "output": found}, open(os.environ["PODCTL_RESULT"], "w"))
"""


@pytest.fixture(scope="module")
def images(engine: None) -> dict[str, str]:
    client = docker.from_env(timeout=300)
    try:
        return service_images.give(client)
    finally:
        client.close()


def project_of(root: Path, services: dict[str, Any]) -> Project:
    project = make_project(root, agent=AGENT, tickets=[ticket(str(number), "look") for number in (1, 2)])
    (root / "greeting").write_text("hello")
    topology = {"apiVersion": "podctl/v1", "kind": "Topology", "name": "shop", "services": services}
    (root / "topology.yaml").write_text(yaml.safe_dump(topology))
    (root / "boundary.yaml").write_text("apiVersion: podctl/v1\nkind: Boundary\nname: none\n")
    scenario = yaml.safe_load((root / "scenario.yaml").read_text())
    scenario["run"] = {"pods": 1}
    scenario["checks"] = [{"kind": "output", "name": "mode", "path": "output.mode", "equals": "pod"}]
    (root / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    return project


def system(images: dict[str, str]) -> dict[str, Any]:
    return {
        "web": {
            "image": images["web"],
            "ports": [80],
            "files": {"/etc/shop/greeting": "greeting"},
            "environment": {"STORE_HOST": "memory", "MODE": "pod"},
            "aliases": ["web.shop.svc"],
            "ready": {"path": "/healthz"},
            "depends_on": ["store", "worker"],
        },
        "store": {
            "image": images["store"],
            "command": ["/usr/local/bin/python3", "/srv/store.py"],
            "ports": [6380],
            "protocol": "tcp",
            "writable": {"/state": "1Mi"},
            "aliases": ["memory"],
            "user": 5000,
        },
        "worker": {"image": images["worker"], "ports": [], "ready": {"command": ["/bin/cat", "/tmp/began"]}},
    }


def test_a_system_of_images_runs_and_starts_anew_for_each_attempt(tmp_path: Path, images: dict[str, str]) -> None:
    project = project_of(tmp_path / "p", system(images))
    done = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker", timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("1", "2"):
        result = json.loads((_attempt(project, name) / "result.json").read_text())["output"]
        assert result == {
            "arguments": ["by", "default"],
            "greeting": "hello",
            "kept": "of the image",
            "store": "seen 1",  # nothing is left of an earlier attempt
            "uid": 4711,
            "mode": "pod",
            "path": "/own/path",
            "root": "read-only",
            "seen by the agent": "seen 2",
            "urls": ["http://web:80", "tcp://store:6380", False],
        }
    calls = [record["data"]["path"] for record in project.records("1", "http.call")]
    assert calls == ["/hello"], "a call by another name is recorded like any other"
    left = project.podctl("gc", "--dry-run", "--backend", "docker")
    assert left.stdout.startswith("0 to remove"), left.stdout


@pytest.mark.campaign
def test_an_image_that_is_not_there_is_named_before_the_run(tmp_path: Path, images: dict[str, str]) -> None:
    services = system(images)
    services["store"]["image"] = "localhost:1/nobody-has:1"
    project = project_of(tmp_path / "p", services)
    refused = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker")
    assert refused.returncode == 3 and "localhost:1/nobody-has:1" in refused.stderr, refused.stderr
    assert project.podctl("get", "runs").stdout.count("\n") <= 1, "no run was begun"


@pytest.mark.campaign
def test_what_does_not_become_ready_says_its_last_words(tmp_path: Path, images: dict[str, str]) -> None:
    services = system(images)
    services["store"]["command"] = ["/bin/sh", "-c", "echo no store today; exit 3"]
    project = project_of(tmp_path / "p", services)
    failed = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker", timeout=170)
    assert failed.returncode != 0 and "no store today" in failed.stdout + failed.stderr, failed.stdout + failed.stderr


def _attempt(project: Project, ticket_id: str) -> Path:
    run = project.run()
    attempt = next(attempt for attempt in run.attempts if attempt.ticket == ticket_id)
    return project.store / "runs" / run.info.id / "attempts" / attempt.id
