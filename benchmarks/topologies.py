"""Imports the topologies of public systems from checkouts, and prints what came of each as a table.

``PODCTL_CHECKOUTS=DIRECTORY python -m benchmarks.topologies``: the directory has a checkout of each as ``owner+name``. One that
is not there is said so. Exits with 1 when one was not imported.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from podctl.errors import PodctlError
from podctl.mirror.sources import Asked, import_paths
from podctl.mirror.writing import write
from podctl.spec.load import load_model
from podctl.spec.models import Topology

VARIABLE = "PODCTL_CHECKOUTS"


@dataclass(frozen=True)
class System:
    """``commit`` is the one that the page's figures are of."""

    repository: str
    commit: str
    sources: tuple[str, ...]
    what: str


_BANK = ("GoogleCloudPlatform/bank-of-anthos", "d0af0474")
_SHOP = ("GoogleCloudPlatform/microservices-demo", "34ffea91")
_OTEL = ("open-telemetry/opentelemetry-demo", "054282e3")
_SOCKS = ("microservices-demo/microservices-demo", "9dff06fa")
_STORE = ("Azure-Samples/aks-store-demo", "7ce10c51")
_LANGFUSE = ("langfuse/langfuse", "62751446")
_VOTING = ("dockersamples/example-voting-app", "63e9150c")

SYSTEMS = (
    System(*_BANK, ("kubernetes-manifests",), "a bank, manifests"),
    System(*_SHOP, ("release/kubernetes-manifests.yaml",), "a shop, manifests"),
    System(*_SHOP, ("kustomize",), "a shop, Kustomize"),
    System(*_OTEL, ("compose.yaml", "compose.full.yaml", "compose.observability.yaml"), "a shop observed, three Compose files"),
    System(*_SOCKS, ("deploy/docker-compose/docker-compose.yml",), "a shop, Compose"),
    System(*_SOCKS, ("deploy/kubernetes/manifests",), "a shop, manifests"),
    System(*_VOTING, ("docker-compose.yml",), "a vote, Compose"),
    System(*_VOTING, ("k8s-specifications",), "a vote, manifests"),
    System("spring-petclinic/spring-petclinic-microservices", "9a76b4e3", ("docker-compose.yml",), "a clinic, Compose"),
    System("instana/robot-shop", "55292e21", ("docker-compose.yaml",), "a shop, Compose"),
    System(*_STORE, ("docker-compose.yml",), "a shop, Compose"),
    System(*_STORE, ("aks-store-all-in-one.yaml",), "a shop, manifests"),
    System("getsentry/self-hosted", "89a143f8", ("docker-compose.yml",), "error tracking, Compose"),
    System(*_LANGFUSE, ("docker-compose.yml",), "tracing of models, Compose"),
    System("FudanSELab/train-ticket", "813dd01e", ("docker-compose.yml",), "a railway, Compose"),
    System("delimitrou/DeathStarBench", "6ecb0970", ("*/docker-compose.yml",), "benchmarks, Compose, each alone"),
    System("docker/compose", "f7297942", ("pkg/e2e/fixtures/**/*compose*.y*ml",), "Compose's own tests, each alone"),
    System("docker/awesome-compose", "18f59bdb", ("*/compose.y*ml",), "a collection, Compose, each alone"),
)


def measured(system: System, checkout: Path) -> list[tuple[str, ...]]:
    """A row for each import. Raises `PodctlError` where one is refused."""
    if "*" not in system.sources[0]:
        return [_row(system, tuple(checkout / source for source in system.sources), " ".join(system.sources))]
    rows = [_row(system, (path,), "", checkout) for path in sorted(checkout.glob(system.sources[0]))]
    totals = [str(sum(int(row[number]) for row in rows)) for number in range(4, 11)]
    took = f"{sum(float(row[11]) for row in rows):.1f}"
    return [(*_head(system), f"{len(rows)} × `{system.sources[0]}`", system.what, *totals, took)]


def _head(system: System) -> tuple[str, str]:
    return system.repository, f"`{system.commit}`"


def _row(system: System, paths: tuple[Path, ...], shown: str, within: Path | None = None) -> tuple[str, ...]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        imported = import_paths(Asked(paths, within), "topology.files")
        output = Path(directory) / "topology.yaml"
        write(imported, output, "podctl topology import", force=False)
        topology = load_model(output, Topology)
    took = time.monotonic() - began
    running = sum(service.mode == "mirrored" for service in topology.services.values())
    lines = imported.said.lines
    counts = [sum(line.status == status for line in lines) for status in ("imported", "changed", "stubbed", "left out")]
    numbers = (running, len(topology.databases), *counts, imported.secrets)
    return (*_head(system), f"`{shown}`", system.what, *map(str, numbers), f"{took:.1f}")


HEADINGS = (
    "repository",
    "commit",
    "source",
    "what",
    "services",
    "databases",
    "imported",
    "changed",
    "stubbed",
    "left out",
    "secrets",
    "s",
)


def main(directory: Path) -> int:
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    failed = 0
    for system in SYSTEMS:
        checkout = directory / system.repository.replace("/", "+")
        if not checkout.is_dir():
            print(f"{system.repository}: NOT THERE, not tried", file=sys.stderr)
            continue
        try:
            for row in measured(system, checkout):
                print(f"| {' | '.join(row)} |")
        except PodctlError as error:
            failed += 1
            print(f"{system.repository} {' '.join(system.sources)}: {error.render()}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    if not os.environ.get(VARIABLE):
        sys.exit(f"{VARIABLE} names a directory with checkouts, each as owner+name")
    sys.exit(main(Path(os.environ[VARIABLE])))
