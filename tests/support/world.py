"""Machines that are worse than this one: small disks, missing devices, low limits, another user."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from killing import CLEAN, RUN, Ground, assert_nothing_lost
from project import Project

#: Mounts, and other users, are root's to make.
ROOT_ONLY = pytest.mark.skipif(os.getuid() != 0, reason="only root can make such a machine")
CAMPAIGN = pytest.mark.campaign
#: Nobody's.
USER = 54321


def shell(script: str) -> list[str]:
    """Start podctl from a shell that did this first, such as ``ulimit -n 64``."""
    return ["sh", "-ec", f'{script}\nexec "$@"', "sh"]


def private(script: str) -> list[str]:
    """… which can mount what it likes: nobody else sees it."""
    return ["unshare", "--mount", *shell(script)]


#: A /dev without shared memory.
WITHOUT_SHM = private(
    """
    new=$(mktemp -d)
    mount -t tmpfs none $new
    for name in null zero full random urandom tty; do touch $new/$name; mount --bind /dev/$name $new/$name; done
    ln -s /proc/self/fd $new/fd
    mount --move $new /dev
    rmdir $new
    test ! -e /dev/shm
    """
)


def ordinary(script: str = "") -> list[str]:
    """As a user with no rights, for whom the interpreter is readable also where it lies in root's home."""
    closed = _closed_parent(Path(sys.base_prefix))
    opened = ""
    if closed is not None:
        opened = f"""
        aside=$(mktemp -d)
        mount --bind {sys.base_prefix} $aside
        mount -t tmpfs -o mode=755 none {closed}
        mkdir -p {sys.base_prefix}
        mount --move $aside {sys.base_prefix}
        rmdir $aside
        """
    return [*private(opened), "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *shell(script)]


def _closed_parent(path: Path) -> Path | None:
    """The outermost directory on the way there that others may not enter."""
    return next((parent for parent in reversed(path.parents) if not parent.stat().st_mode & 0o001), None)


def give(*paths: Path) -> None:
    """Make everything there the ordinary user's; who can reach it decides its parents."""
    for path in paths:
        for each in (path, *path.rglob("*")):
            os.chown(each, USER, USER, follow_symlinks=False)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own at ``place``."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "none", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fill(directory: Path, leaving: int) -> Path:
    """Take the disk's space but for so many bytes; the file that takes it."""
    ballast = directory / "ballast"
    free = os.statvfs(directory).f_bavail * os.statvfs(directory).f_frsize
    with open(ballast, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - leaving))
    return ballast


def trust_agent(project: Project) -> None:
    """Where a control is missing only a trusted agent runs."""
    path = project.root / "agent.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "trust": "trusted"}))


def understood(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """It ended with the code, in words, and said these."""
    told = done.stdout + done.stderr
    assert done.returncode == code, f"exit {done.returncode}\n{told}"
    assert "Traceback" not in told and "[bug]" not in told, told
    missing = [text for text in said if text not in told]
    assert not missing, f"{missing} not in:\n{told}"


def runs_of(here: Ground, project: Project, *store: str) -> Sequence[str]:
    return here.podctl(project, "get", "runs", "-o", "name", *store).stdout.split()


def works(here: Ground, project: Project, *command: str, through: Sequence[str] = (), **environment: str) -> None:
    """It runs whole there, and leaves nothing."""
    understood(here.podctl(project, *(command or RUN), through=through, **environment), 0)
    assert sum(attempt.passed for attempt in project.run().attempts) == 2
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN
