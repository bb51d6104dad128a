"""An account that has exactly the role of a runner, under the policies: what it can do, and what it cannot without a right."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from both_places import AGENT, TICKETS
from cluster import backend, image, kubeconfig_of, kubectl
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import load_kube_config
from project import make_project

from podctl.backends.base import Command
from podctl.backends.kubernetes.api import KINDS, Cluster
from podctl.backends.kubernetes.check import RIGHTS, findings
from podctl.backends.kubernetes.objects import Settings
from podctl.gateway.client import Gateway
from podctl.gateway.contract import AttemptPass, GatewayConfig
from podctl.pods.plan import PodSpec, steps
from podctl.spec.load import load_bundle

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("fence")]


@pytest.mark.campaign  # the controller's tests work with these rights and its own
def test_a_run_by_an_account_with_the_role_and_nothing_else(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS[:1], scenario={"run": {"pods": 1}})
    own = {"KUBECONFIG": str(kubeconfig_of("podctl-ci", "podctl-system", tmp_path / "kubeconfig"))}
    may = kubectl("auth", "can-i", "get", "secrets", "-A", kubeconfig=Path(own["KUBECONFIG"]))
    assert may.stdout.strip() == "no", "it is not the administrator"
    done = project.podctl("run", "scenario.yaml", "-q", "--backend", "kubernetes", timeout=120, **own)
    assert done.returncode in (0, 100), done.stdout + done.stderr
    assert project.attempts()["1"].passed
    left = project.podctl("gc", "--dry-run", "--backend", "kubernetes", **own)
    assert left.returncode == 0, left.stderr


def test_who_views_may_see_runs_and_who_edits_may_not_start_them() -> None:
    view = json.loads(kubectl("get", "clusterrole", "view", "-o", "json").stdout)["rules"]
    assert {"apiGroups": ["podctl.dev"], "resources": ["testruns"], "verbs": ["get", "list", "watch"]} in view
    edit = json.loads(kubectl("get", "clusterrole", "edit", "-o", "json").stdout)["rules"]
    verbs = {verb for rule in edit if "testruns" in rule["resources"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}


# ---- each right ----

NARROW = "podctl-tests-narrow"


def named(what: str) -> str:
    """``Pod`` → ``pods``, ``pods/exec`` as it is."""
    return what if "/" in what else KINDS[what][1]


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Path]:
    """The kubeconfig of an account whose role a test writes."""
    meta = {"name": NARROW, "namespace": NARROW}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NARROW},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NARROW},
        "subjects": [{"kind": "ServiceAccount", **meta}],
    }
    try:
        for manifest in ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NARROW}}, account, binding):
            made = kubectl("apply", "--server-side", "-f", "-", given=manifest)
            assert made.returncode == 0, made.stderr
        yield kubeconfig_of(NARROW, NARROW, tmp_path / "narrow")
    finally:
        kubectl("delete", "namespace,clusterrole,clusterrolebinding", NARROW, "--ignore-not-found", "--wait=false")


def without(what: str, verb: str) -> None:
    """Give the account the role of a runner, but for one verb."""
    role = json.loads(kubectl("get", "clusterrole", "podctl-runner", "-o", "json").stdout)
    rules = [
        {**rule, "resources": [resource], "verbs": [one for one in rule["verbs"] if (resource, one) != (named(what), verb)]}
        for rule in role["rules"]
        for resource in rule["resources"]
    ]
    made = {"apiVersion": role["apiVersion"], "kind": "ClusterRole", "metadata": {"name": NARROW}}
    done = kubectl("apply", "--server-side", "-f", "-", given={**made, "rules": [rule for rule in rules if rule["verbs"]]})
    assert done.returncode == 0, done.stderr


@pytest.mark.campaign
def test_the_doctor_names_each_right_that_is_taken_away(narrow: Path) -> None:
    async def told(what: str, verb: str) -> str:
        configuration = Configuration()
        await load_kube_config(str(narrow), client_configuration=configuration)
        cluster = Cluster(configuration)
        try:
            deadline = time.monotonic() + 20
            while True:
                found = {one.name: one for one in await findings(cluster, Settings(image=image()))}
                said = found["rights"].detail
                if said == f"the account may not {verb} {named(what)}" or time.monotonic() > deadline:
                    return said
                await asyncio.sleep(0.1)
        finally:
            await cluster.close()

    for what, verbs in RIGHTS.items():
        for verb in verbs:
            without(what, verb)
            assert asyncio.run(told(what, verb)) == f"the account may not {verb} {named(what)}"


#: What podctl's client calls a request -> the verbs that the API server asks for.
VERBS = {"apply": ("patch", "create"), "open": ("get", "create"), "read": ("get",)}


@pytest.mark.campaign
def test_no_right_is_granted_that_a_test_pod_does_not_need(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS[:1])
    bundle = load_bundle(project.root / "scenario.yaml")

    async def life() -> set[tuple[str, str]]:
        used, gateway = await backend(), await Gateway.start(GatewayConfig())
        spec = PodSpec("rights-life", "tests", bundle.topology)
        try:
            await used.check()
            await used.prepare(bundle)
            for generation in (spec, replace(spec, generation=2)):
                for step in steps(generation, await used.observe(spec.id)):
                    await used.apply(generation, step)
            doors, dialer = used.doors(spec.id, gateway.pid)
            await gateway.open_pod(spec.id, doors, dialer)
            with tempfile.NamedTemporaryFile() as evidence:
                granted = AttemptPass(attempt=spec.id, pod=spec.id, key="rights", evidence=Path(evidence.name))
                await gateway.open_attempt(granted)
            await used.execute(spec.id, Command(argv=("/bin/true",), environment={}, directory=Path("/workspace")))
            await used.logs(spec.id, "counter")
        finally:
            await used.delete(spec.id)
            await used.list()
            await gateway.stop()
            await used.close()
        return {(verb, resource) for call, resource in used.cluster.calls for verb in VERBS.get(call, (call,))}

    used = asyncio.run(life())
    granted = {(verb, named(what)) for what, verbs in RIGHTS.items() for verb in verbs}
    optional = {("get", "runtimeclasses")}
    assert granted - used == optional
    assert {one for one in used - granted if one[1] not in ("version", "selfsubjectaccessreviews", "")} == set()
