"""Small projects for end-to-end tests, run through the real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podctl.backends.local.reap import group_directories
from podctl.backends.local.state import State
from podctl.clock import SystemClock
from podctl.evidence.results import AttemptResult, RunResult
from podctl.evidence.store import Store

SCHEMA = """
create table items (id int primary key, label text not null, secret text not null default 'hidden');
insert into items select n, 'item ' || n from generate_series(1, 20) n;
create table ledger (id serial primary key, amount numeric not null);
"""

#: A service with a memory: it counts its callers, and can rename an item.
SERVICE = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
seen = 0
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def do_GET(self):
        global seen
        if self.path != "/healthz":
            seen += 1
        self.answer({"seen": seen, "path": self.path})
    def do_POST(self):
        import psycopg
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            connection.execute("update items set label = %s where id = %s", (body["label"], body["id"]))
        self.answer({"ok": True})
    def log_message(self, *arguments):
        pass
HTTPServer((os.environ["HOST"], 8080), Handler).serve_forever()
"""


@dataclass
class Project:
    root: Path

    @property
    def store(self) -> Path:
        return self.root / ".podctl"

    def podctl(
        self, *arguments: str, timeout: float = 120, through: Sequence[str] = (), **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """``through``: a program that starts podctl, and its arguments."""
        return subprocess.run(
            [*through, sys.executable, "-m", "podctl", *arguments],
            cwd=self.root,
            env=environment_for(environment),
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=timeout,
        )

    def start(self, *arguments: str, through: Sequence[str] = (), **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*through, sys.executable, "-m", "podctl", *arguments],
            cwd=self.root,
            env=environment_for(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, name: str = "latest") -> RunResult:
        store = Store.open(self.store, SystemClock())
        try:
            return store.load_run(store.find_run(name))
        finally:
            store.close()

    def attempts(self, name: str = "latest") -> dict[str, AttemptResult]:
        """By ticket."""
        return {attempt.ticket: attempt for attempt in self.run(name).attempts}

    def records(self, ticket: str, kind: str = "") -> list[dict[str, Any]]:
        result = self.run()
        attempt = next(attempt for attempt in result.attempts if attempt.ticket == ticket)
        path = self.store / "runs" / result.info.id / "attempts" / attempt.id / "evidence.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        return [record for record in records if not kind or record["kind"] == kind]


def environment_for(extra: dict[str, str]) -> dict[str, str]:
    package = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(package), "NO_COLOR": "1", "COLUMNS": "120", **extra}


def make_project(
    root: Path,
    *,
    agent: str,
    tickets: list[dict[str, Any]],
    command: list[str] | None = None,
    scenario: dict[str, Any] | None = None,
    boundary: dict[str, Any] | None = None,
    agent_spec: dict[str, Any] | None = None,
    service: str = SERVICE,
) -> Project:
    """A project with one database, one service and one agent, whose code is ``agent`` (a Python program)."""
    header = {"apiVersion": "podctl/v1"}
    (root / "agent").mkdir(parents=True)
    (root / "service").mkdir()
    (root / "agent" / "main.py").write_text(agent)
    (root / "service" / "service.py").write_text(service)
    (root / "schema.sql").write_text(SCHEMA)
    (root / "tickets.jsonl").write_text("".join(json.dumps(ticket) + "\n" for ticket in tickets))
    specs: dict[str, dict[str, Any]] = {
        "topology": {
            "kind": "Topology",
            "name": "small",
            "databases": {"main-db": {"name": "main", "seed": {"sql": ["schema.sql"]}}},
            "services": {
                "counter": {
                    "command": ["${python}", "-B", "service.py"],
                    "directory": "service",
                    "environment": {"HOST": "${counter.host}", "DATABASE_URL": "${main-db.url}"},
                    "ready": {"path": "/healthz"},
                    "depends_on": ["main-db"],
                }
            },
        },
        "tickets": {
            "kind": "Tickets",
            "name": "small",
            "source": "tickets.jsonl",
            "fields": {"text": "text", "stratum": "queue", "reference": "reference"},
        },
        "agent": {
            "kind": "Agent",
            "name": "tester",
            "version": "1",
            "command": command or ["${python}", "-B", "/agent/main.py"],
            "directory": "agent",
            **(agent_spec or {}),
        },
        "boundary": {
            "kind": "Boundary",
            "name": "small",
            "databases": boundary
            if boundary is not None
            else {"main-db": {"items": {"read": ["id", "label"], "update": ["label"]}}},
            "services": {"counter": "ai-writable"},
        },
        "scenario": {
            "kind": "Scenario",
            "name": "small",
            "topology": "topology.yaml",
            "tickets": "tickets.yaml",
            "agent": "agent.yaml",
            "boundary": "boundary.yaml",
            "run": {"pods": 2},
            "limits": {"wall": "20s"},
            "checks": [{"kind": "state"}],
            "gate": {"pass_rate": 0.5},
            **(scenario or {}),
        },
    }
    for name, body in specs.items():
        (root / f"{name}.yaml").write_text(yaml.safe_dump({**header, **body}, sort_keys=False))
    return Project(root)


def ticket(id_: str, text: str = "", changes: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {"id": id_, "queue": "q", "text": text, "reference": {"changes": changes or []}, **more}


def relabel(item: int, label: str) -> dict[str, Any]:
    return {"database": "main-db", "table": "items", "op": "update", "key": {"id": item}, "values": {"label": label}}


def traces_of(result: RunResult) -> list[str]:
    """What is left on this machine of a run's pods: directories, control groups, processes under their uids."""
    state = State.open()
    found = [f"pod {record.id}" for record in state.records() if record.run == result.info.id]
    for pod in {attempt.pod for attempt in result.attempts}:
        found += [str(path) for path in (state.directory(pod), *group_directories(state, pod)) if path.exists()]
    return found
