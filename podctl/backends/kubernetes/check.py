"""What a cluster can do for a test pod, tried for real, with the proof and with what to type where it cannot."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from dataclasses import dataclass

from podctl.backends.base import Finding
from podctl.backends.inpod import scripts
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import KINDS, Cluster, Object
from podctl.backends.kubernetes.execution import NOT_RECORDED
from podctl.backends.kubernetes.namespaces import remove_namespace
from podctl.backends.kubernetes.objects import COMPONENT, Place, Settings
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.backends.kubernetes.watching import Watched, ready

_LISTEN_PORT = 20000
_LISTEN = f"import socket\ns = socket.create_server(('', {_LISTEN_PORT}))\nwhile True:\n    c, _ = s.accept()\n    c.close()\n"
#: Policies follow a Pod's start; what still gets through after this long is not enforced.
_SETTLE_S = 10.0
_POD_S = 90.0

#: Every right that podctl uses: resource -> verbs. docs/rights.md says what for.
RIGHTS: dict[str, tuple[str, ...]] = {
    "Namespace": ("get", "list", "create", "patch", "delete"),
    "Pod": ("list", "watch", "create", "patch", "delete"),
    "pods/exec": ("get", "create"),
    "pods/portforward": ("get", "create"),
    "pods/log": ("get",),
    "Job": ("create", "patch", "delete"),
    "Service": ("create", "patch"),
    "Secret": ("create", "patch", "delete"),
    "ConfigMap": ("create", "patch"),
    "ServiceAccount": ("create", "patch"),
    "Event": ("list", "watch"),
    "ResourceQuota": ("get", "create", "patch"),
    "LimitRange": ("create", "patch"),
    "NetworkPolicy": ("create", "patch"),
    "Lease": ("list", "create", "patch"),
    "RuntimeClass": ("get",),
}


async def findings(cluster: Cluster, settings: Settings) -> list[Finding]:
    """Raises `ClusterProblem` when the cluster cannot be asked at all."""
    version = await cluster.raw("/version")
    found = [Finding("cluster", "yes", f"Kubernetes {version.get('gitVersion')} at {cluster.host}")]
    rights = await _rights(cluster)
    found.append(rights)
    if settings.runtime_class:
        found.append(await _runtime_class(cluster, settings.runtime_class))
    if all(finding.state == "yes" for finding in found):
        found += await _tried(cluster, settings)
    usage = "an agent's processor time and peak memory are not measured in a cluster; its wall time is"
    found.append(Finding("usage", "partly", usage, "use the local backend for these figures", required=False))
    processes = f"an agent's processes are not recorded: {NOT_RECORDED}"
    found.append(Finding("processes", "partly", processes, "use the local backend for this record", required=False))
    return found


async def _rights(cluster: Cluster) -> Finding:
    async def may(resource: str, verb: str) -> str:
        kind, _, subresource = resource.partition("/")
        version, plural, _ = KINDS.get(kind, ("v1", kind, True))
        group = version.rpartition("/")[0]
        asked = {"verb": verb, "group": group, "resource": plural} | ({"subresource": subresource} if subresource else {})
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "metadata": {},
            "spec": {"resourceAttributes": asked},
        }
        answer = await cluster.create(body)
        return "" if answer["status"].get("allowed") else f"{verb} {plural}{'/' + subresource if subresource else ''}"

    pairs = [(resource, verb) for resource, verbs in RIGHTS.items() for verb in verbs]
    lacking = [missing for missing in await asyncio.gather(*(may(*pair) for pair in pairs)) if missing]
    if lacking:
        return Finding("rights", "no", f"the account may not {', '.join(lacking)}", "grant them: docs/rights.md lists all")
    return Finding("rights", "yes", f"all {len(pairs)} that are needed, in every namespace")


async def _runtime_class(cluster: Cluster, name: str) -> Finding:
    there = await cluster.get("RuntimeClass", name)
    if there is None:
        return Finding(
            "runtime class", "no", f"the cluster has no RuntimeClass {name}", "unset PODCTL_RUNTIME_CLASS, or add it"
        )
    return Finding("runtime class", "yes", f"{name} (handler {there['handler']})")


@dataclass(frozen=True)
class _Twins:
    """Whether each way was open: the controls must be, the denied ones must not."""

    control: bool
    into_denied: bool
    out_of_denied: bool

    def told(self, seconds: float) -> str:
        def word(reached: bool) -> str:
            return "reached" if reached else "not reached"

        return (
            f"twin without a policy: {word(self.control)}; twin that denies all ingress: {word(self.into_denied)}; "
            f"from a twin that is denied all egress: {word(self.out_of_denied)} ({seconds:.1f} s)"
        )


async def _tried(cluster: Cluster, settings: Settings) -> list[Finding]:
    """Make a namespace as a test pod's, and see what its controls hold."""
    place = Place(f"probe-{secrets.token_hex(4)}", "doctor")
    watched = Watched(cluster, place.namespace)
    now = cluster.now_ns()
    try:
        await cluster.apply(objects.namespace(place, now, now + 600 * 1_000_000_000, kept=False))
        await cluster.apply(objects.lease(place, "podctl-doctor", now))
        await cluster.apply(objects.account(place))
        found = [await _pod_security(cluster, place, settings)]
        await cluster.apply(objects.config_map(place, objects.SCRIPTS, scripts()))
        found.append(await _network(cluster, place, settings, watched))
        return found
    except ClusterProblem as problem:
        return [Finding("test pod", "no", f"{problem.what}: {problem.cause}", problem.hint)]
    finally:
        await watched.close()
        await asyncio.shield(remove_namespace(cluster, place.pod))


async def _pod_security(cluster: Cluster, place: Place, settings: Settings) -> Finding:
    pod = objects.door_pod(place, settings)
    pod["metadata"]["name"] = "privileged"
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    pod["spec"]["hostNetwork"] = True
    try:
        await cluster.create(pod, dry_run=True)
    except ClusterProblem as problem:
        if problem.code == "pod-security":
            return Finding("pod security", "yes", "a privileged Pod on the host's network was refused (restricted profile)")
        raise
    return Finding(
        "pod security",
        "no",
        "a privileged Pod on the host's network was admitted in a namespace with the restricted profile",
        "enable the PodSecurity admission plugin of the API server",
    )


async def _network(cluster: Cluster, place: Place, settings: Settings, watched: Watched) -> Finding:
    began = time.monotonic()
    await watched.start()
    names = ("open", "closed", "caller", "mute")
    for name, kind in (("closed", "ingress"), ("mute", "egress")):
        await cluster.apply(_deny(place, name, kind))
    await asyncio.gather(*(cluster.apply(_twin(place, name, settings)) for name in names))
    for name in names:
        await watched.until(f"twin {name} was not ready", lambda pods, name=name: ready(pods.get(name)), name, _POD_S)  # type: ignore[misc]
    ways = {name: f"{watched.pods[name]['status']['podIP']}:{_LISTEN_PORT}" for name in names}

    async def reached(source: str, *targets: str) -> list[bool]:
        argv = ["python3", "-I", "/podctl/scripts/probe.py", *(ways[target] for target in targets)]
        told = json.loads(await cluster.run(place.namespace, source, objects.DOOR, argv, 10_000))
        return [bool(told[ways[target]]) for target in targets]

    deadline = time.monotonic() + _SETTLE_S
    while True:
        (control, into), (out,) = await asyncio.gather(reached("caller", "open", "closed"), reached("mute", "open"))
        twins = _Twins(control, into, out)
        if (control and not into and not out) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    proof = twins.told(time.monotonic() - began)
    if not twins.control:
        return Finding(
            "network policy", "no", f"inconclusive: {proof}", "see why Pods of one namespace do not reach one another"
        )
    if twins.into_denied or twins.out_of_denied:
        return Finding(
            "network policy", "no", f"NOT ENFORCED: {proof}", "install a network plugin that enforces NetworkPolicy, both ways"
        )
    return Finding("network policy", "yes", f"enforced: {proof}")


def _twin(place: Place, name: str, settings: Settings) -> Object:
    pod = objects.door_pod(place, settings)
    pod["metadata"]["name"] = name
    pod["metadata"]["labels"][COMPONENT] = name
    pod["spec"]["containers"][0]["command"] = ["python3", "-c", _LISTEN]
    return pod


def _deny(place: Place, name: str, kind: str) -> Object:
    policy = objects.default_deny(place)
    policy["metadata"]["name"] = f"deny-{name}"
    policy["spec"] = {"podSelector": {"matchLabels": {COMPONENT: name}}, "policyTypes": [kind.capitalize()]}
    return policy
