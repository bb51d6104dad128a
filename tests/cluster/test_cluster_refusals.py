"""What goes wrong in a real cluster is told by its own reason, within seconds."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster import backend, image
from cluster import configuration as own_configuration
from kubernetes.aio import client as kubernetes_client
from kubernetes.aio.client import ApiClient, Configuration

from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.check import findings
from podctl.backends.kubernetes.namespaces import STUCK_S, list_pods, remove_namespace
from podctl.backends.kubernetes.objects import Place, Settings
from podctl.backends.kubernetes.watching import Watched, ready
from podctl.controller.elsewhere import sweep_among
from podctl.errors import EnvironmentProblem
from podctl.pods.plan import PodSpec, Resource, Step, steps
from podctl.spec.models import Topology

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

TOPOLOGY = Topology.model_validate(
    {
        "apiVersion": "podctl/v1",
        "kind": "Topology",
        "name": "small",
        "services": {"echo": {"mode": "stubbed", "ports": [8080], "routes": [{"path": "/ping"}]}},
    }
)
MAKE_FENCE = Step("make", Resource("directory"))
MAKE_NETWORK = Step("make", Resource("network"))


def on_a_pod(
    work: Callable[[KubernetesBackend, PodSpec], Awaitable[None]], other_image: str = "", stuck_s: float = STUCK_S
) -> None:
    """A fenced pod, removed afterwards."""

    async def go() -> None:
        used = await backend(other_image, stuck_s)
        spec = PodSpec(f"test-{secrets.token_hex(4)}", "tests", TOPOLOGY)
        try:
            await used.apply(spec, MAKE_FENCE)
            await work(used, spec)
        finally:
            await used.delete(spec.id)
            await used.close()

    asyncio.run(go())


async def raised(work: Awaitable[Any], code: str, within_s: float) -> EnvironmentProblem:
    began = time.monotonic()
    with pytest.raises(EnvironmentProblem) as caught:
        await work
    assert caught.value.code == code, caught.value.render()
    assert time.monotonic() - began < within_s
    return caught.value


@pytest.mark.campaign
def test_an_image_that_cannot_be_pulled() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        problem = await raised(used.apply(spec, MAKE_NETWORK), "image-pull", 20)
        assert "localhost/there-is-no-such-image" in problem.cause

    on_a_pod(work, "localhost/there-is-no-such-image:1")


@pytest.mark.campaign
def test_a_pod_that_no_node_can_take() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        place = Place(spec.id, spec.run)
        pod = objects.door_pod(place, Settings(image=image()))
        pod["spec"]["nodeSelector"] = {"podctl.dev/no-such": "node"}
        watched = Watched(used.cluster, place.namespace)
        await watched.start()
        await used.cluster.apply(pod)
        problem = await raised(watched.until("x", lambda pods: ready(pods.get("door")), "door", 60), "unschedulable", 15)
        assert "node" in problem.cause
        await watched.close()

    on_a_pod(work)


@pytest.mark.campaign
def test_a_node_that_is_not_heard_of_any_more() -> None:
    """A node of paper: it is registered, says once that it is ready, and its kubelet is never heard of again."""

    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        place, node = Place(spec.id, spec.run), f"paper-{secrets.token_hex(3)}"
        watched = Watched(used.cluster, place.namespace)
        await watched.start()
        async with ApiClient(await own_configuration()) as admin:
            api = kubernetes_client.CoreV1Api(admin)
            nobody_else = {"taints": [{"key": "podctl.dev/paper", "effect": "NoSchedule"}], "unschedulable": True}
            await api.create_node({"metadata": {"name": node}, "spec": nobody_else})
            try:
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                heard = {"type": "Ready", "status": "True", "lastHeartbeatTime": now, "lastTransitionTime": now, "reason": "x"}
                await api.patch_node_status(node, {"status": {"conditions": [heard]}})
                pod = objects.door_pod(place, Settings(image=image()))
                pod["spec"]["nodeName"] = node
                await used.cluster.apply(pod)
                running = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
                await api.patch_namespaced_pod_status(objects.DOOR, place.namespace, {"status": running})
                await watched.until("x", lambda pods: ready(pods.get("door")), "door", 10)
                waiting = watched.until("x", lambda pods: "never" in pods, "door", 200)
                problem = await raised(waiting, "node-lost", 150)
                assert "Node is not ready" in problem.cause and not ready(watched.pods["door"])
            finally:
                await api.delete_node(node)
                await api.delete_namespaced_pod(objects.DOOR, place.namespace, grace_period_seconds=0)
        await watched.close()

    on_a_pod(work)


@pytest.mark.campaign
def test_a_quota_that_has_no_room() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        namespace = objects.PREFIX + spec.id
        await used.cluster.patch("ResourceQuota", objects.QUOTA, namespace, {"spec": {"hard": {"pods": "0"}}})
        while (await used.cluster.get("ResourceQuota", objects.QUOTA, namespace) or {})["status"]["hard"]["pods"] != "0":
            await asyncio.sleep(0.05)
        problem = await raised(used.apply(spec, MAKE_NETWORK), "quota-refused", 10)
        assert "pods=0" in problem.cause

    on_a_pod(work)


def test_an_object_that_somebody_else_edited_is_left_as_they_made_it() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        place = Place(spec.id, spec.run)
        configuration = await own_configuration()
        async with ApiClient(configuration) as other:
            change = {"spec": {"policyTypes": ["Ingress"]}}
            api = kubernetes_client.NetworkingV1Api(other)
            await api.patch_namespaced_network_policy("default-deny", place.namespace, change, field_manager="somebody")
        problem = await raised(used.cluster.apply(objects.default_deny(place)), "field-conflict", 10)
        assert "somebody" in problem.cause
        policy = await used.cluster.get("NetworkPolicy", "default-deny", place.namespace)
        assert policy is not None and policy["spec"]["policyTypes"] == ["Ingress"]

    on_a_pod(work)


@pytest.mark.campaign
def test_a_finalizer_that_holds_a_namespace_is_named_and_the_rest_is_not_forced() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        place = Place(spec.id, spec.run)
        held = objects.config_map(place, "held", {})
        held["metadata"]["finalizers"] = ["example.com/hold"]
        await used.cluster.apply(held)
        receipt = await used.delete(spec.id)
        assert [removal.gone for removal in receipt] == [False]
        assert "example.com/hold" in receipt[0].detail
        await used.cluster.patch("ConfigMap", "held", place.namespace, {"metadata": {"finalizers": None}})
        receipt = await remove_namespace(used.cluster, spec.id, stuck_s=60)
        assert all(removal.gone for removal in receipt)

    on_a_pod(work, stuck_s=1.0)


@pytest.mark.campaign
def test_a_namespace_that_is_not_podctls_is_never_removed() -> None:
    async def go() -> None:
        cluster = await Cluster.open()
        try:
            theirs = Place(f"theirs-{secrets.token_hex(3)}", "x")
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": theirs.namespace}}
            await cluster.create(body)
            assert [removal.gone for removal in await remove_namespace(cluster, theirs.pod)] == [False]
            found = await cluster.get("Namespace", theirs.namespace)
            assert found is not None and "deletionTimestamp" not in found["metadata"]
            await cluster.delete("Namespace", theirs.namespace)
        finally:
            await cluster.close()

    asyncio.run(go())


@pytest.mark.campaign
def test_orphans_are_swept_and_the_living_left_alone() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        dead = Place(f"dead-{secrets.token_hex(3)}", "gone")
        long_ago = used.cluster.now_ns() - 600 * 10**9
        await used.cluster.apply(objects.namespace(dead, long_ago, long_ago, kept=False))
        await used.cluster.apply(objects.lease(dead, "podctl-dead", long_ago))
        alive = {pod.id: pod.owner_alive for pod in await list_pods(used.cluster)}
        assert alive[dead.pod] is False and alive[spec.id] is True
        receipt = await sweep_among(await used.list(), used.cluster.now_ns(), used.delete)
        assert dead.pod in {removal.pod for removal in receipt.removals} and receipt.complete
        assert spec.id in {pod.id for pod in receipt.living}
        assert await used.observe(spec.id) == {Resource("directory"): 1}

    on_a_pod(work)


def test_an_account_without_rights_is_told_which_it_lacks() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        place = Place(spec.id, spec.run)
        configuration = await own_configuration()
        async with ApiClient(configuration) as admin:
            asked = kubernetes_client.AuthenticationV1TokenRequest(
                spec=kubernetes_client.V1TokenRequestSpec(audiences=[], expiration_seconds=600)
            )
            api = kubernetes_client.CoreV1Api(admin)
            granted = await api.create_namespaced_service_account_token(objects.ACCOUNT, place.namespace, asked)
        narrow = await _with_token(str(granted.status.token))
        try:
            problem = await raised(narrow.apply(objects.namespace(place, 0, 1, kept=False)), "cluster-rights", 10)
            assert problem.what == "the account may not patch namespaces"
            rights = next(one for one in await findings(narrow, Settings(image="x")) if one.name == "rights")
            assert rights.state == "no" and "create namespaces" in rights.detail and "create pods/exec" in rights.detail
        finally:
            await narrow.close()
        refused = await _with_token("expired")
        try:
            await raised(refused.list("Namespace"), "cluster-credentials", 10)
        finally:
            await refused.close()

    on_a_pod(work)


async def _with_token(token: str) -> Cluster:
    configuration = await own_configuration()
    configuration.cert_file = configuration.key_file = None
    configuration.api_key = {"BearerToken": f"Bearer {token}"}
    return Cluster(configuration)


def test_an_address_where_no_cluster_is() -> None:
    async def go() -> None:
        configuration = Configuration(host="https://127.0.0.1:1")
        cluster = Cluster(configuration)
        try:
            problem = await raised(cluster.list("Namespace"), "cluster-unreachable", 5)
            assert "https://127.0.0.1:1" in problem.hint
        finally:
            await cluster.close()

    asyncio.run(go())


@pytest.mark.campaign
def test_a_pod_that_lost_its_door_is_not_repaired_but_given_up() -> None:
    async def work(used: KubernetesBackend, spec: PodSpec) -> None:
        await used.apply(spec, MAKE_NETWORK)
        await used.cluster.delete("Pod", objects.DOOR, objects.PREFIX + spec.id)
        while Resource("network") in await used.observe(spec.id):
            await asyncio.sleep(0.05)
        plan = steps(spec, await used.observe(spec.id))
        assert plan[0] == MAKE_NETWORK
        await raised(used.apply(spec, plan[0]), "tunnel-lost", 5)

    on_a_pod(work)
