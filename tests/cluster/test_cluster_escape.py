"""The escape suite in a real cluster, and that it can fail: on Pods that lack a protection."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import weak_pod
from cluster import backend, configuration
from escaping import Suite, assert_fails, assert_refused_after, run_suite
from kubernetes.aio.client import AdmissionregistrationV1Api, ApiClient
from weak_sandbox import told

from podctl.backends.escape.checks import CHECKS, Result
from podctl.backends.escape.traps import planted
from podctl.backends.kubernetes.escape import KubernetesWorld
from podctl.backends.kubernetes.objects import RUN

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

WEAKENED = {
    "network": ("outside", "api-server", "engine", "dns", "udp-outside"),
    "filter": ("ptrace", "io-uring", "socket-netlink", "socket-vsock", "tiocsti", "foreign-calls"),
    "token": ("account-token", "host-files"),
    "processes": ("host-processes",),
    "host": ("host-loopback", "host-abstract-socket", "only-doors"),
    "rights": ("setuid", "read-only-system"),
}


@pytest.fixture(scope="module")
def run(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    return run_suite("kubernetes", tmp_path_factory.mktemp("state"))


@pytest.mark.campaign
@pytest.mark.parametrize("check", CHECKS)
def test_nothing_gets_out(run: Suite, check: str) -> None:
    item = run.items[check]
    assert item["state"] == ("NOT APPLICABLE" if check == "unrecorded" else "PASS") and item["detail"], item


@pytest.mark.campaign
def test_it_exits_with_0_is_kept_and_leaves_nothing_behind(run: Suite) -> None:
    assert run.code == 0, run.said
    assert run.kept() == ("yes", run.level())

    async def left() -> list[Any]:
        used = await backend()
        try:
            return [pod for pod in await used.list() if pod.run == run.name()]
        finally:
            await used.close()

    assert asyncio.run(left()) == []


@pytest.fixture(scope="module")
def weak(cluster: None) -> dict[str, dict[str, Result]]:
    return asyncio.run(weak_pod.look(["", *WEAKENED]))


@pytest.mark.campaign
def test_a_pod_as_it_should_be_fails_none(weak: dict[str, dict[str, Result]]) -> None:
    assert [result for result in weak[""].values() if result.state == "FAIL"] == []


@pytest.mark.campaign
@pytest.mark.parametrize("protection", WEAKENED)
def test_a_pod_without_a_protection_fails_its_checks(weak: dict[str, dict[str, Result]], protection: str) -> None:
    assert_fails(weak, protection, WEAKENED[protection])


def test_a_result_that_is_not_clean_refuses_untrusted_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODCTL_STATE", str(tmp_path))
    assert_refused_after(backend)


@pytest.mark.campaign
def test_where_no_pod_may_be_on_a_node_what_it_would_see_is_a_stated_limitation(tmp_path: Path) -> None:
    """An admission policy of the cluster refuses it in the suite's namespaces, as an account for runs alone would be."""
    run = f"escape-{secrets.token_hex(3)}"

    async def plant() -> tuple[dict[str, str], dict[str, str], dict[str, Any]]:
        used = await backend()
        world = KubernetesWorld(used)
        try:
            async with refusing_host_processes(run), planted(tmp_path, tmp_path) as traps:
                await world.plant(run, traps)
                plan = told(traps, **await world.of_cluster(["192.0.2.1"]))
                return world.unseen, await world.host_calls(), await world.controls_of_cluster(plan)
        finally:
            await world.clear()
            await used.close()

    unseen, calls, controls = asyncio.run(plant())
    assert set(unseen) == {"host-loopback", "host-abstract-socket", "host-processes", "wall-limit", "outlives"}
    assert all("no Pod here sees its node" in reason for reason in unseen.values())
    assert calls == {} and set(controls) == {"outside", "api-server", "engine", "udp-outside", "dns"}
    assert controls["outside"].works and controls["api-server"].works and controls["udp-outside"].works


@asynccontextmanager
async def refusing_host_processes(run: str) -> AsyncIterator[None]:
    async with ApiClient(await configuration()) as client:
        api = AdmissionregistrationV1Api(client)
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
        policy = {
            "metadata": {"name": run},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [rule],
                    "namespaceSelector": {"matchLabels": {RUN: run}},
                },
                "validations": [
                    {"expression": "!has(object.spec.hostPID) || !object.spec.hostPID", "message": "no Pod here sees its node"}
                ],
            },
        }
        await api.create_validating_admission_policy(policy)
        try:
            binding = {"metadata": {"name": run}, "spec": {"policyName": run, "validationActions": ["Deny"]}}
            await api.create_validating_admission_policy_binding(binding)
            await asyncio.sleep(5.0)  # the API server takes a moment to heed it
            yield
        finally:
            await api.delete_validating_admission_policy_binding(run)
            await api.delete_validating_admission_policy(run)
