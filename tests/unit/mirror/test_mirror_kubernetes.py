"""Kubernetes objects: manifests, Kustomize, what Helm rendered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from importing import Result, imported, written

from podctl.errors import EnvironmentProblem, SpecError
from podctl.mirror.sources import import_text

SHOP = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders-v2, namespace: shop, annotations: {owner: team}}
spec:
  replicas: 5
  selector: {matchLabels: {app: orders}}
  strategy: {type: Recreate}
  template:
    metadata: {labels: {app: orders, tier: back}}
    spec:
      serviceAccountName: orders
      nodeSelector: {zone: a}
      securityContext: {runAsUser: 1200, fsGroup: 1200}
      initContainers: [{name: migrate, image: shop/migrate}]
      containers:
        - name: istio-proxy
          image: istio/proxyv2:1
        - name: orders-v2
          image: shop/orders:2
          command: [/bin/orders]
          args: ["--cache=$(CACHE_HOST):6379", "--literal=$$(HOME)"]
          ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090, protocol: UDP}]
          env:
            - {name: CACHE_HOST, value: cache}
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
            - {name: WEB, value: "http://web.shop.svc.cluster.local"}
            - {name: LEVEL, valueFrom: {configMapKeyRef: {name: settings, key: level}}}
          envFrom: [{configMapRef: {name: settings}, prefix: S_}]
          readinessProbe: {httpGet: {path: healthz, port: http}, periodSeconds: 2, failureThreshold: 5}
          livenessProbe: {tcpSocket: {port: 8080}}
          resources: {limits: {memory: 1Gi, cpu: 250m, ephemeral-storage: 1Gi}, requests: {cpu: 100m}}
          volumeMounts:
            - {name: config, mountPath: /etc/orders, readOnly: true}
            - {name: one, mountPath: /etc/one.conf, subPath: one.conf}
            - {name: scratch, mountPath: /var/scratch}
            - {name: host, mountPath: /host}
      volumes:
        - {name: config, configMap: {name: files, items: [{key: a.conf, path: sub/a.conf}]}}
        - {name: one, configMap: {name: files}}
        - {name: scratch, emptyDir: {}}
        - {name: host, hostPath: {path: /}}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, type: NodePort, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {level: debug, region: eu}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: files, namespace: shop}
data: {a.conf: "a = 1", one.conf: "one = 1"}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: cache, namespace: shop}
spec:
  serviceName: cache
  template:
    metadata: {labels: {app: cache}}
    spec:
      containers:
        - {name: redis, image: "redis:7", volumeMounts: [{name: data, mountPath: /data}], readinessProbe: {exec: {command: [redis-cli, ping]}}}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1Gi}}}}]
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {name: web, namespace: shop, labels: {app: web}}
    spec:
      containers:
        - name: web
          image: shop/web
          env: [{name: ORDERS, value: "http://orders/api"}, {name: ORDERS_80, value: "orders:80"}]
          ports: [{containerPort: 3000}]
  - apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {selector: {app: web}, ports: [{port: 80, targetPort: 3000}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly, namespace: shop}
spec: {schedule: "0 0 * * *", jobTemplate: {spec: {template: {spec: {containers: [{name: n, image: x}]}}}}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: front}
---
apiVersion: example.com/v1
kind: Wonder
metadata: {name: unknown}
"""


def shop(root: Path) -> Result:
    return imported(root, {"shop.yaml": SHOP})


def test_a_deployment_is_carried_over(tmp_path: Path) -> None:
    found = shop(tmp_path)
    assert found.service("orders-v2") == {
        "image": "shop/orders:2",
        "command": ["/bin/orders"],
        "arguments": ["--cache=cache:6379", "--literal=$(HOME)"],
        "user": 1200,
        "aliases": ["orders"],
        "environment": {
            "S_level": "debug",
            "S_region": "eu",
            "CACHE_HOST": "cache",
            "NAME": "orders-v2",
            "WEB": "http://web.shop.svc.cluster.local:3000",
            "LEVEL": "debug",
        },
        "files": {
            "/etc/orders": "topology.files/orders-v2/etc-orders",
            "/etc/one.conf": "topology.files/orders-v2/etc-one.conf",
        },
        "writable": {"/var/scratch": "256Mi"},
        "ports": [8080],
        "ready": {"path": "/healthz", "port": 8080, "timeout": "10s"},
        "resources": {"memory": "1Gi", "cpu": 0.25, "processes": 256},
        "depends_on": ["cache", "web"],
    }
    assert (tmp_path / "topology.files/orders-v2/etc-orders/sub/a.conf").read_text() == "a = 1"
    assert (tmp_path / "topology.files/orders-v2/etc-one.conf").read_text() == "one = 1"


def test_services_lead_to_what_they_select_and_ports_are_turned(tmp_path: Path) -> None:
    found = shop(tmp_path)
    assert found.service("web")["environment"] == {"ORDERS": "http://orders:8080/api", "ORDERS_80": "orders:8080"}
    assert found.service("web")["aliases"] == ["web.shop.svc.cluster.local"]
    assert "port 80 of orders-v2 is 8080 in a pod" in found.said("service web", "environment.ORDERS")[0]
    cache = found.service("cache")
    assert (cache["ports"], cache["protocol"], cache["ready"]["command"]) == ([6379], "tcp", ["redis-cli", "ping"])
    assert cache["writable"] == {"/data": "256Mi"}


def test_two_that_call_one_another_are_not_made_to_wait(tmp_path: Path) -> None:
    found = shop(tmp_path)
    waits = {name: set(service.get("depends_on", [])) for name, service in found.plain["services"].items()}
    assert not ("web" in waits["orders-v2"] and "orders-v2" in waits["web"])


@pytest.mark.parametrize(
    ("subject", "key", "said"),
    [
        ("service orders-v2", "replicas", "changed: a pod has one of each"),
        ("service orders-v2", "container istio-proxy", "left out: a mesh's or a log's sidecar, which podctl has no use for"),
        ("service orders-v2", "initContainer migrate", "left out: what it prepares is not there: podctl runs services alone"),
        ("service orders-v2", "serviceAccountName", "left out: services have no identity in a pod"),
        ("service orders-v2", "strategy", "left out: a pod has one of each"),
        ("service orders-v2", "metadata.annotations", "left out: nothing reads it in a pod"),
        ("service orders-v2", "securityContext.fsGroup", "left out: a pod's services are confined in podctl's own way"),
        ("service orders-v2", "livenessProbe", "left out: nothing is started again in a pod"),
        ("service orders-v2", "environment.NODE", "left out: spec.nodeName is a cluster's"),
        ("service orders-v2", "volumeMount /host", "left out: a volume of kind hostPath"),
        ("service orders-v2", "port 9090", "left out: UDP is not passed on in a pod"),
        ("service nightly", "", "left out: a CronJob ends, and a pod's services stay: what it makes belongs into a seed"),
        ("Ingress front", "", "left out: agents reach services through podctl's doors"),
        ("Wonder unknown", "", "left out: a kind that a pod has no use for, or that podctl does not know"),
        ("Service orders", "type", "changed: reached from the pod alone"),
    ],
)
def test_what_is_not_carried_over_is_said(subject: str, key: str, said: str, tmp_path: Path) -> None:
    found = shop(tmp_path)
    assert found.said(subject, key) == [said]


def test_a_directory_is_read_whole_and_helm_charts_in_it_are_named(tmp_path: Path) -> None:
    files = {
        "a/web.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: w}]}\n",
        "b/values.yml": "replicas: 3\n",
        "chart/Chart.yaml": "name: x\n",
        "chart/templates/x.yaml": "kind: {{ .Values.kind }}\n",
    }
    found = imported(tmp_path, files, ".")
    assert found.service("web")["image"] == "w"
    assert any(line["why"].startswith("of a Helm chart; render it") for line in found.lines)
    assert any("apiVersion and kind are missing" in line["why"] for line in found.lines)


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: v1\nkind: Pod\nmetadata: {{ include \"x\" . }}\n",
        'apiVersion: v1\nkind: Pod\nmetadata: {name: "{{ .Release.Name }}"}\n',
        'apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: x, image: "{{ .Values.image }}"}]}\n',
        "{{- if .Values.on }}\na: 1\n{{- end }}\n",
    ],
)  # fmt: skip
def test_a_template_that_was_not_rendered_says_what_to_type(text: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as refused:
        imported(tmp_path, {"x.yaml": text})
    assert refused.value.code == "source-templated" and "helm template" in refused.value.hint


def test_braces_within_a_configuration_file_are_no_template(tmp_path: Path) -> None:
    text = SHOP.replace('"a = 1"', '"alert: {{ .Values }}"')
    assert imported(tmp_path, {"x.yaml": text}).service("orders-v2")


def test_rendered_manifests_may_come_from_a_pipe(tmp_path: Path) -> None:
    found = written(import_text(SHOP.encode(), "standard input", "topology.files"), tmp_path)
    assert found.service("orders-v2") and {line["file"] for line in found.lines} == {"standard input"}


KUSTOMIZE = {
    "base/kustomization.yaml": "resources: [web.yaml]\n",
    "base/web.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: w}]}\n",
    "kustomization.yaml": "resources: [base]\nimages: [{name: w, newName: shop/web, newTag: '3'}]\nconfigMapGenerator: [{name: c, literals: [a=b]}]\n",
}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="NO KUBECTL: Kustomize is not tested")
def test_kustomize_is_applied_by_kubectl(tmp_path: Path) -> None:
    found = imported(tmp_path, KUSTOMIZE, ".")
    assert found.service("web")["image"] == "shop/web:3" and found.plain["origin"]["kind"] == "kustomize"
    (tmp_path / "src" / "base" / "web.yaml").unlink()
    with pytest.raises(SpecError) as refused:
        imported(tmp_path, {"kustomization.yaml": KUSTOMIZE["kustomization.yaml"]}, ".")
    assert refused.value.code == "kustomize-failed" and "web.yaml" in refused.value.cause


def test_without_kubectl_kustomize_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(EnvironmentProblem) as refused:
        imported(tmp_path, KUSTOMIZE, ".")
    assert refused.value.code == "kubectl-missing" and "kubectl kustomize" in refused.value.hint
