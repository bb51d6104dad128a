"""Where podctl keeps what outlives a process on this machine, beside the store: one directory a user."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from podctl.errors import NO_ROOM_FOR_PODS, EnvironmentProblem


def state_directory(root: Path | None = None) -> Path:
    """``root``, PODCTL_STATE or the user's own; it need not be there."""
    return (root or Path(os.environ.get("PODCTL_STATE") or f"/var/tmp/podctl-{os.getuid()}")).absolute()


def own_directory(chosen: Path) -> Path:
    """Made where it is missing. Raises `EnvironmentProblem` when it is somebody else's or cannot be made."""
    try:
        chosen.mkdir(mode=0o711, exist_ok=True)
        facts = chosen.lstat()
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid():
            raise EnvironmentProblem(
                f"{chosen} is not a directory of this user",
                code="state-foreign",
                cause="podctl keeps its pods there and trusts nobody else's files",
                hint="remove it, or set PODCTL_STATE to a directory of your own",
            )
        chosen.chmod(0o711)
    except OSError as error:
        raise unwritable(chosen, error) from error
    return chosen


def unwritable(root: Path, error: OSError) -> EnvironmentProblem:
    full = error.errno == errno.ENOSPC
    return EnvironmentProblem(
        f"cannot keep pods in {root}",
        code="disk-full" if full else "state-unwritable",
        cause=str(error),
        hint=NO_ROOM_FOR_PODS if full else "set PODCTL_STATE to a short path on a disk with room",
    )
