"""What a namespace of a live cluster runs, read and never written. Secrets are not asked for."""

from __future__ import annotations

from typing import Any

import yaml

from podctl.backends.kubernetes.api import Cluster
from podctl.backends.kubernetes.problems import ClusterProblem

#: (API, plural, kind): what runs, and what it is told.
_NEEDED = (
    ("/apis/apps/v1", "deployments", "Deployment"),
    ("/apis/apps/v1", "statefulsets", "StatefulSet"),
    ("/apis/apps/v1", "daemonsets", "DaemonSet"),
    ("/apis/apps/v1", "replicasets", "ReplicaSet"),
    ("/api/v1", "pods", "Pod"),
    ("/api/v1", "services", "Service"),
    ("/api/v1", "configmaps", "ConfigMap"),
)
#: Named in the report and not carried over: an account that may not list them imports all the same.
_NAMED = (
    ("/apis/batch/v1", "jobs", "Job"),
    ("/apis/batch/v1", "cronjobs", "CronJob"),
    ("/apis/networking.k8s.io/v1", "ingresses", "Ingress"),
    ("/apis/networking.k8s.io/v1", "networkpolicies", "NetworkPolicy"),
    ("/apis/autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    ("/apis/policy/v1", "poddisruptionbudgets", "PodDisruptionBudget"),
    ("/api/v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
)
#: What every cluster puts into a namespace.
_EVERYWHERE = {("ConfigMap", "kube-root-ca.crt"), ("ConfigMap", "openshift-service-ca.crt"), ("Service", "kubernetes")}
_KEPT_META = ("name", "namespace", "labels", "annotations")
#: It repeats the whole object, as somebody once wrote it.
_REPEATS = "kubectl.kubernetes.io/last-applied-configuration"


async def read_namespace(namespace: str, context: str = "") -> dict[str, str]:
    """``NAMESPACE/Kind/name`` -> the object as YAML, without what the cluster itself wrote into it.

    Raises `ClusterProblem` when there is no cluster, no such namespace, or the account may not list what is needed.
    """
    cluster = await Cluster.open(context or None)
    try:
        if await cluster.get("Namespace", namespace) is None:
            raise ClusterProblem(
                f"there is no namespace {namespace}",
                code="namespace-missing",
                cause=f"asked at {cluster.host}",
                unchanged="nothing was written",
                hint="kubectl get namespaces lists them; --context names another cluster",
            )
        found: dict[str, str] = {}
        for group, plural, kind in (*_NEEDED, *_NAMED):
            try:
                listed = await cluster.raw(f"{group}/namespaces/{namespace}/{plural}")
            except ClusterProblem:
                if (group, plural, kind) in _NEEDED:
                    raise
                continue
            version = group.removeprefix("/apis/").removeprefix("/api/")
            for item in listed["items"]:
                name = item["metadata"]["name"]
                if _is_owned(item) or (kind, name) in _EVERYWHERE:
                    continue
                found[f"{namespace}/{kind}/{name}"] = yaml.safe_dump(_trimmed(item, version, kind), sort_keys=False)
        return found
    finally:
        await cluster.close()


def _is_owned(item: dict[str, Any]) -> bool:
    """Whether another object makes it, which is read itself."""
    return any(owner.get("controller") for owner in item["metadata"].get("ownerReferences") or [])


def _trimmed(item: dict[str, Any], version: str, kind: str) -> dict[str, Any]:
    meta = {key: item["metadata"][key] for key in _KEPT_META if item["metadata"].get(key)}
    if _REPEATS in meta.get("annotations", {}):
        meta["annotations"] = {key: value for key, value in meta["annotations"].items() if key != _REPEATS}
    if not meta.get("annotations"):
        meta.pop("annotations", None)
    rest = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **rest}
