"""Errors a user is meant to read. Anything else that escapes is a bug."""

from __future__ import annotations

import errno
import os
from enum import IntEnum


class ExitCode(IntEnum):
    DONE = 0
    BUG = 1
    USAGE = 2
    ENVIRONMENT = 3
    TEARDOWN_INCOMPLETE = 4
    INCONCLUSIVE = 5
    GATE_FAILED = 100
    INTERRUPTED = 130


class PodctlError(Exception):
    """An expected failure: what happened, why, and what to type.

    ``code`` is a stable machine-readable name, ``cause`` one line on why,
    ``hint`` one line on what to type, ``unchanged`` says what was and was not changed.
    """

    exit_code: ExitCode = ExitCode.ENVIRONMENT

    def __init__(
        self,
        what: str,
        *,
        code: str,
        cause: str = "",
        hint: str = "",
        unchanged: str = "",
        exit_code: ExitCode | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.cause = cause
        self.hint = hint
        self.unchanged = unchanged
        if exit_code is not None:
            self.exit_code = exit_code

    def render(self) -> str:
        """The text shown on a terminal: the headline, then indented lines."""
        lines = [f"error: {self.what} [{self.code}]"]
        lines += [f"  {line}" for text in (self.cause, self.unchanged, self.hint) for line in text.splitlines()]
        return "\n".join(lines)


class SpecError(PodctlError):
    """A mistake in what the user wrote; nothing was made."""

    exit_code = ExitCode.USAGE


class EnvironmentProblem(PodctlError):
    """The machine or a dependency cannot do what was asked."""

    exit_code = ExitCode.ENVIRONMENT


#: What to type where pods and templates, or the store, have no room.
NO_ROOM_FOR_PODS = "free some: podctl gc, or set PODCTL_STATE to a directory on a larger disk"
NO_ROOM_FOR_STORE = "free some: podctl gc, or name a directory on a larger disk with --store"

#: errno -> (what the machine is out of, stable code, what to type)
_REFUSALS = {
    errno.ENOSPC: (
        "no space is left on a disk",
        "disk-full",
        "free some: podctl gc, or name other places with PODCTL_STATE and --store",
    ),
    errno.EDQUOT: ("the disk quota is used up", "disk-full", "free some, or name other places with PODCTL_STATE and --store"),
    errno.EROFS: ("a file system is read-only", "read-only", "name other places with PODCTL_STATE and --store"),
    errno.EMFILE: ("too many open files", "too-many-files", "ulimit -n 4096, or fewer --pods"),
    errno.ENFILE: ("the machine has too many open files", "too-many-files", "fewer --pods"),
    errno.ENOMEM: ("no memory is left", "out-of-memory", "fewer --pods"),
    errno.EAGAIN: ("no more processes may be started", "too-many-processes", "ulimit -u, or fewer --pods"),
    errno.EACCES: ("a file may not be used", "not-permitted", ""),
    errno.EPERM: ("the system does not permit it", "not-permitted", "podctl doctor"),
    errno.ENAMETOOLONG: ("a path is too long", "path-too-long", "move the project to a shorter path"),
}


def refused_by_system(error: OSError) -> EnvironmentProblem | None:
    """The system's refusal in words, when it is one that a user can do something about."""
    if error.errno not in _REFUSALS:
        return None
    what, code, hint = _REFUSALS[error.errno]
    cause = f"{error.filename}: {os.strerror(error.errno)}" if error.filename else os.strerror(error.errno)
    return EnvironmentProblem(what, code=code, cause=cause, hint=hint)
