"""The no-op scenario with Docker containers made by hand for each attempt: a database, two services, an agent.

Nothing is recorded, read back, graded or kept, services are not waited for, and agent and services share one network: less than
podctl does. The engine is the one that answers, or one that is started here when its program is installed.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.effort import Effort
from benchmarks.projects import SMALL_SERVICE, make_project
from benchmarks.table import Row, ms, spread
from benchmarks.throughput import PODS, rate
from podctl.backends.local import postgres
from podctl.backends.local.state import State
from podctl.data.settings import settings_for

NOBODY = 65534
IMAGE = "podctl-bench"
PYTHON = str(Path(sys.executable).resolve())


def measure(effort: Effort) -> list[Row]:
    attempts = effort.pick(2, 24, 100)
    name = f"no-op agent, Docker containers by hand, {PODS} at once"
    project = make_project(effort.directory / "p", tickets=attempts, run={"pods": PODS})
    ours = rate(project, attempts)
    template = next(path for path in State.open().templates.iterdir() if (path / "password").exists())
    with _engine(effort.directory) as (client, why_not):
        if client is None:
            return [Row(name, [], "/s", why_not)]
        client.api.import_image_from_data(_root(template), repository=IMAGE)
        try:
            by_hand = ByHand(client, effort.directory, (template / "password").read_text())
            by_hand.attempt(0)
            began = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(PODS) as pool:
                took = list(pool.map(by_hand.attempt, range(1, attempts + 1)))
            whole = time.perf_counter() - began
        finally:
            for container in client.containers.list(all=True, filters={"label": IMAGE}):  # those of a start that failed
                container.remove(force=True)
            client.images.remove(IMAGE, force=True)
            client.close()
    beside = f"podctl {ours.rate:.1f}/s, isolated, recorded and graded; of an attempt by hand: {_parts(took)}"
    return [Row(name, [attempts / whole], "/s", beside)]


def _parts(took: list[dict[str, float]]) -> str:
    return ", ".join(f"{name} {spread(ms([one[name] for one in took]), 'ms')}" for name in took[0])


class ByHand:
    def __init__(self, client: Any, directory: Path, password: str) -> None:
        self._client = client
        self._directory = directory
        self._password = password

    def attempt(self, number: int) -> dict[str, float]:
        """Seconds of: ready, agent, teardown. Raises `RuntimeError` when the agent left no result."""
        place = self._directory / f"d{number}"
        place.mkdir()
        place.chmod(0o777)
        clock, made = time.perf_counter, []
        began = clock()
        try:
            database = self._run(_server(), "none", place)
            made.append(database)
            inside = f"container:{database.id}"
            for port in (8001, 8002):
                environment = {"HOST": "127.0.0.1", "PORT": str(port)}
                made.append(self._run([PYTHON, "-I", "-S", "-c", SMALL_SERVICE], inside, place, environment))
            self._until_ready(place)
            ready = clock()
            agent = self._run(["/bin/sh", "-c", """echo '{"status": "done"}' > /work/result.json"""], inside, place)
            made.append(agent)
            if agent.wait()["StatusCode"] or not (place / "result.json").exists():
                raise RuntimeError(f"the agent failed: {agent.logs().decode()}")
            done = clock()
        finally:
            for container in reversed(made):
                container.remove(force=True)
        shutil.rmtree(place)
        return {"ready": ready - began, "agent": done - ready, "teardown": clock() - done}

    def _run(self, command: list[str], network: str, place: Path, environment: dict[str, str] | None = None) -> Any:
        library = {"LD_LIBRARY_PATH": str(postgres.programs().root / "lib")}
        return self._client.containers.run(
            IMAGE, command, detach=True, network_mode=network, user=str(NOBODY), environment={**library, **(environment or {})},
            volumes={str(place): {"bind": "/work", "mode": "rw"}}, cap_drop=["ALL"], mem_limit="1g", pids_limit=64,
            security_opt=["no-new-privileges"], log_config={"type": "none"}, labels=[IMAGE],
        )  # fmt: skip

    def _until_ready(self, place: Path) -> None:
        for _ in range(5000):
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(f"host={place} port=5432 user=postgres password={self._password} dbname=postgres").close()
                return
            time.sleep(0.002)
        raise RuntimeError("PostgreSQL in a container did not start")


def _server() -> list[str]:
    programs = postgres.programs()
    settings = {**settings_for(programs.major), "log_directory": "/data"}
    binaries = str(programs.root / "bin")
    return postgres.server_command(binaries, "/data", host="127.0.0.1", port=5432, socket_directory="/work", settings=settings)


def _root(template: Path) -> bytes:
    """A tar of what the containers need: sh, Python with its library, PostgreSQL, and the prepared data directory."""
    root = postgres.programs().root
    standard = Path(sysconfig.get_paths()["stdlib"])
    programs = [Path("/bin/sh"), Path(PYTHON), *(standard / "lib-dynload").glob("*.so"), root / "bin" / "postgres"]
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:

        def add(path: Path, name: str, owner: int = 0) -> None:
            def own(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
                entry.uid = entry.gid = owner
                entry.mode = 0o700 if entry.name == "data" else entry.mode
                return None if re.search(r"/(site-packages|test|__pycache__)$", entry.name) else entry

            tar.add(path, name, filter=own)

        for path in sorted({*programs[:2], *_libraries(programs)}):
            add(path.resolve(), str(path))
        add(standard, str(standard))
        for path in (root, Path("/usr/lib/locale/C.utf8"), Path("/usr/share/zoneinfo/UTC")):
            if path.exists():
                add(path, str(path))
        add(template / "data", "/data", NOBODY)
        for name in ("/tmp", "/proc", "/sys", "/dev", "/etc", "/work"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(entry)
    return found.getvalue()


def _libraries(programs: list[Path]) -> set[Path]:
    library = {**os.environ, "LD_LIBRARY_PATH": str(postgres.programs().root / "lib")}
    said = subprocess.run(["ldd", *map(str, programs)], env=library, capture_output=True, text=True).stdout
    return {Path(name) for name in re.findall(r"(/\S+) \(0x", said)}


@contextlib.contextmanager
def _engine(directory: Path) -> Iterator[tuple[Any, str]]:
    """A client of the engine, or None and why there is none."""
    import docker

    client = None
    with contextlib.suppress(docker.errors.DockerException):
        client = docker.from_env(timeout=120)
    if client is not None:
        yield client, ""
        return
    program = shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None or os.getuid() != 0:
        yield None, "no Docker engine answers, and none can be started: apt-get install docker.io, and be root"
        return
    socket = f"unix://{directory}/docker.sock"
    command = [program, "--host", socket, "--data-root", f"{directory}/data", "--exec-root", f"{directory}/exec"]
    command += ["--pidfile", f"{directory}/docker.pid", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    command += ["--ip-forward=false", "--ip-masq=false"]
    said = directory / "dockerd.log"
    with open(said, "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        client = _connected(docker, socket, process)
        yield client, "" if client else f"the Docker engine did not start: {_last(said)}"
    finally:
        process.terminate()
        process.wait(60)


def _connected(docker: Any, socket: str, process: subprocess.Popen[bytes]) -> Any:
    for _ in range(300):
        with contextlib.suppress(docker.errors.DockerException, OSError):
            client = docker.DockerClient(base_url=socket, timeout=120)
            client.ping()
            return client
        if process.poll() is not None:
            return None
        time.sleep(0.1)
    return None


def _last(log: Path) -> str:
    lines = log.read_text().strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
