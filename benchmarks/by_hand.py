"""The same work without podctl and without isolation: the floor of a pod."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg

from podctl.backends.local import postgres, sandbox
from podctl.data.settings import settings_for

_NOBODY = 65534
_PORTS = (21801, 21802)


class ByHand:
    """A copy of a template's data directory in memory, its server, and two services beside it."""

    def __init__(self, directory: Path, template: Path, service: Path) -> None:
        self._template = template
        self._service = service
        self._directory = directory / "hand"
        self._directory.mkdir(mode=0o755)
        self._password = (template / "password").read_text()
        self._user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.getuid() == 0 else {}

    def once(self, number: int) -> dict[str, float]:
        """Seconds of: ready, reset (the database alone), renewed (with the services), teardown."""
        found: dict[str, float] = {}
        place = Path("/dev/shm") / f"podctl-bench-{os.getpid()}-{number}"
        data, sockets = place / "data", self._directory
        if os.getuid() == 0:
            os.chown(sockets, _NOBODY, _NOBODY)
        began = time.perf_counter()
        place.mkdir(mode=0o755)
        subprocess.run(["/bin/cp", "-R", str(self._template / "data"), str(data)], check=True)
        data.chmod(0o700)
        if os.getuid() == 0:
            subprocess.run(["/bin/chown", "-R", f"{_NOBODY}:{_NOBODY}", str(data)], check=True)
        server = self._server(data, sockets)
        admin = self._connect(sockets, "postgres")
        self._clone(admin)
        services = self._services()
        found["ready"] = time.perf_counter() - began
        began = time.perf_counter()
        for process in services:
            process.kill()
            process.wait()
        half = time.perf_counter()
        admin.execute("DROP DATABASE main WITH (FORCE)")
        self._clone(admin)
        found["reset"] = time.perf_counter() - half
        services = self._services()
        found["renewed"] = time.perf_counter() - began
        admin.close()
        began = time.perf_counter()
        for process in (*services, server):
            process.kill()
            process.wait()
        shutil.rmtree(place)
        found["teardown"] = time.perf_counter() - began
        return found

    def _server(self, data: Path, sockets: Path) -> subprocess.Popen[bytes]:
        programs = postgres.programs()
        settings = {**settings_for(programs.major), "log_directory": str(data), "dynamic_shared_memory_type": "mmap"}
        command = postgres.server_command(
            str(programs.root / "bin"),
            str(data),
            host="127.0.0.1",
            port=21800,
            socket_directory=str(sockets),
            settings=settings,
        )
        environment = {"LD_LIBRARY_PATH": str(programs.root / "lib"), "PATH": "/usr/bin:/bin"}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **self._user
        )

    def _connect(self, sockets: Path, database: str) -> psycopg.Connection:
        conninfo = f"host={sockets} port=21800 user=postgres password={self._password} dbname={database}"
        for _ in range(5000):
            with contextlib.suppress(psycopg.OperationalError):
                return psycopg.connect(conninfo, autocommit=True)
            time.sleep(0.002)
        raise RuntimeError("PostgreSQL by hand did not start")

    @staticmethod
    def _clone(admin: psycopg.Connection) -> None:
        admin.execute("CREATE DATABASE main TEMPLATE podctl_template STRATEGY FILE_COPY")

    def _services(self) -> list[subprocess.Popen[bytes]]:
        started = []
        for port in _PORTS:
            environment = {"HOST": "127.0.0.1", "PORT": str(port)}
            started.append(subprocess.Popen([sys.executable, "-I", "-S", str(self._service)], env=environment))
        for port in _PORTS:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as connection:
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
                    if connection.recv(64):
                        break
                time.sleep(0.001)
        return started


def bare_bwrap() -> None:
    """bubblewrap with every namespace and nothing else of podctl's sandbox."""
    binds = [part for name in ("/usr", "/bin", "/lib", "/lib64") if Path(name).exists() for part in ("--ro-bind", name, name)]
    subprocess.run([sandbox.bwrap_path(), "--unshare-all", *binds, "--proc", "/proc", "--dev", "/dev", "/bin/true"], check=True)
