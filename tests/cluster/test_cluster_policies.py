"""What the admission policies deny, each beside something like it that goes through.

Whoever is denied here has the right in RBAC: without the policies all of it would go through.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from cluster import image, kubectl

from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.install import allowing
from podctl.backends.kubernetes.objects import Place, Settings
from podctl.cli.common import shipped

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("fence")]

CI = "system:serviceaccount:podctl-system:podctl-ci"
CONTROLLER = "system:serviceaccount:podctl-system:podctl-controller"
ADMINISTRATOR = ""
#: May do everything to everything of these groups, and has no part in podctl.
SOMEBODY = "podctl-tests-somebody"
GROUPS = ["", "apps", "batch", "networking.k8s.io", "coordination.k8s.io"]
DRY = "--dry-run=server"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """A test pod with a door, and a namespace that is none, with a Pod."""

    place: Place
    plain: str

    def pod(self, name: str = "another", **spec: Any) -> Manifest:
        made = objects.door_pod(self.place, Settings(image=image()))
        made["metadata"]["name"] = name
        made["spec"]["volumes"] += spec.pop("volumes", [])
        # Every namespace has this account.
        made["spec"] |= {"serviceAccountName": "default", **spec}
        return made

    def of(self, manifest: Manifest, namespace: str) -> Manifest:
        return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace}}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    place = Place(f"policy-{secrets.token_hex(4)}", "tests")
    plain = f"plain-{secrets.token_hex(4)}"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": SOMEBODY},
        "rules": [{"apiGroups": GROUPS, "resources": ["*"], "verbs": ["*"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": SOMEBODY},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": SOMEBODY},
        "subjects": [{"kind": "User", "name": SOMEBODY}],
    }
    made = Stage(place, plain)
    now = time.time_ns()
    try:
        # What podctl does, by the account that the manifests give to CI.
        for manifest in (objects.namespace(place, now, now + 600 * 10**9, kept=False), objects.lease(place, "tests", now)):
            goes(apply(manifest, CI))
        for manifest in (role, binding, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plain}}):
            goes(apply(manifest, ADMINISTRATOR))
        for namespace, account in ((place.namespace, CI), (plain, ADMINISTRATOR)):
            pod = made.of(made.pod("extra"), namespace)
            _until(lambda pod=pod, account=account: apply(pod, account).returncode == 0)
        yield made
    finally:
        kubectl("delete", "namespace", place.namespace, plain, "--ignore-not-found", "--wait=false")
        kubectl("delete", "clusterrole,clusterrolebinding", SOMEBODY, "--ignore-not-found")


def apply(manifest: Manifest, account: str, *more: str) -> subprocess.CompletedProcess[str]:
    """As podctl does: server-side, and so with the rights to patch and to create."""
    return kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=podctl",
        "-f",
        "-",
        *more,
        account=account,
        given=manifest,
    )


def tried(manifest: Manifest, account: str) -> subprocess.CompletedProcess[str]:
    return kubectl("create", "-f", "-", DRY, account=account, given=manifest)


def goes(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


def denied(done: subprocess.CompletedProcess[str], policy: str, words: str) -> None:
    assert done.returncode != 0, done.stdout
    assert f"ValidatingAdmissionPolicy '{policy}'" in done.stderr, done.stderr
    assert words in done.stderr, done.stderr


def _until(holds: Any, within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_cluster_understood_every_expression() -> None:
    policies = json.loads(
        kubectl("get", "validatingadmissionpolicies", "-l", "app.kubernetes.io/part-of=podctl", "-o", "json").stdout
    )
    told = {one["metadata"]["name"]: one["status"]["typeChecking"] for one in policies["items"]}
    assert len(told) >= 9
    assert {name: checked for name, checked in told.items() if checked} == {}
    assert {one["spec"]["failurePolicy"] for one in policies["items"]} == {"Fail"}


# ---- podctl's accounts, and namespaces ----


def test_podctls_accounts_delete_test_pods_and_no_other_namespace(stage: Stage) -> None:
    goes(kubectl("delete", "namespace", stage.place.namespace, DRY, account=CI))
    for name in (stage.plain, "kube-node-lease", "podctl-system"):
        for account in (CI, CONTROLLER):
            gone = kubectl("delete", "namespace", name, DRY, account=account)
            denied(gone, "podctl-own-namespaces", "this namespace is no test pod")
    goes(kubectl("delete", "namespace", stage.plain, DRY, account=ADMINISTRATOR))


def test_podctls_accounts_change_test_pods_and_no_other_namespace(stage: Stage) -> None:
    def annotated(name: str, account: str) -> subprocess.CompletedProcess[str]:
        return kubectl("annotate", "namespace", name, "example.com/note=1", DRY, account=account)

    goes(annotated(stage.place.namespace, CI))
    denied(annotated(stage.plain, CI), "podctl-own-namespaces", "this namespace is no test pod")
    goes(annotated(stage.plain, ADMINISTRATOR))


def test_podctls_accounts_make_test_pods_and_no_other_namespace(stage: Stage) -> None:
    def other(name: str = "podctl-other", **labels: str) -> Manifest:
        made = objects.namespace(Place("other", "tests"), 0, 0, kept=False)
        made["metadata"]["name"] = name
        made["metadata"]["labels"] |= {key.replace("_", "-"): value for key, value in labels.items()}
        return made

    goes(tried(other(), CI))
    refused = [other("podctl-system-2"), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "podctl-other"}}]
    for label, value in (("pod-security.kubernetes.io/enforce", "baseline"), ("app.kubernetes.io/managed-by", "somebody")):
        refused.append(other())
        refused[-1]["metadata"]["labels"][label] = value
    for manifest in refused:
        denied(tried(manifest, CI), "podctl-own-namespaces", "make namespaces of test pods only")
    goes(tried(refused[1], ADMINISTRATOR))


@pytest.mark.parametrize("account", [CI, SOMEBODY, ADMINISTRATOR], ids=["podctl's", "somebody's", "administrator's"])
def test_a_namespace_becomes_no_test_pod_and_a_test_pod_stays_one(stage: Stage, account: str) -> None:
    def labelled(name: str, label: str) -> subprocess.CompletedProcess[str]:
        return kubectl("label", "--overwrite", "namespace", name, label, DRY, account=account)

    # podctl's accounts are refused by two policies, and either may be the one that is named.
    unmade = labelled(stage.plain, "podctl.dev/pod=x")
    assert unmade.returncode != 0 and "denied request: this namespace is no test pod" in unmade.stderr, unmade.stderr
    if account != CI:
        denied(unmade, "podctl-labels", "cannot become one")
        goes(labelled(stage.plain, "example.com/label=x"))
    for label in ("podctl.dev/pod-", "app.kubernetes.io/managed-by-", "pod-security.kubernetes.io/enforce-version=v1.20"):
        changed = labelled(stage.place.namespace, label)
        assert changed.returncode != 0 and "ValidatingAdmissionPolicy 'podctl-" in changed.stderr, changed.stderr
    changed = labelled(stage.place.namespace, "pod-security.kubernetes.io/warn=baseline")
    denied(changed, "podctl-labels", "do not change")
    goes(labelled(stage.place.namespace, "example.com/label=x"))


def test_nobody_else_makes_a_test_pod(stage: Stage) -> None:
    manifest = objects.namespace(Place("theirs", "tests"), 0, 0, kept=False)
    denied(tried(manifest, SOMEBODY), "podctl-labels", "only accounts with the role podctl-runner")
    goes(tried({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "theirs"}}, SOMEBODY))
    goes(tried(manifest, CONTROLLER))


# ---- podctl's accounts, and what is not theirs ----


def test_podctls_accounts_write_in_test_pods_only(stage: Stage) -> None:
    place = stage.place
    made = [
        objects.config_map(place, "extra", {}),
        objects.secret(place, "extra", {}),
        objects.default_deny(place),
        objects.limit_range(place),
        {**objects.account(place), "metadata": {"name": "extra", "namespace": place.namespace}},
        {**objects.lease(place, "x", 0), "metadata": {"name": "extra", "namespace": place.namespace}},
        stage.pod(),
    ]
    for manifest in made:
        goes(apply(manifest, CI, DRY))
        for namespace in (stage.plain, "kube-system", "podctl-system"):
            elsewhere = apply(stage.of(manifest, namespace), CI, DRY)
            denied(elsewhere, "podctl-confined", "in test pods only")
    gone = kubectl("delete", "pod", "extra", "-n", stage.plain, DRY, account=CI)
    denied(gone, "podctl-confined", "in test pods only")
    goes(kubectl("delete", "pod", "extra", "-n", stage.plain, DRY, account=ADMINISTRATOR))


def test_the_controller_writes_its_own_lease_and_nothing_else_there(stage: Stage) -> None:
    lease = {**objects.lease(stage.place, "x", 0), "metadata": {"name": "extra", "namespace": "podctl-system"}}
    goes(apply(lease, CONTROLLER, DRY))
    secret = {**objects.secret(stage.place, "x", {}), "metadata": {"name": "extra", "namespace": "podctl-system"}}
    denied(apply(secret, CONTROLLER, DRY), "podctl-confined", "in test pods only")


def test_who_brings_scenarios_does_not_change_the_controllers_settings(stage: Stage) -> None:
    def written(name: str, account: str) -> subprocess.CompletedProcess[str]:
        meta = {"name": name, "namespace": "podctl-system"}
        return apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"x": "y"}}, account, DRY)

    for name in ("podctl-settings", "kube-root-ca.crt"):
        denied(written(name, SOMEBODY), "podctl-settings", "only administrators change")
        gone = kubectl("delete", "configmap", name, "-n", "podctl-system", DRY, account=SOMEBODY)
        denied(gone, "podctl-settings", "only administrators change")
        goes(written(name, ADMINISTRATOR))
    goes(written("a-scenario", SOMEBODY))


@pytest.mark.parametrize("what", ["exec?command=true", "portforward?ports=1"])
def test_podctls_accounts_enter_test_pods_only(stage: Stage, what: str) -> None:
    def entered(namespace: str, pod: str, account: str) -> subprocess.CompletedProcess[str]:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/{what}"
        return kubectl("create", "--raw", path, "-f", os.devnull, account=account)

    denied(entered(stage.plain, "extra", CI), "podctl-confined", "in test pods only")
    denied(entered(stage.place.namespace, "extra", SOMEBODY), "podctl-only", "enter something in a test pod")
    for namespace, account in ((stage.place.namespace, CI), (stage.plain, SOMEBODY), (stage.plain, ADMINISTRATOR)):
        through = entered(namespace, "no-such-pod", account)
        assert "not found" in through.stderr, f"what comes after the policies: {through.stderr}"


# ---- test pods, and everybody ----


def test_only_podctl_starts_something_in_a_test_pod(stage: Stage) -> None:
    pod = stage.pod()
    template = {"metadata": {"labels": {"x": "y"}}, "spec": {**pod["spec"], "restartPolicy": "Always"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "extra", "namespace": stage.place.namespace},
        "spec": {"selector": {"matchLabels": {"x": "y"}}, "template": template},
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "extra", "namespace": stage.place.namespace},
        "spec": {"template": {"spec": pod["spec"]}},
    }
    for manifest in (pod, job, deployment):
        denied(tried(manifest, SOMEBODY), "podctl-only", "only accounts with the role podctl-runner")
        goes(tried(stage.of(manifest, stage.plain), SOMEBODY))
    for manifest in (pod, job):
        goes(tried(manifest, CI))


TOKEN = {"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
DOWNWARD = {
    "name": "v",
    "projected": {"sources": [{"downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}}]},
}
CLAIM = {"name": "v", "persistentVolumeClaim": {"claimName": "x"}}
FILES = {"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": "x"}}]}}


def test_no_pod_of_a_test_pod_has_an_identity(stage: Stage) -> None:
    def with_volume(volume: Manifest, **spec: Any) -> Manifest:
        return stage.pod(volumes=[volume], **spec)

    for account in (CI, ADMINISTRATOR):
        denied(tried(with_volume(TOKEN), account), "podctl-no-identity", "no service-account token")
        denied(tried(with_volume(DOWNWARD), account), "podctl-no-identity", "no service-account token")
        denied(tried(with_volume(CLAIM), account), "podctl-no-identity", "volumes in a test pod are")
        goes(tried(with_volume(FILES), account))
    # The API server adds the token of the account to whoever does not refuse it: before the policies see the Pod.
    mounting = with_volume(FILES, automountServiceAccountToken=True)
    denied(tried(mounting, CI), "podctl-no-identity", "no service-account token")
    goes(tried(stage.of(mounting, stage.plain), ADMINISTRATOR))


def test_no_secret_of_a_test_pod_is_filled_with_a_token(stage: Stage) -> None:
    filled = objects.secret(stage.place, "filled", {})
    filled |= {"type": "kubernetes.io/service-account-token", "immutable": False}
    filled["metadata"]["annotations"] = {"kubernetes.io/service-account.name": objects.ACCOUNT}
    for account in (CI, ADMINISTRATOR):
        denied(tried(filled, account), "podctl-no-token", "none is filled with a token")
        goes(tried({**filled, "type": "Opaque"}, account))


def test_no_service_of_a_test_pod_has_an_address_that_others_use(stage: Stage) -> None:
    def service(**spec: Any) -> Manifest:
        meta = {"name": "another", "namespace": stage.place.namespace}
        return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}], **spec}}

    goes(tried(service(), CI))
    for spec in ({"externalIPs": ["192.0.2.1"]}, {"type": "ExternalName", "externalName": "example.com"}):
        denied(tried(service(**spec), CI), "podctl-no-address", "without external addresses")
        goes(tried(stage.of(service(**spec), stage.plain), ADMINISTRATOR))


def test_no_container_is_added_to_a_pod_of_a_test_pod(stage: Stage) -> None:
    def added(namespace: str) -> subprocess.CompletedProcess[str]:
        container = objects.door_pod(stage.place, Settings(image=image()))["spec"]["containers"][0]
        added = {"name": "debug", "image": image(), "securityContext": container["securityContext"]}
        change = json.dumps({"spec": {"ephemeralContainers": [added]}})
        return kubectl("patch", "pod", "extra", "-n", namespace, "--subresource=ephemeralcontainers", "-p", change, DRY)

    denied(added(stage.place.namespace), "podctl-no-identity", "no container is added")
    goes(added(stage.plain))


def test_what_pod_security_has_a_word_on_is_refused_by_it(stage: Stage) -> None:
    host = stage.pod(volumes=[{"name": "v", "hostPath": {"path": "/etc"}}])
    for manifest in (host, stage.pod(hostNetwork=True), stage.pod(hostPID=True)):
        refused = tried(manifest, ADMINISTRATOR)
        assert refused.returncode != 0 and "violates PodSecurity" in refused.stderr, refused.stderr


def test_images_are_those_that_are_allowed(stage: Stage) -> None:
    def running(name: str) -> subprocess.CompletedProcess[str]:
        made = stage.pod()
        made["spec"]["containers"][0]["image"] = name
        return tried(made, CI)

    def allow(*entries: str) -> None:
        policies = yaml.safe_load_all((shipped() / "manifests" / "rendered" / "ci.yaml").read_text())
        for one in allowing([one for one in policies if one["metadata"]["name"] == "podctl-images"], entries):
            goes(kubectl("apply", "--server-side", "--field-manager=podctl-install", "-f", "-", given=one))

    goes(running("registry.example/other:1"))
    try:
        # What the tests run stays allowed: others may use this cluster.
        allow(image(), "localhost/*", "registry.example/podctl:1")
        _until(lambda: running("registry.example/other:1").returncode != 0)
        denied(running("registry.example/other:1"), "podctl-images", "is not allowed in a test pod")
        denied(running("registry.example/podctl:1-other"), "podctl-images", "registry.example/podctl:1")
        for name in (image(), "localhost/anything:1", "registry.example/podctl:1"):
            goes(running(name))
        change = json.dumps({"spec": {"containers": [{"name": objects.DOOR, "image": "registry.example/other:1"}]}})
        changed = kubectl("patch", "pod", "extra", "-n", stage.place.namespace, "-p", change, DRY, account=ADMINISTRATOR)
        denied(changed, "podctl-images", "is not allowed in a test pod")
    finally:
        allow("*")
    _until(lambda: running("registry.example/other:1").returncode == 0)
