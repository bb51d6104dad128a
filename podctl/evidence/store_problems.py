"""Why a store cannot be used, in words; nothing here loads SQLAlchemy."""

from __future__ import annotations

import os
import re

from podctl.errors import NO_ROOM_FOR_STORE, EnvironmentProblem, ExitCode, refused_by_system

#: The migrations in order. Each name says which podctl brought it: an older one tells its user what to install.
REVISIONS = (
    "0001_podctl_0.1.0",
    "0002_podctl_0.1.0",
    "0003_podctl_0.1.0",
    "0004_podctl_0.1.0",
    "0005_podctl_0.1.0",
    "0006_podctl_0.1.0",
)
HEAD = REVISIONS[-1]

_NEWER = re.compile(r"^\d{4}_podctl_([0-9][0-9A-Za-z.]*)$")
#: Of SQLite's 512 bytes of a path, with room for "-journal".
_LONGEST = 500
UNCHANGED = "nothing was changed"


class StoreProblem(EnvironmentProblem):
    """The store cannot be used as asked."""


def in_words(original: BaseException, name: str, wait_s: float) -> StoreProblem:
    """A driver's error; ``name`` is the store, ``wait_s`` how long another writer was waited for."""
    told = str(original).splitlines()[0] if str(original) else type(original).__name__
    kind = getattr(original, "sqlite_errorname", "") or ""
    sqlstate = getattr(original, "sqlstate", "") or ""
    if kind.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or sqlstate == "55P03":
        return locked(name, wait_s)
    if kind.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or "no such table" in told or "no such column" in told:
        return damaged(name, told)
    if kind == "SQLITE_FULL" or (kind.startswith("SQLITE_IOERR") and _is_full(name)):
        return StoreProblem(f"no space is left for the store {name}", code="disk-full", cause=told, hint=NO_ROOM_FOR_STORE)
    long = kind == "SQLITE_CANTOPEN" and len(os.fsencode(name)) > _LONGEST
    hint = f"SQLite opens no path of more than {_LONGEST} bytes: name a shorter directory with --store" if long else ""
    return StoreProblem(f"the store {name} cannot be used", code="store-unusable", cause=told, hint=hint)


def _is_full(name: str) -> bool:
    """Less than the next page that SQLite would take: of its files in shared memory it only says that they failed."""
    try:
        disk = os.statvfs(os.path.dirname(name))  # noqa: PTH120
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 65536


def unusable(name: str, error: OSError) -> StoreProblem:
    refusal = refused_by_system(error)
    code = "disk-full" if refusal is not None and refusal.code == "disk-full" else "store-unusable"
    return StoreProblem(
        f"the store {name} cannot be used",
        code=code,
        cause=str(error),
        hint="name a directory that can be written, on a disk with room, with --store",
        unchanged=UNCHANGED,
    )


def locked(name: str, wait_s: float) -> StoreProblem:
    return StoreProblem(
        f"the store {name} is locked",
        code="store-locked",
        cause=f"another process has been writing to it for more than {wait_s:g} s",
        hint="try again when it has finished",
        unchanged=UNCHANGED,
    )


def damaged(name: str, cause: str) -> StoreProblem:
    return StoreProblem(
        f"the store {name} is damaged",
        code="store-damaged",
        cause=cause,
        hint="move it away to start a new one; the evidence under runs/ is not touched",
        unchanged=UNCHANGED,
    )


def foreign(name: str) -> StoreProblem:
    return StoreProblem(
        f"{name} is not a podctl store", code="store-foreign", hint="name another directory", unchanged=UNCHANGED
    )


def of_unknown_revision(name: str, revision: str) -> StoreProblem:
    newer = _NEWER.match(revision)
    if newer is None:
        return foreign(name)
    return StoreProblem(
        f"the store {name} was written by a newer podctl",
        code="store-newer",
        cause=f"it needs podctl {newer[1]} or newer",
        hint=f"pip install 'podctl>={newer[1]}'",
        unchanged=UNCHANGED,
    )


def no_run(run: str) -> StoreProblem:
    what = "there is no run yet" if run == "latest" else f"there is no run {run!r}"
    return StoreProblem(what, code="no-such-run", hint="podctl get runs lists what there is", exit_code=ExitCode.USAGE)


def no_attempt(run: str, attempt: str) -> StoreProblem:
    return StoreProblem(f"there is no attempt {attempt!r} in run {run}", code="no-such-attempt", exit_code=ExitCode.USAGE)
