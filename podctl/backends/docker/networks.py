"""The network of a test pod: addresses that nobody has, found by asking for them."""

from __future__ import annotations

import ipaddress
from itertools import islice

from podctl.backends.docker import objects
from podctl.backends.docker.engine import Engine
from podctl.backends.docker.objects import Place, Settings
from podctl.backends.docker.problems import DockerProblem
from podctl.spec.models import Topology

#: Somebody else's networks may lie where ours would: so many of them are gone round.
_TRIED = 64


async def closed_network(engine: Engine, place: Place, topology: Topology, settings: Settings) -> ipaddress.IPv4Network:
    """Closed from the start. Raises `DockerProblem` when all that were tried are somebody's."""
    taken = ""
    for subnet in islice(objects.subnets(place, topology, settings.subnets), _TRIED):
        try:
            await engine.network(place.network, objects.network(place, subnet))
        except DockerProblem as problem:
            if problem.code != "addresses-taken":
                raise
            taken = problem.cause
            continue
        return subnet
    raise DockerProblem(
        "no addresses are left for a test pod",
        code="addresses-taken",
        cause=f"what was tried of {settings.subnets} is in use: {taken}",
        hint="podctl gc --backend docker, or name another range with PODCTL_DOCKER_SUBNETS",
    )
