"""podctl's rights and policies in the cluster, for the tests that ask for them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import yaml
from cluster import kubectl

from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.install import apply, installed, remove
from podctl.cli.common import shipped

#: All but what would run.
RUNNING = ("Deployment", "PodDisruptionBudget")


@pytest.fixture(scope="session")
def fence(cluster: None) -> Iterator[None]:
    """The accounts of CI and of the controller with their rights, and the policies. Who has podctl in the cluster keeps it."""
    manifests = {}
    for overlay in ("ci", "existing-postgres"):
        for one in yaml.safe_load_all((shipped() / "manifests" / "rendered" / f"{overlay}.yaml").read_text()):
            if one["kind"] not in RUNNING:
                manifests[one["kind"], one["metadata"]["name"]] = one
    theirs = kubectl("get", "namespace", "podctl-system").returncode == 0
    asyncio.run(_install(list(manifests.values())))
    yield
    if not theirs:
        asyncio.run(_remove(list(manifests.values())))


async def _install(manifests: list[dict]) -> None:  # type: ignore[type-arg]
    cluster = await Cluster.open()
    try:
        for manifest in manifests:
            await apply(cluster, manifest)
        # A policy holds a moment after it was made, and so does a right.
        await asyncio.sleep(2)
    finally:
        await cluster.close()


async def _remove(manifests: list[dict]) -> None:  # type: ignore[type-arg]
    cluster = await Cluster.open()
    try:
        for one in reversed(await installed(cluster, manifests)):
            assert not await remove(cluster, one)
    finally:
        await cluster.close()
