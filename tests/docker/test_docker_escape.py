"""The escape suite on a real engine, and that it can fail: on containers that lack a protection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import weak_container
from engines import backend
from escaping import Suite, assert_fails, assert_refused_after, run_suite

from podctl.backends.docker.escape import DockerWorld
from podctl.backends.docker.leftovers import held
from podctl.backends.escape.checks import CHECKS, Result

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("engine")]

WEAKENED = {
    "network": ("host-loopback", "host-abstract-socket", "only-doors"),
    "filter": ("ptrace", "process-memory", "io-uring", "keyctl", "socket-netlink", "socket-vsock", "foreign-calls"),
    "processes": ("host-processes",),
    "rights": ("setuid", "mknod", "read-only-system"),
    "socket": ("engine", "host-path-socket", "host-files"),
}


# ---- the suite itself ----


@pytest.fixture(scope="module")
def run(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return run_suite("docker", tmp_path_factory.mktemp("state"))


@pytest.mark.campaign
@pytest.mark.parametrize("check", CHECKS)
def test_nothing_gets_out(run: Suite, check: str) -> None:
    item = run.items[check]
    wanted = "NOT APPLICABLE" if check in DockerWorld.not_applicable else "PASS"
    assert item["state"] == wanted and item["detail"], item


@pytest.mark.campaign
def test_it_exits_with_0_is_kept_and_leaves_nothing_behind(run: Suite) -> None:
    assert run.code == 0, run.said
    assert run.kept() == ("yes", run.level())

    async def left() -> list[Any]:
        used = await backend()
        try:
            return await held(used.engine)
        finally:
            await used.close()

    assert asyncio.run(left()) == []


# ---- that it can fail ----


@pytest.fixture(scope="module")
def weak(engine: None) -> dict[str, dict[str, Result]]:
    return asyncio.run(weak_container.look(["", *WEAKENED]))


@pytest.mark.campaign
def test_a_container_as_it_should_be_fails_none(weak: dict[str, dict[str, Result]]) -> None:
    assert [result for result in weak[""].values() if result.state == "FAIL"] == []


@pytest.mark.campaign
@pytest.mark.parametrize("protection", WEAKENED)
def test_a_container_without_a_protection_fails_its_checks(weak: dict[str, dict[str, Result]], protection: str) -> None:
    assert_fails(weak, protection, WEAKENED[protection])


def test_a_result_that_is_not_clean_refuses_untrusted_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODCTL_STATE", str(tmp_path))
    assert_refused_after(backend)
