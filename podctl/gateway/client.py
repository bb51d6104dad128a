"""podctl's side of the gateway: start its process, open pods and attempts, learn at once when it dies."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import podctl
from podctl.evidence.log import open_stream
from podctl.gateway.channel import Channel
from podctl.gateway.contract import AttemptPass, DoorKind, GatewayConfig, GatewayError, GatewayLost, RunTotals, Target, Totals

#: Called with each event, in podctl's event loop; may be a coroutine function.
OnEvent = Callable[[dict[str, Any]], Any]

_INHERITED = ("PATH", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR")
_STOP_WAIT = 10.0


@dataclass(frozen=True)
class Door:
    """A listening stream socket, of any network namespace, and where it leads.

    ``gateway``: model API and telemetry, no target. ``http``: a recorded reverse proxy to the service ``name``.
    ``tcp``: a raw relay. ``target`` is an address and a port, in the pod's network when the pod has a dialer, or the
    path of a Unix socket. The listener may be a Unix socket too.
    """

    kind: DoorKind
    name: str
    listener: socket.socket
    target: Target | None = None


class Gateway:
    """One gateway process. Every call raises `GatewayLost` once the process is gone, also those under way."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel, stderr: IO[bytes], on_event: OnEvent | None) -> None:
        self._process = process
        self._channel = channel
        self._stderr = stderr
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Future[Any]] = set()
        #: Set when the process is gone, whether it was stopped or died.
        self.closed = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())

    @staticmethod
    async def start(config: GatewayConfig, on_event: OnEvent | None = None) -> Gateway:
        """Raises `GatewayError` when the configuration cannot be used and `GatewayLost` when the process dies."""
        ours, theirs = socket.socketpair()
        stderr = tempfile.TemporaryFile()
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        environment["PYTHONPATH"] = str(Path(podctl.__file__).parent.parent)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "podctl.gateway.process", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                # An interrupt at the terminal is podctl's to handle; the gateway ends after the pods.
                start_new_session=True,
            )
        gateway = Gateway(process, Channel(ours), stderr, on_event)
        try:
            await gateway._ask("configure", config=config.to_json())
        except BaseException:
            await gateway.stop()
            raise
        return gateway

    @property
    def pid(self) -> int:
        return self._process.pid

    async def open_pod(self, pod: str, doors: Sequence[Door], dialer: socket.socket | None = None) -> None:
        """Takes over the listeners and the dialer: podctl's own copies are closed."""
        sockets = [door.listener for door in doors] + ([] if dialer is None else [dialer])
        told = [{"kind": door.kind, "name": door.name, "target": door.target} for door in doors]
        try:
            fds = [sock.fileno() for sock in sockets]
            await self._ask("open_pod", fds, pod=pod, doors=told, dialer=dialer is not None)
        finally:
            for sock in sockets:
                sock.close()

    async def open_attempt(self, granted: AttemptPass) -> None:
        """Raises `GatewayError` when the pod is unknown or has an attempt open, OSError for the evidence path."""
        fd = open_stream(granted.evidence)
        try:
            await self._ask("open_attempt", [fd], attempt=granted.to_json())
        finally:
            os.close(fd)

    async def release_attempt(self, attempt: str) -> None:
        """Let the call go on that an attempt's trigger holds."""
        await self._ask("release_attempt", attempt=attempt)

    async def close_attempt(self, attempt: str) -> Totals:
        """Cuts the attempt's connections and says what it came to; its evidence is complete then."""
        return Totals.from_json(await self._ask("close_attempt", attempt=attempt))

    async def grant(self, attempt: str, proposal: str, envelope: str) -> str:
        """Hand in what somebody answered to a proposal; why the gateway does not take it, or nothing."""
        return str((await self._ask("grant", attempt=attempt, proposal=proposal, envelope=envelope))["refused"])

    async def close_pod(self, pod: str) -> None:
        """Also closes its attempt; a pod that is not open is no error."""
        await self._ask("close_pod", pod=pod)

    async def totals(self) -> RunTotals:
        return RunTotals.from_json(await self._ask("totals"))

    async def stop(self) -> None:
        """End the process, in order when it still answers; no error when it is gone already."""
        if not self.closed.is_set():
            try:
                async with asyncio.timeout(_STOP_WAIT):
                    await self._ask("stop")
                    await self.closed.wait()
            except (GatewayLost, GatewayError):
                pass
            except TimeoutError:
                self._process.kill()
        await self.closed.wait()
        await asyncio.to_thread(self._process.wait)
        self._stderr.close()

    async def _ask(self, op: str, fds: Sequence[int] = (), **arguments: Any) -> dict[str, Any]:
        if self.closed.is_set():
            raise self._lost()
        number = next(self._ids)
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = reply
        try:
            await self._channel.send({"id": number, "op": op, **arguments}, fds)
            return await reply
        except OSError as error:
            raise self._lost() from error
        finally:
            self._pending.pop(number, None)

    async def _listen(self) -> None:
        try:
            while (received := await self._channel.receive()) is not None:
                message, _ = received
                if "event" in message:
                    self._tell(message)
                    continue
                reply = self._pending.get(message["id"])
                if reply is not None and not reply.done():
                    error = message.get("error")
                    if error is None:
                        reply.set_result(message["ok"])
                    else:
                        reply.set_exception(_error(error))
        finally:
            self.closed.set()
            self._channel.close()
            for reply in self._pending.values():
                if not reply.done():
                    reply.set_exception(self._lost())

    def _tell(self, event: dict[str, Any]) -> None:
        if self._on_event is not None:
            returned = self._on_event(event)
            if inspect.isawaitable(returned):
                task = asyncio.ensure_future(returned)
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _lost(self) -> GatewayLost:
        cause = "its process is gone"
        if not self._stderr.closed:
            self._stderr.seek(0)
            said = self._stderr.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
            cause += f"; it last said: {said[-1][:300]}" if said else ""
        return GatewayLost("the gateway was lost", code="gateway-lost", cause=cause, hint="run the command again")


def _error(told: Mapping[str, Any]) -> GatewayError:
    return GatewayError(told["what"], code=told["code"], cause=told.get("cause", ""), hint=told.get("hint", ""))
