"""What a cluster says when something does not work, in a user's words. PURE."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from podctl.errors import EnvironmentProblem

#: Waiting reasons of a container that do not pass by themselves, with the code and what to type.
_STUCK = {
    "ErrImagePull": ("image-pull", "check the image's name and the cluster's access to its registry"),
    "ImagePullBackOff": ("image-pull", "check the image's name and the cluster's access to its registry"),
    "ErrImageNeverPull": ("image-pull", "load the image into the node"),
    "InvalidImageName": ("image-pull", "check the image's name"),
    "ImageInspectError": ("image-pull", "check the image"),
    "CreateContainerConfigError": ("container-config", "the message names what is missing"),
    "CreateContainerError": ("container-create", "the message is the container runtime's"),
    "RunContainerError": ("container-start", "check the command and that the image has it"),
    "CrashLoopBackOff": ("container-crash", "the container's log says why"),
}
#: Warning events that explain why a Pod does not come up; others are left to time.
_EVENTS = {
    "FailedCreate": "pod-refused",
    "FailedMount": "volume",
    "FailedCreatePodSandBox": "pod-sandbox",
    "NodeNotReady": "node-lost",
}
#: The scheduler may find room a moment later, when another Pod ends.
UNSCHEDULABLE_S = 5.0
_MOUNT_S = 10.0
_SLOW_MOUNT_S = 90.0

_FORBIDDEN = re.compile(
    r'cannot (?P<verb>[\w-]+) resource "(?P<resource>[\w./-]+)" in API group "(?P<group>[^"]*)"(?P<where>.*)', re.DOTALL
)


class ClusterProblem(EnvironmentProblem):
    """The cluster refused something, cannot be reached, or cannot do what was asked."""


def refusal(verb: str, what: str, status: int, body: str) -> ClusterProblem:
    """An answer of the API server that is no success: ``what`` is what was to be done to, e.g. ``Pod agent-1``."""
    try:
        told: Mapping[str, Any] = json.loads(body)
        message = str(told.get("message", "")) or body
    except ValueError:
        message = body
    message = message.strip()[:2000]
    forbidden = _FORBIDDEN.search(message)
    if status == 401:
        return ClusterProblem(
            "the cluster does not accept the credentials",
            code="cluster-credentials",
            cause=message or "401 Unauthorized",
            hint="log in again, or check the user of the current context in KUBECONFIG",
        )
    if forbidden is not None:
        group = forbidden["group"]
        resource = forbidden["resource"] + (f".{group}" if group else "")
        return ClusterProblem(
            f"the account may not {forbidden['verb']} {resource}",
            code="cluster-rights",
            cause=message,
            hint=f"grant the verb {forbidden['verb']!r} on {resource}: docs/rights.md lists every right that is needed",
        )
    if status == 403 and "exceeded quota" in message:
        return ClusterProblem(
            f"a quota refused {what}",
            code="quota-refused",
            cause=message,
            hint="run fewer pods at once, or have the quota raised",
        )
    if status == 403 and "violates PodSecurity" in message:
        return ClusterProblem(f"PodSecurity refused {what}", code="pod-security", cause=message)
    if status == 403 and "is being terminated" in message:
        return ClusterProblem(
            f"{what} cannot be made: its namespace is being deleted", code="namespace-terminating", cause=message
        )
    if status == 409 and verb == "apply":
        return ClusterProblem(
            f"{what} was changed by somebody else",
            code="field-conflict",
            cause=message,
            unchanged=f"{what} was left as they made it",
            hint="podctl gc removes the pod; find out who edits podctl's objects",
        )
    return ClusterProblem(f"the cluster did not {verb} {what}", code="cluster-refused", cause=f"{status}: {message}")


def pod_trouble(pod: Mapping[str, Any], age_s: float) -> ClusterProblem | None:
    """Why a Pod that should come up will not, or None while it may. ``age_s`` is since it was made."""
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            code, hint = _STUCK[waiting["reason"]]
            return ClusterProblem(
                f"container {container['name']} of Pod {name} cannot start: {waiting['reason']}",
                code=code,
                cause=str(waiting.get("message") or f"image {container.get('image', '')}")[:1000],
                hint=hint,
            )
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False" and age_s >= UNSCHEDULABLE_S:
            return ClusterProblem(
                f"no node can take Pod {name}",
                code="unschedulable",
                cause=str(condition.get("message") or condition.get("reason", "")),
                hint="run fewer pods at once, lower their resources, or add a node",
            )
    if status.get("phase") == "Failed":
        said = status.get("message") or status.get("reason") or container_ends(pod)
        return ClusterProblem(f"Pod {name} failed", code="pod-failed", cause=str(said))
    return None


def event_trouble(event: Mapping[str, Any], age_s: float) -> ClusterProblem | None:
    """A warning that says why something of a test pod does not come up."""
    code = _EVENTS.get(str(event.get("reason")))
    message = str(event.get("message", ""))
    # A busy kubelet says it of what it has not read yet, and tries again.
    late = _SLOW_MOUNT_S if "failed to sync" in message else _MOUNT_S
    if code is None or event.get("type") != "Warning" or (code == "volume" and age_s < late):
        return None
    about = event.get("involvedObject") or {}
    code = "quota-refused" if "exceeded quota" in message else code
    return ClusterProblem(
        f"{about.get('kind', 'object')} {about.get('name', '')} does not come up: {event['reason']}",
        code=code,
        cause=message[:1000],
    )


def container_ends(pod: Mapping[str, Any]) -> str:
    """How the Pod's containers ended, in one line."""
    parts = []
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        ended = (container.get("state") or {}).get("terminated")
        if ended:
            parts.append(f"{container['name']}: {ended.get('reason', '')} (exit code {ended.get('exitCode')})")
    return ", ".join(parts) or "no container says why"


_HELD = ("NamespaceFinalizersRemaining",)
_FAILING = (
    "NamespaceDeletionContentFailure",
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
)


def stuck_deletion(namespace: Mapping[str, Any], *, failing: bool) -> str:
    """Why a namespace that is being deleted does not go, or nothing while it only takes its time.

    ``failing``: also what may pass by itself, as when Pods end slowly or the API server was away.
    """
    told = (*_HELD, *_FAILING) if failing else _HELD
    said = [
        str(condition.get("message", ""))
        for condition in (namespace.get("status") or {}).get("conditions") or []
        if condition["status"] == "True" and condition["type"] in told
    ]
    own = list((namespace.get("metadata") or {}).get("finalizers") or [])
    if own:
        said.append(f"the namespace itself has finalizers: {', '.join(own)}")
    return "; ".join(said)
