"""`podctl install` on a real cluster. podctl must not be in it already: the tests put it there and take it out."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster import backend, image, kubectl

from podctl.cli.install import OVERLAYS
from podctl.pods.plan import PodSpec, Resource, Step
from podctl.spec.models import Topology

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

ROOT = Path(__file__).parents[2]
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


@pytest.mark.campaign
def test_a_store_of_its_own_comes_up_with_a_password_that_nobody_sees(bare: None) -> None:
    done = install("--overlay", "with-postgres", "--image", image(), "--wait", "60")
    assert "up         Deployment podctl-store in podctl-system" in done.stdout, done.stdout + done.stderr
    secret = json.loads(kubectl("get", "secret", "podctl-store", "-n", "podctl-system", "-o", "jsonpath={.data}").stdout)
    assert set(secret) == {"password", "url"}
    assert secret["password"] not in done.stdout + done.stderr
    asked = ["sh", "-c", 'PGPASSWORD=$(cat /secret/password) psql -h 127.0.0.1 -U podctl -d podctl -tAc "select 41 + 1"']
    said = kubectl("exec", "-n", "podctl-system", "deployment/podctl-store", "--", *asked)
    assert said.stdout.strip() == "42", said.stderr


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
