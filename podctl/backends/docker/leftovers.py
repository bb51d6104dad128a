"""Test pods as an engine has them: found by their labels, removed with nothing but their id."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from podctl.backends.base import PodRef, Removal
from podctl.backends.docker.engine import Engine
from podctl.backends.docker.objects import POD, PREFIX, Place, place_of
from podctl.backends.docker.problems import DockerProblem
from podctl.clock import SystemClock

_PASSES = 3


@dataclass(frozen=True)
class Held:
    """Something that carries a pod's labels. ``kind`` is container, network or volume."""

    kind: str
    name: str
    labels: dict[str, str]


async def held(engine: Engine, pod: str = "") -> list[Held]:
    """Everything of one pod, or of all, in the order of removal."""
    api = engine.client.api
    wanted = {"label": f"{POD}={pod}" if pod else POD}
    containers, networks, volumes = await asyncio.gather(
        engine.call("containers", api.containers, all=True, filters=wanted),
        engine.call("networks", api.networks, filters=wanted),
        engine.call("volumes", api.volumes, filters=wanted),
    )
    found = [Held("container", one["Names"][0].lstrip("/"), one["Labels"]) for one in containers]
    found += [Held("network", one["Name"], one["Labels"]) for one in networks]
    found += [Held("volume", one["Name"], one["Labels"]) for one in volumes.get("Volumes") or []]
    return found


async def list_pods(engine: Engine) -> list[PodRef]:
    """Every test pod of the engine. The owner of one that another machine made counts as alive until the pod's time is over."""
    places: dict[str, Place] = {}
    for one in await held(engine):
        try:
            places.setdefault(one.labels[POD], place_of(one.labels))
        except ValueError:
            continue
    now = SystemClock().wall_ns()
    found = []
    for place in places.values():
        alive = place.owner.alive()
        if alive is None:
            alive = now < place.expires_ns
        found.append(
            PodRef(place.pod, place.run, alive, place.created_ns, place.expires_ns, f"network {place.network}", place.kept)
        )
    return found


async def remove_pod(engine: Engine, pod: str) -> list[Removal]:
    """Containers, then their network and volumes; a line for each. Idempotent; needs nothing but the id."""
    await engine.settled(PREFIX + pod)
    receipt: dict[tuple[str, str], Removal] = {}
    for _ in range(_PASSES):
        there = await held(engine, pod)
        if not there:
            break
        for kinds in (("container",), ("network", "volume")):
            told = await asyncio.gather(*(_remove(engine, pod, one) for one in there if one.kind in kinds))
            receipt |= told
    return list(receipt.values())


async def _remove(engine: Engine, pod: str, one: Held) -> tuple[tuple[str, str], Removal]:
    remove = {"container": engine.remove, "network": engine.remove_network, "volume": engine.remove_volume}[one.kind]
    what = f"{one.kind} {one.name}"
    try:
        await remove(one.name)
    except DockerProblem as problem:
        return (one.kind, one.name), Removal(pod, what, False, problem.cause)
    return (one.kind, one.name), Removal(pod, what, True)
