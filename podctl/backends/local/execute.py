"""Run one command in a pod's sandbox, under limits, and bring back what it left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import suppress

from podctl.backends.base import NOT_RECORDED, Command, Exit
from podctl.backends.local import cgroups
from podctl.backends.local.init_client import Ended, InitClient, Launch
from podctl.backends.local.records import RECORD_BYTES, recording
from podctl.backends.local.sandbox import TEMPORARY_BYTES
from podctl.clock import Stopwatch
from podctl.errors import EnvironmentProblem
from podctl.faults import point
from podctl.scans.leavings import Leavings, leavings

#: Files and directories that a workspace may hold, and that /tmp and /dev/shm may hold together.
WORKSPACE_INODES = 20_000


class Capture:
    """Reads a stream to its end, keeps the first ``limit`` bytes and calls ``full`` once there are more."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept = bytearray()
        self.total = 0
        self.full = asyncio.Event()
        self.done = asyncio.Event()
        self.read_fd, self.write_fd = os.pipe2(os.O_CLOEXEC)

    def start(self) -> None:
        os.close(self.write_fd)
        os.set_blocking(self.read_fd, False)
        asyncio.get_running_loop().add_reader(self.read_fd, self._readable)

    def _readable(self) -> None:
        try:
            data = os.read(self.read_fd, 1 << 18)
        except BlockingIOError:
            return
        if not data:
            self.close()
            return
        self.total += len(data)
        if len(self.kept) < self.limit:
            self.kept += data[: self.limit - len(self.kept)]
        if self.total > self.limit:
            self.full.set()

    def close(self) -> None:
        if not self.done.is_set():
            asyncio.get_running_loop().remove_reader(self.read_fd)
            os.close(self.read_fd)
            self.done.set()


def sandbox_ending(ended: Ended) -> tuple[int | None, int | None]:
    """Exit code or signal: bwrap reports a command that died of signal N as exit code 128 + N."""
    if ended.code is not None and ended.code - 128 in signal.valid_signals():
        return None, ended.code - 128
    return ended.code, ended.signal


class Execution:
    """One running command; `interrupt` ends it from outside."""

    def __init__(self, init: InitClient, command: Command, group: cgroups.Group | None) -> None:
        self._init = init
        self._command = command
        self._group = group
        self._stop = asyncio.Event()
        self._reason = ""

    def interrupt(self, reason: str) -> None:
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    async def run(self, launch: Launch) -> Exit:
        """Returns only when the whole process tree is dead. Raises `EnvironmentProblem` when it cannot start, or when
        what recorded its processes died."""
        await self._prepare_workspace()
        out, err, records = Capture(self._command.output), Capture(self._command.output), Capture(RECORD_BYTES)
        captures = (out, err, records)
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        groups = self._group.entries() if self._group else []
        streams = [null, out.write_fd, err.write_fd, *([records.write_fd] if launch.record else [])]
        watch = Stopwatch()
        try:
            pid = await self._init.spawn(launch, streams, groups)
            point("attempt.agent-running")
        finally:
            for fd in (null, *groups):
                os.close(fd)
            for capture in captures:
                capture.start()
        limit = await self._watch(pid, out, err, watch)
        ended = await self._init.ended(pid)
        wall = watch.read()
        for capture in captures:
            # Everybody who could write is dead: what is left in the pipe is all there is.
            with suppress(TimeoutError):
                await asyncio.wait_for(capture.done.wait(), 5)
            capture.close()
        if not limit and self._group is not None and self._group.out_of_memory():
            limit = "memory"
        if self._init.lost.done():
            raise EnvironmentProblem("the test pod was lost while a command ran in it", code="pod-lost")
        recorded = recording(bytes(records.kept)) if launch.record else NOT_RECORDED
        if ended.signal is not None and not limit:
            # The agent's own end by a signal comes as an exit code: this was its sandbox, which it cannot reach.
            cause = f"by signal {ended.signal}, from outside the pod"
            raise EnvironmentProblem("the sandbox was killed while a command ran in it", code="sandbox-killed", cause=cause)
        files, refused, left = await self._collect()
        code, number = sandbox_ending(ended)
        own = next((process for process in recorded.kept if process.own), None)
        if own is not None and ended.code is not None:
            code, number = own.code, own.signal  # exactly
        return Exit(
            code=code,
            signal=number,
            limit=limit,
            wall_s=wall,
            cpu_s=ended.cpu_s,
            max_rss=ended.max_rss,
            stdout=bytes(out.kept),
            stderr=bytes(err.kept),
            files=files,
            refused_files=refused,
            recording=recorded,
            leavings=left,
        )

    async def _watch(self, pid: int, out: Capture, err: Capture, watch: Stopwatch) -> str:
        """Wait for the end or for a limit; a limit kills. The limit's name, or nothing."""
        waits = {
            "": asyncio.ensure_future(self._init.ended(pid)),
            "wall": asyncio.ensure_future(watch.reached(self._command.wall_s)),
            "output": asyncio.ensure_future(out.full.wait()),
            "output ": asyncio.ensure_future(err.full.wait()),
            "stop": asyncio.ensure_future(self._stop.wait()),
        }
        try:
            await asyncio.wait(waits.values(), return_when=asyncio.FIRST_COMPLETED)
            name = next(name for name, wait in waits.items() if wait.done()).strip()
            if name == "wall" and not self._init.running(pid):
                return ""  # podctl was stopped for a while: both are news at once, and the end came first
            return self._reason if name == "stop" else name
        finally:
            for wait in waits.values():
                wait.cancel()
            await self._end(pid)

    async def _end(self, pid: int) -> None:
        while self._init.running(pid):
            await self._init.kill(pid)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._init.ended(pid), 0.5)

    async def _prepare_workspace(self) -> None:
        fds = []
        for data in self._command.files.values():
            fd = os.memfd_create("file", os.MFD_CLOEXEC)
            fds.append(fd)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        message = {
            "size": self._command.disk,
            "scratch": TEMPORARY_BYTES,
            "inodes": WORKSPACE_INODES,
            "files": list(self._command.files),
        }
        try:
            await self._init.request("workspace", message, fds)
        finally:
            for fd in fds:
                os.close(fd)

    async def _collect(self) -> tuple[dict[str, bytes], dict[str, str], Leavings | None]:
        asked = self._command
        message = {"names": list(asked.collect), "limit": asked.collect_bytes, "leavings": asked.leavings}
        reply, fds = await self._init.request("collect", message)
        contents = []
        for fd in fds:
            with os.fdopen(fd, "rb") as stream:
                contents.append(stream.read())
        left = None
        if asked.leavings:
            index, taken, *contents = contents
            left = leavings(json.loads(index), taken)
        return dict(zip(reply["found"], contents, strict=True)), reply["refused"], left
