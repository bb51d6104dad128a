"""What a cluster refuses, in a user's words: its own message, a stable code, and what to type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podctl.backends.kubernetes.problems import event_trouble, pod_trouble, refusal, stuck_deletion

REFUSALS = {
    "cluster-rights": (
        403,
        'namespaces is forbidden: User "jo" cannot create resource "namespaces" in API group "" at the cluster scope',
    ),
    "quota-refused": (403, 'pods "x" is forbidden: exceeded quota: podctl, requested: pods=1, used: pods=4, limited: pods=4'),
    "pod-security": (403, 'pods "x" is forbidden: violates PodSecurity "restricted:v1.30": host namespaces'),
    "namespace-terminating": (
        403,
        'pods "x" is forbidden: unable to create new content in namespace y because it is being terminated',
    ),
    "cluster-credentials": (401, "Unauthorized"),
    "field-conflict": (409, 'Apply failed with 1 conflict: conflict with "kubectl-edit" using v1: .spec.hard.pods'),
    "cluster-refused": (422, "Pod is invalid: spec.containers: Required value"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_keeps_the_servers_words(code: str) -> None:
    status, message = REFUSALS[code]
    problem = refusal("apply", "Pod x", status, json.dumps({"message": message}))
    assert problem.code == code
    assert message in problem.cause


def test_a_missing_right_is_named_with_its_verb_and_resource() -> None:
    message = 'jobs.batch is forbidden: User "jo" cannot patch resource "jobs" in API group "batch" in the namespace "y"'
    problem = refusal("apply", "Job x", 403, json.dumps({"message": message}))
    assert problem.what == "the account may not patch jobs.batch"
    subresource = 'pods "x" is forbidden: User "jo" cannot create resource "pods/exec" in API group "" in the namespace "y"'
    assert "create pods/exec" in refusal("open", "exec", 403, subresource).what


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "agent-1-x"}, "status": status}


def waiting(reason: str) -> dict[str, Any]:
    return pod(
        containerStatuses=[{"name": "agent", "image": "nope:1", "state": {"waiting": {"reason": reason, "message": "m"}}}]
    )


@pytest.mark.parametrize(
    ("reason", "code"),
    [("ErrImagePull", "image-pull"), ("ImagePullBackOff", "image-pull"), ("CreateContainerConfigError", "container-config")],
)
def test_a_container_that_cannot_start_says_so_at_once(reason: str, code: str) -> None:
    problem = pod_trouble(waiting(reason), 0.0)
    assert problem is not None and problem.code == code and reason in problem.what and problem.cause == "m"


def test_what_only_takes_its_time_is_no_trouble() -> None:
    assert pod_trouble(waiting("ContainerCreating"), 60.0) is None
    assert pod_trouble(pod(), 60.0) is None


def test_an_unschedulable_pod_is_given_a_moment() -> None:
    stuck = pod(
        conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: cpu"}]
    )
    assert pod_trouble(stuck, 1.0) is None
    problem = pod_trouble(stuck, 6.0)
    assert problem is not None and problem.code == "unschedulable" and problem.cause == "0/1 nodes: cpu"


def test_a_job_whose_pod_is_refused_is_known_by_its_event() -> None:
    event = {
        "type": "Warning",
        "reason": "FailedCreate",
        "message": 'Error creating: pods "x" is forbidden: exceeded quota: podctl',
        "involvedObject": {"kind": "Job", "name": "agent-1"},
    }
    problem = event_trouble(event, 0.0)
    assert problem is not None and problem.code == "quota-refused" and "Job agent-1" in problem.what
    assert event_trouble({**event, "type": "Normal"}, 0.0) is None
    assert event_trouble({**event, "reason": "FailedMount"}, 1.0) is None, "a volume may come a moment later"


def test_a_stuck_deletion_names_the_finalizer() -> None:
    message = "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
    namespace = {
        "metadata": {"name": "n"},
        "status": {
            "conditions": [
                {"type": "NamespaceDeletionContentFailure", "status": "False", "message": "All content successfully deleted"},
                {"type": "NamespaceFinalizersRemaining", "status": "True", "message": message},
            ]
        },
    }
    assert stuck_deletion(namespace, failing=False) == message
    assert stuck_deletion({"metadata": {"finalizers": ["a/b"]}}, failing=False) == "the namespace itself has finalizers: a/b"
    assert stuck_deletion({"metadata": {}}, failing=True) == ""


def test_a_deletion_that_fails_for_now_is_given_more_time() -> None:
    condition = {"type": "NamespaceDeletionContentFailure", "status": "True", "message": "unexpected items still remain"}
    namespace = {"metadata": {"name": "n"}, "status": {"conditions": [condition]}}
    assert stuck_deletion(namespace, failing=False) == ""
    assert stuck_deletion(namespace, failing=True) == "unexpected items still remain"
