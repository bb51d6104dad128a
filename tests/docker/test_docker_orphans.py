"""What a killed podctl leaves on an engine is found by its labels, named and removed; a living one's is left alone."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confined import TOPOLOGY
from engines import backend

from podctl.backends.docker.leftovers import held
from podctl.pods.plan import PodSpec, steps
from podctl.spec.models import Topology

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]

#: Makes a pod, starts an agent in it, says so and waits to be killed.
HOLDS = """
import asyncio, os, sys
from pathlib import Path
from podctl.backends.base import Command
from podctl.backends.docker.backend import DockerBackend
from podctl.pods.plan import PodSpec, steps
from podctl.spec.models import Topology
async def main():
    used = await DockerBackend.open(os.environ)
    spec = PodSpec("held", "killed", Topology.model_validate_json(sys.argv[1]))
    for step in steps(spec, {}):
        await used.apply(spec, step)
    agent = Command(argv=("/bin/sh", "-c", "sleep 600"), environment={}, directory=Path(sys.argv[2]), wall_s=600)
    running = asyncio.ensure_future(used.execute(spec.id, agent))
    async with asyncio.timeout(60):
        while not {"agent-1", "agent-1-keeper"} <= set(await names(used)):
            await asyncio.sleep(0.05)
    print("made", flush=True)
    await running
async def names(used):
    told = await used.engine.call("containers", used.engine.client.api.containers)
    return [one["Names"][0].removeprefix("/podctl-held-") for one in told]
asyncio.run(main())
"""


def gc(*arguments: str) -> str:
    command = [sys.executable, "-m", "podctl", "gc", "--backend", "docker", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.campaign
def test_what_a_killed_podctl_left_is_named_and_removed(tmp_path: Path) -> None:
    topology = Topology.model_validate(TOPOLOGY)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, topology.model_dump_json(), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "made\n"
        assert gc("--dry-run").splitlines()[-1] == "0 to remove, 1 of living runs"
    finally:
        process.kill()
        process.communicate()

    async def work() -> tuple[str, list[Any], list[Any]]:
        used = await backend()
        mine = PodSpec("mine", "living", topology)
        try:
            await used.apply(mine, steps(mine, {})[0])
            before = await held(used.engine, "held")
            receipt = await asyncio.to_thread(gc)
            assert [one.name for one in await held(used.engine, "mine")] == ["podctl-mine"], "the living one's is left alone"
            return receipt, before, await held(used.engine, "held")
        finally:
            await used.delete("mine")
            await used.close()

    receipt, before, after = asyncio.run(work())
    kinds = {one.kind for one in before}
    assert kinds == {"container", "network", "volume"} and after == []
    for one in before:
        assert f"held  {one.kind} {one.name}: gone" in receipt
    assert "1 of living runs left alone" in receipt


@pytest.mark.campaign
def test_thirty_pods_at_once_find_networks_and_leave_none() -> None:
    """The engine's own address pools hold some thirty networks in all, of which others have some."""

    async def work() -> tuple[int, float]:
        used = await backend()
        specs = [PodSpec(f"many-{number}", "tests", Topology.model_validate(TOPOLOGY)) for number in range(30)]
        try:
            began = time.monotonic()
            await asyncio.gather(*(used.apply(spec, steps(spec, {})[0]) for spec in specs))
            took = time.monotonic() - began
            networks = [one for one in await held(used.engine) if one.kind == "network"]
            return len(networks), took
        finally:
            await asyncio.gather(*(used.delete(spec.id) for spec in specs))
            left = await held(used.engine)
            await used.close()
            assert left == []

    made, took = asyncio.run(work())
    assert made == 30 and took < 60, took


def test_a_network_that_somebody_has_is_gone_round() -> None:
    async def work() -> list[str]:
        used = await backend()
        from podctl.backends.docker.objects import Place, network, subnets
        from podctl.evidence.owner import Owner

        spec = PodSpec("second", "tests", Topology.model_validate(TOPOLOGY))
        theirs = Place("first", "tests", Owner.current())
        wanted = next(subnets(Place(spec.id, spec.run, theirs.owner), spec.topology))
        try:
            await used.engine.network(theirs.network, network(theirs, wanted))
            await used.apply(spec, steps(spec, {})[0])
            api = used.engine.client.api
            told = [await used.engine.call("a network", api.inspect_network, f"podctl-{pod}") for pod in ("first", "second")]
            return [one["IPAM"]["Config"][0]["Subnet"] for one in told]
        finally:
            for pod in ("first", "second"):
                await used.delete(pod)
            await used.close()

    first, second = asyncio.run(work())
    assert first != second and first.endswith("/28") and second.endswith("/28")


def test_no_engine_is_said_in_words(tmp_path: Path) -> None:
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/nobody"}
    command = [sys.executable, "-m", "podctl", "gc", "--backend", "docker"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 3 and "[engine-unreachable]" in done.stderr and "Traceback" not in done.stderr
