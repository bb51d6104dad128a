"""podctl's manifests in a cluster: applied, waited for, taken out again."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from podctl.backends.kubernetes.api import Cluster, Object
from podctl.backends.kubernetes.objects import parse_time
from podctl.backends.kubernetes.problems import ClusterProblem, pod_trouble, refusal, stuck_deletion

MANAGER = "podctl-install"
#: What the manifests have where an image must be named.
NO_IMAGE = "registry.example/podctl:unset"
STORE = "podctl-store"
_NAMESPACE_GONE_S = 60.0
_REVISION = "deployment.kubernetes.io/revision"
_TRIED_AGAIN_S = 30.0
_A_SECOND = 1_000_000_000  # to which Kubernetes tells when something was made


def with_image(manifest: Any, image: str) -> Any:
    """The same manifest with ``image`` wherever one must be named. PURE."""
    if isinstance(manifest, Mapping):
        return {key: with_image(value, image) for key, value in manifest.items()}
    if isinstance(manifest, list):
        return [with_image(value, image) for value in manifest]
    return image if manifest == NO_IMAGE else manifest


def allowing(manifests: Sequence[Object], images: Sequence[str]) -> list[Object]:
    """The same manifests with these ``images`` as the ones that test pods may run: names, or beginnings followed by ``*``. PURE."""

    def edited(manifest: Object) -> Object:
        if (manifest["kind"], manifest["metadata"]["name"]) != ("ValidatingAdmissionPolicy", "podctl-images"):
            return manifest
        variables = [
            # A list of strings is the same in JSON as in CEL.
            {**one, "expression": json.dumps(list(images))} if one["name"] == "allowed" else one
            for one in manifest["spec"]["variables"]
        ]
        return {**manifest, "spec": {**manifest["spec"], "variables": variables}}

    return [edited(manifest) for manifest in manifests]


def title(manifest: Object) -> str:
    meta = manifest["metadata"]
    return f"{manifest['kind']} {meta['name']}" + (f" in {meta['namespace']}" if "namespace" in meta else "")


async def apply(cluster: Cluster, manifest: Object, *, force: bool = False) -> str:
    """``created``, ``changed`` or ``unchanged``. With ``force`` fields that somebody else set are taken over. Raises `ClusterProblem`."""
    meta = manifest["metadata"]
    before = await cluster.get(manifest["kind"], meta["name"], meta.get("namespace"))
    try:
        after = await cluster.apply(manifest, manager=MANAGER, force=force)
    except ClusterProblem as problem:
        conflict = problem.code == "field-conflict"
        problem.unchanged = "what is listed above was applied and stays" + (", this was left as it is" if conflict else "")
        problem.hint = "podctl install --force takes these fields over" if conflict else problem.hint
        raise
    if before is None:
        return "created"
    return "unchanged" if _asked_for(before) == _asked_for(after) else "changed"


def _asked_for(there: Object) -> Object:
    """Without what the cluster writes by itself."""
    own = ("resourceVersion", "managedFields", "generation")
    meta = {key: value for key, value in there["metadata"].items() if key not in own}
    return {**{key: value for key, value in there.items() if key != "status"}, "metadata": meta}


async def give_store_password(cluster: Cluster, namespace: str) -> bool:
    """Make the Secret of the store that comes with podctl, unless there is one; whether it was made."""
    if await cluster.get("Secret", STORE, namespace) is not None:
        return False
    password = secrets.token_urlsafe(24)
    url = f"postgresql://podctl:{password}@{STORE}.{namespace}.svc:5432/podctl"
    meta = {"name": STORE, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "podctl"}}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque"}
    await cluster.create({**body, "stringData": {"password": password, "url": url}})
    return True


async def wait_until_up(cluster: Cluster, deployment: Object, patience_s: float) -> None:
    """Until as many Pods of it are ready as it asks for, all of them of this version.

    Raises `ClusterProblem` with what keeps them: at once where it will not pass, else after ``patience_s`` seconds.
    """
    name, namespace = deployment["metadata"]["name"], deployment["metadata"]["namespace"]
    began, began_ns = time.monotonic(), cluster.now_ns()
    while True:
        there = await cluster.get("Deployment", name, namespace)
        if there is None:
            raise ClusterProblem(f"Deployment {name} is gone", code="not-up", cause="somebody removed it meanwhile")
        if _is_up(there):
            return
        waited = time.monotonic() - began
        problem = _refused(there)
        for pod in [] if problem else await _pods(cluster, there):
            made_ns = parse_time(pod["metadata"]["creationTimestamp"])
            problem = problem or pod_trouble(pod, (cluster.now_ns() - made_ns) / 1e9)
            # What an older Pod says may be over already: the kubelet tries again after a while. So may a first end: a Pod may begin
            # before the network lets it out.
            early = made_ns < began_ns - _A_SECOND or (
                problem is not None and problem.code == "container-crash" and _restarts(pod) < 2
            )
            if early and waited < min(_TRIED_AGAIN_S, patience_s):
                problem = None
            if problem is None and waited > patience_s:
                problem = ClusterProblem(f"Pod {pod['metadata']['name']} is not ready", code="not-ready", cause=_waits_for(pod))
            if problem is not None and problem.code in ("container-crash", "not-ready"):
                problem = await _with_log(cluster, pod, problem)
            if problem is not None:
                break
        if problem is None and waited > patience_s:
            problem = ClusterProblem("it has no Pods", code="not-up", cause="nothing says why")
        if problem is not None:
            raise ClusterProblem(
                f"Deployment {name} does not come up: {problem.what}",
                code=problem.code,
                cause=problem.cause,
                unchanged="what is listed above was applied and stays; the Deployment goes on trying, "
                "podctl install goes on where it stopped",
                hint=_hint(problem) or f"kubectl -n {namespace} describe pods",
            )
        await asyncio.sleep(0.5)


async def _pods(cluster: Cluster, deployment: Object) -> list[Object]:
    """Those of its newest version that are not being deleted."""
    labels = deployment["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    namespace = deployment["metadata"]["namespace"]
    revision = (deployment["metadata"].get("annotations") or {}).get(_REVISION)
    sets = await cluster.list("ReplicaSet", namespace, selector)
    newest = {one["metadata"]["uid"] for one in sets if (one["metadata"].get("annotations") or {}).get(_REVISION) == revision}
    metas = [(pod, pod["metadata"]) for pod in await cluster.list("Pod", namespace, selector)]
    return [
        pod
        for pod, meta in metas
        if "deletionTimestamp" not in meta and newest & {owner["uid"] for owner in meta.get("ownerReferences") or []}
    ]


def _is_up(deployment: Object) -> bool:
    status = deployment.get("status") or {}
    wanted = deployment["spec"].get("replicas", 1)
    observed = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = [status.get(key, 0) for key in ("updatedReplicas", "readyReplicas", "replicas")]
    return observed and all(count == wanted for count in counts)


def _refused(deployment: Object) -> ClusterProblem | None:
    """Why its Pods are not even made: a quota, PodSecurity, an admission policy."""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            return refusal("create", "its Pods", 403, str(condition.get("message", "")))
    return None


def _restarts(pod: Object) -> int:
    return max((int(one.get("restartCount", 0)) for one in (pod.get("status") or {}).get("containerStatuses") or []), default=0)


def _waits_for(pod: Object) -> str:
    said = []
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        state, detail = next(iter((container.get("state") or {"waiting": {}}).items()))
        said.append(f"container {container['name']} is {detail.get('reason') or state}, ready: {container.get('ready')}")
    return "; ".join(said) or "no container was started"


async def _with_log(cluster: Cluster, pod: Object, problem: ClusterProblem) -> ClusterProblem:
    try:
        log = await cluster.log(pod["metadata"]["namespace"], pod["metadata"]["name"])
    except ClusterProblem:
        return problem
    last = "\n".join(log.decode("utf-8", "replace").strip().splitlines()[-5:])
    return ClusterProblem(problem.what, code=problem.code, cause=f"{problem.cause}\n{last}".strip(), hint=problem.hint)


def _hint(problem: ClusterProblem) -> str:
    if STORE in problem.cause and "not found" in problem.cause:
        return (
            f"make the Secret {STORE} with the store's address under the key url:\n"
            f"kubectl -n podctl-system create secret generic {STORE} --from-file=url=FILE"
        )
    return problem.hint


async def installed(cluster: Cluster, manifests: Sequence[Object]) -> list[Object]:
    """Those of the manifests that are there and carry podctl's label, as the cluster has them."""
    metas = [(manifest["kind"], manifest["metadata"]) for manifest in manifests]
    found = await asyncio.gather(*(cluster.get(kind, meta["name"], meta.get("namespace")) for kind, meta in metas))
    return [
        {**there, "kind": kind}
        for (kind, _), there in zip(metas, found, strict=True)
        if there is not None and (there["metadata"].get("labels") or {}).get("app.kubernetes.io/part-of") == "podctl"
    ]


async def remove(cluster: Cluster, there: Object) -> str:
    """Delete it, and wait for the end of what is a namespace; why it is still there, or nothing."""
    kind, meta = there["kind"], there["metadata"]
    await cluster.delete(kind, meta["name"], meta.get("namespace"), uid=meta["uid"])
    return await _namespace_left(cluster, meta["name"]) if kind == "Namespace" else ""


async def _namespace_left(cluster: Cluster, name: str) -> str:
    deadline = time.monotonic() + _NAMESPACE_GONE_S
    while (there := await cluster.get("Namespace", name)) is not None:
        if time.monotonic() > deadline:
            return stuck_deletion(there, failing=True) or f"it is being deleted for {_NAMESPACE_GONE_S:g} s"
        await asyncio.sleep(0.25)
    return ""
