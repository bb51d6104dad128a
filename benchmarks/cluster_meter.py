"""What the API server says of its own work: counts and sizes of /metrics, for what happened between two looks."""

from __future__ import annotations

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
    "apiserver_resource_size_estimate_bytes": ("resource",),
    "apiserver_longrunning_requests": ("verb", "resource", "subresource"),
}
#: Of etcd on the same machine; not every cluster's can be asked.
_ETCD = "http://127.0.0.1:2379/metrics"


@dataclass(frozen=True)
class Look:
    """By (verb, resource, subresource) or resource: ``requests`` since the server's start, ``watched`` bytes over watches since
    then, ``stored`` bytes of live objects and ``open`` requests now. ``etcd``: bytes in use there, earlier versions included; 0 when it cannot be asked.
    """

    requests: Counter[tuple[str, ...]]
    watched: Counter[tuple[str, ...]]
    stored: Counter[tuple[str, ...]]
    open: Counter[tuple[str, ...]]
    etcd: float

    def since(self, earlier: Look) -> Look:
        def grown(now: Counter[tuple[str, ...]], then: Counter[tuple[str, ...]]) -> Counter[tuple[str, ...]]:
            return Counter({key: value - then[key] for key, value in now.items() if value != then[key]})

        pairs = ((getattr(self, name), getattr(earlier, name)) for name in ("requests", "watched", "stored", "open"))
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
        with urllib.request.urlopen(_ETCD, timeout=2) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    match = re.search(r"^etcd_mvcc_db_total_size_in_use_in_bytes (\S+)$", text, re.MULTILINE)
    return float(match[1]) if match else 0.0


def told(figures: Counter[tuple[str, ...]], number: int, unit: float = 1.0, most: int = 12) -> str:
    """The largest, each a pod."""
    shown = sorted(figures.items(), key=lambda item: -abs(item[1]))[:most]
    return ", ".join(f"{' '.join(part for part in key if part)} {value / number / unit:.1f}" for key, value in shown)
