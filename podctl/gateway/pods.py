"""A pod's doors: who is let in, where they lead, and cutting them when an attempt ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web

from podctl.gateway import proposing
from podctl.gateway.attempts import Attempt, RunLedger
from podctl.gateway.contract import DoorKind, GatewayConfig, GatewayError, Target, Totals
from podctl.gateway.dialer import Dialer
from podctl.gateway.models import ROUTES, ModelDoor
from podctl.gateway.proxy import ServiceDoor
from podctl.gateway.relay import relay
from podctl.gateway.replies import Crowded, crowded, evidence_full, no_attempt, refusal
from podctl.gateway.telemetry import PATHS, receive

if TYPE_CHECKING:
    from podctl.gateway.tooldoor import ToolDoor

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

#: Connections that one pod may hold at the gateway at once; more wait.
MAX_CONNECTIONS = 256
#: Connections through one raw door at once. A server counts them before anybody has logged in: what an agent may hold
#: must leave most of PostgreSQL's 40 to services and to podctl.
MAX_RAW = 16
_ACCEPT_PAUSE = 0.02
#: How long the work of a closed attempt may take to notice that it was cancelled.
_CANCEL_WAIT = 5.0


@dataclass(frozen=True)
class OpenDoor:
    """The gateway's side of a door: the same as the client's, with a listener of its own."""

    kind: DoorKind
    name: str
    listener: socket.socket
    target: Target | None


def _service_door(kind: DoorKind) -> type[ServiceDoor | ToolDoor]:
    if kind == "http":
        return ServiceDoor
    from podctl.gateway.tooldoor import (
        ToolDoor,
    )  # most of a second to import, which pods without such servers need not wait for

    return ToolDoor


class Pod:
    """Exactly one attempt at a time; with none, HTTP doors answer 503 and raw doors hang up."""

    def __init__(self, name: str, dialer: Dialer | None, config: GatewayConfig, models: ModelDoor) -> None:
        self.name = name
        self.attempt: Attempt | None = None
        self._dialer = dialer
        self._config = config
        self._models = models
        self._accepting: list[asyncio.Task[None]] = []
        self._http: list[web.Server] = []
        self._services: dict[str, ServiceDoor | ToolDoor] = {}
        self._relays: set[asyncio.Task[None]] = set()

    async def open(self, doors: Sequence[OpenDoor]) -> None:
        if self._dialer is not None:
            self._dialer.start()
        for door in doors:
            self._open_door(door)

    def _open_door(self, door: OpenDoor) -> None:
        if door.kind == "gateway":
            self._listen_http(door.listener, self._gateway_door)
        elif door.target is None:
            raise GatewayError(f"door {door.name} leads nowhere", code="gateway-door", cause="it has no target")
        elif door.kind in ("http", "mcp"):
            service = _service_door(door.kind)(door.name, door.target, self._dialer, self._config.connect_timeout)
            self._services[door.name] = service
            self._listen_http(door.listener, partial(self._service_door, service))
        else:
            relays: set[asyncio.Task[None]] = set()
            raw = partial(self._raw_door, door, door.target, relays)
            protocol = lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(), raw)  # noqa: E731
            self._listen(door.listener, protocol, lambda: len(relays) < MAX_RAW)

    def _listen_http(self, listener: socket.socket, handler: Handler) -> None:
        # Compressed bodies pass services untouched and are inflated under a cap elsewhere.
        server = web.Server(handler, access_log=None, auto_decompress=False, max_field_size=64 * 1024, max_line_size=64 * 1024)
        self._http.append(server)
        self._listen(listener, server)

    def _listen(
        self, listener: socket.socket, protocol: Callable[[], asyncio.BaseProtocol], room: Callable[[], bool] = lambda: True
    ) -> None:
        listener.setblocking(False)
        self._accepting.append(asyncio.create_task(self._accept(listener, protocol, room)))

    async def _accept(
        self, listener: socket.socket, protocol: Callable[[], asyncio.BaseProtocol], room: Callable[[], bool]
    ) -> None:
        """Let connections in up to the pod's share and the door's, so that a flood takes nothing from others."""
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                # Left in the kernel's queue, not hung up on: whoever floods would only come back at once.
                while self._connections >= MAX_CONNECTIONS or not room():
                    await asyncio.sleep(_ACCEPT_PAUSE)
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError:
                    await asyncio.sleep(_ACCEPT_PAUSE)
                    continue
                try:
                    await loop.connect_accepted_socket(protocol, connection)
                except OSError:
                    connection.close()

    @property
    def _connections(self) -> int:
        return sum(len(server.connections) for server in self._http) + len(self._relays)

    async def _gateway_door(self, request: web.BaseRequest) -> web.StreamResponse:
        attempt = self.attempt
        if attempt is None:
            return no_attempt()
        path = request.rel_url.path
        route = ROUTES.get((request.method, path))
        telemetry = request.method == "POST" and path in PATHS
        proposes = (request.method, path) == ("POST", proposing.PATH)
        proposes = proposes or (request.method == "GET" and path.startswith(f"{proposing.PATH}/"))
        if route is None and not telemetry and not proposes:
            return refusal(404, "not_found_error", f"the gateway does not know {request.method} {path[:200]}")
        if proposes:
            answer = proposing.receive(request, path, attempt, self._services)
        elif route is None:
            answer = receive(request, path, attempt)
        else:
            answer = self._models.handle(request, *route, attempt)
        return await _under_way(request, attempt, answer)

    async def _service_door(self, service: ServiceDoor | ToolDoor, request: web.BaseRequest) -> web.StreamResponse:
        attempt = self.attempt
        if attempt is None:
            return no_attempt()
        if attempt.full:
            return evidence_full()
        return await _under_way(request, attempt, service.handle(request, attempt))

    async def _raw_door(
        self,
        door: OpenDoor,
        target: Target,
        relays: set[asyncio.Task[None]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        attempt = self.attempt
        if attempt is None:
            writer.transport.abort()
            return
        allowed = attempt.granted.services
        if door.kind == "raw" and allowed and door.name not in allowed:
            attempt.way_out("tcp", door.name, "a connection to a service that is not among the agent's tools")
            writer.transport.abort()
            return
        if door.kind == "raw" and attempt.decider is not None:
            decided = attempt.decider.connect(attempt.granted.agent, door.name)
            if not decided.allowed:
                attempt.way_out("tcp", door.name, "a connection to a service that the boundary does not open whole", decided)
                writer.transport.abort()
                return
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        relays.add(task)
        try:
            # What goes to a database its own log tells, in plain text.
            look = attempt.looking(f"connection to {door.name}") if door.kind == "raw" else None
            hold = attempt.holding() if door.kind == "tcp" else None
            await relay(reader, writer, target, self._dialer, self._config.connect_timeout, look, hold)
        finally:
            self._relays.discard(task)
            relays.discard(task)

    # ---- attempts ----

    def open_attempt(self, attempt: Attempt) -> None:
        if self.attempt is not None:
            raise GatewayError(
                f"pod {self.name} already works on attempt {self.attempt.id}",
                code="gateway-attempt",
                cause="exactly one attempt is open on a pod at a time",
            )
        self.attempt = attempt

    async def close_attempt(self, run: RunLedger) -> Totals:
        """Cut every connection, settle every call, close the evidence."""
        attempt, self.attempt = self.attempt, None
        assert attempt is not None
        for server in self._http:
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        if attempt.desk is not None:
            await attempt.desk.close()
        cut = {*self._relays, *attempt.other_tasks}
        for task in cut:
            task.cancel()
        if attempt.model_tasks:
            await asyncio.wait(attempt.model_tasks, timeout=self._config.drain)
        late = set(attempt.model_tasks)
        for task in late:
            task.cancel()
        if cut or late:
            await asyncio.wait(cut | late, timeout=_CANCEL_WAIT)
        run.closed(attempt)
        attempt.close()
        return attempt.totals

    async def close(self, run: RunLedger) -> None:
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        if self.attempt is not None:
            await self.close_attempt(run)
        for http in self._http:
            await http.shutdown(0.1)
        for service in self._services.values():
            await service.close()
        if self._dialer is not None:
            self._dialer.close()


async def _under_way(request: web.BaseRequest, attempt: Attempt, answer: Awaitable[web.StreamResponse]) -> web.StreamResponse:
    """The answer to a request of an attempt: cut when the attempt ends, and what the request held in memory is let go."""
    task = asyncio.current_task()
    assert task is not None
    attempt.other_tasks.add(task)
    try:
        return await answer
    except Crowded:
        return crowded()
    finally:
        attempt.bodies.let_go(request)
        attempt.other_tasks.discard(task)
