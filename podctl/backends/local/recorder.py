"""Records every process of one execution, exactly: the kernel stops each at its fork, its exec and its end.

Runs inside a pod as a child of its init, standard library only: the init forks a *recorder* beside the process that
is to become the sandbox, and the recorder traces it (ptrace, PTRACE_SEIZE) before it executes anything. Whatever it
forks is traced from its first instruction. When the recorder dies the kernel kills what it traces
(PTRACE_O_EXITKILL): nothing goes on unrecorded.

What it writes, one JSON object a line: for each process, at its end, `Recorder._finished`; as the last line
``{"end": processes, "listening": [[address, port]]}`` (null: nobody could look), or ``{"refused": why}`` where tracing is not possible. Pids are the sandbox's.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import signal
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any, NoReturn

from podctl.backends.local.kernel import call, libc

#: Processes of which more is kept than their number: the first ones.
PROCESSES = 1_000
#: Programs kept of one process, which may execute another as often as it likes.
IMAGES = 4
#: Bytes of arguments kept of one program, and of all together.
ARGUMENT_BYTES = 5 * 1024
ALL_ARGUMENT_BYTES = 4 * 2**20

#: Listening sockets that are told.
SOCKETS = 50
#: Seconds between two looks at them.
LISTEN_S, PAUSE_S = 0.05, 0.01
#: Address, port.
Socket = tuple[str, int]

PTRACE_CONT, PTRACE_GETEVENTMSG, PTRACE_SEIZE, PTRACE_LISTEN = 7, 0x4201, 0x4206, 0x4208
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_EXIT, EVENT_STOP = 1, 2, 3, 4, 6, 128
EXITKILL = 1 << 20
OPTIONS = 1 << EVENT_FORK | 1 << EVENT_VFORK | 1 << EVENT_CLONE | 1 << EVENT_EXEC | 1 << EVENT_EXIT | EXITKILL
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, TCP_LISTEN = 4, 20, 10
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 1, 0x300, 2, 3
CLONE_NEWNET = 0x40000000
STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
PR_SET_DUMPABLE, PR_SET_NAME = 4, 15
WALL = 0x40000000

libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
libc.ptrace.restype = ctypes.c_long


class Handshake:
    """Between a process that is to be recorded and its recorder: it waits, right before it executes, to be traced."""

    def __init__(self) -> None:
        self.ready = os.pipe2(os.O_CLOEXEC)
        self.go = os.pipe2(os.O_CLOEXEC)

    def close(self) -> None:
        for fd in (*self.ready, *self.go):
            os.close(fd)

    def wait(self, required: bool) -> None:
        """In the process itself. Raises RuntimeError when it is not traced and must be."""
        os.close(self.ready[0])
        os.close(self.go[1])
        # After a change of uid nobody but the host's root may trace a process that has not executed anything since.
        call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)
        os.write(self.ready[1], b".")
        said = os.read(self.go[0], 4096).decode("utf-8", "replace")
        if said != "traced" and (required or not said):
            raise RuntimeError(f"its processes cannot be recorded: {said or 'the recorder died'}")


@dataclass
class Process:
    """``pid`` and ``parent`` as the sandbox numbers them; ``shown``: it is no part of bwrap's own machinery."""

    pid: int | None
    parent: int | None
    started: int
    shown: bool
    kept: bool = False
    own: bool = False  # the agent's first process
    images: list[dict[str, Any]] = field(default_factory=list)
    executed: int = 0


class Pace:
    """What an agent makes its recorder do counts as nobody's processor time: it takes no more than the agent may."""

    def __init__(self, cores: float) -> None:
        self.cores = cores
        self.began = time.monotonic()
        self.events = 0

    def keep(self) -> None:
        """Called at each event; sleeps when there were too many. Meanwhile the processes that wait for it wait on."""
        self.events += 1
        if self.events % 64 == 0:
            ahead = time.process_time() / self.cores - (time.monotonic() - self.began) - 0.25
            if ahead > 0:
                time.sleep(min(ahead, 0.25))


class Ears:
    """Asks the kernel which TCP sockets take connections in this process's network, and only for those: its list of all takes milliseconds."""

    def __init__(self) -> None:
        self.kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG)
        self.kernel.settimeout(1)

    def listening(self) -> set[Socket]:
        """Raises OSError where the kernel does not tell."""
        found: set[Socket] = set()
        for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
            asked = struct.pack("=BBBBI48x", family, socket.IPPROTO_TCP, 0, 0, 1 << TCP_LISTEN)
            head = struct.pack("=IHHII", 16 + len(asked), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
            self.kernel.send(head + asked)
            done = False
            while not done:
                answer = self.kernel.recv(1 << 16)
                while answer and not done:
                    length, kind = struct.unpack_from("=IH", answer)
                    if kind == NLMSG_ERROR:
                        raise OSError(errno.EOPNOTSUPP, "the kernel does not tell who listens")
                    done = kind == NLMSG_DONE
                    if not done:
                        port = int.from_bytes(answer[20:22], "big")
                        found.add((socket.inet_ntop(family, answer[24 : 24 + size]), port))
                    answer = answer[(length + 3) & ~3 :]
        return found


class Recorder:
    def __init__(self, root: int, out: int, pace: Pace, ears: Ears | None) -> None:
        """``root``: the process that becomes bwrap's outer one; ``out``: where lines go; ``ears`` in its network."""
        self.ears = ears
        self.root = root
        self.out = out
        self.pace = pace
        self.process_of: dict[int, int] = {}  # thread -> its process
        self.processes: dict[int, Process] = {}
        self.total = 0
        self.own: int | None = None
        self.unannounced: set[int] = set()  # seen before the stop in which its parent tells of it
        self.early: dict[int, dict[str, Any]] = {}  # even ended before that
        self.arguments_left = ALL_ARGUMENT_BYTES
        self.doors: set[Socket] = set()  # the gateway's, which listen there before the agent begins
        self.listening: set[Socket] = set()
        self.hearing, self.heard = False, 0.0

    def attach(self) -> None:
        """Raises OSError when the kernel refuses."""
        call("ptrace", PTRACE_SEIZE, self.root, None, OPTIONS)

    def run(self) -> None:
        """Until the last traced process is dead."""
        while True:
            try:
                # Looked at before it is taken: of a process that is dead and taken /proc says nothing any more.
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOWAIT | WALL)
            except ChildProcessError:
                break
            if found is None:
                continue
            task = found.si_pid
            if task not in self.process_of:
                self._meet(task, None)
            self.pace.keep()
            # Not waiting: a leader killed since it was looked at ends only after its threads, which are taken here.
            taken, status, usage = os.wait4(task, WALL | os.WNOHANG)
            if taken == 0:
                continue
            if os.WIFSTOPPED(status):
                self._stopped(task, status)
            else:
                self._ended(task, status, usage.ru_utime + usage.ru_stime)
        for line in self.early.values():  # their parents were killed in the act
            _write(self.out, line)
        heard = None if self.ears is None else sorted(self.listening)[:SOCKETS]
        _write(self.out, {"end": self.total, "listening": heard})

    # ---- stops ----

    def _stopped(self, task: int, status: int) -> None:
        number, event = os.WSTOPSIG(status), status >> 16
        request, data, child = PTRACE_CONT, 0, 0
        if event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            child = self._message(task)
        elif event == EVENT_EXEC:
            former = self._message(task)
            if former not in (0, task):  # a thread executed: it has its process's pid now
                self.process_of.pop(former, None)
            self._executed(task)
        elif event == EVENT_EXIT:
            if self.process_of.get(task) == task:
                self._hear()  # what was not closed is open yet
        elif event == EVENT_STOP:
            # Stopped by a signal (then it stays, and SIGCONT wakes it), or stopping for the first time.
            request = PTRACE_LISTEN if number in STOPPING else PTRACE_CONT
        elif event == 0:
            data = number  # on its way to the process, which gets it
        # A process may be killed while it is stopped; its end is the next that is heard of it.
        libc.ptrace(request, task, None, data)
        if child:  # which goes nowhere before its own stop is over
            self._meet(child, self.process_of[task])

    def _hear(self) -> None:
        soon = time.monotonic() - self.heard < PAUSE_S  # many that end at once are looked at once
        if self.total and self.ears is not None and not self.hearing and not soon and len(self.listening) < SOCKETS:
            self.hearing = True  # a look may come in the midst of another
            try:
                self.listening |= self.ears.listening() - self.doors
            except OSError:
                self.ears = None
            self.hearing, self.heard = False, time.monotonic()

    def listen_often(self) -> None:
        """Also between the ends of processes: a program that ends in good order closes its sockets first."""
        signal.signal(signal.SIGALRM, lambda *_: self._hear())
        signal.setitimer(signal.ITIMER_REAL, LISTEN_S, LISTEN_S)

    def _message(self, task: int) -> int:
        """The pid that the event is about; 0 when the process was killed meanwhile."""
        value = ctypes.c_ulong(0)
        libc.ptrace(PTRACE_GETEVENTMSG, task, None, ctypes.addressof(value))
        return int(value.value)

    def _meet(self, task: int, forker: int | None) -> None:
        """A new thread or process. Its own first stop, even its end, may be seen before its parent's fork is."""
        if forker is not None and task in self.unannounced:
            self.unannounced.discard(task)
            if task in self.early:
                _write(self.out, self.early.pop(task) | {"parent": self._number(forker)})
            elif task in self.processes and not self.processes[task].own:
                self.processes[task].parent = self._number(forker)
            return
        if forker is None:
            self.unannounced.add(task)
            if task in self.early:  # its number is used again
                _write(self.out, self.early.pop(task))
        process, parent, pids = _status(task)
        self.process_of[task] = process
        if process == task:
            self._new(process, forker or parent, pids)

    def _new(self, process: int, forker: int, pids: list[int]) -> None:
        """bwrap's processes are the one outside of the sandbox's pid namespace, and that namespace's init."""
        machinery = process == self.root or len(pids) == 1 or pids[-1:] == [1]
        made = Process(pids[-1] if pids else None, self._number(forker), time.time_ns(), not machinery)
        if not machinery and self.own is None:
            # Forked by the sandbox's init, it is bwrap's until it executes what bwrap was asked to.
            self.own, made.own, made.shown, made.parent = process, True, False, None
        self.processes[process] = made
        self._count(made)

    def _count(self, made: Process) -> None:
        if made.shown:
            self.total += 1
            made.kept = self.total <= PROCESSES

    def _number(self, process: int) -> int | None:
        known = self.processes.get(process)
        return known.pid if known is not None and known.shown else None

    def _executed(self, process: int) -> None:
        made = self.processes[process]
        if made.own and not made.shown:
            self.doors = self.ears.listening() if self.ears is not None else set()
            made.shown, made.started = True, time.time_ns()
            self._count(made)
        made.executed += 1
        if made.kept and len(made.images) < IMAGES:
            made.images.append({"t": time.time_ns(), **self._image(process)})

    def _image(self, process: int) -> dict[str, Any]:
        most = min(ARGUMENT_BYTES, self.arguments_left)
        data, exe = b"", b""
        with contextlib.suppress(OSError):
            exe = os.readlink(b"/proc/%d/exe" % process)[:ARGUMENT_BYTES]  # noqa: PTH115
            data = _read(f"/proc/{process}/cmdline", most + 1)
        cut = len(data) > most
        data = data[:most]
        self.arguments_left -= len(data)
        words = data.removesuffix(b"\0").split(b"\0")
        return {"argv": [os.fsdecode(word) for word in words], "cut": cut, "exe": os.fsdecode(exe)}

    # ---- ends ----

    def _ended(self, task: int, status: int, cpu: float) -> None:
        self.process_of.pop(task, None)
        made = self.processes.pop(task, None)  # none of a thread
        if made is not None and made.kept:
            line = self._finished(made, status, cpu)
            if task in self.unannounced and not made.own:
                self.early[task] = line
            else:
                _write(self.out, line)

    def _finished(self, made: Process, status: int, cpu: float) -> dict[str, Any]:
        """``cpu`` in seconds, with the children that it waited for; times in ns since the epoch."""
        return {
            "pid": made.pid,
            "parent": made.parent,
            "own": made.own,
            "started": made.started,
            "ended": time.time_ns(),
            "status": status,
            "cpu": cpu,
            "images": made.images,
            "executed": made.executed,
        }


def _write(out: int, line: dict[str, Any]) -> None:
    left = json.dumps(line).encode() + b"\n"
    while left:
        left = left[os.write(out, left) :]


def _read(path: str, most: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while most > 0 and (part := os.read(fd, most)):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def _status(task: int) -> tuple[int, int, list[int]]:
    """Its process, that one's parent, and its numbers from the pod's pid namespace inwards."""
    process, parent, pids = task, 0, []
    for line in _read(f"/proc/{task}/status", 4096).split(b"\n"):
        if line.startswith(b"Tgid:"):
            process = int(line[5:])
        elif line.startswith(b"PPid:"):
            parent = int(line[5:])
        elif line.startswith(b"NSpid:"):
            pids = [int(number) for number in line[6:].split()]
            break
    return process, parent, pids


def start(root: int, handshake: Handshake, out: int, cores: float, network: int) -> None:
    """Fork the recorder of ``root``, which waits in ``handshake``; it uses at most so many ``cores``, and looks around in ``network``."""
    if os.fork() == 0:
        try:
            call("setns", network, CLONE_NEWNET)
            _record(root, handshake, out, cores)
        except BaseException as error:  # the fork must never return into its parent's loop
            print(f"the recorder failed: {error!r}", file=sys.stderr, flush=True)
            os._exit(1)


def _record(root: int, handshake: Handshake, out: int, cores: float) -> NoReturn:
    gc.disable()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    call("prctl", PR_SET_NAME, b"podctl-recorder", 0, 0, 0)
    ready, go, out = _only(handshake.ready[0], handshake.go[1], out)
    if os.read(ready, 1):
        recorder = Recorder(root, out, Pace(cores), _ears())
        try:
            recorder.attach()
        except OSError as error:
            _write(out, {"refused": error.strerror})
            os.write(go, (error.strerror or "").encode())
        else:
            os.write(go, b"traced")
            os.close(go)
            recorder.listen_often()
            recorder.run()
            os.close(out)
    os._exit(0)


def _ears() -> Ears | None:
    try:
        ears = Ears()
        ears.listening()
    except OSError:
        return None
    return ears


def _only(*wanted: int) -> tuple[int, ...]:
    """Close every descriptor but the standard ones and these, which get the numbers from 3 on: nothing of the pod's
    init, its control channel above all, may stay open here."""
    high = [os.dup(fd) for fd in wanted]
    first = max(high) + 1
    for number, fd in enumerate(high):
        os.dup2(fd, first + number)
    os.closerange(3, first)
    for number in range(len(wanted)):
        os.dup2(first + number, 3 + number)
    os.closerange(3 + len(wanted), 1 << 16)
    return tuple(range(3, 3 + len(wanted)))
