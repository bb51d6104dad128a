"""Runs beside an agent's container, out of its reach: lets it start, keeps its output, hands out its files.

``keeper.py run CONFIG``      prove that the network is closed, lay out the workspace, let the agent go, read its output
``keeper.py watch``           a JSON line for each thing that happens: gate, started, full, ended
``keeper.py collect CONFIG``  a JSON line, then the bytes it announces: output, and the files asked for

A plain script on the standard library. The agent shares the workspace and three named pipes with it, and nothing else:
everything found there is hostile.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import stat
import struct
import sys
import time
from pathlib import Path
from typing import Any

IO = Path("/podctl/io")  # shared with the agent
STATE = Path("/podctl/state")  # the keeper's own
WORKSPACE = Path("/workspace")
GIVEN = Path("/podctl/given")

GATE_S = 15.0
ATTEMPT_S = 1.0
SYS_OPENAT2 = 437
RESOLVE_BENEATH_NO_LINKS = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, NO_SYMLINKS, NO_MAGICLINKS

REFUSALS = {
    errno.ELOOP: "it is a symbolic link or lies behind one",
    errno.EXDEV: "it lies outside the workspace",
    errno.EISDIR: "it is a directory",
    errno.ENXIO: "it is not a regular file",
    errno.EINVAL: "it is not a regular file",
    errno.EFBIG: "it is larger than the limit",
    errno.EACCES: "the agent made it unreadable",
}


def say(state: Path, **facts: Any) -> None:
    """Append one event; readers follow the file."""
    with open(state / "events", "a") as events:
        events.write(json.dumps(facts) + "\n")


def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), ATTEMPT_S).close()
    except OSError:
        return False
    return True


def gate(control: tuple[str, int], forbidden: list[tuple[str, int]], wait_s: float = GATE_S) -> str:
    """Policies lag behind a Pod's start: wait until the control answers and nothing forbidden does. Why not, or nothing."""
    deadline = time.monotonic() + wait_s
    while True:
        open_ways = [f"{address}:{port}" for address, port in forbidden if reaches(address, port)]
        controlled = reaches(*control)
        if controlled and not open_ways:
            return ""
        if time.monotonic() > deadline:
            if open_ways:
                return f"the agent's Pod reaches {', '.join(open_ways)} after {wait_s:.0f} s: NetworkPolicy is not enforced"
            return f"the agent's Pod does not reach the door at {control[0]}:{control[1]}"
        time.sleep(0.05)


def run(config: dict[str, Any]) -> None:
    os.umask(0o077)
    for name in ("stdout", "stderr"):
        (STATE / name).touch()
        os.mkfifo(IO / name, 0o600)
    streams = {os.open(IO / name, os.O_RDONLY | os.O_NONBLOCK): name for name in ("stdout", "stderr")}
    problem = gate(tuple(config["control"]), [tuple(place) for place in config["forbidden"]])
    if problem:
        say(STATE, gate=problem)
        pause()
    for name in config["files"]:
        target = WORKSPACE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((GIVEN / name).read_bytes())
    # The agent's wrapper waits for this pipe and reads one line from it.
    os.mkfifo(IO / "go", 0o600)
    with open(IO / "go", "wb") as go:
        say(STATE, started=time.time())
        go.write(b"go\n")
    read_output(streams, config["output"], STATE)
    pause()


def read_output(streams: dict[int, str], limit: int, state: Path) -> None:
    """Keep the first ``limit`` bytes of each stream, until nobody can write to either any more."""
    kept = dict.fromkeys(streams.values(), 0)
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    left = set(streams)
    while left:
        for fd, _ in poll.poll():
            data = os.read(fd, 1 << 16)
            if not data:  # the last writer closed it; before the first one opens it, poll waits
                poll.unregister(fd)
                left.discard(fd)
                continue
            name = streams[fd]
            before, kept[name] = kept[name], kept[name] + len(data)
            with open(state / name, "ab") as file:
                file.write(data[: max(0, limit - before)])
            if before <= limit < kept[name]:
                say(state, full=name)
    say(state, ended=time.time())


def pause() -> None:
    while True:
        time.sleep(3600)


def watch() -> None:
    deadline = time.monotonic() + 24 * 3600
    offset = 0
    while time.monotonic() < deadline:
        try:
            with open(STATE / "events", "rb") as events:
                events.seek(offset)
                new = events.read()
        except FileNotFoundError:
            new = b""
        if new:
            offset += len(new)
            sys.stdout.buffer.write(new)
            sys.stdout.buffer.flush()
            if b'"ended"' in new or b'"gate"' in new:
                return
        time.sleep(0.01)


def collect(config: dict[str, Any]) -> None:
    parts: list[bytes] = [(STATE / name).read_bytes() for name in ("stdout", "stderr")]
    refused: dict[str, str] = {}
    found: list[str] = []
    directory = os.open(WORKSPACE, os.O_RDONLY | os.O_DIRECTORY)
    for name in config["names"]:
        try:
            parts.append(copy_out(directory, name, config["limit"]))
            found.append(name)
        except FileNotFoundError:
            continue
        except OSError as error:
            refused[name] = REFUSALS.get(error.errno or 0, error.strerror or "it cannot be read")
    told = {"found": found, "refused": refused, "sizes": [len(part) for part in parts]}
    out = sys.stdout.buffer
    out.write(json.dumps(told).encode() + b"\n")
    for part in parts:
        out.write(part)
    out.flush()


def copy_out(directory: int, name: str, limit: int) -> bytes:
    how = struct.pack("QQQ", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0, RESOLVE_BENEATH_NO_LINKS)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.syscall(ctypes.c_long(SYS_OPENAT2), directory, name.encode(), how, ctypes.c_size_t(len(how)))
    if fd < 0:
        raise OSError(ctypes.get_errno(), name)
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EISDIR if stat.S_ISDIR(facts.st_mode) else errno.EINVAL, name)
        if facts.st_size > limit:
            raise OSError(errno.EFBIG, name)
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(limit)
    finally:
        os.close(fd)


if __name__ == "__main__":
    verb = sys.argv[1]
    if verb == "run":
        run(json.loads(sys.argv[2]))
    elif verb == "watch":
        watch()
    else:
        collect(json.loads(sys.argv[2]))
