"""The objects of a test pod: facts in, dictionaries out. PURE.

A test pod is one namespace. Everything in it is closed first, and what may talk to what is then allowed exactly.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from podctl.backends.containers.doors import door_ports, listeners
from podctl.backends.containers.launch import BECOME_AGENT, confined
from podctl.backends.containers.server import START, passwd, server_files
from podctl.backends.inpod import scripts
from podctl.spec.models import Resources, Service, Topology
from podctl.spec.topology import databases, service_order

Object = dict[str, Any]

PREFIX = "podctl-"
MANAGED_BY = "app.kubernetes.io/managed-by"
POD, RUN, PURPOSE = "podctl.dev/pod", "podctl.dev/run", "podctl.dev/purpose"
COMPONENT = "app.kubernetes.io/component"
CREATED, EXPIRES, KEPT = "podctl.dev/created", "podctl.dev/expires", "podctl.dev/kept"
EVERY_POD = f"{MANAGED_BY}=podctl,{POD}"

QUOTA, LEASE, ACCOUNT, SCRIPTS = "podctl", "podctl-owner", "podctl", "podctl-scripts"
DOOR, KEEPER, AGENT = "door", "keeper", "agent"
#: The Pods of PodSecurity's restricted profile at this version; a newer cluster checks the same.
SECURITY_VERSION = "v1.30"
#: The owner says that it lives every `LEASE_S` / 4; after `LEASE_S` without a word its pods are orphans.
LEASE_S = 60
_SMALL = Resources(memory=128 * 2**20, cpu=0.5)
#: Of a service's container, beside what the service may have.
_SUPERVISOR_BYTES = 16 * 2**20
_ORDERS_PORT = 19999
_DATABASE = Resources(memory=512 * 2**20, cpu=1.0)


@dataclass(frozen=True)
class Place:
    """Which test pod an object belongs to; ``owner``: the reference of what its namespace is to be deleted with."""

    pod: str
    run: str
    owner: Mapping[str, Any] | None = None

    @property
    def namespace(self) -> str:
        return PREFIX + self.pod

    @property
    def uid(self) -> int:
        """Of the processes in it that are not PostgreSQL: one a test pod, so that limits for a user are limits for a pod."""
        return 1_000_000 + zlib.crc32(self.namespace.encode()) % 1_000_000_000

    def labels(self, component: str) -> dict[str, str]:
        return {
            "app.kubernetes.io/name": "podctl-test-pod",
            "app.kubernetes.io/instance": self.pod,
            "app.kubernetes.io/part-of": "podctl",
            MANAGED_BY: "podctl",
            COMPONENT: component,
            POD: self.pod,
            RUN: self.run,
        }

    def meta(self, name: str, component: str, **more: Any) -> Object:
        return {"name": name, "namespace": self.namespace, "labels": self.labels(component), **more}


@dataclass(frozen=True)
class Files:
    """Files in ConfigMaps, as one directory: ``items`` maps each ConfigMap's keys to paths beneath ``path``."""

    path: str
    items: Mapping[str, Mapping[str, str]]


def rfc3339(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time in UTC; 0 for something else."""
    try:
        return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e6) * 1000
    except ValueError:
        return 0


# ---- the fence: before anything runs ----


def namespace(place: Place, created_ns: int, expires_ns: int, kept: bool) -> Object:
    restricted = {}
    for mode in ("enforce", "audit", "warn"):
        restricted[f"pod-security.kubernetes.io/{mode}"] = "restricted"
        restricted[f"pod-security.kubernetes.io/{mode}-version"] = SECURITY_VERSION
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": place.namespace,
            "labels": {**place.labels("test-pod"), **restricted},
            **({"ownerReferences": [dict(place.owner)]} if place.owner else {}),
            "annotations": {CREATED: rfc3339(created_ns), EXPIRES: rfc3339(expires_ns), KEPT: str(kept).lower()},
        },
    }


def lease(place: Place, holder: str, now_ns: int) -> Object:
    """Who holds the pod, and since when it has not been heard of."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": place.meta(LEASE, "owner"),
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": LEASE_S, "renewTime": rfc3339(now_ns)},
    }


def default_deny(place: Place) -> Object:
    return _policy(place, "default-deny", {}, {})


def allows(place: Place, topology: Topology) -> list[Object]:
    """What may connect to what, and nothing else. Agents reach the door alone; nothing reaches a name server.

    Services may call one another and the databases; the door may call both, on behalf of the gateway.
    """
    doors = [{"port": door.listens, "protocol": "TCP"} for door in door_ports(topology)]
    outward = []
    policies = [_policy(place, "agent", {COMPONENT: AGENT}, {"egress": [{"to": [_pods(DOOR)], "ports": doors}]})]
    callers = [_pods(DOOR), _pods("service")]
    for kind, name, ports in listeners(topology):
        selector = {COMPONENT: kind, PURPOSE: name}
        allowed = [{"port": port, "protocol": "TCP"} for port in ports]
        outward.append({"to": [{"podSelector": {"matchLabels": selector}}], "ports": allowed})
        policies.append(_policy(place, f"{kind}-{name}", selector, {"ingress": [{"from": callers, "ports": allowed}]}))
    inward = [{"from": [_pods(AGENT)], "ports": doors}]
    policies.append(_policy(place, "door", {COMPONENT: DOOR}, {"ingress": inward, "egress": outward}))
    policies.append(_policy(place, "services", {COMPONENT: "service"}, {"egress": outward}))
    return policies


def _pods(component: str) -> Object:
    return {"podSelector": {"matchLabels": {COMPONENT: component}}}


def _policy(place: Place, name: str, selector: Mapping[str, str], rules: Object) -> Object:
    types = [kind.capitalize() for kind in rules] or ["Ingress", "Egress"]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": place.meta(name, "policy"),
        "spec": {"podSelector": {"matchLabels": dict(selector)} if selector else {}, "policyTypes": types, **rules},
    }


def quota(place: Place, topology: Topology, agent: Resources) -> Object:
    """Room for everything twice, because what ends still counts until it is gone, and for nothing that leads outside."""
    parts = [_supervised(topology.services[name].resources) for name in service_order(topology)]
    parts += [_DATABASE] * len(databases(topology)) + [_SMALL, agent, _SMALL]
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": place.meta(QUOTA, "quota"),
        "spec": {
            "hard": {
                "pods": str(2 * len(parts) + 4),
                "limits.memory": _bytes(2 * sum(part.memory for part in parts)),
                "limits.cpu": _cores(2 * sum(part.cpu for part in parts)),
                "count/jobs.batch": "8",
                "persistentvolumeclaims": "0",
                "services.nodeports": "0",
                "services.loadbalancers": "0",
            }
        },
    }


def limit_range(place: Place) -> Object:
    """A container that says nothing gets little."""
    amounts = {"cpu": _cores(_SMALL.cpu), "memory": _bytes(_SMALL.memory)}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": place.meta(QUOTA, "quota"),
        "spec": {"limits": [{"type": "Container", "default": amounts, "defaultRequest": {"cpu": "10m", "memory": "16Mi"}}]},
    }


def account(place: Place) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": place.meta(ACCOUNT, "account"),
        "automountServiceAccountToken": False,
    }


# ---- names and what is given to Pods ----


def services(place: Place, topology: Topology) -> list[Object]:
    """Two addresses for each name: ``s-NAME`` leads to it, ``d-NAME`` to the door that stands in its place."""
    made = [
        _service(place, f"s-{name}", {COMPONENT: kind, PURPOSE: name}, [(port, port) for port in ports])
        for kind, name, ports in listeners(topology)
    ]
    doors: dict[str, list[tuple[int, int]]] = {}
    for door in door_ports(topology):
        doors.setdefault(door.name, []).append((door.port, door.listens))
    return made + [_service(place, f"d-{name}", {COMPONENT: DOOR}, ports) for name, ports in doors.items()]


def _service(place: Place, name: str, selector: Mapping[str, str], ports: Sequence[tuple[int, int]]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": place.meta(name, "address"),
        "spec": {
            "type": "ClusterIP",
            "selector": dict(selector),
            # podctl itself waits for what it needs; nodes can have heard of the address by then.
            "publishNotReadyAddresses": True,
            "ports": [{"name": f"p{port}", "port": port, "targetPort": target, "protocol": "TCP"} for port, target in ports],
        },
    }


def config_map(place: Place, name: str, files: Mapping[str, bytes]) -> Object:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": place.meta(name, "files"), "immutable": True}
    return {**made, "binaryData": _encoded(files)}


def secret(place: Place, name: str, files: Mapping[str, bytes]) -> Object:
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": place.meta(name, "secret"), "immutable": True}
    return {**made, "type": "Opaque", "data": _encoded(files)}


def _encoded(files: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(content).decode() for key, content in files.items()}


# ---- Pods ----


@dataclass(frozen=True)
class Settings:
    """How Pods are made in this cluster. ``image`` has python3, PostgreSQL 15 or later and a shell."""

    image: str
    runtime_class: str = ""
    host_users: bool = True  # false: the cluster can give Pods user namespaces of their own
    pull_policy: str = "IfNotPresent"
    owner: Mapping[str, Any] | None = None  # the reference of what every namespace is to be deleted with


#: A first process that handles nothing would live until the end of its grace.
_WAIT = "import os, signal\nsignal.signal(signal.SIGTERM, lambda *_: os._exit(0))\nwhile True: signal.pause()"


def door_pod(place: Place, settings: Settings) -> Object:
    """Waits; what works in it is started by podctl when it connects."""
    container = _container(DOOR, settings, ["python3", "-I", "-S", "-c", _WAIT], _SMALL)
    container["volumeMounts"] = [_scripts_mount()]
    return _pod(place, DOOR, DOOR, "", settings, [container], [_scripts_volume()])


POSTGRES_UID = 70070


#: A data directory of its own; the same, and a container that outlives the server; or a copy that podctl sends.
How = Literal["own", "kept", "copied"]


def database_pod(place: Place, name: str, port: int, settings: Settings, how: How = "own") -> Object:
    """A PostgreSQL server. Its superuser is reachable from its own loopback only, which is where port forwarding comes out."""
    told = {"own": {}, "kept": {"PODCTL_STAY": "1"}, "copied": {"PODCTL_COPY_PORT": str(orders_port((port,)))}}[how]
    container = _container("postgres", settings, ["/bin/sh", "-c", START], _DATABASE, {"PGDATA": "/data/pg", **told})
    container["ports"] = [{"containerPort": port, "protocol": "TCP"}]
    container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1, "failureThreshold": 60}
    container["volumeMounts"] = [
        {"name": "data", "mountPath": "/data"},
        _scripts_mount(),
        {"name": "scripts", "mountPath": "/etc/passwd", "subPath": "passwd", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},
    ]
    volumes = [
        {"name": "data", "emptyDir": {"sizeLimit": "8Gi"}},
        _scripts_volume(),
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
    ]
    if how != "copied":
        container["volumeMounts"] += [
            {"name": "server", "mountPath": "/podctl/server", "readOnly": True},
            {"name": "secret", "mountPath": "/podctl/secret", "readOnly": True},
        ]
        volumes += [
            {"name": "server", "configMap": {"name": f"db-{name}"}},
            {"name": "secret", "secret": {"secretName": f"db-{name}"}},
        ]
    return _pod(place, f"db-{name}", "database", name, settings, [container], volumes, ports=[port], uid=POSTGRES_UID)


def script_files(place: Place) -> Object:
    """What runs in every Pod, and who PostgreSQL is there."""
    return config_map(place, SCRIPTS, {**scripts(), "passwd": passwd(POSTGRES_UID)})


def database_files(place: Place, name: str, port: int) -> Object:
    return config_map(place, f"db-{name}", server_files(port, POSTGRES_UID))


def service_pod(
    place: Place,
    name: str,
    number: int,
    service: Service,
    files: Sequence[Files],
    aliases: Sequence[Object],
    settings: Settings,
) -> Object:
    """The ``number``-th Pod of a service, with a supervisor that starts it when it is told to.

    Its own name resolves to its own address (the hostname), other names to the addresses of `services`.
    """
    argv = ["python3", "-I", "-S", "/podctl/scripts/supervisor.py", str(orders_port(service.ports))]
    container = _container("service", settings, argv, _supervised(service.resources))
    mounts, volumes = _file_volumes(files)
    container["volumeMounts"] = [_scripts_mount(), {"name": "tmp", "mountPath": "/tmp"}, *mounts]
    made = _pod(
        place,
        f"svc-{name}-{number}",
        "service",
        name,
        settings,
        [container],
        [_scripts_volume(), {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}, *volumes],
        aliases=aliases,
        ports=service.ports,
    )
    made["spec"]["hostname"] = name
    return made


def orders_port(taken: Sequence[int]) -> int:
    """Where podctl is listened to on a Pod's loopback."""
    return next(port for port in range(_ORDERS_PORT, 0, -1) if port not in taken)


def _supervised(resources: Resources) -> Resources:
    return resources.model_copy(update={"memory": resources.memory + _SUPERVISOR_BYTES})


#: Waits for the keeper, then becomes the agent. A limit that cannot be set stops it.
_AGENT_WRAPPER = f"""\
while [ ! -p /podctl/io/go ]; do sleep 0.01; done
read -r go </podctl/io/go
ulimit -c 0 || exit 125
ulimit -u "$1" 2>/dev/null || ulimit -p "$1" || exit 125
shift
{BECOME_AGENT}"""


@dataclass(frozen=True)
class Program:
    """What an agent's container runs. ``environment`` is the name of a Secret."""

    argv: tuple[str, ...]
    environment: str
    working_directory: str
    files: tuple[Files, ...]
    resources: Resources


@dataclass(frozen=True)
class AgentRun:
    """One command in a sandbox of its own. ``given`` is a Secret whose keys become files of the workspace."""

    name: str
    program: Program
    processes: int
    disk: int
    output: int
    deadline_s: int
    given: Mapping[str, str]  # key in the Secret -> path in the workspace
    keeper: Object  # the keeper's configuration


def agent_job(place: Place, run: AgentRun, aliases: Sequence[Object], settings: Settings) -> Object:
    """The agent and its keeper: two containers that share the workspace, three pipes, a user and no processes."""
    program = run.program
    argv = ["/bin/sh", "-c", _AGENT_WRAPPER, "sh", str(run.processes), *confined(program.argv)]
    agent = _container(AGENT, settings, argv, program.resources)
    agent["workingDir"] = program.working_directory
    agent["envFrom"] = [{"secretRef": {"name": run.name}}]
    mounts, volumes = _file_volumes(program.files)
    shared = [{"name": "workspace", "mountPath": "/workspace"}, {"name": "io", "mountPath": "/podctl/io"}]
    agent["volumeMounts"] = [*shared, {"name": "tmp", "mountPath": "/tmp"}, *mounts]
    keeper_argv = ["python3", "-I", "/podctl/scripts/keeper.py", "run", json.dumps(run.keeper)]
    memory = _SMALL.memory + 2 * run.output
    keeper = _container(KEEPER, settings, keeper_argv, Resources(memory=memory, cpu=_SMALL.cpu))
    keeper["volumeMounts"] = [
        *shared,
        _scripts_mount(),
        {"name": "state", "mountPath": "/podctl/state"},
        {"name": "given", "mountPath": "/podctl/given", "readOnly": True},
    ]
    given = [{"key": key, "path": path} for key, path in run.given.items()]
    volumes += [
        _scripts_volume(),
        {"name": "workspace", "emptyDir": {"medium": "Memory", "sizeLimit": str(run.disk)}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
        {"name": "io", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": str(2 * run.output + 2**20)}},
        {"name": "given", "secret": {"secretName": f"{run.name}-files", "items": given}},
    ]
    pod = _pod(place, run.name, AGENT, run.name, settings, [keeper, agent], volumes, aliases=aliases)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": place.meta(run.name, AGENT),
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "completions": 1,
            "parallelism": 1,
            # The cluster's own end to it, should podctl be gone: podctl's limit is exact and comes first.
            "activeDeadlineSeconds": run.deadline_s,
            "template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]},
        },
    }


def aliases(addresses: Mapping[str, str], prefix: str, leave_out: str = "") -> list[Object]:
    """Host entries for ``prefix``'s Services: no Pod asks a name server."""
    names = {name.removeprefix(prefix): ip for name, ip in addresses.items() if name.startswith(prefix)}
    return [{"ip": ip, "hostnames": [name]} for name, ip in names.items() if name != leave_out]


def _pod(
    place: Place,
    name: str,
    component: str,
    purpose: str,
    settings: Settings,
    containers: list[Object],
    volumes: list[Object],
    *,
    aliases: Sequence[Object] = (),
    ports: Iterable[int] = (),
    uid: int | None = None,
) -> Object:
    """The restricted profile in full, on every Pod."""
    user = place.uid if uid is None else uid
    security: Object = {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if any(port < 1024 for port in ports):
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    spec: Object = {
        "restartPolicy": "Never",
        "serviceAccountName": ACCOUNT,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"], "searches": [], "options": [{"name": "attempts", "value": "1"}]},
        "hostAliases": list(aliases),
        # Not 0: the API would then forget a Pod before its processes are known to be dead.
        "terminationGracePeriodSeconds": 1,
        "securityContext": security,
        "containers": containers,
        "volumes": volumes,
    }
    if not settings.host_users:
        spec["hostUsers"] = False
    if settings.runtime_class:
        spec["runtimeClassName"] = settings.runtime_class
    meta = place.meta(name, component)
    meta["labels"][PURPOSE] = purpose
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _container(
    name: str, settings: Settings, argv: Sequence[str], resources: Resources, environment: Mapping[str, str] | None = None
) -> Object:
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        # The kubelet would expand $(NAME) in it.
        "command": [part.replace("$(", "$$(") for part in argv],
        "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
        "resources": {
            "limits": {"cpu": _cores(resources.cpu), "memory": _bytes(resources.memory)},
            "requests": {"cpu": "10m", "memory": _bytes(min(resources.memory, 32 * 2**20))},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _file_volumes(sets: Sequence[Files]) -> tuple[list[Object], list[Object]]:
    mounts, volumes = [], []
    for number, files in enumerate(sets):
        sources = [
            {"configMap": {"name": name, "items": [{"key": key, "path": path} for key, path in items.items()]}}
            for name, items in files.items.items()
        ]
        # A projection of nothing is allowed, and policies that look into it seldom expect it.
        source: Object = {"projected": {"defaultMode": 0o555, "sources": sources}} if sources else {"emptyDir": {}}
        volumes.append({"name": f"files-{number}", **source})
        mounts.append({"name": f"files-{number}", "mountPath": files.path, "readOnly": True})
    return mounts, volumes


def _scripts_mount() -> Object:
    return {"name": "scripts", "mountPath": "/podctl/scripts", "readOnly": True}


def _scripts_volume() -> Object:
    return {"name": "scripts", "configMap": {"name": SCRIPTS}}


def _bytes(amount: int) -> str:
    return f"{max(1, amount // 2**20)}Mi"


def _cores(amount: float) -> str:
    return f"{max(1, round(amount * 1000))}m"
