"""A real Docker engine for tests: the one that DOCKER_HOST names, or one of this machine's own, brought up for them and taken down."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import engine_image
import pytest

from podctl.backends.docker.backend import IMAGE, DockerBackend

PROGRAMS = ("dockerd", "containerd", "runc", "iptables", "setpriv", "unshare")
OWN_IMAGE = "podctl-tests"
NO_ENGINE = "NO DOCKER ENGINE, the Docker backend is not tested"
#: Where the engine's programs are, also for a user who has no administrator's PATH.
_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_START_S = 30.0


def why_not() -> str:
    """Why the tests that need an engine do not run; nothing when they do."""
    if os.environ.get("DOCKER_HOST"):
        return ""
    lacking = [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]
    if lacking:
        return f"{NO_ENGINE}: DOCKER_HOST is not set, and to bring one up {', '.join(lacking)} would be needed"
    return "" if os.geteuid() == 0 else f"{NO_ENGINE}: DOCKER_HOST is not set, and only root can bring one up"


@contextmanager
def running() -> Iterator[None]:
    """While it lasts, DOCKER_HOST and PODCTL_IMAGE name an engine and an image that it has."""
    before = {name: os.environ.get(name) for name in ("DOCKER_HOST", IMAGE)}
    try:
        with contextlib.nullcontext() if before["DOCKER_HOST"] else _own() as host:
            if host:
                os.environ["DOCKER_HOST"] = host
            if host or not before[IMAGE]:
                _import_image()
            yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _import_image() -> None:
    try:
        client = docker.from_env(timeout=300)
        client.api.import_image_from_data(engine_image.root(), repository=OWN_IMAGE, tag="1")
        client.close()
    except (docker.errors.DockerException, OSError) as error:
        pytest.skip(f"{NO_ENGINE}: {error}")
    os.environ[IMAGE] = f"{OWN_IMAGE}:1"


@contextmanager
def _own() -> Iterator[str]:
    """In name spaces of its own: its mounts, networks, firewall rules and processes end with it, and meet nobody else's."""
    directory = Path(tempfile.mkdtemp(prefix="pt-docker-", dir="/var/tmp"))
    group = directory.name
    host = f"unix://{directory}/s"
    command = [
        "setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
        shutil.which("dockerd", path=_PATH) or "dockerd", "--host", host, "--data-root", f"{directory}/data",
        "--exec-root", f"{directory}/exec", "--pidfile", f"{directory}/pid", "--bridge=none", "--cgroup-parent", f"/{group}",
        "--exec-opt", "native.cgroupdriver=cgroupfs",
    ]  # fmt: skip
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PATH": _PATH}, start_new_session=True
        )
    try:
        if not _answers(host, process):
            said = (directory / "log").read_text(errors="replace").strip().splitlines()
            # Not podctl's failure, and not to be overlooked: the last lines of the tests say it.
            pytest.skip(f"{NO_ENGINE}: it did not start: {said[-1][:300] if said else 'it said nothing'}")
        yield host
        _remove_containers(host)
    finally:
        _end(process)
        for path in sorted(Path("/sys/fs/cgroup").glob(f"**/{group}/**/"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()
        shutil.rmtree(directory, ignore_errors=True)


def _answers(host: str, process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(docker.errors.DockerException, OSError):
            client = docker.DockerClient(base_url=host, timeout=5)
            client.ping()
            client.close()
            return True
        time.sleep(0.1)
    return False


def _remove_containers(host: str) -> None:
    """So that their control groups go as well."""
    client = docker.DockerClient(base_url=host, timeout=60)
    for container in client.containers.list(all=True):
        with contextlib.suppress(docker.errors.APIError):
            container.remove(force=True, v=True)
    client.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """The engine is the only child of its `unshare`, and the first process of its name space."""
    with contextlib.suppress(OSError, ValueError):
        engine = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(engine, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    process.kill()
    process.wait(20)


async def backend() -> DockerBackend:
    return await DockerBackend.open(os.environ)
