"""A Docker engine: containers, networks and readiness by testcontainers, and byte streams of programs run in a container."""

from __future__ import annotations

import asyncio
import io
import os
import re
import ssl
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import docker.errors
import requests.exceptions
from docker.types import EndpointConfig, LogConfig, Ulimit
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient, get_docker_host
from testcontainers.core.network import Network
from testcontainers.core.waiting_utils import WaitStrategy, WaitStrategyTarget

from podctl.backends.docker.objects import Box, Options
from podctl.backends.docker.problems import DockerProblem, refusal, unreachable

T = TypeVar("T")

_DEFAULT_HOST = "unix:///var/run/docker.sock"
#: A container's end is waited for in a thread.
_THREADS = 256
_MAX_HEADERS = 64 * 1024
_SAID = 4096
_GONE_S = 30.0
#: An engine would fill an empty volume with what the image has there, and give it that directory's owner.
_VOLUME, _FILLED_VOLUME = "rw,nocopy", "ro,nocopy"
#: Where an image may have a volume of its own: a path that podctl can have made in memory.
_PATH = re.compile(r"(/[^/:,\s]+)+/?")


@dataclass(frozen=True)
class ImageFacts:
    """``user`` is 0 unless the image names another by its number; ``volumes`` are directories that it means to write to."""

    user: int
    volumes: tuple[str, ...]


class Engine:
    """Every call raises `DockerProblem` when the engine refuses it or does not answer."""

    def __init__(self, host: str, client: DockerClient) -> None:
        self.host = host
        self.client = client.client
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._under_way: dict[asyncio.Future[Any], str] = {}

    @staticmethod
    async def open() -> Engine:
        """The engine of DOCKER_HOST, of the current context, or of this machine. Raises `DockerProblem`."""
        # podctl finds what is left by labels, without a container that has the engine's socket.
        os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
        host = await asyncio.to_thread(get_docker_host) or _DEFAULT_HOST
        os.environ["DOCKER_HOST"] = host
        if urlsplit(host).scheme not in ("unix", "tcp", "http", "https"):
            raise DockerProblem(
                f"podctl cannot use the engine at {host}", code="engine-host", hint="DOCKER_HOST=unix://… or tcp://…"
            )

        def connected() -> DockerClient:
            client = DockerClient(timeout=60)
            client.client.ping()
            return client

        try:
            return Engine(host, await asyncio.to_thread(connected))
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise unreachable(host, str(error)) from error

    @property
    def address(self) -> str | tuple[str, int]:
        """Path of its socket, or host and port."""
        parts = urlsplit(self.host)
        if parts.scheme == "unix":
            return parts.path
        return parts.hostname or "", parts.port or (2376 if self.client.api.base_url.startswith("https") else 2375)

    async def answers(self) -> bool:
        return await self.call("the engine's answer", self.client.ping)

    async def call(self, what: str, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """A call that blocks, in a thread; ``what`` is what was to be done. When its caller is cancelled it goes on."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._threads, lambda: self._translated(what, function, *arguments, **named))
        self._under_way[future] = what
        future.add_done_callback(lambda done: self._under_way.pop(done, None))
        return await asyncio.shield(future)

    def _translated(self, what: str, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        try:
            return function(*arguments, **named)
        except docker.errors.ImageNotFound as error:
            raise refusal(what, 404, f"image: {error.explanation}") from error
        except docker.errors.APIError as error:
            raise refusal(what, error.status_code or 0, str(error.explanation or error)) from error
        except (requests.exceptions.RequestException, docker.errors.DockerException) as error:
            raise unreachable(self.host, str(error)) from error

    async def settled(self, name: str) -> None:
        """Wait for what is being made under names that begin so: a caller that was cancelled did not wait for it."""
        making = [future for future, what in self._under_way.items() if what.partition(" ")[2].startswith(name)]
        await asyncio.gather(*making, return_exceptions=True)

    async def close(self) -> None:
        self._threads.shutdown(wait=False)
        self.client.close()

    # ---- what pods are made of ----

    async def network(self, name: str, wanted: Options) -> None:
        """Raises `DockerProblem` with the code ``addresses-taken`` when somebody has these."""

        def make() -> None:
            pool = docker.types.IPAMPool(subnet=wanted["subnet"])
            given = {key: value for key, value in wanted.items() if key != "subnet"}
            made = Network(docker_network_kw={**given, "ipam": docker.types.IPAMConfig(pool_configs=[pool])})
            made.name = name
            try:
                made.create()
            finally:
                made._docker.client.close()

        await self.call(f"network {name}", make)

    async def volume(self, name: str, labels: Mapping[str, str], options: Options | None = None) -> None:
        await self.call(f"volume {name}", self.client.volumes.create, name, labels=dict(labels), **(options or {}))

    async def image(self, name: str) -> None:
        """See that the engine has it, or can get it."""

        def get() -> None:
            try:
                self.client.images.get(name)
            except docker.errors.ImageNotFound:
                try:
                    self.client.images.pull(name)
                except docker.errors.APIError as error:
                    raise refusal(name, 404, f"image: {error.explanation or error}") from error

        await self.call(f"image {name}", get)

    async def image_facts(self, name: str) -> ImageFacts:
        """What the image says of itself; the engine has it already."""
        config = (await self.call(f"image {name}", self.client.api.inspect_image, name)).get("Config") or {}
        user = str(config.get("User") or "").partition(":")[0]
        volumes = tuple(path.rstrip("/") for path in config.get("Volumes") or {} if _PATH.fullmatch(path))
        return ImageFacts(int(user) if user.isascii() and user.isdigit() else 0, volumes)

    async def start(self, box: Box, ready: WaitStrategy | None = None) -> str:
        """Make a container with its files, start it and wait until it is ready; its id."""
        volumes = {f"{box.name}-{number}": (mount, files) for number, (mount, files) in enumerate(box.files.items())}
        await asyncio.gather(*(self.volume(name, box.labels) for name in volumes))
        filled = {name: place for name, place in volumes.items() if place[0] in box.kept}
        if filled:
            await self.call(f"files of {box.name}", self._fill, box, filled)

        def make() -> str:
            made = _Container(box.options, box)
            for name, (mount, files) in volumes.items():
                made.with_volume_mapping(name, mount, _FILLED_VOLUME if name in filled else _VOLUME)
                if name not in filled:
                    made.with_copy_into_container(_tar(files), mount)
            for mount, memory in box.shared.items():
                made.with_volume_mapping(memory.name, mount, _VOLUME)
            if ready is not None:
                made.waiting_for(ready)
            try:
                made.start()
                return made.get_container_id()
            except TimeoutError as error:
                raise _not_ready(box.name, str(error)) from error
            except _Ended as error:
                raise _not_ready(box.name, error.said) from error
            finally:
                made.get_docker_client().client.close()

        return await self.call(f"container {box.name}", make)

    def _fill(self, box: Box, volumes: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> None:
        """Lay files over what the image has at a place, in a container that is never started: in the service's own, the place is
        read-only, whoever the image's files belong to."""
        binds = {name: {"bind": mount, "mode": "rw"} for name, (mount, _) in volumes.items()}
        host = self.client.api.create_host_config(binds=binds, network_mode="none")
        image = box.options["image"]
        made = self.client.api.create_container(image, ["none"], labels=dict(box.labels), host_config=host)["Id"]
        try:
            for mount, files in volumes.values():
                self.client.api.put_archive(made, mount, _tar(files))
        finally:
            self.client.api.remove_container(made, force=True)

    async def state(self, container: str) -> dict[str, Any]:
        """The engine's ``State`` of a container."""
        told = await self.call(f"container {container}", self.client.api.inspect_container, container)
        return dict(told["State"])

    async def ended(self, container: str) -> dict[str, Any]:
        """Wait for a container's end; its last ``State``."""
        await self.call(f"container {container}", self.client.api.wait, container, None)
        return await self.state(container)

    async def kill(self, container: str) -> None:
        """End every process in it. No error when it has ended."""

        def end() -> None:
            try:
                self.client.api.kill(container)
            except docker.errors.APIError as error:
                if error.status_code not in (404, 409):
                    raise

        await self.call(f"container {container}", end)

    async def remove(self, container: str) -> None:
        """With every process in it and with volumes that have no name. No error when it is not there."""

        def remove() -> None:
            deadline = time.monotonic() + _GONE_S
            while True:
                try:
                    self.client.api.remove_container(container, force=True, v=True)
                except docker.errors.NotFound:
                    return
                except docker.errors.APIError as error:
                    if error.status_code != 409 or time.monotonic() > deadline:  # somebody else removes it
                        raise
                time.sleep(0.02)

        await self.call(f"removal of {container}", remove)

    async def remove_network(self, name: str) -> None:
        await self._remove(f"removal of network {name}", self.client.api.remove_network, name)

    async def remove_volume(self, name: str) -> None:
        await self._remove(f"removal of volume {name}", self.client.api.remove_volume, name)

    async def _remove(self, what: str, function: Callable[[str], Any], name: str) -> None:
        def remove() -> None:
            with suppress(docker.errors.NotFound):
                function(name)

        await self.call(what, remove)

    # ---- programs in a container ----

    @asynccontextmanager
    async def exec(self, container: str, argv: Sequence[str]) -> AsyncIterator[Exec]:
        """A program in a running container; leaving the block ends its input and the connection to it."""
        made = await self.call(
            f"a program in {container}",
            self.client.api.exec_create,
            container,
            list(argv),
            stdin=True,
            stdout=True,
            stderr=True,
        )
        reader, writer = await self._connection()
        try:
            body = b'{"Detach": false, "Tty": false}'
            head = f"POST /exec/{made['Id']}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n"
            head += f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            try:
                answer = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
                raise unreachable(self.host, "it closed the connection") from error
            status = int(answer.split(b" ", 2)[1])
            if status not in (101, 200):
                said = (await reader.read(2000)).decode("utf-8", "replace")
                raise refusal(f"a program in {container}", status, said)
            yield Exec(reader, writer)
        except OSError as error:
            raise unreachable(self.host, str(error)) from error
        finally:
            writer.transport.abort()

    async def run(self, container: str, argv: Sequence[str], limit: int) -> bytes:
        """A program's output, at most ``limit`` bytes of it; it has to end what it says by exiting."""
        out = bytearray()
        async with self.exec(container, argv) as running:
            while data := await running.read():
                out += data
                if len(out) > limit:
                    raise DockerProblem(
                        f"a program of podctl in {container} failed",
                        code="exec-failed",
                        cause=f"more than {limit} bytes came back",
                    )
            if not out:
                raise DockerProblem(f"a program of podctl in {container} failed", code="exec-failed", cause=running.said())
        return bytes(out)

    async def complaint(self, container: str, argv: Sequence[str]) -> str:
        """What a program in the container complained of; nothing when it exited with 0."""

        def run() -> str:
            code, said = self.client.containers.get(container).exec_run(list(argv))
            return "" if code == 0 else f"exit {code}: {said.decode('utf-8', 'replace').strip()[-300:]}"

        return await self.call(f"a program in {container}", run)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        where = self.address
        try:
            if isinstance(where, str):
                return await asyncio.open_unix_connection(where, limit=_MAX_HEADERS)
            secure = self.client.api.base_url.startswith("https")
            return await asyncio.open_connection(*where, ssl=_tls() if secure else None, limit=_MAX_HEADERS)
        except OSError as error:
            raise unreachable(self.host, str(error)) from error


class Exec:
    """A program's output and input. The engine puts eight bytes before each piece of output: which stream, how long."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._errors = bytearray()

    async def read(self) -> bytes:
        """Standard output; nothing once it has ended. Standard error is kept for `said`."""
        while True:
            try:
                head = await self._reader.readexactly(8)
                data = await self._reader.readexactly(int.from_bytes(head[4:], "big"))
            except asyncio.IncompleteReadError:
                return b""
            if head[0] == 1 and data:
                return data
            if head[0] == 2:
                self._errors = (self._errors + data)[-_SAID:]

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def said(self) -> str:
        return self._errors.decode("utf-8", "replace").strip()[-1000:]


class Answers(WaitStrategy):
    """Ready when a program inside the container, or inside ``asked_by``, says so; not ready ever when the container has ended."""

    def __init__(self, argv: Sequence[str], timeout_s: float, asked_by: str = "") -> None:
        super().__init__()
        self._argv = list(argv)
        self._asked_by = asked_by
        self.with_startup_timeout(int(timeout_s) or 1).with_poll_interval(0.05)

    def wait_until_ready(self, container: WaitStrategyTarget) -> None:
        deadline = time.monotonic() + self._startup_timeout
        said = b""
        while time.monotonic() < deadline:
            wrapped = container.get_wrapped_container()
            wrapped.reload()
            if wrapped.status in ("exited", "dead"):
                raise _Ended(_last_words(wrapped))
            asked = wrapped.client.containers.get(self._asked_by) if self._asked_by else wrapped
            try:
                code, said = asked.exec_run(self._argv)
            except docker.errors.APIError as error:
                code, said = 1, str(error.explanation).encode()
            if code == 0:
                return
            time.sleep(self._poll_interval)
        raise TimeoutError(f"no answer within {self._startup_timeout:g} s: {said.decode('utf-8', 'replace').strip()[-300:]}")


class _Ended(Exception):
    def __init__(self, said: str) -> None:
        super().__init__(said)
        self.said = said


class _Container(DockerContainer):
    """testcontainers' own, with a whole archive put where a volume is: its root is read-only."""

    def __init__(self, options: Options, box: Box) -> None:
        super().__init__(options["image"], name=box.name, env=dict(box.environment))
        entry, command = ((box.argv[0],), box.argv[1:]) if box.entry is None else (box.entry, box.argv)
        if command or entry:
            self.with_command(list(command))
        kept = {key: value for key, value in options.items() if key not in ("image", "ulimits", "log_config", "tmpfs")}
        log = options["log_config"]
        limits = [Ulimit(name=name, soft=most, hard=most) for name, most in options["ulimits"].items()]
        kept |= {"labels": dict(box.labels), "ulimits": limits, "network": box.network}
        if entry:
            kept["entrypoint"] = list(entry)
        kept["log_config"] = LogConfig(type=log["type"], config=log["config"])
        if box.address:
            version = self.get_docker_client().client.api._version
            kept["networking_config"] = {box.network: EndpointConfig(version, ipv4_address=box.address)}
        self.tmpfs = dict(options["tmpfs"])
        self.with_kwargs(**kept)

    def _transfer_into_container(self, transferable: Any, destination_in_container: str, mode: int) -> None:
        self.get_wrapped_container().put_archive(destination_in_container, transferable)


def _not_ready(name: str, cause: str) -> DockerProblem:
    return DockerProblem(f"{name} was not ready", code="not-ready", cause=cause, hint="podctl logs says more")


def _last_words(container: Any) -> str:
    state = container.attrs.get("State", {})
    said = container.logs(tail=20).decode("utf-8", "replace").strip()[-1000:]
    return f"it ended with exit code {state.get('ExitCode')}: {said or state.get('Error') or 'it printed nothing'}"


def _tar(files: Mapping[str, bytes]) -> bytes:
    """Everybody may read, only root may write."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        directories = sorted({str(parent) for name in files for parent in Path(name).parents if str(parent) != "."})
        for name in directories:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o555
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _tls() -> ssl.SSLContext:
    """As Docker's own clients: DOCKER_CERT_PATH has ca.pem, cert.pem and key.pem."""
    directory = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.load_cert_chain(str(directory / "cert.pem"), str(directory / "key.pem"))
    return context
