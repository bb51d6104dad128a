"""A MariaDB server to capture from, where one is installed (apt-get install mariadb-server-core mariadb-client-core)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def why_not() -> str:
    """Empty when a server and its driver are there."""
    try:
        import pymysql  # noqa: F401
    except ImportError:
        return "pymysql is not installed"
    return "" if shutil.which("mariadbd") and shutil.which("mariadb-install-db") else "no mariadbd on PATH"


@contextmanager
def serving() -> Iterator[str]:
    """The URL, without a database, of a server of its own on a Unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="podctl-maria-", dir="/var/tmp"))
    data, socket = directory / "data", directory / "s"
    user = ["--user=root"] if os.geteuid() == 0 else []
    install = ["mariadb-install-db", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db", *user]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    serve = ["mariadbd", "--no-defaults", f"--datadir={data}", f"--socket={socket}", "--skip-networking", *user]
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen(serve, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert server.poll() is None and time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.05)
        yield f"mysql+pymysql://root@/{{database}}?unix_socket={socket}"
    finally:
        server.kill()
        server.wait(timeout=20)
        shutil.rmtree(directory)
