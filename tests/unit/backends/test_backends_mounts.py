"""What of the host's mounts a pod keeps."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from podctl.backends.local.files import PodFiles
from podctl.backends.local.init_client import InitClient
from podctl.backends.local.state import Owner, State


@pytest.mark.skipif(os.getuid() != 0, reason="only root may take a mount away from itself")
def test_a_pod_forgets_the_host_s_mounts_but_those_its_programs_need() -> None:
    async def mounts_of_a_pod() -> list[str]:
        state = State.open()
        record = state.create("mounts", "test", owner=Owner.me(), now_ns=time.time_ns(), ttl_s=60, kept=False, own_uids=True)
        files = PodFiles(state.directory("mounts"))
        client = None
        try:
            files.lay_out("127.0.0.1 localhost\n")
            binds = [(str(source), str(place)) for source, place in files.etc_binds()]
            client = await InitClient.start("mounts", files.root, record.base_uid, binds)
            assert client.init is not None
            seen = Path(f"/proc/{client.init.pid}/mountinfo").read_text()
            return [line.split()[4] for line in seen.splitlines()]
        finally:
            if client is not None:
                client.close()
                while client.init is not None and client.init.alive():
                    await asyncio.sleep(0.002)
            state.remove("mounts")

    host = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    assert any(point.startswith("/sys") for point in host)
    kept = asyncio.run(mounts_of_a_pod())
    own = str(State.open().directory("mounts"))
    expected = ("/proc", "/dev", "/etc", "/usr", "/lib", "/bin", "/sbin", own)
    assert [point for point in kept if point != "/" and not point.startswith(expected) and not own.startswith(point)] == []
    assert {"/", "/proc", f"{own}/etc/ssl/certs"} <= set(kept)
