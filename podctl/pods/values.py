"""What ``${…}`` stands for in a pod's commands and environments. PURE."""

from __future__ import annotations

from collections.abc import Mapping

from podctl.spec.models import Topology
from podctl.spec.topology import databases, service_order


def placeholders(topology: Topology, python: str, credentials: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Name -> value; ``credentials``: database -> (role, password). A database without them has no ``.url``."""
    values = {"python": python}
    for name in databases(topology):
        database = topology.databases[name]
        values[f"{name}.host"], values[f"{name}.port"] = name, str(database.port)
        if name in credentials:
            role, password = credentials[name]
            values[f"{name}.url"] = f"postgresql://{role}:{password}@{name}:{database.port}/{database.name}"
    for name in service_order(topology):
        port = topology.services[name].ports[0]
        values[f"{name}.host"], values[f"{name}.port"] = name, str(port)
        values[f"{name}.url"] = f"http://{name}:{port}"
    return values
