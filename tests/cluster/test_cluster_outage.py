"""The API server goes away while an agent works, and comes back."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cluster import configuration as own_configuration
from cluster import image

from podctl.backends.base import Command
from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.objects import Settings
from podctl.errors import EnvironmentProblem
from podctl.pods.plan import PodSpec, steps
from podctl.spec.models import Topology

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster"), pytest.mark.campaign]

TOPOLOGY = Topology(apiVersion="podctl/v1", kind="Topology", name="nothing")


class Way:
    """Between podctl and the API server: `cut` ends every connection and refuses new ones until `mend`."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(*self._target)
        self._open |= {writer, far}

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
                    await sink.drain()
            sink.transport.abort()

        await asyncio.gather(pump(reader, far), pump(far_reader, writer))
        self._open -= {writer, far}


async def through_a_way() -> tuple[Way, KubernetesBackend]:
    configuration = await own_configuration()
    address = urlsplit(configuration.host)
    if address.hostname != "127.0.0.1":
        pytest.skip("the API server's certificate is not for 127.0.0.1, where the test would stand in for it")
    way = Way(address.hostname, address.port or 443)
    await way.mend()
    configuration.host = f"https://127.0.0.1:{way.port}"
    return way, KubernetesBackend(Cluster(configuration), Settings(image=image()))


def test_what_is_under_way_fails_at_once_and_what_follows_waits_for_it(tmp_path: Path) -> None:
    async def go() -> None:
        way, used = await through_a_way()
        spec = PodSpec(f"outage-{secrets.token_hex(4)}", "tests", TOPOLOGY)
        try:
            for step in steps(spec, {}):
                await used.apply(spec, step)
            command = Command(argv=("/bin/sh", "-c", "sleep 100"), environment={}, directory=tmp_path, wall_s=100)
            running = asyncio.ensure_future(used.execute(spec.id, command))
            while not await used.cluster.list("Job", "podctl-" + spec.id):
                await asyncio.sleep(0.1)
            await asyncio.sleep(3)
            await way.cut()
            began = time.monotonic()
            asyncio.get_running_loop().call_later(4, lambda: asyncio.ensure_future(way.mend()))
            with pytest.raises(EnvironmentProblem) as caught:
                await asyncio.wait_for(running, 30)
            assert caught.value.code == "tunnel-lost"
            assert await used.cluster.list("Job", "podctl-" + spec.id) == [], "it was removed once the server was back"
            assert 4 <= time.monotonic() - began < 20
        finally:
            receipt = await used.delete(spec.id)
            await used.close()
        assert all(removal.gone for removal in receipt)

    asyncio.run(go())
