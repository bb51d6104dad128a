"""One Kubernetes object that runs, as a workload; every key of it is either carried or named. PURE."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from podctl.mirror.kuberneteskeys import CONFINED, JOBS, OF_CONTAINER, OF_POD, OF_SPEC
from podctl.mirror.said import Place, Said
from podctl.mirror.tree import Node, wrong
from podctl.mirror.workload import Given, Text, Wait, Workload, quantity
from podctl.spec.problems import printable

VOLUME_BYTES = 256 * 2**20
_SIDECARS = re.compile(
    r"(^|[-/])(istio-proxy|proxyv2|linkerd-proxy|cloud-sql-proxy|gce-proxy|envoy|vault-agent|fluent-?bit|datadog-agent)([-:@]|$)"
)
_TEMPLATE = re.compile(r"\{\{-?\s*(\.|include|template|if|end|range|with|toYaml|\$|/\*)")
RAW_PORTS = re.compile(r"(^|-)(grpc|tcp|redis|mysql|mongo\w*|kafka|amqp|postgres\w*|tls)(-|$)")


@dataclass
class Objects:
    """What a source declares, by kind."""

    runs: list[Node] = field(default_factory=list)
    services: list[Node] = field(default_factory=list)
    config: dict[tuple[str, str], Node] = field(default_factory=dict)
    secrets: dict[tuple[str, str], Node] = field(default_factory=dict)


def templated(text: str) -> bool:
    """Whether a text is a Helm template that was not rendered."""
    return _TEMPLATE.search(text) is not None


class Run:
    """One Deployment, StatefulSet, DaemonSet, Pod, Job …"""

    def __init__(self, node: Node, name: str, objects: Objects, said: Said) -> None:
        self._node, self._objects, self._said = node, objects, said
        self._made = Workload(name, node.place)
        self._namespace = node.text("metadata", "namespace")
        self._kind = node.text("kind")
        spec = node.get("spec") or Node(None, node.place)
        if self._kind == "CronJob":
            spec = spec.at("jobTemplate", "spec") or spec
        self._template = node if self._kind == "Pod" else spec.get("template") or Node(None, node.place)
        self._pod = self._template.get("spec") or Node(None, node.place)

    def labels(self) -> dict[str, str]:
        return {
            key: node.written()
            for key, node in (self._template.at("metadata", "labels") or Node(None, self._node.place)).each()
        }

    def _add(self, status: str, key: str, why: str, node: Node | Place, was: object = "", now: object = "") -> None:
        place = node.place if isinstance(node, Node) else node
        self._said.add(status, self._made.subject, key, why, place, was, now)  # type: ignore[arg-type]

    def read(self) -> Workload:
        for key, node in self._node.each():
            if key not in ("apiVersion", "kind", "metadata", "spec", "status"):
                self._add("left out", printable(key, 60), "an unknown key", node)
        for where in ("metadata",) if self._kind == "Pod" else ("metadata", "template.metadata"):
            about = (self._node if where == "metadata" else self._template).get("metadata") or Node(None, self._node.place)
            for key, node in about.each():
                if key not in ("name", "namespace", "generateName", "creationTimestamp"):
                    why = (
                        "Services find it by them; nothing else reads them" if key == "labels" else "nothing reads it in a pod"
                    )
                    self._add("imported" if key == "labels" else "left out", f"{where}.{printable(key, 60)}", why, node)
        if self._kind not in ("Pod", *JOBS):
            self._spec(self._node.get("spec") or Node(None, self._node.place))
        containers = (self._pod.get("containers") or Node(None, self._pod.place, items=[])).items or []
        main = self._main(containers)
        if main is None:
            self._made.why_not = "it has no container"
            return self._made
        if templated(main.text("image")):
            raise wrong(
                main.place,
                "a Helm template that was not rendered",
                "render it: helm template CHART > rendered.yaml",
                "source-templated",
            )
        for container in containers:
            if container is not main:
                why = (
                    "a mesh's or a log's sidecar, which podctl has no use for"
                    if _is_sidecar(container)
                    else "one container runs of each service"
                )
                self._add("left out", f"container {printable(container.text('name'), 60)}", why, container)
        mounts = self._volumes()
        for key, node in self._pod.each():
            if key in ("containers", "volumes"):
                continue
            if key == "initContainers":
                for container in node.items or []:
                    self._add(
                        "left out",
                        f"initContainer {printable(container.text('name'), 60)}",
                        "what it prepares is not there: podctl runs services alone",
                        container,
                    )
            elif key == "securityContext":
                self._security(node)
            elif key in ("hostname", "subdomain"):
                self._add("imported", key, "", node)
            else:
                self._add("left out", printable(key, 60), OF_POD.get(key, "an unknown key"), node)
        self._container(main, mounts)
        return self._made

    def _spec(self, spec: Node) -> None:
        for key, node in spec.each():
            if key == "replicas" and node.written().isdigit():
                self._made.replicas = (int(node.written()), node.place)
            elif key == "volumeClaimTemplates":
                continue
            elif key not in ("template", "selector", "serviceName", "replicas"):
                self._add("left out", printable(key, 60), OF_SPEC.get(key, "an unknown key"), node)
        if self._kind == "DaemonSet":
            self._made.replicas = (2, self._node.place)

    def _main(self, containers: list[Node]) -> Node | None:
        named = [one for one in containers if one.text("name") == self._node.text("metadata", "name")]
        return next(iter(named or [one for one in containers if not _is_sidecar(one)] or containers), None)

    # ---- a container ----

    def _container(self, node: Node, mounts: dict[str, Node]) -> None:
        self._made.image, self._made.image_place = node.text("image"), node.place
        readers: dict[str, Callable[[Node], None]] = {
            "name": lambda entry: None,
            "image": lambda entry: self._add("imported", "image", "", entry, "", entry.written()),
            "command": lambda entry: None,
            "args": lambda entry: None,
            "env": lambda entry: None,
            "envFrom": lambda entry: None,
            "ports": self._ports,
            "workingDir": self._working_dir,
            "resources": self._resources,
            "readinessProbe": lambda entry: None,
            "startupProbe": lambda entry: None,
            "securityContext": self._security,
            "volumeMounts": lambda entry: self._mounts(entry, mounts),
        }
        self._environment(node)
        for key, entry in node.each():
            if key in readers:
                readers[key](entry)
            elif key == "livenessProbe" and node.get("readinessProbe") is None:
                continue
            else:
                self._add("left out", printable(key, 60), OF_CONTAINER.get(key, "an unknown key"), entry)
        for key, own in (("command", self._made.command), ("args", self._made.arguments)):
            words = node.get(key)
            if words is not None:
                about = "command" if key == "command" else "arguments"
                own.extend(Text(self._expanded(part), words.place, about=about) for part in words.texts())
                self._add("imported", key, "", words)
        probes = [probe for key in ("readinessProbe", "startupProbe", "livenessProbe") if (probe := node.get(key)) is not None]
        if probes:
            self._probe(probes[0], node.get("startupProbe"))

    def _ports(self, node: Node) -> None:
        for entry in node.items or []:
            number = entry.text("containerPort")
            if entry.text("protocol") not in ("", "TCP"):
                self._add(
                    "left out",
                    f"port {printable(number, 20)}",
                    f"{printable(entry.text('protocol'), 20)} is not passed on in a pod",
                    entry,
                )
            elif number.isdigit() and 0 < int(number) < 65536:
                self._made.ports.setdefault(int(number), entry.place)
                self._made.named_ports.setdefault(entry.text("name"), int(number))
                if RAW_PORTS.search(entry.text("name")):
                    self._made.tcp = True
                self._add("imported", f"port {number}", "", entry)
                if entry.get("hostPort") is not None:
                    self._add("left out", f"port {number} hostPort", "reached from the pod alone", entry)
            else:
                self._add("left out", f"port {printable(number, 20)}", "it is no port", entry)

    def _working_dir(self, node: Node) -> None:
        self._made.working_directory = (node.written(), node.place)
        self._add("imported", "workingDir", "", node)

    def _security(self, node: Node) -> None:
        for key, entry in node.each():
            if key == "runAsUser":
                user = int(entry.written()) if entry.written().isdigit() else 0
                if 0 < user < 2**31:
                    self._made.user = (user, entry.place)
                    self._add("imported", "securityContext.runAsUser", "", entry, "", user)
                else:
                    self._add(
                        "changed",
                        "securityContext.runAsUser",
                        "nothing in a pod runs as root; the pod's own user id is used",
                        entry,
                    )
            elif key in (
                "readOnlyRootFilesystem",
                "allowPrivilegeEscalation",
                "runAsNonRoot",
                "seccompProfile",
                "privileged",
            ) and entry.written() != ("true" if key in ("allowPrivilegeEscalation", "privileged") else "false"):
                self._add("imported", f"securityContext.{key}", "it is so for every service", entry)
            else:
                self._add("left out", f"securityContext.{printable(key, 60)}", CONFINED, entry)

    def _resources(self, node: Node) -> None:
        for kind, amounts in node.each():
            for name, amount in amounts.each():
                value = quantity(amount.written())
                key = f"resources.{printable(kind, 30)}.{printable(name, 60)}"
                if kind == "limits" and name == "memory" and value:
                    self._made.memory = (int(value), amount.place)
                elif kind == "limits" and name == "cpu" and value:
                    self._made.cpu = (value, amount.place)
                else:
                    self._add("left out", key, "limits of memory and processor are kept, nothing is reserved", amount)

    def _probe(self, node: Node, startup: Node | None) -> None:
        slow = startup or node
        every, times = quantity(slow.text("periodSeconds")) or 10.0, quantity(slow.text("failureThreshold")) or 3.0
        delay = quantity(slow.text("initialDelaySeconds")) or 0.0
        timeout = min(max(delay + every * times, 5.0), 300.0)
        http, tcp, grpc, command = node.get("httpGet"), node.get("tcpSocket"), node.get("grpc"), node.at("exec", "command")
        if http is not None and http.text("scheme") in ("", "HTTP"):
            path = http.text("path") or "/"
            self._made.wait = Wait(
                node.place, self._port(http.text("port")), path if path.startswith("/") else f"/{path}", (), timeout
            )
            for header in (http.get("httpHeaders") or Node(None, http.place, items=[])).items or []:
                self._add(
                    "left out", f"probe header {printable(header.text('name'), 60)}", "podctl asks without headers", header
                )
        elif command is not None:
            self._made.wait = Wait(node.place, 0, "", tuple(command.texts()), timeout)
        elif (asked := http or tcp or grpc) is not None:
            self._made.wait = Wait(node.place, self._port(asked.text("port")), "", (), timeout)
        else:
            self._add("left out", "readinessProbe", "it asks nothing that podctl knows", node)
            return
        changed = (http is not None and http.text("scheme") == "HTTPS") or grpc is not None
        self._add(
            "changed" if changed else "imported",
            "readinessProbe",
            "its port accepts a connection" if changed else f"asked until it succeeds, for {timeout:g} s at most",
            node,
        )

    def _port(self, text: str) -> int:
        return int(text) if text.isdigit() and int(text) < 65536 else self._made.named_ports.get(text, 0)

    # ---- environment ----

    def _environment(self, container: Node) -> None:
        for entry in (container.get("envFrom") or Node(None, container.place, items=[])).items or []:
            self._env_from(entry)
        for entry in (container.get("env") or Node(None, container.place, items=[])).items or []:
            name = entry.text("name")
            source = entry.get("valueFrom")
            value = (
                Text(self._expanded(entry.text("value")), entry.place)
                if source is None
                else self._value_from(name, source, entry.place)
            )
            if value is not None:
                self._made.environment[name] = value

    def _env_from(self, entry: Node) -> None:
        prefix = entry.text("prefix")
        for kind, known in (("configMapRef", self._objects.config), ("secretRef", self._objects.secrets)):
            reference = entry.get(kind)
            if reference is None:
                continue
            name = reference.text("name")
            found = self._lookup(known, name)
            what = "ConfigMap" if kind == "configMapRef" else "Secret"
            if found is None:
                self._add(
                    "left out",
                    f"envFrom {what} {printable(name, 80)}",
                    "it is not in the source: its variables are not known",
                    entry,
                )
                continue
            self._add(
                "imported" if what == "ConfigMap" else "changed",
                f"envFrom {what} {name}",
                "" if what == "ConfigMap" else "other values in place of its own",
                entry,
            )
            for key, text, place in data_of(found):
                about = f"Secret {name}, key {key}"
                self._made.environment[prefix + key] = Text(text, place, what == "Secret", about)

    def _value_from(self, name: str, source: Node, place: Place) -> Text | None:
        for kind, known in (("configMapKeyRef", self._objects.config), ("secretKeyRef", self._objects.secrets)):
            reference = source.get(kind)
            if reference is None:
                continue
            secret = kind == "secretKeyRef"
            object_name, key = reference.text("name"), reference.text("key")
            about = f"{'Secret' if secret else 'ConfigMap'} {object_name}, key {key}"
            found = self._lookup(known, object_name)
            text = next((text for one, text, _ in data_of(found) if one == key), None) if found is not None else None
            if text is None and not secret:
                self._add("left out", f"environment.{name}", f"{printable(about, 120)} is not in the source", place)
                return None
            return Text(text, place, secret, about)
        path = source.text("fieldRef", "fieldPath")
        told = {
            "metadata.name": self._made.name,
            "metadata.namespace": self._namespace or "default",
            "spec.serviceAccountName": "default",
        }
        if path in told:
            self._add("changed", f"environment.{name} source", f"{path} of the cluster", place, "", told[path])
            return Text(told[path], place)
        self._add("left out", f"environment.{name}", f"{printable(path or 'its source', 80)} is a cluster's", place)
        return None

    def _expanded(self, text: str) -> str:
        """``$(NAME)`` of variables that are known by now; ``$$(NAME)`` is a plain ``$(NAME)``."""

        def replaced(match: re.Match[str]) -> str:
            if match[0].startswith("$$"):
                return match[0][1:]
            value = self._made.environment.get(match[1])
            return match[0] if value is None or value.text is None else value.text

        return re.sub(r"\$?\$\(([A-Za-z_][\w.-]*)\)", replaced, text)

    def _lookup(self, known: dict[tuple[str, str], Node], name: str) -> Node | None:
        return known.get((self._namespace, name)) or known.get(("", name))

    # ---- volumes ----

    def _volumes(self) -> dict[str, Node]:
        made = {
            volume.text("name"): volume
            for volume in (self._pod.get("volumes") or Node(None, self._pod.place, items=[])).items or []
        }
        claims = self._node.at("spec", "volumeClaimTemplates")
        for claim in (claims.items if claims is not None else None) or []:
            name = claim.text("metadata", "name")
            made[name] = Node(
                None,
                claim.place,
                entries={"name": Node(name, claim.place), "persistentVolumeClaim": Node(None, claim.place, entries={})},
            )
        return made

    def _mounts(self, node: Node, volumes: dict[str, Node]) -> None:
        for mount in node.items or []:
            target, name = mount.text("mountPath").rstrip("/"), mount.text("name")
            key = f"volumeMount {printable(target, 100)}"
            volume = volumes.get(name)
            if volume is None:
                self._add("left out", key, f"there is no volume {printable(name, 60)}", mount)
                continue
            kind = next((one for one in (volume.entries or {}) if one != "name"), "emptyDir")
            if kind in ("emptyDir", "persistentVolumeClaim", "ephemeral"):
                self._made.writable[target] = (VOLUME_BYTES, mount.place)
                self._add("changed", key, "empty, in memory, gone with the attempt", mount, kind, "256Mi")
            elif kind in ("configMap", "secret"):
                self._config(kind, volume.get(kind) or volume, mount, target, key)
            elif kind == "projected":
                sources = volume.at("projected", "sources")
                for source in (sources.items if sources is not None else None) or []:
                    own = next(iter(source.entries or {}), "")
                    if own in ("configMap", "secret"):
                        self._config(own, source.get(own) or source, mount, target, key)
                    else:
                        self._add("left out", key, f"{printable(own, 40)} is a cluster's", mount)
            else:
                self._add("left out", key, f"a volume of kind {printable(kind, 40)}", mount)

    def _config(self, kind: str, source: Node, mount: Node, target: str, key: str) -> None:
        secret = kind == "secret"
        name = source.text("secretName") or source.text("name")
        found = self._lookup(self._objects.secrets if secret else self._objects.config, name)
        items = {
            item.text("key"): item.text("path")
            for item in (source.get("items") or Node(None, source.place, items=[])).items or []
        }
        about = f"{key} of {'Secret' if secret else 'ConfigMap'} {printable(name, 80)}"
        if found is None and not (secret and (items or mount.text("subPath"))):
            self._add("left out", about, "it is not in the source", mount)
            return
        data = {one: (text or "").encode() for one, text, _ in data_of(found)} if found is not None else {}
        if secret and found is None:
            data = dict.fromkeys(items or [mount.text("subPath")], b"")
        chosen = {items.get(one, one): content for one, content in data.items() if not items or one in items}
        if found is not None and not secret:
            chosen |= {one: content for one, content in _binary(found).items() if not items}
        sub = mount.text("subPath")
        if sub:
            if sub not in chosen:
                self._add("left out", about, f"it has no {printable(sub, 60)}", mount)
                return
            chosen = {"": chosen[sub]}
        wrong_names = [one for one in chosen if one and (one.startswith("/") or ".." in one.split("/"))]
        for one in wrong_names:
            self._add("left out", f"{about} {printable(one, 60)}", "a path that leads out of its directory", mount)
            del chosen[one]
        self._made.files.append(Given(target, chosen, mount.place, secret, about))


def _is_sidecar(container: Node) -> bool:
    return _SIDECARS.search(container.text("name")) is not None or _SIDECARS.search(container.text("image")) is not None


def data_of(found: Node) -> Iterator[tuple[str, str | None, Place]]:
    """(key, text, place) of a ConfigMap's or a Secret's entries."""
    encoded = found.text("kind") == "Secret"
    for key, node in (found.get("data") or Node(None, found.place)).each():
        yield key, _decoded(node.written()) if encoded else node.written(), node.place
    for key, node in (found.get("stringData") or Node(None, found.place)).each():
        yield key, node.written(), node.place


def _decoded(text: str) -> str | None:
    try:
        return base64.b64decode(text, validate=False).decode()
    except (binascii.Error, ValueError):
        return None


def _binary(found: Node) -> dict[str, Any]:
    made = {}
    for key, node in (found.get("binaryData") or Node(None, found.place)).each():
        try:
            made[key] = base64.b64decode(node.written())
        except (binascii.Error, ValueError):
            continue
    return made
