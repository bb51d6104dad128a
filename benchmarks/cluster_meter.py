"""What the API server says of its own work: counts and sizes of /metrics, for what happened between two looks."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections import Counter
from dataclasses import dataclass

from podctl.backends.kubernetes.api import Cluster

_LINE = re.compile(r"^(?P<name>\w+)\{(?P<labels>.*)\} (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
#: metric -> the labels that tell its figures apart
_WANTED = {
    "apiserver_request_total": ("verb", "resource", "subresource"),
    "apiserver_watch_events_sizes_sum": ("resource",),
    "apiserver_longrunning_requests": ("verb", "resource", "subresource"),
}
#: Of etcd on the same machine; not every cluster's can be asked.
_ETCD = "http://127.0.0.1:2379"


@dataclass(frozen=True)
class Look:
    """By (verb, resource, subresource) or resource: ``requests`` since the server's start, ``watched`` bytes over watches since
    then, and ``open`` requests now. ``etcd``: bytes in use there, earlier versions included; 0 when it cannot be asked.
    """

    requests: Counter[tuple[str, ...]]
    watched: Counter[tuple[str, ...]]
    open: Counter[tuple[str, ...]]
    etcd: float

    def since(self, earlier: Look) -> Look:
        def grown(now: Counter[tuple[str, ...]], then: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
            return Counter({key: value - then[key] for key, value in now.items() if value != then[key]})

        pairs = ((getattr(self, name), getattr(earlier, name)) for name in ("requests", "watched", "open"))
        return Look(*(grown(now, then) for now, then in pairs), self.etcd - earlier.etcd)


async def look(cluster: Cluster) -> Look:
    """Raises `ClusterProblem` when the account may not read /metrics."""
    found: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in _WANTED}
    for line in (await cluster.text("/metrics")).splitlines():
        match = _LINE.match(line)
        if match is not None and match["name"] in _WANTED:
            labels = dict(_LABEL.findall(match["labels"]))
            key = tuple(labels.get(label, "") for label in _WANTED[match["name"]])
            found[match["name"]][key] += float(match["value"])  # type: ignore[assignment]
    return Look(*found.values(), _etcd())


def _etcd() -> float:
    try:
        with urllib.request.urlopen(f"{_ETCD}/metrics", timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    match = re.search(r"^etcd_mvcc_db_total_size_in_use_in_bytes (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def stored(namespace: str) -> Counter[tuple[str, ...]]:
    """Bytes of its objects in etcd, keys included, by resource; none when it cannot be asked."""
    asked = json.dumps({"key": _base64("/registry/"), "range_end": _base64("/registry0")}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{_ETCD}/v3/kv/range", asked), timeout=20) as answer:
            entries = json.load(answer)["kvs"]
    except OSError:
        return Counter()
    found: Counter[tuple[str, ...]] = Counter()
    for entry in entries:
        key = base64.b64decode(entry["key"]).decode()
        if f"/{namespace}/" in key or key.endswith(f"/{namespace}"):
            found[tuple(key.split("/")[2:3])] += len(key) + len(base64.b64decode(entry.get("value", "")))
    return found


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def told(figures: Counter[tuple[str, ...]], number: int, unit: float = 1.0, most: int = 12) -> str:
    """The largest, each a pod."""
    shown = sorted(figures.items(), key=lambda item: -abs(item[1]))[:most]
    return ", ".join(f"{' '.join(part for part in key if part)} {value / number / unit:.1f}" for key, value in shown)
