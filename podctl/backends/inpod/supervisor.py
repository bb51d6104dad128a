"""The first process of a service's container: starts the service, ends it without a trace, starts it again.

``supervisor.py PORT`` takes orders at 127.0.0.1:PORT, a JSON line each with a key, and answers each with a line:

    {"order": "start", "argv": …, "environment": …, "directory": …, "ready": [HOST:PORT, PATH], "wait_s": …}
        {"started": seconds since the epoch}, {"died": exit code} or {"late": what its readiness said last}
    {"order": "clear"}
        {"left": ""} once nothing is left of the service, or what may still be there: the container must then go

A plain script on the standard library. The service has the supervisor's user id and is hostile. What holds against it is the
kernel's: the first process of a pid namespace gets no signal that it does not handle, and nobody without capabilities
traces, reads or writes a process that is not dumpable. What one process may change of another all the same is compared.
The key is the first order's, which comes before there is a service that could give one.
"""

from __future__ import annotations

import ctypes
import fcntl
import hmac
import json
import os
import platform
import resource
import select
import signal
import socket
import stat
import sys
import time
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).parent))

from probe import answer  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

#: Every place that a service can write to; `other_place` sees that there is no other.
PLACES = ("/tmp", "/dev/shm", "/dev/mqueue")
MESSAGE = "/dev/termination-log"
_END_S = 2.0
_ORDER_S = 2.0
_MOST_BYTES = 2**20
_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4
_F_GETPIPE_SZ = 1032
#: (sched_getattr, ioprio_get)
_SYSCALLS = {"x86_64": (315, 252), "aarch64": (275, 31)}


def hide() -> None:
    """From now on no process of the same user reads or traces this one. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError("the process could not be made one that nobody traces")


def lent() -> tuple[object, ...]:
    """What another process of the same user may change of this one, and what a child would inherit; empty when unknown."""
    numbers = _SYSCALLS.get(platform.machine())
    if numbers is None:
        return ()
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(128)
    if libc.syscall(ctypes.c_long(numbers[0]), 0, attributes, ctypes.c_uint(len(attributes)), ctypes.c_uint(0)) != 0:
        return ()
    priority = libc.syscall(ctypes.c_long(numbers[1]), 1, 0)
    limits = tuple(resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if name.startswith("RLIMIT_"))
    pipes = tuple(_pipe_size(fd) for fd in (1, 2))
    return (limits, attributes.raw, priority, frozenset(os.sched_getaffinity(0)), pipes)


def _pipe_size(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, _F_GETPIPE_SZ)
    except OSError:
        return 0


def other_place() -> str:
    """What else could be written to, and `traces` does not know of; nothing on what runtimes have."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, about = line.partition(" - ")
        where, options = fields.split()[4:6]
        kept = (*PLACES, MESSAGE, "/proc")
        if "ro" in options.split(",") or "ro" in about.split()[2].split(",") or where in kept or where.startswith("/proc/"):
            continue
        if found := _writable(where, kept):
            return found
    return ""


def _writable(path: str, but: Sequence[str]) -> str:
    """The first file or directory here that this user may write to or make writable. Devices keep nothing."""
    if path in but:
        return ""
    facts = os.lstat(path)
    if stat.S_ISLNK(facts.st_mode) or stat.S_ISCHR(facts.st_mode):
        return ""
    if facts.st_uid == os.getuid() or os.access(path, os.W_OK):
        return path
    if not stat.S_ISDIR(facts.st_mode) or not os.access(path, os.X_OK):
        return ""
    if not os.access(path, os.R_OK):
        return path  # it may hold anything
    return next((found for entry in os.scandir(path) if (found := _writable(entry.path, but))), "")


def others() -> list[int]:
    return [int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit() and int(entry.name) != os.getpid()]


def below(place: str) -> dict[str, tuple[int, int, int]]:
    """Path -> inode, mode and owner of what is there; a service's own directory may be mounted within a place."""
    found: dict[str, tuple[int, int, int]] = {}
    for entry in _entries(place):
        facts = entry.stat(follow_symlinks=False)
        found[entry.path] = (facts.st_ino, facts.st_mode, facts.st_uid)
        if entry.is_dir(follow_symlinks=False) and not os.path.ismount(entry.path):
            found |= below(entry.path)
    return found


def _entries(place: str) -> list[os.DirEntry[str]]:
    """All at once, because some are removed meanwhile; none of a place that this container does not have."""
    return list(os.scandir(place)) if Path(place).is_dir() else []


def clear(place: str, kept: Container[str]) -> None:
    """Remove all that is not ``kept``. Nothing runs that could change it meanwhile. Raises OSError."""
    for entry in _entries(place):
        own = Path(entry) if entry.path not in kept else None
        if entry.is_dir(follow_symlinks=False) and not os.path.ismount(entry.path):
            if own:
                own.chmod(0o700)
            clear(entry.path, kept)
            if own:
                own.rmdir()
        elif own:
            own.unlink()


def traces(kept: Mapping[str, object]) -> str:
    """Clear every place; what a service left that cannot be cleared. Raises OSError."""
    for place in PLACES:
        clear(place, kept)
    if {path: facts for place in PLACES for path, facts in below(place).items()} != kept:
        return "changes to what was there before"
    if Path(MESSAGE).exists():
        os.truncate(MESSAGE, 0)
    for place in (*PLACES, MESSAGE):
        try:
            named = [name for name in os.listxattr(place) if name.startswith("user.")]
        except OSError:
            continue  # it has none, or is not there
        if named:
            return f"attributes of {place}"
    for kind in ("shm", "sem", "msg"):
        table = Path("/proc/sysvipc", kind)
        if table.exists() and len(table.read_text().splitlines()) > 1:
            return f"System V objects ({kind})"
    return ""


class Supervisor:
    def __init__(self) -> None:
        hide()
        self._key = ""
        self._environment = dict(os.environ)
        self._service = 0
        self._died: int | None = None
        self._lent = lent()
        # Named once: what is wrong with the container does not change.
        self._unknown = other_place()
        self._kept = {path: facts for place in PLACES for path, facts in below(place).items()}

    def serve(self, port: int) -> NoReturn:
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # that is: nothing, for a first process
        listener = socket.create_server(("127.0.0.1", port), backlog=16)
        sources: list[Any] = [listener, woken]
        while True:
            ready = select.select(sources, [], [])[0]
            if woken in ready:
                os.read(woken, 4096)
            self._reap()
            if self._died is not None:
                os._exit(self._died)  # a container ends with its service
            if listener in ready:
                self._take(listener.accept()[0])

    def _take(self, connection: socket.socket) -> None:
        with connection:
            try:
                order = json.loads(_line(connection))
                key = order["key"]
                self._key = self._key or key
                if hmac.compare_digest(self._key, key):
                    connection.sendall(json.dumps(self._obey(order)).encode() + b"\n")
            except (OSError, ValueError, KeyError, TypeError):
                return  # no order, or nobody who waits for the answer

    def _obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if order["order"] == "clear":
            return {"left": self._clear()}
        if self._service:
            return {"late": "an earlier one still runs"}
        started = time.time()
        self._start(order["argv"], {**self._environment, **order["environment"]}, order["directory"])
        place, path = order["ready"]
        deadline = time.monotonic() + order["wait_s"]
        pause = 0.005
        while cause := answer(place, path):
            self._reap()
            if self._died is not None:
                return {"died": self._died}
            if time.monotonic() > deadline:
                return {"late": cause}
            time.sleep(pause)
            pause = min(0.1, pause * 1.2)
        return {"started": started}

    def _start(self, argv: list[str], environment: dict[str, str], directory: str) -> None:
        child = os.fork()
        if child:
            self._service = child
            return
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for fd in (1, 2):
                # Descriptors of its own: it could change how those work that the supervisor has.
                os.dup2(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY), fd)
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGCHLD, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(directory)
            os.execvpe(argv[0], argv, environment)
        except BaseException as error:
            os.write(2, f"the service could not be started: {error}\n".encode())
        finally:
            os._exit(127)

    def _reap(self) -> None:
        while True:
            try:
                ended, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not ended:
                return
            if ended == self._service:
                self._service = 0
                code = os.waitstatus_to_exitcode(status)
                self._died = code if code >= 0 else 128 - code

    def _clear(self) -> str:
        self._service = 0  # its end is wanted now
        deadline = time.monotonic() + _END_S
        while True:
            try:
                os.kill(-1, signal.SIGKILL)  # all at once: no fork escapes it
            except ProcessLookupError:
                pass
            self._reap()
            left = others()
            if not left:
                break
            if time.monotonic() > deadline:
                return f"{len(left)} processes that do not end"
            time.sleep(0.002)
        if self._unknown:
            return f"whatever was written to {self._unknown}"
        try:
            found = traces(self._kept)
        except (OSError, RecursionError) as error:
            return f"something that cannot be removed: {error}"
        if found:
            return found
        if not self._lent or lent() != self._lent:
            return "limits or priorities that a process inherits"
        return ""


def _line(connection: socket.socket) -> bytes:
    """Raises OSError when none comes in time."""
    deadline = time.monotonic() + _ORDER_S
    data = b""
    while not data.endswith(b"\n"):
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        more = connection.recv(65536)
        if not more or len(data) > _MOST_BYTES or time.monotonic() > deadline:
            raise ConnectionError("no order")
        data += more
    return data


if __name__ == "__main__":
    if os.getpid() != 1:
        sys.exit("it has to be the first process of its container")
    Supervisor().serve(int(sys.argv[1]))
