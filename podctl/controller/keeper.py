"""A process that keeps one pod until it is told to let go, its time is over, or it dies.

Started detached by `podctl up`; answers on a Unix socket in the pod's directory: one JSON request a connection.
It owns the pod, so the pod dies with it and `gc` finds the rest.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from podctl.agents.identity import agent_digest
from podctl.backends.base import Command
from podctl.backends.local.backend import LocalBackend
from podctl.backends.local.state import State
from podctl.controller.run import admit
from podctl.errors import PodctlError, refused_by_system
from podctl.gateway.client import Gateway
from podctl.gateway.contract import GatewayConfig, provider_keys
from podctl.pods.plan import PodSpec, steps
from podctl.runs.access import give_access, new_role, who_works
from podctl.spec.bundle import Bundle
from podctl.spec.load import load_bundle

SOCKET = "keeper.sock"


class Keeper:
    def __init__(self, bundle: Bundle, pod: str, ttl_s: float) -> None:
        self._bundle = bundle
        self._spec = PodSpec(pod, "kept", bundle.topology)
        self._ttl_s = ttl_s
        self._state = State.open()
        self._backend = LocalBackend(self._state, ttl_s=ttl_s, kept=True)
        self._done = asyncio.Event()
        self._busy = asyncio.Lock()
        self._environment: dict[str, str] = {}

    async def keep(self, ready: Any) -> None:
        """Make the pod, say so on ``ready``, serve until the end, remove the pod."""
        await admit(self._backend, self._bundle)
        await self._backend.prepare(self._bundle)
        upstream = self._bundle.scenario.model
        gateway = await Gateway.start(
            GatewayConfig(
                upstream=upstream,
                keys=provider_keys(upstream, os.environ),
                run_dollars=self._bundle.scenario.limits.run_dollars,
            )
        )
        try:
            for step in steps(self._spec, {}):
                await self._backend.apply(self._spec, step)
            await self._open_attempt(gateway)
            server = await asyncio.start_unix_server(self._serve, str(self._directory / SOCKET))
            (self._directory / SOCKET).chmod(0o600)
            ready({"pod": self._spec.id})
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._done.set)
            try:
                await asyncio.wait_for(self._done.wait(), self._ttl_s)
            except TimeoutError:
                pass
            server.close()
        finally:
            await gateway.stop()
            await self._backend.delete(self._spec.id)

    @property
    def _directory(self) -> Path:
        return self._state.directory(self._spec.id)

    async def _open_attempt(self, gateway: Gateway) -> None:
        doors, dialer = self._backend.doors(self._spec.id, gateway.pid)
        await gateway.open_pod(self._spec.id, doors, dialer)
        identity, pod = agent_digest(self._bundle.agent), self._spec.id
        access = await give_access(
            self._backend,
            gateway,
            self._bundle,
            identity,
            pod=pod,
            identified=who_works(self._bundle, identity, pod=pod, attempt=f"kept.{pod}", role=new_role()),
            evidence=self._directory / "gateway.jsonl",
        )
        self._environment = access.environment

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = json.loads(await reader.readline())
            reply = await self._answer(request)
        except PodctlError as error:
            reply = {"error": error.what, "code": error.code, "cause": error.cause, "hint": error.hint}
        except (ValueError, KeyError) as error:
            reply = {"error": f"a malformed request: {error}", "code": "keeper-request"}
        writer.write(json.dumps(reply).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        match request["op"]:
            case "down":
                self._done.set()
                return {"ok": True}
            case "conninfo":
                return {"conninfo": self._backend.conninfo(self._spec.id, request["database"])}
            case "exec":
                limits = self._bundle.scenario.limits
                async with self._busy:
                    done = await self._backend.execute(
                        self._spec.id,
                        Command(
                            argv=tuple(request["argv"]),
                            environment=self._environment,
                            directory=self._bundle.agent.directory,
                            read_only=self._bundle.agent.read_only,
                            wall_s=request["timeout"],
                            memory=limits.memory,
                            cpu=limits.cpu,
                            processes=limits.processes,
                            disk=limits.disk,
                            output=limits.output,
                        ),
                    )
                return {
                    "code": done.code if done.code is not None else 128 + (done.signal or 0),
                    "limit": done.limit,
                    "stdout": base64.b64encode(done.stdout).decode(),
                    "stderr": base64.b64encode(done.stderr).decode(),
                }
            case other:
                raise PodctlError(f"no operation {other!r}", code="keeper-request")


def main() -> None:
    """Reads its orders from standard input and says how it went on standard output, one JSON line each."""
    orders = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(1), "w")
    log = os.open(orders["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)

    def ready(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.close()

    try:
        bundle = load_bundle(Path(orders["scenario"]))
        asyncio.run(Keeper(bundle, orders["pod"], orders["ttl"]).keep(ready))
    except (PodctlError, OSError) as error:
        problem = refused_by_system(error) if isinstance(error, OSError) else error
        if problem is None:
            raise
        if not out.closed:
            ready({"error": problem.what, "code": problem.code, "cause": problem.cause, "hint": problem.hint})
        sys.exit(int(problem.exit_code))


if __name__ == "__main__":
    main()
