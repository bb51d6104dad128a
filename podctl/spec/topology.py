"""Questions about a topology. PURE."""

from __future__ import annotations

from dataclasses import dataclass

from podctl.spec.models import Service, ToolServer, Topology


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


def service_url(name: str, service: Service) -> str:
    """Where agents and other services find it: at its first port."""
    if service.protocol == "mcp":
        return f"http://{name}:{service.ports[0]}{service.mcp.path}"
    return f"{service.protocol}://{name}:{service.ports[0]}"


def tool_servers(topology: Topology) -> dict[str, ToolServer]:
    """MCP servers that exist in a pod."""
    present = {name: topology.services[name] for name in service_order(topology)}
    return {name: service.mcp for name, service in present.items() if service.protocol == "mcp"}


@dataclass(frozen=True)
class Readiness:
    """``command`` exits with 0, ``path`` answers at ``port``, or the port accepts a connection; port 0: it has started."""

    port: int
    path: str
    command: tuple[str, ...]
    timeout: float


def readiness(service: Service) -> Readiness:
    """When it counts as ready. A stub answers its routes alone, so its port is asked."""
    ready = service.ready
    first = service.ports[0] if service.ports else 0
    if ready is None:
        return Readiness(first, "", (), 15.0)
    if service.mode == "stubbed":
        return Readiness(ready.port or first, "", (), ready.timeout)
    return Readiness(ready.port or first, ready.path or "", ready.command, ready.timeout)


def shown_argv(service: Service) -> tuple[str, ...]:
    """What it runs as records show it, placeholders not filled in."""
    return ((service.image,) if service.image else ()) + service.command + service.arguments


def by_image(topology: Topology) -> list[str]:
    """Services that run from an image."""
    return [name for name in service_order(topology) if runs_image(topology.services[name])]


def runs_image(service: Service) -> bool:
    return service.mode == "mirrored" and service.image is not None
