"""A service's Pod, and orders to the supervisor in it."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from podctl.backends.containers.launch import Launch, exit_or_signal
from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.forwarded import ask
from podctl.backends.kubernetes.objects import orders_port
from podctl.backends.kubernetes.problems import ClusterProblem

_LISTENS_S = 10.0
_CLEAR_S = 4.0
_ANSWER_S = 10.0
_LOG_S = 2.0  # until what a container said is in its log, on a busy node


class Supervised:
    """One service in one Pod, ``pod``, which may be started several times. ``started_ns`` is by the node's clock.

    The key of the orders exists here and in the supervisor's memory.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, pod: str, ports: Sequence[int]) -> None:
        self._cluster, self._namespace, self._name = cluster, namespace, name
        self._port = orders_port(ports)
        self._key = secrets.token_hex(16)
        self.pod = pod
        self.used = False
        self.started_ns = 0

    async def start(self, launch: Launch, ready: tuple[str, str], wait_s: float) -> None:
        """Start the service and wait until (HOST:PORT, PATH) answers. Raises `ClusterProblem`."""
        self.used = True
        order = {"argv": launch.argv, "environment": launch.environment, "directory": launch.directory}
        told = await self._order({"order": "start", **order, "ready": ready, "wait_s": wait_s}, wait_s + _ANSWER_S)
        if "died" in told:
            code, number = exit_or_signal(int(told["died"]))
            how = f"exit code {code}" if number is None else f"signal {number}"
            raise ClusterProblem(
                f"service {self._name} ended before it was ready",
                code="service-ended",
                cause=f"{how}; it said: {await self._last_words() or 'nothing'}",
            )
        if "started" not in told:
            cause = str(told.get("late", ""))[:500]
            raise ClusterProblem(f"service {self._name} was not ready within {wait_s:g} s", code="not-ready", cause=cause)
        self.started_ns = int(float(told["started"]) * 1e9)

    async def _last_words(self) -> str:
        deadline = time.monotonic() + _LOG_S
        while True:
            log = (await self._cluster.log(self._namespace, self.pod))[-500:].decode("utf-8", "replace").strip()
            if log or time.monotonic() > deadline:
                return log
            await asyncio.sleep(0.1)

    async def clear(self) -> str:
        """End the service, and clear what it could write to. What may be left of it: then its Pod has to go."""
        try:
            return str((await self._order({"order": "clear"}, _CLEAR_S))["left"])
        except (ClusterProblem, KeyError) as problem:
            return f"its supervisor did not answer: {problem}"

    async def _order(self, order: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        line = json.dumps({"key": self._key, **order}).encode() + b"\n"
        try:
            async with asyncio.timeout(timeout_s):
                answer = await ask(self._cluster, self._namespace, self.pod, self._port, line, _LISTENS_S)
                return dict(json.loads(answer))
        except (OSError, ValueError, TimeoutError) as error:
            cause = str(error) or f"no answer within {timeout_s:g} s"
            raise ClusterProblem(
                f"the supervisor of service {self._name} cannot be asked", code="supervisor", cause=cause
            ) from error
