"""Agent contract v1: what an attempt gives an agent, and what it takes back. docs/agents.md says it for users."""

from __future__ import annotations

import json
from collections.abc import Mapping

from podctl.agents.identity import AgentIdentity
from podctl.spec.models import API_VERSION, Agent, Topology
from podctl.spec.topology import databases, service_order, service_url
from podctl.tickets.types import Ticket

WORKSPACE = "/workspace"
TICKET, RESULT, DECISIONS = "ticket.json", "result.json", "decisions.jsonl"


def ticket_file(ticket: Ticket) -> bytes:
    """The ticket as the agent sees it: never its reference, nor what the source hides."""
    body = {"apiVersion": API_VERSION, "id": ticket.id, "text": ticket.text, "fields": ticket.fields}
    return json.dumps(body, ensure_ascii=False, indent=1, default=str).encode()


def environment(
    agent: Agent,
    identity: AgentIdentity,
    topology: Topology,
    *,
    attempt: str,
    pod: str,
    key: str,
    credentials: Mapping[str, tuple[str, str]],
    proposes: bool = False,
) -> dict[str, str]:
    """Everything an agent has in its environment; ``credentials``: database -> (role, password); ``proposes``: somebody answers proposals."""
    values = {
        "PODCTL_CONTRACT": "1",
        "PODCTL_WORKSPACE": WORKSPACE,
        "PODCTL_TICKET": f"{WORKSPACE}/{TICKET}",
        "PODCTL_RESULT": f"{WORKSPACE}/{RESULT}",
        "PODCTL_DECISIONS": f"{WORKSPACE}/{DECISIONS}",
        "PODCTL_ATTEMPT": attempt,
        "PODCTL_POD": pod,
        "PODCTL_AGENT_VERSION": identity.version,
        "OPENAI_BASE_URL": "http://gateway/v1",
        "OPENAI_API_BASE": "http://gateway/v1",
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": "http://gateway",
        "ANTHROPIC_API_KEY": key,
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://gateway",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_SERVICE_NAME": identity.name,
        "OTEL_RESOURCE_ATTRIBUTES": f"service.version={identity.version},podctl.attempt={attempt}",
    }
    if proposes:
        values["PODCTL_APPROVALS"] = "http://gateway/approvals"
    if agent.model.name:
        values["PODCTL_MODEL"] = agent.model.name
    urls = {}
    for name in databases(topology):
        database = topology.databases[name]
        role, password = credentials[name]
        urls[name] = f"postgresql://{role}:{password}@{name}:{database.port}/{database.name}"
    if len(urls) == 1:
        values["DATABASE_URL"] = next(iter(urls.values()))
    for name in service_order(topology):
        service = topology.services[name]
        if service.ports:
            urls[name] = service_url(name, service)
    values |= {f"{variable(name)}_URL": url for name, url in urls.items()}
    return values | dict(agent.environment)


def variable(name: str) -> str:
    """``orders-api`` -> ``ORDERS_API``."""
    return name.upper().replace("-", "_")
