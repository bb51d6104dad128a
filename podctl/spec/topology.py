"""Questions about a topology. PURE."""

from __future__ import annotations

from podctl.spec.models import Topology


def service_order(topology: Topology) -> list[str]:
    """Services that exist in a pod, each after those it depends on."""
    present = {name: service for name, service in topology.services.items() if service.mode != "left-out"}
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name in ordered or name not in present:
            return
        for dependency in present[name].depends_on:
            visit(dependency)
        ordered.append(name)

    for name in present:
        visit(name)
    return ordered


def databases(topology: Topology) -> list[str]:
    return [name for name, database in topology.databases.items() if database.mode == "mirrored"]
