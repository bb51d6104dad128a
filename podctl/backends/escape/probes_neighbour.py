"""What the neighbouring pod's agent reaches by right: the control of everything that must not reach it."""

from __future__ import annotations

import importlib
import socket
from typing import Any

#: Beside this file inside the sandbox.
probes_gateway: Any = importlib.import_module("probes_gateway")
probes_sql: Any = importlib.import_module("probes_sql")

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]


def _connected(host: str, port: int) -> Seen:
    try:
        socket.create_connection((host, port), timeout=2).close()
    except OSError:
        return None, "", False, "in its own pod it does not connect"
    return None, "", True, "in its own pod it connects"


def service(plan: Plan) -> Seen:
    return _connected(plan["service"], plan["service_port"])


def database(plan: Plan) -> Seen:
    return _connected(plan["database"]["host"], plan["database"]["port"])


def key(plan: Plan) -> Seen:
    status, _ = probes_gateway.model_call(plan, plan["key"])
    return None, "", status == 200, f"in its own pod the key gives {status}"


def login(plan: Plan) -> Seen:
    probes_sql.agent_connection(plan).close()
    return None, "", True, "in its own pod it logs in"


PROBES = {
    "neighbour-service": service,
    "neighbour-database": database,
    "gateway-neighbour-key": key,
    "sql-neighbour": login,
}
