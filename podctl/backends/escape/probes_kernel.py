"""Probes of system calls that a sandbox refuses. Runs inside the sandbox, see `probes`.

Run as ``python probes_kernel.py`` on the host it makes the same calls there and prints what happened: the control
that the call as it is made here can work at all.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import json
import mmap
import os
import platform
import signal
import socket
import stat
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]

CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWUTS = 0x10000000, 0x00020000, 0x04000000
CLONE_UNTRACED = 0x00800000
PTRACE_SEIZE = 0x4206
AF_VSOCK = 40

_NUMBERS = {
    "x86_64": {
        "ptrace": 101, "process_vm_readv": 310, "keyctl": 250, "add_key": 248, "bpf": 321, "perf_event_open": 298,
        "userfaultfd": 323, "io_uring_setup": 425, "clone": 56, "clone3": 435, "getpid": 39, "mount": 165, "umount2": 166,
        "fsopen": 430, "open_tree": 428,
    },
    "aarch64": {
        "ptrace": 117, "process_vm_readv": 270, "keyctl": 219, "add_key": 217, "bpf": 280, "perf_event_open": 241,
        "userfaultfd": 282, "io_uring_setup": 425, "clone": 220, "clone3": 435, "getpid": 172, "mount": 40, "umount2": 39,
        "fsopen": 430, "open_tree": 428,
    },
}  # fmt: skip
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def raw(name: str, *arguments: Any) -> int:
    """One system call by its number. Raises OSError."""
    ctypes.set_errno(0)
    number = _NUMBERS[platform.machine()][name]
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    libc.syscall.restype = ctypes.c_long
    return checked(int(libc.syscall(ctypes.c_long(number), *given)))


def in_child(action: Callable[[], None]) -> str:
    """Run it in a process of its own; empty when it worked, else the error's name or the signal that ended it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            action()
            os.write(write, b"")
        except OSError as error:
            os.write(write, errno.errorcode.get(error.errno or 0, str(error)).encode())
        except BaseException as error:
            os.write(write, f"broke: {error!r}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode()
    _, status = os.waitpid(pid, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else said


# ---- the calls; each raises OSError when it is refused ----


def ptrace_seize(pid: int) -> None:
    raw("ptrace", PTRACE_SEIZE, pid, 0, 0)


def ptrace_child() -> None:
    """A process may always trace its own child, unless a filter says otherwise."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        ptrace_seize(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def process_memory() -> None:
    data = ctypes.create_string_buffer(b"here", 5)
    into = ctypes.create_string_buffer(5)
    local = (ctypes.c_void_p * 2)(ctypes.addressof(into), 4)
    remote = (ctypes.c_void_p * 2)(ctypes.addressof(data), 4)
    raw("process_vm_readv", os.getpid(), ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)


def unshare_user() -> None:
    checked(libc.unshare(CLONE_NEWUSER))


def clone(flags: int) -> None:
    pid = raw("clone", flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def clone_user() -> None:
    clone(CLONE_NEWUSER)


def clone_untraced() -> None:
    """A child that nobody who traces its parent gets to trace."""
    clone(CLONE_UNTRACED)


def clone3_user() -> None:
    arguments = struct.pack("QQQQQQQQ", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = raw("clone3", arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def mount() -> None:
    raw("mount", b"escape", b"/tmp", b"tmpfs", 0, None)


def bind_mount() -> None:
    raw("mount", b"/usr", b"/tmp", None, 4096, None)


def unmount() -> None:
    raw("umount2", b"/tmp", 2)


def fsopen() -> None:
    os.close(raw("fsopen", b"tmpfs", 0))


def setns() -> None:
    own = os.open("/proc/self/ns/uts", os.O_RDONLY)
    checked(libc.setns(own, 0))


def bpf() -> None:
    attributes = struct.pack("IIII", 2, 4, 4, 1) + bytes(112)
    os.close(raw("bpf", 0, attributes, len(attributes)))


def io_uring() -> None:
    os.close(raw("io_uring_setup", 1, ctypes.create_string_buffer(120)))


def keyctl() -> None:
    raw("keyctl", 0, -3, 0)


def add_key() -> None:
    raw("add_key", b"user", b"escape", b"x", 1, -2)


def userfaultfd() -> None:
    os.close(raw("userfaultfd", 1))


def perf() -> None:
    attributes = struct.pack("IIQQQQQ", 1, 128, 0, 0, 0, 0, 1 << 5 | 1 << 6) + bytes(80)
    os.close(raw("perf_event_open", attributes, 0, -1, -1, 0))


def own_terminal() -> int:
    """A terminal of this process's own, as its controlling one."""
    os.setsid()
    _, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    return slave


def type_into_terminal() -> None:
    fcntl.ioctl(own_terminal(), termios.TIOCSTI, b"x")


def size_of_terminal() -> None:
    fcntl.ioctl(own_terminal(), termios.TIOCGWINSZ, bytes(8))


def foreign_call() -> None:
    """getpid by the 32-bit door of an x86-64 kernel, which a filter for 64-bit numbers alone would not see."""
    code = bytes.fromhex("53b814000000cd805bc3")  # push rbx; mov eax, 20; int 0x80; pop rbx; ret
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    if function() != os.getpid():
        raise OSError(errno.ENOSYS, "no 32-bit calls")


def x32_call() -> None:
    checked(int(libc.syscall(ctypes.c_long(0x40000000 | _NUMBERS["x86_64"]["getpid"]))))


def open_socket(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


CALLS: dict[str, dict[str, Callable[[], None]]] = {
    "ptrace": {"a child": ptrace_child},
    "process-memory": {"process_vm_readv": process_memory},
    "unrecorded": {"CLONE_UNTRACED": clone_untraced},
    "unshare-user": {"unshare": unshare_user, "clone": clone_user, "clone3": clone3_user},
    "mount": {"tmpfs": mount, "bind": bind_mount, "umount": unmount, "fsopen": fsopen},
    "setns": {"setns": setns},
    "bpf": {"map": bpf},
    "io-uring": {"setup": io_uring},
    "keyctl": {"keyctl": keyctl, "add_key": add_key},
    "userfaultfd": {"userfaultfd": userfaultfd},
    "perf": {"perf_event_open": perf},
    "tiocsti": {"TIOCSTI": type_into_terminal},
    "socket-vsock": {"AF_VSOCK": lambda: open_socket(AF_VSOCK, socket.SOCK_STREAM)},
    "socket-netlink": {"AF_NETLINK": lambda: open_socket(socket.AF_NETLINK, socket.SOCK_RAW)},
    "socket-packet": {"AF_PACKET": lambda: open_socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)},
    "socket-raw": {"SOCK_RAW": lambda: open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)},
}
if platform.machine() == "x86_64":
    CALLS["foreign-calls"] = {"int 0x80": foreign_call, "x32": x32_call}

#: What must work inside, in the same manner.
_CONTROLS: dict[str, tuple[str, Callable[[], None]]] = {
    "tiocsti": ("TIOCGWINSZ works", size_of_terminal),
    "unrecorded": ("clone works", lambda: clone(0)),
    **{
        name: ("AF_INET works", lambda: open_socket(socket.AF_INET, socket.SOCK_STREAM))
        for name in ("socket-vsock", "socket-netlink", "socket-packet", "socket-raw")
    },
}
#: On the host these need privileges over namespaces of one's own.
_PRIVILEGED = ("mount", "setns", "socket-packet", "socket-raw")


def _getpid() -> None:
    if raw("getpid") != os.getpid():
        raise OSError(errno.EINVAL, "a raw system call does not work")


def _seen(name: str) -> Seen:
    answers = {what: in_child(call) for what, call in CALLS[name].items()}
    worked = [what for what, answer in answers.items() if not answer]
    broke = [answer for answer in answers.values() if answer.startswith("broke")]
    how = ", ".join(f"{what}: {answer or 'worked'}" for what, answer in answers.items())
    told, control = _CONTROLS.get(name, ("a raw call works", _getpid))
    return (None if broke and not worked else bool(worked)), how, not in_child(control), told


def ptrace(plan: Plan) -> Seen:
    could, how, control, told = _seen("ptrace")
    init = in_child(lambda: ptrace_seize(1))
    os.kill(1, 0)
    return (could or not init), f"PID 1: {init or 'worked'}, {how}", control, f"{told}, PID 1 is there"


def mknod(plan: Plan) -> Seen:
    made = in_child(lambda: os.mknod("device", stat.S_IFCHR | 0o600, os.makedev(1, 3)))
    block = in_child(lambda: os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(8, 0)))
    fifo = in_child(lambda: os.mkfifo("fifo"))
    return not (made and block), f"character: {made or 'worked'}, block: {block or 'worked'}", not fifo, "a FIFO can be made"


def _calls(name: str) -> Callable[[Plan], Seen]:
    return lambda plan: _seen(name)


PROBES: dict[str, Callable[[Plan], Seen]] = {**{name: _calls(name) for name in CALLS}, "ptrace": ptrace, "mknod": mknod}


def on_the_host() -> dict[str, str]:
    """Check -> what the first of its calls answered here, empty when it worked."""

    def privileged(call: Callable[[], None]) -> None:
        checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | 0x40000000))
        call()

    answers = {}
    for name, calls in CALLS.items():
        call = next(iter(calls.values()))
        chosen = functools.partial(privileged, call) if name in _PRIVILEGED else call
        answers[name] = in_child(chosen)
    return answers


if __name__ == "__main__":
    json.dump(on_the_host(), sys.stdout)
