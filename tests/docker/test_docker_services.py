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
    boundary = {
        "apiVersion": "podctl/v1",
        "kind": "Boundary",
        "name": "all",
        **({"services": dict.fromkeys(services, "ai-writable")} if services else {}),
    }
    (root / "boundary.yaml").write_text(yaml.safe_dump(boundary))
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
            "files": {"/etc/shop/greeting": "greeting", "/run/secrets/word": {"text": "word of ${store.host}:${store.port}"}},
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
            "files": "read-only",
            "secret": "word of store:6380",
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


COMPOSE = """
name: shop
services:
  web:
    image: {web}
    ports: ["8080:80"]
    environment: {{STORE_HOST: the_store, MODE: pod, WEB_TOKEN: abcdef0123}}
    volumes: ["./greeting:/etc/shop/greeting:ro"]
    secrets: [word]
    healthcheck: {{test: [CMD, "{python}", -c, "import urllib.request as r; r.urlopen('http://127.0.0.1/healthz')"], interval: 1s, retries: 20}}
    depends_on: [the_store, worker]
    deploy: {{replicas: 3}}
  the_store:
    image: {store}
    entrypoint: ["/usr/local/bin/python3", "/srv/store.py"]
    expose: [6380]
    container_name: store
    volumes: ["seen:/state"]
  worker: {{image: {worker}, restart: always}}
volumes: {{seen: }}
secrets: {{word: {{file: word.txt}}}}
"""


@pytest.mark.campaign
def test_a_compose_file_is_imported_and_runs(tmp_path: Path, images: dict[str, str]) -> None:
    project = project_of(tmp_path / "p", {})
    source = tmp_path / "p" / "production"
    source.mkdir()
    (source / "compose.yaml").write_text(COMPOSE.format(**images, python="/usr/local/bin/python3"))
    (source / "greeting").write_text("hello")
    (source / "word.txt").write_text("the real word")
    imported = project.podctl("topology", "import", "production/compose.yaml", "-o", "topology.yaml", "--force")
    assert imported.returncode == 0, imported.stderr
    with (project.root / "boundary.yaml").open("a") as boundary:
        boundary.write("services: {web: ai-writable, the-store: ai-writable}\n")
    refused = project.podctl("plan", "scenario.yaml", "--backend", "local")
    assert refused.returncode == 2 and "the-store: image" in refused.stderr, refused.stderr
    planned = project.podctl("plan", "scenario.yaml", "--backend", "docker")
    assert planned.returncode == 0 and "make service/the-store" in planned.stdout, planned.stderr
    agent = AGENT.replace("http://web.shop.svc:80", "http://web:80").replace(
        '"WORKER_URL" in os.environ', '"WORKER_URL" in os.environ'
    )
    (project.root / "agent" / "main.py").write_text(agent.replace('os.environ["STORE_URL"]', 'os.environ["THE_STORE_URL"]'))
    done = project.podctl("run", "scenario.yaml", "-q", "--backend", "docker", timeout=170)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((_attempt(project, "1") / "result.json").read_text())["output"]
    assert (result["greeting"], result["store"], result["mode"], result["uid"]) == ("hello", "seen 1", "pod", 4711)
    assert result["secret"].startswith("podctl-replaced-")
