"""manifests/admission: what a cluster lets in of agents, and by whose word; each refusal beside something like it that goes through."""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certified import DAY_S, certificate
from cluster import kubectl

from podctl.cli.common import shipped
from podctl.trust.admission import entry

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

PIPELINE = "system:serviceaccount:podctl-admission:podctl-certifier"
CERTIFICATE = certificate()
AGENT = CERTIFICATE.agent.digest
OURS, THEIRS = f"reg.example.com/agent@sha256:{'b0' * 32}", f"reg.example.com/agent@sha256:{'c0' * 32}"
ANNOTATION = "podctl.dev/agent-digest"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """One in which only what is certified runs, with the example's policies in force, and an empty list."""
    made = f"admission-{secrets.token_hex(4)}"
    example = str(shipped() / "manifests" / "admission")
    good(kubectl("apply", "-k", example))
    try:
        eventually(lambda: kubectl("apply", "-f", f"{example}/list.yaml"))
        good(kubectl("create", "namespace", made))
        good(kubectl("label", "namespace", made, "podctl.dev/agents=certified"))
        # A policy holds a moment after it was made.
        eventually(lambda: _refused_at_last(made))
        yield made
    finally:
        kubectl("delete", "namespace", made, "--wait=false")
        kubectl("delete", "-k", example, "--ignore-not-found")


def _refused_at_last(namespace: str) -> subprocess.CompletedProcess[str]:
    done = apply(deployment("probe", OURS, ""), namespace, "--dry-run=server")
    done.returncode = int("podctl-certified-workloads" not in done.stderr)
    return done


def deployment(name: str, image: str, digest: str = AGENT, **pod: Any) -> dict[str, Any]:
    """Without replicas: its Pods are made by the tests that ask for them."""
    template = {
        "metadata": {"labels": {"app": name}, "annotations": {ANNOTATION: digest} if digest else {}},
        "spec": {"containers": [{"name": "agent", "image": image}], **pod},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def pod(name: str, image: str, digest: str = AGENT, **spec: Any) -> dict[str, Any]:
    template = deployment(name, image, digest, **spec)["spec"]["template"]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**template["metadata"], "name": name}, "spec": template["spec"]}


def job(name: str, image: str, digest: str = AGENT) -> dict[str, Any]:
    template = deployment(name, image, digest, restartPolicy="Never")["spec"]["template"]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"suspend": True, "template": template},
    }


def apply(manifest: dict[str, Any], namespace: str, *options: str) -> subprocess.CompletedProcess[str]:
    return kubectl("apply", "-n", namespace, "-f", "-", *options, given=manifest)


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def denied(done: subprocess.CompletedProcess[str]) -> str:
    """What the API server said after the policy's name."""
    assert done.returncode != 0, done.stdout
    assert "denied request: " in done.stderr, done.stderr
    return done.stderr.split("denied request: ")[1].strip()


def eventually(attempt: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while (done := attempt()).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.3)


def enter(tmp_path: Path, *images: str, seconds: float | None = None) -> None:
    """What the pipeline does with what podctl verify printed; the list has arrived where it is asked for when this returns."""
    made = entry(CERTIFICATE, images, DAY_S)
    soon = time.time() + (seconds or DAY_S)
    made["agents"][AGENT]["until"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(soon))
    file = tmp_path / "entry.json"
    file.write_text(json.dumps(made))
    good(kubectl("apply", "--server-side", "--field-manager=agent", "-f", str(file), account=PIPELINE))
    time.sleep(1)


def take_out() -> None:
    change = json.dumps([{"op": "remove", "path": f"/agents/{AGENT}"}])
    good(kubectl("patch", "certifiedagents", "certified", "--type=json", "-p", change, account=PIPELINE))
    time.sleep(1)


def test_an_agent_comes_in_by_the_pipeline_s_word_and_goes_out_by_it(namespace: str, tmp_path: Path) -> None:
    said = denied(apply(deployment("one", OURS, ""), namespace))
    assert said.startswith("agents are deployed here with the annotation podctl.dev/agent-digest")
    assert denied(apply(deployment("one", OURS), namespace)) == f"agent {AGENT} is not certified here, or not any more"

    enter(tmp_path, OURS)
    good(apply(deployment("one", OURS), namespace))
    good(apply(job("once", OURS), namespace))
    said = denied(apply(deployment("two", THEIRS), namespace))
    assert said == f"of agent {AGENT} the certified images are sha256:{'b0' * 32}, each named by its digest; this has {THEIRS}"
    assert denied(apply(job("twice", THEIRS), namespace)) == said
    assert "this has reg.example.com/agent:1" in denied(apply(deployment("two", "reg.example.com/agent:1"), namespace))
    sidecar = [{"name": "agent", "image": OURS}, {"name": "side", "image": THEIRS}]
    assert "certified images" in denied(apply(deployment("two", OURS, containers=sidecar), namespace))
    first = [{"name": "first", "image": THEIRS}]
    assert "certified images" in denied(apply(deployment("two", OURS, initContainers=first), namespace))
    assert denied(apply(deployment("two", OURS, "0" * 64), namespace)).startswith(f"agent {'0' * 64} is not certified")
    enter(tmp_path, OURS, THEIRS)
    good(apply(deployment("two", OURS, containers=sidecar), namespace))

    take_out()
    assert "is not certified here" in denied(apply(deployment("two", THEIRS), namespace))
    assert "is not certified here" in denied(apply(pod("two", OURS), namespace))
    # What runs is scaled and deleted all the same.
    good(kubectl("scale", "deployment", "one", "--replicas=0", "-n", namespace))
    good(kubectl("delete", "deployment", "one", "two", "-n", namespace))


def test_a_pod_is_looked_at_whoever_makes_it_and_when_it_is_changed(namespace: str, tmp_path: Path) -> None:
    enter(tmp_path, OURS)
    assert "annotation" in denied(apply(pod("bare", OURS, ""), namespace))
    assert "certified images" in denied(apply(pod("bare", THEIRS), namespace))
    good(apply(pod("bare", OURS), namespace))
    set_image = [{"op": "replace", "path": "/spec/containers/0/image", "value": THEIRS}]
    assert "certified images" in denied(
        kubectl("patch", "pod", "bare", "-n", namespace, "--type=json", "-p", json.dumps(set_image))
    )
    rename = {"metadata": {"annotations": {ANNOTATION: "0" * 64}}}
    assert "is not certified" in denied(kubectl("patch", "pod", "bare", "-n", namespace, "-p", json.dumps(rename)))
    good(kubectl("label", "pod", "bare", "-n", namespace, "looked=at"))
    added = {"spec": {"ephemeralContainers": [{"name": "debug", "image": THEIRS}]}}
    debug = kubectl("patch", "pod", "bare", "-n", namespace, "--subresource=ephemeralcontainers", "-p", json.dumps(added))
    assert "certified images" in denied(debug)
    good(kubectl("delete", "pod", "bare", "-n", namespace, "--grace-period=0", "--force"))


@pytest.mark.campaign
def test_the_end_of_a_certificate_keeps_new_versions_out_and_stops_no_pod(namespace: str, tmp_path: Path) -> None:
    enter(tmp_path, OURS, THEIRS, seconds=4)
    good(apply(deployment("late", OURS), namespace))
    time.sleep(4)
    assert f"the certificate of agent {AGENT} was good until " in denied(apply(deployment("later", OURS), namespace))
    assert "was good until" in denied(apply(deployment("late", THEIRS), namespace)), "a change counts when it is made"
    forged = deployment("late", THEIRS)
    owner = {"manager": "x", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {}}
    for managed in ([{}], [{**owner, "time": "2020-01-01T00:00:00Z"}]):
        forged["metadata"]["managedFields"] = managed
        denied(kubectl("replace", "-n", namespace, "-f", "-", given=forged))
    good(apply(deployment("late", OURS), namespace))
    good(apply(pod("replacement", OURS), namespace, "--dry-run=server"))


def test_the_list_is_written_by_one_account_which_may_do_nothing_else(namespace: str) -> None:
    somebody = "system:serviceaccount:default:default"
    forbidden = "is forbidden"
    patch = ("patch", "certifiedagents", "certified", "--type=merge", "-p", json.dumps({"agents": {}}))
    assert forbidden in kubectl(*patch, account=somebody).stderr
    good(kubectl(*patch, account=PIPELINE))
    for verb, what in (("create", "certifiedagents"), ("delete", "certifiedagents"), ("get", "secrets"), ("create", "pods")):
        asked = kubectl("auth", "can-i", verb, what, "-n", namespace, account=PIPELINE)
        assert asked.stdout.strip() == "no", (verb, what)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first-agent": {"until": "2999-01-01T00:00:00Z", "images": [f"sha256:{'b0' * 32}"]}},
        {AGENT: {"until": "soon", "images": [f"sha256:{'b0' * 32}"]}},
        {AGENT: {"until": "2999-01-01T00:00:00Z", "images": []}},
        {AGENT: {"until": "2999-01-01T00:00:00Z", "images": [""]}},
        {AGENT: {"until": None, "images": [f"sha256:{'b0' * 32}"]}},
    ],
)
def test_an_entry_of_another_shape_is_not_written(namespace: str, wrong: dict[str, Any]) -> None:
    change = json.dumps({"agents": wrong})
    done = kubectl("patch", "certifiedagents", "certified", "--type=merge", "-p", change, account=PIPELINE)
    assert done.returncode != 0
    assert "is invalid" in done.stderr, done.stderr


def test_without_the_list_nothing_starts(namespace: str) -> None:
    example = str(shipped() / "manifests" / "admission")
    good(kubectl("delete", "-f", f"{example}/list.yaml"))
    time.sleep(1)
    try:
        assert "no params found" in denied(apply(pod("any", OURS), namespace))
    finally:
        good(kubectl("apply", "-f", f"{example}/list.yaml"))
