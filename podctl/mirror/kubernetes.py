"""Kubernetes objects as workloads, wherever they are from: manifests, Kustomize, Helm's output, a namespace. PURE.

Every object is either carried or named, and so is every key of what runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from podctl.mirror.kuberneteskeys import JOBS, OTHERS, RUNS
from podctl.mirror.kubernetesruns import RAW_PORTS, Objects, Run, data_of, templated
from podctl.mirror.said import Place, Said
from podctl.mirror.secrets import Ledger
from podctl.mirror.tree import Node, wrong
from podctl.mirror.workload import Workload
from podctl.spec.problems import printable


def workloads(documents: list[Node], said: Said, ledger: Ledger) -> list[Workload]:
    """Raises `SpecError` when there is nothing that runs."""
    objects = Objects()
    for node in documents:
        for one in _flat(node):
            _sort(one, objects, said)
    for secret in objects.secrets.values():
        for _, text, _ in data_of(secret):
            ledger.know(text or "")
    found: list[Workload] = []
    by_labels: list[tuple[Node, dict[str, str], Workload]] = []
    taken: dict[str, Workload] = {}
    for node in objects.runs:
        kind, name = node.text("kind"), node.text("metadata", "name")
        shown = name if name not in taken else f"{name}-{(node.text('metadata', 'namespace') or kind).lower()}"
        while shown in taken:
            shown += "-2"
        reader = Run(node, shown, objects, said)
        workload = reader.read()
        if kind in JOBS:
            workload.why_not = f"a {kind} ends, and a pod's services stay: what it makes belongs into a seed"
        taken[shown] = workload
        found.append(workload)
        by_labels.append((node, reader.labels(), workload))
    for service in objects.services:
        _address(service, by_labels, said, found)
    if not found:
        place = documents[0].place if documents else Place("source")
        raise wrong(place, "nothing runs here", "name manifests with a Deployment, StatefulSet, DaemonSet or Pod")
    return found


def _flat(node: Node) -> Iterator[Node]:
    """The objects of a List, or the one."""
    if node.text("kind").endswith("List") and (node.get("items") or Node(None, node.place)).items is not None:
        for item in (node.get("items") or node).items or []:
            yield from _flat(item)
    else:
        yield node


def _sort(node: Node, objects: Objects, said: Said) -> None:
    kind, name = node.text("kind"), node.text("metadata", "name") or node.text("metadata", "generateName")
    if node.entries is None or not kind or not node.text("apiVersion"):
        said.add("left out", "a document", "", "it is no Kubernetes object: apiVersion and kind are missing", node.place)
        return
    if templated(name) or templated(kind):
        raise wrong(
            node.place,
            "a Helm template that was not rendered",
            "render it: helm template CHART > rendered.yaml",
            "source-templated",
        )
    key = (node.text("metadata", "namespace"), name)
    if kind in RUNS or kind in JOBS:
        objects.runs.append(node)
    elif kind == "Service" and node.text("apiVersion") == "v1":
        objects.services.append(node)
    elif kind == "ConfigMap":
        objects.config[key] = node
        said.add("imported", f"ConfigMap {name}", "", "where services name it", node.place)
    elif kind == "Secret":
        objects.secrets[key] = node
        said.add(
            "changed", f"Secret {name}", "", "its values are not carried over; where services name it stand others", node.place
        )
    else:
        said.add(
            "left out",
            f"{printable(kind, 60)} {printable(name, 80)}",
            "",
            OTHERS.get(kind, "a kind that a pod has no use for, or that podctl does not know"),
            node.place,
        )


def _address(service: Node, runs: list[tuple[Node, dict[str, str], Workload]], said: Said, found: list[Workload]) -> None:
    """A Service is a name, or several, of what it selects."""
    name, namespace = service.text("metadata", "name"), service.text("metadata", "namespace")
    subject = f"Service {name}"
    spec = service.get("spec") or Node(None, service.place)
    wanted = {key: node.written() for key, node in (spec.get("selector") or Node(None, spec.place)).each()}
    chosen = [
        workload
        for node, labels, workload in runs
        if wanted
        and wanted.items() <= labels.items()
        and namespace == node.text("metadata", "namespace")
        and not workload.why_not
    ]
    if spec.text("externalName"):
        said.add(
            "left out",
            subject,
            "",
            f"it is another name of {printable(spec.text('externalName'), 100)}, which is not in a pod",
            service.place,
        )
        return
    if not chosen:
        said.add("left out", subject, "", "it selects nothing that is imported", service.place)
        return
    workload = chosen[0]
    for other in chosen[1:]:
        said.add("changed", subject, f"selector {other.name}", f"it leads to {workload.name} alone", service.place)
    for alias in [
        name,
        f"{name}.{namespace or 'default'}",
        f"{name}.{namespace or 'default'}.svc",
        f"{name}.{namespace or 'default'}.svc.cluster.local",
    ]:
        workload.aliases.setdefault(alias, service.place)
    said.add("imported", subject, "", f"a name of {workload.name}", service.place)
    for port in (spec.get("ports") or Node(None, spec.place, items=[])).items or []:
        _service_port(port, workload, subject, said)
    for key, node in spec.each():
        if key not in (
            "ports",
            "selector",
            "type",
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
            "sessionAffinity",
        ):
            said.add("left out", subject, printable(key, 60), "a pod's names lead straight to what runs", node.place)
    if spec.text("type") in ("LoadBalancer", "NodePort"):
        said.add(
            "changed",
            subject,
            "type",
            "reached from the pod alone",
            (spec.get("type") or spec).place,
            spec.text("type"),
            "ClusterIP",
        )


def _service_port(port: Node, workload: Workload, subject: str, said: Said) -> None:
    number, target = port.text("port"), port.text("targetPort") or port.text("port")
    if port.text("protocol") not in ("", "TCP"):
        said.add(
            "left out",
            subject,
            f"port {printable(number, 20)}",
            f"{printable(port.text('protocol'), 20)} is not passed on in a pod",
            port.place,
        )
        return
    own = int(target) if target.isdigit() else workload.named_ports.get(target, 0)
    if not number.isdigit() or not 0 < int(number) < 65536 or not 0 < own < 65536:
        said.add("left out", subject, f"port {printable(number, 20)}", "its targetPort is not known", port.place)
        return
    workload.ports.setdefault(own, port.place)
    workload.port_of[int(number)] = own
    if RAW_PORTS.search(port.text("name")) or port.text("appProtocol") in ("grpc", "tcp", "kubernetes.io/h2c"):
        workload.tcp = True
    if own != int(number):
        said.add("changed", subject, f"port {number}", f"{workload.name} is reached by its own port", port.place, number, own)
