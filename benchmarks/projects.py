"""The project that every benchmark of pods uses: one database, two small services, an agent that does nothing."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from podctl.backends.local.backend import LocalBackend
from podctl.pods.plan import PodSpec, batches, steps

ROOT = Path(__file__).resolve().parents[1]

#: Rows of about 460 bytes: 115,000 are 50 MB of table files.
_SEED = """
create table items (id int primary key, label text not null, note text not null);
insert into items select n, 'item ' || n, repeat(md5(n::text), 13) from generate_series(1, {rows}) n;
create table ledger (id serial primary key, amount numeric not null);
"""
_ROWS_A_MEGABYTE = 2150

#: A service as small as Python allows: sockets and nothing else, so that what is measured is podctl.
SMALL_SERVICE = """
import os, socket, _thread
def answer(connection):
    with connection:
        while request := connection.recv(65536):
            connection.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-type: application/json\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
            if b"\\nConnection: close" in request:
                break
listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=128)
while True:
    _thread.start_new_thread(answer, (listener.accept()[0],))
"""

#: What most people would write instead; its imports cost several times as much.
STANDARD_SERVICE = """
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *arguments):
        pass
ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""

NOOP = ["/bin/sh", "-c", """echo '{"status": "done"}' > result.json"""]


@dataclass(frozen=True)
class Done:
    """``peak_mb``: the most memory that podctl's process held, without its children."""

    stdout: str
    peak_mb: float


@dataclass(frozen=True)
class Project:
    root: Path

    @property
    def store(self) -> Path:
        return self.root / ".podctl"

    @property
    def scenario(self) -> Path:
        return self.root / "scenario.yaml"

    def podctl(self, *arguments: str, under: tuple[str, ...] = (), timeout: float = 3600) -> Done:
        """``under``: a command that runs it. Raises `RuntimeError` with what it printed when it fails."""
        command = [*under, sys.executable, "-m", "podctl", *arguments]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                command, cwd=self.root, env=environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            began, peak = time.monotonic(), 0.0
            while process.poll() is None:
                peak = max(peak, peak_mb(process.pid))
                if time.monotonic() - began > timeout:
                    process.kill()
                time.sleep(0.05)
            out.seek(0)
            err.seek(0)
            if process.returncode:
                said = err.read().decode()[-2000:]
                raise RuntimeError(f"podctl {' '.join(arguments)} exited with {process.returncode}:\n{said}")
            return Done(out.read().decode(), peak)


def peak_mb(pid: int | str) -> float:
    """The most that the process has held since it was executed; rusage would count its parent's memory before that."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


async def bring(backend: LocalBackend, spec: PodSpec) -> None:
    """Make the pod, in the same batches of steps as a run does."""
    for batch in batches(steps(spec, await backend.observe(spec.id)), spec.topology):
        await asyncio.gather(*(backend.apply(spec, step) for step in batch))


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PODCTL_QUIET": "1"}


def make_project(
    root: Path,
    *,
    megabytes: float = 0,
    services: int = 2,
    service: str = SMALL_SERVICE,
    tickets: int = 10,
    command: list[str] | None = None,
    seed: str = "",
    **scenario: Any,
) -> Project:
    """``megabytes`` of table data, and what ``seed`` makes; every ticket expects that nothing changes; ``scenario`` goes on
    top of the scenario."""
    root.mkdir(parents=True)
    for name in ("agent", "service"):
        (root / name).mkdir()
    (root / "service" / "service.py").write_text(service)
    (root / "schema.sql").write_text(_SEED.format(rows=max(20, int(megabytes * _ROWS_A_MEGABYTE))) + seed)
    lines = [json.dumps({"id": f"T-{n:05d}", "queue": "q", "reference": {"changes": []}}) for n in range(tickets)]
    (root / "tickets.jsonl").write_text("\n".join(lines) + "\n")
    specs: dict[str, dict[str, Any]] = {
        "topology": {
            "kind": "Topology",
            "databases": {"main-db": {"name": "main", "seed": {"sql": ["schema.sql"]}}},
            "services": {f"service-{n}": _service(f"service-{n}") for n in range(1, services + 1)},
        },
        "tickets": {
            "kind": "Tickets",
            "source": "tickets.jsonl",
            "fields": {"stratum": "queue", "reference": "reference"},
        },
        "agent": {"kind": "Agent", "version": "1", "command": command or NOOP, "directory": "agent"},
        "boundary": {"kind": "Boundary", "databases": {"main-db": {"items": {"read": True, "update": ["label"]}}}},
        "scenario": {
            "kind": "Scenario",
            **{name: f"{name}.yaml" for name in ("topology", "tickets", "agent", "boundary")},
            "sample": {"size": "all"},
            "limits": {"wall": "60s"},
            "checks": [{"kind": "state"}],
            "gate": {"pass_rate": 1.0},
            **scenario,
        },
    }
    for name, body in specs.items():
        whole = {"apiVersion": "podctl/v1", "name": "benchmark", **body}
        (root / f"{name}.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return Project(root)


def _service(name: str) -> dict[str, Any]:
    return {
        "command": ["${python}", "-I", "-S", "service.py"],
        "directory": "service",
        "environment": {"HOST": f"${{{name}.host}}", "PORT": f"${{{name}.port}}"},
        "ready": {"path": "/healthz"},
        "depends_on": ["main-db"],
    }
