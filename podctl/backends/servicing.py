"""Services that a script of podctl's runs, alike on every backend."""

from __future__ import annotations

import json
from collections.abc import Sequence

from podctl.spec.models import Service

SERVICE_SCRIPTS = ("stub.py", "stdio.py")
#: Sessions of an MCP server on standard input and output at once: as many as the gateway lets an agent have, and one for a look whether it answers.
_SESSIONS = 17


def stub_argv(service: Service, python: str, scripts: str, host: str) -> list[str]:
    """What answers for a stubbed service. ``scripts`` is the directory of `SERVICE_SCRIPTS`, ending with a slash."""
    routes = [route.model_dump(mode="json") for route in service.routes]
    config = {"host": host, "ports": list(service.ports), "routes": routes}
    return [python, "-I", "-S", f"{scripts}stub.py", json.dumps(config)]


def behind_port(service: Service, argv: Sequence[str], python: str, scripts: str, host: str) -> list[str]:
    """``argv``, or with an MCP server that speaks on its standard input and output, what puts that behind its port."""
    if service.protocol != "mcp" or service.mcp.transport != "stdio":
        return list(argv)
    config = {"host": host, "port": service.ports[0], "most": _SESSIONS}
    return [python, "-I", "-S", f"{scripts}stdio.py", json.dumps(config), *argv]
