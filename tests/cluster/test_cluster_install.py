"""`podctl install` on a real cluster. podctl must not be in it already: the tests put it there and take it out."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from both_places import AGENT, TICKETS
from cluster import backend, image, kubectl
from project import make_project

from podctl.cli.install import OVERLAYS
from podctl.pods.plan import PodSpec, Resource, Step
from podctl.spec.models import Topology

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

ROOT = Path(__file__).parents[2]
#: podctl's own image, where the cluster's nodes get it; the other tests do with any image for test pods.
OWN_IMAGE = os.environ.get("PODCTL_TEST_OWN_IMAGE", "")
needs_own_image = pytest.mark.skipif(not OWN_IMAGE, reason="PODCTL_TEST_OWN_IMAGE does not name podctl's own image")
ABSENT = "localhost/there-is-no-such-image:1"


def install(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podctl", "install", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=dict(os.environ), cwd=ROOT)


@pytest.fixture
def bare() -> Iterator[None]:
    """A cluster without podctl, afterwards again."""
    if kubectl("get", "namespace", "podctl-system").returncode == 0:
        pytest.skip("podctl is installed in this cluster, and the tests do not take it out")
    yield
    done = install("--uninstall", "--force")
    assert done.returncode == 0, done.stdout + done.stderr
    left = kubectl(
        "get", "validatingadmissionpolicies,clusterroles,clusterrolebindings", "-l", "app.kubernetes.io/part-of=podctl"
    )
    assert left.stdout == "", left.stdout
    assert kubectl("get", "namespace", "podctl-system").returncode != 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_is_shipped_is_what_kubectl_makes_of_the_overlay(overlay: str) -> None:
    made = kubectl("kustomize", str(ROOT / "manifests" / "overlays" / overlay))
    assert made.returncode == 0, made.stderr
    assert (ROOT / "manifests" / "rendered" / f"{overlay}.yaml").read_text() == made.stdout


def test_installing_twice_changes_nothing_and_uninstalling_leaves_nothing(bare: None) -> None:
    first = install("--overlay", "ci")
    assert first.returncode == 0, first.stderr
    assert {line.split()[0] for line in first.stdout.splitlines()} == {"created"}
    again = install("--overlay", "ci")
    assert {line.split()[0] for line in again.stdout.splitlines()} == {"unchanged"}
    narrowed = install("--overlay", "ci", "--allow-image", "registry.example/*")
    changed = [line for line in narrowed.stdout.splitlines() if not line.startswith("unchanged")]
    assert changed == ["changed    ValidatingAdmissionPolicy podctl-images"]
    would = install("--uninstall", "--dry-run").stdout
    assert "would remove Namespace podctl-system" in would and "would remove ClusterRole podctl-runner" in would
    assert kubectl("get", "namespace", "podctl-system").returncode == 0, "a dry run removes nothing"


@pytest.mark.campaign
def test_what_is_printed_is_what_an_api_server_accepts(bare: None) -> None:
    goes = kubectl("create", "namespace", "podctl-system")
    assert goes.returncode == 0, goes.stderr
    try:
        for overlay in ("existing-postgres", "with-postgres"):
            printed = install("--overlay", overlay, "--image", image(), "--dry-run")
            assert printed.returncode == 0, printed.stderr
            manifests = [one for one in yaml.safe_load_all(printed.stdout) if one["kind"] != "Namespace"]
            asked = {"apiVersion": "v1", "kind": "List", "items": manifests}
            done = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", given=asked)
            assert done.returncode == 0, done.stderr
            assert len(done.stdout.splitlines()) == len(manifests)
            assert "Warning" not in done.stderr, done.stderr
    finally:
        kubectl("delete", "namespace", "podctl-system")


@pytest.mark.campaign
def test_what_keeps_the_controller_from_coming_up_is_said(bare: None) -> None:
    lacking = install("--image", image())
    assert lacking.returncode == 3 and 'secret "podctl-store" not found' in lacking.stderr, lacking.stderr
    assert "kubectl -n podctl-system create secret generic podctl-store" in lacking.stderr
    assert "goes on where it stopped" in lacking.stderr
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "podctl-store", "namespace": "podctl-system"}}
    made = kubectl("create", "-f", "-", given={**secret, "stringData": {"url": "postgresql://nowhere.invalid/podctl"}})
    assert made.returncode == 0, made.stderr
    absent = install("--image", ABSENT)
    assert absent.returncode == 3 and "[image-pull]" in absent.stderr and ABSENT in absent.stderr, absent.stderr
    # A field that somebody else set: said, left, and taken over on request.
    change = json.dumps({"data": {"PODCTL_MAX_PODS": "3"}})
    theirs = ("patch", "configmap", "podctl-settings", "-n", "podctl-system", "--type=merge", "-p", change)
    assert kubectl(*theirs, "--field-manager=somebody").returncode == 0
    conflict = install("--image", ABSENT, "--wait", "0")
    assert conflict.returncode == 3 and "[field-conflict]" in conflict.stderr and "somebody" in conflict.stderr, conflict.stderr
    assert "podctl install --force" in conflict.stderr
    forced = install("--image", ABSENT, "--wait", "0", "--force")
    assert forced.returncode == 0 and "changed    ConfigMap podctl-settings in podctl-system" in forced.stdout, forced.stderr


@needs_own_image
@pytest.mark.campaign
def test_a_store_of_its_own_comes_up_with_a_password_that_nobody_sees(bare: None) -> None:
    done = install("--overlay", "with-postgres", "--image", OWN_IMAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {"podctl-store", "podctl-controller"} == set(re.findall(r"^up +Deployment ([a-z-]+)", done.stdout, re.MULTILINE))
    secret = json.loads(kubectl("get", "secret", "podctl-store", "-n", "podctl-system", "-o", "jsonpath={.data}").stdout)
    assert set(secret) == {"password", "url"}
    assert secret["password"] not in done.stdout + done.stderr
    asked = ["sh", "-c", 'PGPASSWORD=$(cat /secret/password) psql -h 127.0.0.1 -U podctl -d podctl -tAc "select 41 + 1"']
    said = kubectl("exec", "-n", "podctl-system", "deployment/podctl-store", "--", *asked)
    assert said.stdout.strip() == "42", said.stderr


@needs_own_image
@pytest.mark.campaign
def test_a_run_that_a_person_submits_ends_with_nothing_but_what_was_installed(bare: None, tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=TICKETS, scenario={"run": {"pods": 1}})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for path in project.root.iterdir():
            archive.add(path, path.name)
    source = {"project.tar.gz": base64.b64encode(packed.getvalue()).decode()}
    meta = {"name": "podctl-tests-source", "namespace": "podctl-system"}
    given = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "binaryData": source},
        {
            "apiVersion": "podctl.dev/v1alpha1",
            "kind": "TestRun",
            "metadata": {"name": "podctl-tests-run"},
            "spec": {"scenario": "scenario.yaml", "source": {"configMaps": [meta["name"]]}},
        },
    ]
    done = install("--overlay", "with-postgres", "--image", OWN_IMAGE)
    assert done.returncode == 0, done.stdout + done.stderr
    person = "podctl-tests-person"
    try:
        for kind, where in (("clusterrole", ()), ("role", ("-n", "podctl-system"))):
            bound = kubectl("create", f"{kind}binding", person, f"--{kind}=podctl-submitter", f"--user={person}", *where)
            assert bound.returncode == 0, bound.stderr
        for manifest in given:
            made = kubectl("create", "-f", "-", given=manifest, account=person)
            assert made.returncode == 0, made.stderr
        deadline = time.monotonic() + 300
        while (status := _status(person)).get("state") not in ("Finished", "Refused"):
            assert time.monotonic() < deadline, status
            time.sleep(1)
        assert status["state"] == "Finished" and status["attempts"] == {"planned": 3, "done": 3, "passed": 1}, status
        logs = kubectl("logs", "-n", "podctl-system", "-l", "app.kubernetes.io/component=controller", "--tail=-1")
        assert "Traceback" not in logs.stdout and "denied request" not in logs.stdout, logs.stdout
    finally:
        kubectl("delete", "testrun", "podctl-tests-run", "--ignore-not-found", "--wait=false")
        kubectl("delete", "clusterrolebinding", person, "--ignore-not-found")


def _status(person: str) -> dict[str, Any]:
    told = kubectl("get", "testrun", "podctl-tests-run", "-o", "json", account=person)
    assert told.returncode == 0, told.stderr
    status: dict[str, Any] = json.loads(told.stdout).get("status") or {}
    return status


@pytest.mark.campaign
def test_it_is_not_taken_out_under_a_living_run(bare: None) -> None:
    topology = {
        "apiVersion": "podctl/v1",
        "kind": "Topology",
        "name": "small",
        "services": {"echo": {"mode": "stubbed", "ports": [8080], "routes": [{"path": "/ping"}]}},
    }

    async def go() -> None:
        used = await backend()
        spec = PodSpec("install-living", "run-that-lives", Topology.model_validate(topology))
        try:
            await used.apply(spec, Step("make", Resource("directory")))
            refused = install("--uninstall")
            assert refused.returncode == 3 and "run-that-lives" in refused.stderr, refused.stderr
            assert "nothing was removed" in refused.stderr
            assert kubectl("get", "clusterrole", "podctl-runner").returncode == 0
        finally:
            await used.delete(spec.id)
            await used.close()

    assert install("--overlay", "ci").returncode == 0
    asyncio.run(go())
