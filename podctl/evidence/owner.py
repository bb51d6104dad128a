"""Which process works on a run, told apart from a later process with the same number."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Owner:
    """``start`` is the process's start in clock ticks after boot; empty where the system does not say."""

    pid: int
    start: str
    boot_id: str
    host: str

    @staticmethod
    def current() -> Owner:
        pid = os.getpid()
        return Owner(pid=pid, start=_start(pid), boot_id=_boot_id(), host=socket.gethostname())

    def is_here(self) -> bool:
        """Whether it ran on this host: files that it wrote are to be found."""
        return self.host == socket.gethostname()

    def alive(self) -> bool | None:
        """None when it ran on another host and cannot be asked."""
        if not self.is_here():
            return None
        if self.boot_id != _boot_id():
            return False
        if self.start:
            return _start(self.pid) == self.start
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def _start(pid: int) -> str:
    """Field 22 of /proc/<pid>/stat; empty for a process that is gone or a zombie."""
    try:
        # The command name, in parentheses, may itself hold spaces and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""
