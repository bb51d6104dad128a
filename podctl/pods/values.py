"""What ``${…}`` stands for in a pod's commands and environments. PURE."""

from __future__ import annotations

from collections.abc import Mapping

from podctl.spec.models import Topology
from podctl.spec.topology import databases, service_order, service_url


def placeholders(topology: Topology, python: str, credentials: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """Name -> value; ``credentials``: database -> (role, password). A database without them has no ``.url``, ``.user``, ``.password``; a service without ports only ``.host``."""
    values = {"python": python}
    for name in databases(topology):
        database = topology.databases[name]
        values[f"{name}.host"], values[f"{name}.port"] = name, str(database.port)
        if name in credentials:
            role, password = credentials[name]
            values[f"{name}.url"] = f"postgresql://{role}:{password}@{name}:{database.port}/{database.name}"
            values |= {f"{name}.user": role, f"{name}.password": password}
        values[f"{name}.name"] = database.name
    for name in service_order(topology):
        service = topology.services[name]
        values[f"{name}.host"] = name
        if service.ports:
            values[f"{name}.port"] = str(service.ports[0])
            values[f"{name}.url"] = service_url(name, service)
    return values
