"""The escape suite's world in a cluster: Pods without policies are its traps and its eyes, one on the node's own network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from podctl.backends.containers.doors import listeners
from podctl.backends.containers.launch import SCRIPTS, TEMPLATE_DATABASE
from podctl.backends.escape import probes_kernel, trap
from podctl.backends.escape.checks import Control
from podctl.backends.escape.traps import Traps, nameservers
from podctl.backends.escape.world import CONTAINER, Knowledge, OfMachine, Place
from podctl.backends.kubernetes import objects
from podctl.backends.kubernetes.api import Object
from podctl.backends.kubernetes.backend import KubernetesBackend
from podctl.backends.kubernetes.namespaces import remove_namespace
from podctl.backends.kubernetes.objects import COMPONENT, Settings
from podctl.backends.kubernetes.problems import ClusterProblem
from podctl.backends.kubernetes.watching import Watched, ready
from podctl.pods.plan import PodSpec
from podctl.spec.bundle import Bundle

_SOCKETS = (
    "/run/containerd/containerd.sock",
    "/var/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/var/run/docker.sock",
    "/var/lib/kubelet/device-plugins/kubelet.sock",
)
_KUBELET = 10250
_NODE_PORTS = (_KUBELET, 10255, 10256, 10249)
_TRAP = ("python3", "-I", f"{SCRIPTS}/trap.py")
_NO_DOOR = 29_999
_API = "kubernetes.default.svc"
_LISTEN = f"""\
python3 -I -S -c "import socket
s = socket.create_server(('', {_NO_DOOR}))
while True: s.accept()[0].close()" </dev/null >/dev/null 2>&1 &
"""
_POD_S, _TTL_S = 90.0, 900
#: What only somebody on the node's own network and process table can tell.
_OF_NODE = ("host-loopback", "host-abstract-socket", "host-processes", "wall-limit", "outlives")


def trap_pod(place: objects.Place, name: str, settings: Settings, traps: Traps, node: str = "") -> Object:
    """A Pod that no policy closes in; on ``node`` (any, as ``*``), one of its own network and processes, without a filter."""
    pod = objects.door_pod(place, settings)
    pod["metadata"]["name"] = name
    pod["metadata"]["labels"][COMPONENT] = "trap"
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    container["command"] = [*_TRAP, "listen", traps.sentinel]
    container["env"] = [{"name": "PODCTL_ESCAPE_CANARY", "value": traps.canary}]
    container["volumeMounts"].append({"name": "tmp", "mountPath": "/tmp"})
    spec["volumes"].append({"name": "tmp", "emptyDir": {"sizeLimit": "16Mi"}})
    # Unlike a test pod's: it asks the cluster's name server.
    del spec["dnsConfig"]
    spec["dnsPolicy"] = "ClusterFirst"
    if node:
        spec |= {"hostNetwork": True, "hostPID": True}
        spec["securityContext"]["seccompProfile"] = {"type": "Unconfined"}
        if node != "*":
            spec["nodeName"] = node
    return pod


class OfCluster(OfMachine):
    """What is the same for every pod of a cluster."""

    doors_here: bool
    routed: bool
    api_server: list[Place]


class KubernetesWorld:
    def __init__(self, backend: KubernetesBackend) -> None:
        self.backend = backend
        self.not_applicable: Mapping[str, str] = {"unrecorded": "nothing records processes in a cluster"}
        self.unseen: dict[str, str] = {}
        self._cluster = backend.cluster
        self._watched: list[Watched] = []
        self._open = objects.Place("", "")  # a namespace without policies
        self._node = objects.Place("", "")  # and one where Pods may be on the node itself
        self._traps: Traps | None = None
        self._eyes: dict[str, str] = {}  # node -> the Pod that is there
        self._told: dict[str, dict[str, Any]] = {}  # trap -> what it says of itself
        self._pods: list[str] = []
        self._outside: list[Place] = []  # what a Pod without policies reaches, of the traps and of the API server
        self._api: list[Place] = []

    async def plant(self, run: str, traps: Traps, bundle: Bundle | None = None) -> None:
        self._traps = traps
        self._open, self._node = objects.Place(f"{run}t", run), objects.Place(f"{run}n", run)
        await self._namespace(self._open, "restricted")
        names = ("beacon", "caller")
        await asyncio.gather(*(self._start(self._open, trap_pod(self._open, name, self._settings, traps)) for name in names))
        try:
            await self._namespace(self._node, "privileged")
            pod = await self._start(self._node, trap_pod(self._node, "node", self._settings, traps, "*"))
            self._eyes[pod["spec"]["nodeName"]] = "node"
        except ClusterProblem as problem:
            reason = f"not seen from here: the cluster lets podctl make no Pod on a node's own network: {problem.cause}"
            self.unseen = dict.fromkeys(_OF_NODE, reason)
        await self._survey()

    async def _survey(self) -> None:
        """What a Pod without policies reaches: where nobody gets, nothing can be proved by not getting there."""
        beacon, caller, node = (self._told.get(name, {}) for name in ("beacon", "caller", "node"))
        variables = caller["variables"]
        api = [(variables["KUBERNETES_SERVICE_HOST"], int(variables["KUBERNETES_SERVICE_PORT"]))]
        named = urlsplit(self._cluster.host)
        if named.hostname and not named.hostname.startswith("127."):
            api.append((named.hostname, named.port or 443))
        self._outside = await self._reached([(address, beacon["tcp"]) for address in beacon["addresses"]])
        if node:
            self._outside += await self._reached([(address, node["tcp"]) for address in node["addresses"]])
        self._api = await self._reached(api)
        kubelets = {watched.pods[name]["status"]["hostIP"] for watched in self._watched for name in watched.pods}
        if not await self._reached([(address, _KUBELET) for address in kubelets]):
            self.unseen["engine"] = f"no kubelet answers on port {_KUBELET}, not even a Pod without policies"
        if not any([await self._ask("caller", "resolve", server, _API) for server in caller["nameservers"]]):
            self.unseen["dns"] = "no name server answers, not even a Pod without policies"

    async def _reached(self, places: list[Place]) -> list[Place]:
        """Those of the places that a Pod without policies connects to."""
        there = await self._ask("caller", "reach", json.dumps(places))
        return [place for place, works in zip(places, there, strict=True) if works]

    async def clear(self) -> None:
        for watched in self._watched:
            await watched.close()
        places = [place for place in (self._open, self._node) if place.pod]
        await asyncio.gather(*(remove_namespace(self._cluster, place.pod) for place in places))

    async def knowledge(self, pod: PodSpec, other: PodSpec) -> Knowledge:
        self._pods = [pod.id, other.id]
        own, others = self.backend.addresses(pod.id), self.backend.addresses(other.id)
        nodes = sorted({one["status"]["hostIP"] for one in await self._cluster.list("Pod", objects.PREFIX + pod.id)})
        database, service = (
            next(name for kind, name, _ in listeners(other.topology) if kind == wanted) for wanted in ("database", "service")
        )
        return {
            **await self.of_cluster(nodes),
            **CONTAINER,
            "addresses": {name.removeprefix("d-"): address for name, address in own.items() if name.startswith("d-")},
            "no_doors": [await self._no_door(pod.id)],
            "past_door": await self._behind(pod, own, [name for _, name, _ in listeners(pod.topology)]),
            "neighbour_service": await self._behind(other, others, [service]) + _door(other, others, service),
            "neighbour_database": await self._behind(other, others, [database]) + _door(other, others, database),
            "other_databases": ["postgres", TEMPLATE_DATABASE],
        }

    async def of_cluster(self, nodes: list[str]) -> OfCluster:
        """What is known beside the pods; ``nodes`` are addresses of those that they are on."""
        beacon, caller, node = (self._told.get(name, {}) for name in ("beacon", "caller", "node"))
        return {
            "outside": self._outside,
            "host_tcp": [("127.0.0.1", node["tcp"])] if node else [],
            "host_udp": [
                (address, told["udp"]) for told in (beacon, node) if told for address in (*told["addresses"], "127.0.0.1")
            ],
            "host_abstract": [node["abstract"]] if node else [],
            "host_sockets": list(_SOCKETS),
            "host_pids": [],
            "nameservers": [*caller["nameservers"], *nameservers()],
            "names": [_API, f"{_API}.cluster.local", f"beacon.{self._open.namespace}.svc"],
            "engine_sockets": list(_SOCKETS),
            "engine_ports": [(address, port) for address in (*nodes, "127.0.0.1") for port in _NODE_PORTS],
            "doors_here": False,
            "routed": True,
            "api_server": self._api,
        }

    async def _no_door(self, pod: str) -> Place:
        """Where something else than a door listens in the door's Pod: started once, it ends with the Pod."""
        namespace = objects.PREFIX + pod
        await self._cluster.run(namespace, objects.DOOR, objects.DOOR, ["/bin/sh", "-c", _LISTEN], 1000)
        pods = await self._cluster.list("Pod", namespace)
        return next(str(one["status"]["podIP"]) for one in pods if one["metadata"]["name"] == objects.DOOR), _NO_DOOR

    async def _behind(self, spec: PodSpec, addresses: Mapping[str, str], names: list[str]) -> list[Place]:
        """Services and databases where they really are: by their own addresses, and by those that other services use."""
        pods = await self._cluster.list("Pod", objects.PREFIX + spec.id)
        at = {one["metadata"]["labels"].get(objects.PURPOSE): one["status"].get("podIP") for one in pods}
        ports = {name: ports[0] for _, name, ports in listeners(spec.topology)}
        return [(str(address), ports[name]) for name in names for address in (at[name], addresses[f"s-{name}"])]

    async def controls(self, known: Mapping[str, Any]) -> dict[str, Control]:
        """From a Pod that no policy closes in, on the node itself, and from a pod's own door, everything answers."""
        controls = await self.controls_of_cluster(known)
        controls["only-doors"] = await self._from_door(known["pod"], known["no_doors"])
        controls["past-door"] = await self._from_door(known["pod"], known["past_door"])
        for name in ("neighbour-service", "neighbour-database"):
            controls[name] = await self._from_door(known["other_pod"], known[name.replace("-", "_")][:2])
        return controls

    async def controls_of_cluster(self, known: Mapping[str, Any]) -> dict[str, Control]:
        beacon = self._told["beacon"]
        await self._ask("caller", "send", beacon["addresses"][0], str(beacon["udp"]))
        arrived = b"control" in await self.datagrams()
        controls = {
            "outside": Control(bool(self._outside), f"a Pod without policies connects to {len(self._outside)} of these"),
            "api-server": Control(bool(self._api), "a Pod without policies connects"),
            "engine": Control("engine" not in self.unseen, "a Pod without policies connects to a kubelet"),
            "udp-outside": Control(arrived, "a datagram of a Pod without policies arrives"),
            "dns": Control("dns" not in self.unseen, "a Pod without policies is answered by the cluster's name server"),
        }
        if self._eyes:
            node = self._told["node"]
            places = [("127.0.0.1", node["tcp"]), [node["abstract"]]]
            tcp, abstract = await self._ask("node", "reach", json.dumps(places))
            sentinel = await self.processes_with(known["sentinel"])
            controls["host-loopback"] = Control(tcp, "a Pod on the node's network connects")
            controls["host-abstract-socket"] = Control(abstract, "a Pod on the node's network connects")
            controls["host-processes"] = Control(sentinel > 0, "a Pod that sees the node's processes finds it")
        return controls

    async def _from_door(self, pod: str, places: list[Any]) -> Control:
        """From the gateway's side of a pod, where its services and databases are."""
        named = [f"{host}:{port}" for host, port in places]
        argv = ["python3", "-I", f"{SCRIPTS}/probe.py", *named]
        told = json.loads(await self._cluster.run(objects.PREFIX + pod, objects.DOOR, objects.DOOR, argv, 10_000))
        works = bool(named) and all(told[place] for place in named)
        return Control(works, f"from the pod's own door: {'connected' if works else told}")

    async def host_calls(self) -> dict[str, str]:
        if not self._eyes:
            return {}
        argv = ["python3", "-I", "-S", f"{SCRIPTS}/probes_kernel.py"]
        return dict(json.loads(await self._cluster.run(self._node.namespace, "node", objects.DOOR, argv, 10_000)))

    async def datagrams(self) -> bytes:
        await asyncio.sleep(0.2)
        told = [await self._ask(name, "told") for name in ("beacon", "node") if name in self._told]
        return "".join(one["datagrams"] for one in told).encode("latin-1")

    async def processes_with(self, word: str) -> int:
        """On every node that a Pod of the suite's pods is on now, or was when this was asked before."""
        if not self._eyes or self._traps is None:
            return 0
        for pod in self._pods:
            for one in await self._cluster.list("Pod", objects.PREFIX + pod):
                node = one["spec"].get("nodeName", "")
                if node and node not in self._eyes:
                    name = f"node-{len(self._eyes)}"
                    await self._start(self._node, trap_pod(self._node, name, self._settings, self._traps, node))
                    self._eyes[node] = name
        found = await asyncio.gather(*(self._ask(name, "processes", word) for name in self._eyes.values()))
        return sum(map(int, found))

    def conninfo(self, pod: str) -> str:
        return self.backend.conninfo(pod, "db")

    # ---- helpers ----

    @property
    def _settings(self) -> Settings:
        return self.backend.settings

    async def _namespace(self, place: objects.Place, level: str) -> None:
        now = self._cluster.now_ns()
        namespace = objects.namespace(place, now, now + _TTL_S * 1_000_000_000, kept=False)
        labels = namespace["metadata"]["labels"]
        labels |= {key: level for key in labels if key.startswith("pod-security.") and not key.endswith("-version")}
        lease = objects.lease(place, "podctl-doctor", now)
        lease["spec"]["leaseDurationSeconds"] = _TTL_S
        await self._cluster.apply(namespace)
        await self._cluster.apply(lease)
        await self._cluster.apply(objects.account(place))
        given = {Path(str(module.__file__)).name: Path(str(module.__file__)).read_bytes() for module in (trap, probes_kernel)}
        await self._cluster.apply(objects.config_map(place, objects.SCRIPTS, given))
        watched = Watched(self._cluster, place.namespace)
        self._watched.append(watched)
        await watched.start()

    async def _start(self, place: objects.Place, pod: Object) -> Object:
        """The Pod as it is once its trap is set."""
        await self._cluster.apply(pod)
        name = pod["metadata"]["name"]
        watched = self._watched[-1] if place is self._node else self._watched[0]
        await watched.until(f"trap {name} was not ready", lambda pods: ready(pods.get(name)), name, _POD_S)
        for _ in range(100):
            with suppress(ClusterProblem):
                self._told[name] = await self._ask(name, "told")
                break
            await asyncio.sleep(0.1)
        return watched.pods[name]

    async def _ask(self, name: str, *arguments: str) -> Any:
        namespace = (self._node if name.startswith("node") else self._open).namespace
        return json.loads(await self._cluster.run(namespace, name, objects.DOOR, [*_TRAP, *arguments], 2**20))


def _door(spec: PodSpec, addresses: Mapping[str, str], name: str) -> list[Place]:
    ports = {name: ports[0] for _, name, ports in listeners(spec.topology)}
    return [(addresses[f"d-{name}"], ports[name])]
