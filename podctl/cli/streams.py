"""Standard streams that a command can rely on: open, and never the reason that it ends with another exit code."""

from __future__ import annotations

import io
import os
import sys


class _Forgiving(io.FileIO):
    """Goes on into nothing when its reader is gone: ``podctl run … | head -1`` must still say the verdict by its code."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), self.fileno())
            return memoryview(data).nbytes  # type: ignore[arg-type]


def guard_streams() -> None:
    """Open those that are closed, before a file of ours gets their number, and let no locale refuse a character."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdout = _text(1, getattr(sys.stdout, "encoding", None))
    sys.stderr = _text(2, getattr(sys.stderr, "encoding", None))


def _text(fd: int, encoding: str | None) -> io.TextIOWrapper:
    raw = _Forgiving(fd, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding or "utf-8", "backslashreplace", line_buffering=fd == 2 or raw.isatty()
    )
