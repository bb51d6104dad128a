"""podctl's side of a pod's init: start it, ask it for processes, learn how they ended."""

from __future__ import annotations

import array
import asyncio
import errno
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.backends.local.state import UID_BLOCK, Owner
from podctl.errors import NO_ROOM_FOR_PODS, EnvironmentProblem

_MESSAGE = 1 << 17
_SCRIPT = Path(__file__).with_name("podinit.py")
#: As a module of the package it has its neighbours, and need not be compiled each time. What lies beside the package is
#: appended: nothing there comes before the standard library.
_START = "import sys; sys.path.append(sys.argv[3].rsplit('/', 4)[0]); from podctl.backends.local.podinit import main; main()"


class PodProblem(EnvironmentProblem):
    """The pod could not be made, or was lost."""


def program_failed(what: str, code: str, said: bytes) -> PodProblem:
    """A helper program in the pod failed; ``said`` is its standard error."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    full = next((line for line in lines if os.strerror(errno.ENOSPC) in line), None)
    if full is not None:
        return PodProblem(what, code="disk-full", cause=full, hint=NO_ROOM_FOR_PODS)
    return PodProblem(what, code=code, cause="\n".join(lines[:10]))


@dataclass(frozen=True)
class Ended:
    """How a process in the pod ended; ``cpu_s`` and ``max_rss`` (bytes) cover its descendants, ``t`` is wall ns."""

    code: int | None
    signal: int | None
    cpu_s: float
    max_rss: int
    t: int


@dataclass(frozen=True)
class Launch:
    """A process to start. ``who``: postgres, service or agent; ``net``: inner or door; ``record`` as in `Command`."""

    argv: Sequence[str]
    who: str
    net: str
    directory: str
    environment: Mapping[str, str]
    rlimits: Mapping[str, int]
    sandbox: Mapping[str, Any] | None = None
    record: str = ""
    record_cores: float = 1.0


class InitClient:
    def __init__(self, control: socket.socket, dialer: socket.socket, pod: str) -> None:
        self.pod = pod
        self.dialer = dialer
        self.init: Owner | None = None
        self.networks: tuple[str, ...] = ()
        self.lost = asyncio.get_running_loop().create_future()
        self._control = control
        self._replies: dict[int, asyncio.Future[tuple[dict[str, Any], list[int]]]] = {}
        self._endings: dict[int, asyncio.Future[Ended]] = {}
        self._events: asyncio.Queue[tuple[dict[str, Any], list[int]]] = asyncio.Queue()
        self._next = 0

    @staticmethod
    async def start(
        pod: str,
        directory: Path,
        base_uid: int | None,
        binds: Sequence[tuple[str, str]],
        *,
        databases: Sequence[str] = (),
        data_bytes: int | None = None,
    ) -> InitClient:
        """Make the pod's namespaces. Raises `PodProblem` saying what the kernel refused.

        With ``data_bytes`` the data directories of ``databases`` are in memory, at most that large together.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        dial_ours, dial_theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        dial_ours.setblocking(False)
        client = InitClient(ours, dial_ours, pod)
        asyncio.get_running_loop().add_reader(ours, client._readable)
        with open(directory / "init.log", "ab") as log:
            launcher = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                "-c",
                _START,
                str(theirs.fileno()),
                str(dial_theirs.fileno()),
                str(_SCRIPT),
                str(directory),  # whoever looks at the machine can tell whose init it is
                pass_fds=(theirs.fileno(), dial_theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={},
                cwd="/",
                start_new_session=True,
            )
        theirs.close()
        dial_theirs.close()
        config = {
            "directory": str(directory),
            "base_uid": base_uid,
            "binds": [list(bind) for bind in binds],
            "databases": list(databases),
            "data_bytes": data_bytes,
        }
        client._send(config, [])
        try:
            while True:
                message, _ = await asyncio.wait_for(client._next_event(), timeout=20)
                match message["event"]:
                    case "map":
                        _write_maps(launcher.pid, base_uid or 0)
                        client._send({}, [])
                    case "forked":
                        client.init = Owner.of(message["pid"])
                        await launcher.wait()
                    case "ready":
                        client.networks = tuple(message["networks"])
                        return client
                    case _:
                        raise PodProblem(
                            f"test pod {pod} could not be isolated",
                            code="pod-isolation",
                            cause=str(message.get("error", "unknown")),
                            hint="podctl doctor says what this machine lacks",
                        )
        except TimeoutError as error:
            client.close()
            raise PodProblem(f"test pod {pod} did not start within 20 s", code="pod-timeout") from error
        except BaseException:
            client.close()
            raise

    async def request(self, op: str, message: dict[str, Any], fds: Sequence[int] = ()) -> tuple[dict[str, Any], list[int]]:
        """Ask the init; the descriptors of the answer are the caller's. Raises `PodProblem`."""
        if self.lost.done():
            raise PodProblem(f"test pod {self.pod} is gone", code="pod-lost", cause="its init process died")
        self._next += 1
        future: asyncio.Future[tuple[dict[str, Any], list[int]]] = asyncio.get_running_loop().create_future()
        self._replies[self._next] = future
        self._send({"id": self._next, "op": op, **message}, list(fds))
        reply, received = await future
        if "error" in reply:
            raise PodProblem(f"test pod {self.pod} could not {op}", code=f"pod-{op}", cause=reply["error"])
        return reply, received

    async def spawn(self, launch: Launch, streams: Sequence[int], groups: Sequence[int] = ()) -> int:
        """Start a process in these control groups; its pid in the pod. ``streams``: stdin, stdout, stderr, and where
        the record of its processes goes when there is to be one."""
        message = {
            "argv": list(launch.argv),
            "who": launch.who,
            "net": launch.net,
            "directory": launch.directory,
            "environment": dict(launch.environment),
            "rlimits": dict(launch.rlimits),
            "sandbox": launch.sandbox,
            "record": launch.record,
            "record_cores": launch.record_cores,
        }
        reply, _ = await self.request("spawn", message, [*streams, *groups])
        self._endings.setdefault(reply["pid"], asyncio.get_running_loop().create_future())
        return int(reply["pid"])

    def ending(self, pid: int) -> Ended | None:
        """How it ended; None while it runs."""
        return self._endings[pid].result() if self._endings[pid].done() else None

    async def ended(self, pid: int) -> Ended:
        """Wait for the end of a spawned process and of everything beneath it."""
        return await asyncio.shield(self._endings[pid])

    def running(self, pid: int) -> bool:
        return not self._endings[pid].done()

    async def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        await self.request("kill", {"pid": pid, "signal": int(number)})

    def close(self) -> None:
        """Drop the control channel: the pod's init dies of it, and everything in the pod with it."""
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()
            self.dialer.close()
        self._fail()

    # ---- the channel ----

    def _send(self, message: dict[str, Any], fds: list[int]) -> None:
        data = json.dumps(message).encode()
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._control.sendmsg([data], ancillary)
        except OSError as error:
            self._fail()
            raise PodProblem(f"test pod {self.pod} is gone", code="pod-lost", cause=str(error)) from error

    async def _next_event(self) -> tuple[dict[str, Any], list[int]]:
        waiting = asyncio.ensure_future(self._events.get())
        await asyncio.wait([waiting, self.lost], return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            return waiting.result()
        waiting.cancel()
        raise PodProblem(f"test pod {self.pod} died while starting", code="pod-lost", hint="podctl doctor")

    def _readable(self) -> None:
        while True:
            try:
                data, ancillary, _, _ = self._control.recvmsg(_MESSAGE, socket.CMSG_SPACE(64 * 4), socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return
            except OSError:
                data, ancillary = b"", []
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
            if not data:
                asyncio.get_running_loop().remove_reader(self._control)
                self._fail()
                return
            self._dispatch(json.loads(data), list(fds))

    def _dispatch(self, message: dict[str, Any], fds: list[int]) -> None:
        if "id" in message:
            future = self._replies.pop(message["id"])
            if not future.done():
                future.set_result((message, fds))
            return
        if message["event"] == "exit":
            loop = asyncio.get_running_loop()
            status = message["status"]
            code = os.waitstatus_to_exitcode(status)
            ended = Ended(
                code if code >= 0 else None, -code if code < 0 else None, message["cpu"], message["rss"], time.time_ns()
            )
            future_end = self._endings.setdefault(message["pid"], loop.create_future())
            if not future_end.done():
                future_end.set_result(ended)
            return
        self._events.put_nowait((message, fds))

    def _fail(self) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(PodProblem(f"test pod {self.pod} is gone", code="pod-lost", cause="its init died"))
        self._replies.clear()
        for ending in self._endings.values():
            if not ending.done():
                ending.set_result(Ended(None, signal.SIGKILL, 0.0, 0, time.time_ns()))


def is_init_of(pid: int, directory: Path) -> bool:
    """Whether the process was started as the init of the pod in this directory."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return str(_SCRIPT).encode() in arguments and arguments[-2:] == [str(directory).encode(), b""]


def _write_maps(pid: int, base_uid: int) -> None:
    for name in ("gid_map", "uid_map"):
        Path(f"/proc/{pid}/{name}").write_text(f"0 {base_uid} {UID_BLOCK}")
