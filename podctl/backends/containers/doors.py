"""Where the connections of an agent arrive, and what they are for. PURE."""

from __future__ import annotations

from dataclasses import dataclass

from podctl.gateway.contract import DOOR_KINDS, DoorKind
from podctl.spec.models import Topology
from podctl.spec.topology import databases, service_order

GATEWAY, GATEWAY_PORT = "gateway", 80
FIRST_DOOR_PORT = 20000


@dataclass(frozen=True)
class DoorPort:
    """Where the agent's connections to ``name``:``port`` arrive: a number of its own.

    The door listens on the port of that number on every address, unless ``at`` names another place, HOST:PORT.
    """

    kind: DoorKind
    name: str
    port: int
    listens: int
    at: str = ""

    @property
    def argument(self) -> str:
        """For the door's program."""
        return f"{self.listens}={self.at}" if self.at else str(self.listens)


def listeners(topology: Topology) -> list[tuple[str, str, tuple[int, ...]]]:
    """(component, name, ports) of every database and service of a pod."""
    found: list[tuple[str, str, tuple[int, ...]]] = []
    for name in databases(topology):
        found.append(("database", name, (topology.databases[name].port,)))
    for name in service_order(topology):
        found.append(("service", name, topology.services[name].ports))
    return found


def door_ports(topology: Topology) -> list[DoorPort]:
    """The gateway's own door first, then one for each port of each database and service."""
    wanted: list[tuple[DoorKind, str, int]] = [("gateway", GATEWAY, GATEWAY_PORT)]
    wanted += [("tcp", name, topology.databases[name].port) for name in databases(topology)]
    for name in service_order(topology):
        service = topology.services[name]
        wanted += [(DOOR_KINDS[service.protocol], name, port) for port in service.ports]
    return [DoorPort(kind, name, port, FIRST_DOOR_PORT + number) for number, (kind, name, port) in enumerate(wanted)]
