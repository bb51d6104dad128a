"""A boundary's Role in a real cluster: what the API server answers for an account that has it and nothing else."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import kubectl

from podctl.boundary.cluster import role_of
from podctl.spec.load import load_model
from podctl.spec.models import Boundary

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("cluster")]

BOUNDARY = """
apiVersion: podctl/v1
kind: Boundary
name: operator
infrastructure:
  deployments.apps: {"get,list": read, patch: recommend}
  leases.coordination.k8s.io: {"get,update": ai-writable}
  events: {"get,list,watch": read, "create,patch": human-only}
  secrets: human-only
  nodes: {get: read}
"""


@pytest.fixture
def namespace() -> Iterator[str]:
    name = f"podctl-boundary-{secrets.token_hex(3)}"
    assert kubectl("create", "namespace", name).returncode == 0
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def test_the_role_grants_what_is_listed_and_nothing_else(tmp_path: Path, namespace: str) -> None:
    file = tmp_path / "boundary.yaml"
    file.write_text(BOUNDARY)
    role = role_of(load_model(file, Boundary), namespace)
    assert role is not None
    subject = {"kind": "User", "name": "agent-under-test", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "Role", "name": role["metadata"]["name"], "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"apiVersion": role["apiVersion"], "kind": "RoleBinding", "metadata": role["metadata"]}
    for one in (role, {**binding, "subjects": [subject], "roleRef": reference}):
        assert kubectl("apply", "-f", "-", given=one).returncode == 0
    granted = {
        ("get", "apps", "deployments"),
        ("list", "apps", "deployments"),
        ("get", "coordination.k8s.io", "leases"),
        ("update", "coordination.k8s.io", "leases"),
        *((verb, "", "events") for verb in ("get", "list", "watch")),
    }
    refused = {
        ("patch", "apps", "deployments"),
        ("delete", "apps", "deployments"),
        ("get", "apps", "statefulsets"),
        ("create", "", "events"),
        ("get", "", "secrets"),
        ("get", "", "nodes"),
        ("patch", "coordination.k8s.io", "leases"),
        ("create", "", "pods"),
    }
    assert {asked for asked in granted | refused if _allowed(namespace, *asked)} == granted
    assert not _allowed("default", "get", "apps", "deployments")


def _allowed(namespace: str, verb: str, group: str, resource: str) -> bool:
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "agent-under-test", "resourceAttributes": attributes},
    }
    done = kubectl("create", "-o", "json", "-f", "-", given=review)
    assert done.returncode == 0, done.stderr
    return bool(json.loads(done.stdout)["status"]["allowed"])
