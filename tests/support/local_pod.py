"""Commands in a bare local pod, without services or databases, for tests of what surrounds a command."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.backends.base import Command, Exit
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.pods.plan import PodSpec, steps
from podctl.spec.load import load_bundle


@dataclass
class BarePod:
    backend: LocalBackend
    id: str
    directory: Path

    async def python(self, program: str, *arguments: str, **limits: Any) -> Exit:
        """Run a program in the sandbox; ``limits`` are `Command`'s."""
        return await self.run(("${python}", "-S", "-c", program, *arguments), **limits)

    async def run(self, argv: tuple[str, ...], environment: Mapping[str, str] | None = None, **limits: Any) -> Exit:
        command = Command(argv=argv, environment=environment or {}, directory=self.directory, **{"wall_s": 20.0} | limits)
        return await self.backend.execute(self.id, command)


FILES = {
    "topology.yaml": "kind: Topology\nname: bare\n",
    "tickets.jsonl": '{"id": "1"}\n',
    "tickets.yaml": "kind: Tickets\nname: bare\nsource: tickets.jsonl\n",
    "agent/main.py": "",
    "agent.yaml": "kind: Agent\nname: bare\nversion: '1'\ncommand: [/bin/true]\ndirectory: agent\n",
    "boundary.yaml": "kind: Boundary\nname: bare\n",
    "scenario.yaml": "kind: Scenario\nname: bare\ntopology: topology.yaml\ntickets: tickets.yaml\nagent: agent.yaml\n"
    "boundary: boundary.yaml\nchecks: [{kind: output, name: o, path: status, equals: done}]\n",
}


@asynccontextmanager
async def bare_pod(directory: Path) -> AsyncIterator[BarePod]:
    (directory / "agent").mkdir(parents=True)
    for name, text in FILES.items():
        header = "apiVersion: podctl/v1\n" if name.endswith(".yaml") else ""
        (directory / name).write_text(header + text)
    bundle = load_bundle(directory / "scenario.yaml")
    backend = LocalBackend(State.open())
    await backend.prepare(bundle)
    spec = PodSpec(f"bare-{secrets.token_hex(4)}", "bare", bundle.topology)
    try:
        for step in steps(spec, {}):
            await backend.apply(spec, step)
        yield BarePod(backend, spec.id, bundle.agent.directory)
    finally:
        await backend.delete(spec.id)
        await backend.close()
