"""What a pod's init needs of the kernel and Python does not have. Standard library only."""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import json
import os
import socket
import stat
import struct
from typing import Any

RESOLVE_BENEATH_NO_LINKS = 0x08 | 0x04 | 0x02
SYS_OPENAT2 = 437
MESSAGE = 1 << 17

libc = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: Any) -> int:
    result = getattr(libc, function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return int(result)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [os.fsencode(value) if value is not None else None for value in (source, target, kind, data)]
    call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def send(channel: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    channel.sendmsg([json.dumps(message).encode()], ancillary)


def receive(channel: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next message and its descriptors; None at the end."""
    fds = array.array("i")
    data, ancillary, _, _ = channel.recvmsg(MESSAGE, socket.CMSG_SPACE(64 * fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return (json.loads(data) if data else None), list(fds)


REFUSALS = {
    errno.ELOOP: "it is a symbolic link or lies behind one",
    errno.EXDEV: "it lies outside the workspace",
    errno.EISDIR: "it is a directory",
    errno.ENXIO: "it is not a regular file",
    errno.EINVAL: "it is not a regular file",
    errno.EFBIG: "it is larger than the limit",
}


def copy_out(directory: int, name: str, limit: int) -> int:
    how = struct.pack("QQQ", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0, RESOLVE_BENEATH_NO_LINKS)
    fd = call("syscall", ctypes.c_long(SYS_OPENAT2), directory, name.encode(), how, ctypes.c_size_t(len(how)))
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise OSError(errno.EISDIR if stat.S_ISDIR(facts.st_mode) else errno.EINVAL, name)
        if facts.st_size > limit:
            raise OSError(errno.EFBIG, name)
        copy = os.memfd_create("collected", os.MFD_CLOEXEC)
        remaining = limit
        while remaining > 0 and (chunk := os.read(fd, min(remaining, 1 << 20))):
            os.write(copy, chunk)
            remaining -= len(chunk)
        os.lseek(copy, 0, os.SEEK_SET)
        return copy
    finally:
        os.close(fd)


def pipe_with(data: bytes) -> int:
    """A descriptor to read ``data`` from; each reader needs its own, as the offset is shared."""
    read, write = os.pipe()
    if len(data) > 60_000:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
    os.write(write, data)
    os.close(write)
    return read


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
