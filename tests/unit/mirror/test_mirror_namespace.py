"""A live namespace, read through the API: a server on loopback that speaks it, and what was asked of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
Cluster = tuple[dict[str, str], list[tuple[str, str]], set[str]]


def run(name: str, labels: dict[str, str], container: dict[str, Any], **more: Any) -> dict[str, Any]:
    noise = {
        "uid": "1-2-3",
        "resourceVersion": "7",
        "managedFields": [{"manager": "kubectl"}],
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    repeats = json.dumps({"spec": {"env": [{"name": "X", "value": "last-applied-Zq7secret9xK"}]}})
    meta = {
        "name": name,
        "namespace": "shop",
        **noise,
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": repeats},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": name, **container}]}}
    return {"metadata": meta, "spec": {"replicas": 3, "template": template, **more}, "status": {"replicas": 3}}


LISTS: dict[str, list[dict[str, Any]]] = {
    "deployments": [
        run(
            "web",
            {"app": "web"},
            {
                "image": "shop/web:3",
                "ports": [{"containerPort": 8080}],
                "env": [
                    {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                    {"name": "DB_HOST", "value": "db"},
                    {"name": "STRIPE_KEY", "valueFrom": {"secretKeyRef": {"name": "stripe", "key": "key"}}},
                ],
            },
        )
    ],
    "statefulsets": [
        run("db", {"app": "db"}, {"image": "postgres:16", "env": [{"name": "POSTGRES_DB", "value": "shop"}]}, serviceName="db")
    ],
    "pods": [
        {
            "metadata": {"name": "web-1", "ownerReferences": [{"kind": "ReplicaSet", "controller": True}]},
            "spec": {"containers": []},
        }
    ],
    "services": [
        {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"selector": {"app": "db"}, "ports": [{"port": 5432}]}}
    ],
    "configmaps": [{"metadata": {"name": "kube-root-ca.crt", "namespace": "shop"}, "data": {"ca.crt": "x"}}],
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """An environment whose KUBECONFIG leads to the server, (method, path) of what was asked, and what it refuses to list."""
    asked: list[tuple[str, str]] = []
    forbidden: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            path = self.path.partition("?")[0]
            asked.append((self.command, path))
            plural = path.rpartition("/")[2]
            status, body = 200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": LISTS.get(plural, [])}
            if path == "/api/v1/namespaces/shop":
                body = {"kind": "Namespace", "metadata": {"name": "shop"}}
            elif "/namespaces/shop/" not in path:
                status, body = 404, {"kind": "Status", "code": 404, "message": "not found"}
            elif plural in forbidden:
                message = (
                    f'{plural} is forbidden: User "x" cannot list resource "{plural}" in API group "" in the namespace "shop"'
                )
                status, body = 403, {"kind": "Status", "code": 403, "message": message}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "kubeconfig"), "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    try:
        yield environment, asked, forbidden
    finally:
        server.shutdown()


def podctl(directory: Path, environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podctl", "topology", "import", *arguments]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60)


def test_a_namespace_is_read_and_its_secrets_are_not(tmp_path: Path, cluster: Cluster) -> None:
    environment, asked, _ = cluster
    done = podctl(tmp_path, environment, "--namespace", "shop", "-o", "topology.yaml", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert {method for method, _ in asked} == {"GET"} and not any("secret" in path for _, path in asked)
    plain = yaml.safe_load((tmp_path / "topology.yaml").read_text())
    assert plain["name"] == "shop" and plain["origin"]["kind"] == "namespace"
    assert plain["databases"] == {"db": {"name": "shop"}} and list(plain["services"]) == ["web"]
    web = plain["services"]["web"]
    assert web["environment"]["DB_PASSWORD"] == "${db.password}" and web["environment"]["DB_HOST"] == "${db.host}"
    assert web["environment"]["STRIPE_KEY"].startswith("podctl-replaced-")
    report = json.loads(done.stdout)
    line = next(line for line in report["items"] if line["key"] == "replicas" and line["subject"] == "service web")
    assert (line["was"], line["now"], line["file"]) == ("3", "1", "shop/Deployment/web") and line["line"] > 1
    assert "last-applied-Zq7secret9xK" not in done.stdout + (tmp_path / "topology.yaml").read_text()


@pytest.mark.parametrize(
    ("resource", "code", "word"),
    [("ingresses", 0, ""), ("deployments", 3, "may not list deployments"), ("the namespace", 3, "no namespace elsewhere")],
)
def test_what_is_missing_is_named_where_it_is_needed(
    resource: str, code: int, word: str, tmp_path: Path, cluster: Cluster
) -> None:
    environment, _, forbidden = cluster
    forbidden.add(resource)
    name = "elsewhere" if resource == "the namespace" else "shop"
    done = podctl(tmp_path, environment, "--namespace", name, "-o", "topology.yaml")
    assert done.returncode == code and word in done.stderr, done.stderr
    assert (tmp_path / "topology.yaml").exists() == (code == 0)
