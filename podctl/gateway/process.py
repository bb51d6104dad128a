"""The gateway process of one run: ``python -m podctl.gateway.process FD``, where FD is its control channel.

Nothing secret is in its arguments or its environment: the configuration, with the providers' keys, is the first
message on the channel. When the channel ends, so does the process, unless it was told to linger.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from podctl.boundary.policies import Decider, Policy
from podctl.errors import PodctlError
from podctl.gateway.attempts import Attempt, RunLedger
from podctl.gateway.channel import Channel
from podctl.gateway.contract import AttemptPass, GatewayConfig, GatewayError
from podctl.gateway.desk import Desk
from podctl.gateway.dialer import Dialer
from podctl.gateway.models import ModelDoor
from podctl.gateway.pods import OpenDoor, Pod

Message = dict[str, Any]
_PR_SET_PDEATHSIG = 1


class GatewayProcess:
    """Carries out what podctl asks on the channel; pods are independent of one another."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._pods: dict[str, Pod] = {}
        self._stopped = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._config = GatewayConfig()
        self._models: ModelDoor | None = None
        self._run = RunLedger(None)
        self._deciders: dict[tuple[Policy, ...], Decider] = {}
        self._verbs: dict[str, Callable[[Message, list[int]], Awaitable[Message]]] = {
            "configure": self._configure,
            "open_pod": self._open_pod,
            "open_attempt": self._open_attempt,
            "release_attempt": self._release_attempt,
            "close_attempt": self._close_attempt,
            "grant": self._grant,
            "close_pod": self._close_pod,
            "totals": self._totals,
            "stop": self._stop,
        }

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        listening = loop.create_task(self._listen())
        stopping = loop.create_task(self._stopped.wait())
        await asyncio.wait((listening, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not self._stopped.is_set():
            if not self._config.linger:
                # podctl is gone: an orderly end would have nobody to report to, and every record is written already.
                os._exit(1)
            await stopping
        await self._close()
        listening.cancel()

    async def _close(self) -> None:
        for pod in self._pods.values():
            await pod.close(self._run)
        if self._models is not None:
            await self._models.close()

    async def _listen(self) -> None:
        while (received := await self._channel.receive()) is not None:
            self._keep(asyncio.create_task(self._answer(*received)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, message: Message, fds: list[int]) -> None:
        try:
            reply = {"id": message["id"], "ok": await self._verbs[message["op"]](message, fds)}
        except PodctlError as error:
            reply = {
                "id": message["id"],
                "error": {"what": error.what, "code": error.code, "cause": error.cause, "hint": error.hint},
            }
        except Exception as error:  # a bug must reach podctl, not leave it waiting
            reply = {"id": message["id"], "error": {"what": "the gateway failed", "code": "gateway-bug", "cause": repr(error)}}
        await self._send(reply)
        if message["op"] == "stop":
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        try:
            await self._channel.send(message)
        except OSError:
            pass  # the end of the channel is noticed where it is read

    def _emit(self, event: Message) -> None:
        self._keep(asyncio.create_task(self._send(event)))

    # ---- verbs ----

    async def _configure(self, message: Message, fds: list[int]) -> Message:
        self._config = GatewayConfig.from_json(message["config"])
        if not self._config.linger:
            _die_with_podctl()
        self._run = RunLedger(self._config.run_dollars)
        self._models = ModelDoor(self._config)
        return {"pid": os.getpid()}

    async def _open_pod(self, message: Message, fds: list[int]) -> Message:
        """Descriptors: one listener a door, in order, then the dialer when there is one."""
        name = message["pod"]
        listeners = [socket.socket(fileno=fd) for fd in fds]
        dialer = Dialer(listeners.pop()) if message["dialer"] else None
        if name in self._pods:
            for listener in listeners:
                listener.close()
            raise GatewayError(f"pod {name} is open already", code="gateway-pod", cause="a pod's name is used once")
        assert self._models is not None
        pod = Pod(name, dialer, self._config, self._models)
        doors = []
        for door, listener in zip(message["doors"], listeners, strict=True):
            listener.setblocking(False)
            told = door["target"]
            target = told if told is None or isinstance(told, str) else (str(told[0]), int(told[1]))
            doors.append(OpenDoor(door["kind"], door["name"], listener, target))
        await pod.open(doors)
        self._pods[name] = pod
        return {}

    async def _open_attempt(self, message: Message, fds: list[int]) -> Message:
        granted = AttemptPass.from_json(message["attempt"])
        pod = self._pod(granted.pod)
        attempt = Attempt(granted, fds[0], self._run, self._emit, self._decider(granted.policies))
        if granted.approvals is not None and attempt.decider is not None:
            attempt.desk = Desk(attempt, granted.approvals)
        try:
            pod.open_attempt(attempt)
        except GatewayError:
            attempt.close()
            raise
        self._run.opened(attempt)
        return {}

    def _decider(self, policies: tuple[Policy, ...] | None) -> Decider | None:
        """Parsed once: every attempt of a run has the same."""
        if policies is None:
            return None
        if policies not in self._deciders:
            try:
                self._deciders = {policies: Decider(policies)}
            except ValueError as error:
                raise GatewayError(
                    "the boundary's policies cannot be read", code="gateway-boundary", cause=str(error)
                ) from error
        return self._deciders[policies]

    async def _release_attempt(self, message: Message, fds: list[int]) -> Message:
        """What its trigger set off has happened. An attempt that ended meanwhile is no error."""
        for pod in self._pods.values():
            if pod.attempt is not None and pod.attempt.id == message["attempt"] and pod.attempt.trigger is not None:
                pod.attempt.trigger.release()
        return {}

    async def _close_attempt(self, message: Message, fds: list[int]) -> Message:
        for pod in self._pods.values():
            if pod.attempt is not None and pod.attempt.id == message["attempt"]:
                return (await pod.close_attempt(self._run)).to_json()
        raise GatewayError(
            f"attempt {message['attempt']} is not open", code="gateway-attempt", cause="it was closed, or never opened"
        )

    async def _grant(self, message: Message, fds: list[int]) -> Message:
        """What somebody answered to a proposal of an attempt: ``refused`` says why it is no answer."""
        open_ = (pod.attempt for pod in self._pods.values() if pod.attempt is not None)
        desk = next((attempt.desk for attempt in open_ if attempt.id == message["attempt"]), None)
        return {"refused": "the attempt has ended" if desk is None else desk.grant(message["proposal"], message["envelope"])}

    async def _close_pod(self, message: Message, fds: list[int]) -> Message:
        pod = self._pods.pop(message["pod"], None)
        if pod is not None:
            await pod.close(self._run)
        return {}

    async def _totals(self, message: Message, fds: list[int]) -> Message:
        return self._run.totals().to_json()

    async def _stop(self, message: Message, fds: list[int]) -> Message:
        return {}

    def _pod(self, name: str) -> Pod:
        if name not in self._pods:
            raise GatewayError(f"pod {name} is not open", code="gateway-pod", cause="open_pod comes before open_attempt")
        return self._pods[name]


def _die_with_podctl() -> None:
    """Whatever this process is doing, stopped or stuck: a call that it made later would be nobody's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


async def _main(fd: int) -> None:
    await GatewayProcess(Channel(socket.socket(fileno=fd))).run()


if __name__ == "__main__":
    os.umask(0o077)
    # Every pod's share of connections must fit; a shell's usual 1,024 descriptors are four pods' worth.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)  # what a server sends wrong would stand in the log at length
    gc.freeze()  # the modules stay: collections need not look through them
    asyncio.run(_main(int(sys.argv[1])))
