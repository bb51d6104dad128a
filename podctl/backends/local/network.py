"""Names and addresses inside a pod: every service and database has an address of its own, so that ports are production's."""

from __future__ import annotations

from collections.abc import Mapping

from podctl.pods.values import placeholders as placeholders
from podctl.spec.models import Topology
from podctl.spec.topology import databases, service_order

GATEWAY = "gateway"
GATEWAY_PORT = 80


def addresses(topology: Topology) -> dict[str, str]:
    """Name -> IPv4 address in 127.0.1.0/24, the same in the inner and in the door network."""
    names = [GATEWAY, *databases(topology), *service_order(topology)]
    return {name: f"127.0.1.{number}" for number, name in enumerate(names, start=1)}


def hosts_file(table: Mapping[str, str]) -> str:
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in table.items())]
    return "\n".join(lines) + "\n"
