"""A boundary's Kubernetes rules as a Role: what an agent may do in one namespace, and nothing that it may only recommend."""

from __future__ import annotations

from typing import Any

from podctl.spec.boundary import LEVELS, Boundary, Level, parse_kind
from podctl.spec.boundary_rules import rules_of

#: Resources of no namespace: a Role cannot grant them, and an agent of a namespace has no business with them.
CLUSTER_WIDE = frozenset(
    {"nodes", "namespaces", "persistentvolumes", "storageclasses.storage.k8s.io", "priorityclasses.scheduling.k8s.io"}
    | {f"{kind}.rbac.authorization.k8s.io" for kind in ("clusterroles", "clusterrolebindings")}
    | {"customresourcedefinitions.apiextensions.k8s.io", "certificatesigningrequests.certificates.k8s.io"}
)


def role_of(boundary: Boundary, namespace: str = "") -> dict[str, Any] | None:
    """The manifest of the Role, None where nothing is granted. RBAC cannot forbid, so what a stricter rule names is left out of it."""
    levels: dict[tuple[str, str], Level] = {}
    for rule in rules_of(boundary):
        if rule.kind == "infrastructure":
            for verb in rule.verbs:
                before = levels.get((rule.object, verb), "read")
                levels[rule.object, verb] = max(before, rule.level, key=LEVELS.index)
    granted: dict[str, list[str]] = {}
    for (kind, verb), level in levels.items():
        if level in ("read", "ai-writable") and kind not in CLUSTER_WIDE:
            granted.setdefault(kind, []).append(verb)
    if not granted:
        return None
    rules = []
    for kind, verbs in granted.items():
        group, resource = parse_kind(kind)
        rules.append({"apiGroups": [group], "resources": [resource], "verbs": verbs})
    metadata = {"name": f"podctl-boundary-{boundary.name}"} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}


def left_out(boundary: Boundary) -> list[str]:
    """Rules that a Role cannot hold, in words."""
    return [
        f"{rule.name}: {rule.object} belongs to no namespace, and no cluster-wide right is given"
        for rule in rules_of(boundary)
        if rule.kind == "infrastructure" and rule.level in ("read", "ai-writable") and rule.object in CLUSTER_WIDE
    ]
