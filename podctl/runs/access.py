"""What an agent may use in its pod: a role in each database, a pass at the gateway, and an environment that names them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podctl.agents import contract
from podctl.agents.identity import AgentIdentity
from podctl.backends.base import Backend
from podctl.boundary.policies import Policy, policies_of
from podctl.boundary.rows import approvable
from podctl.evidence.identity import spiffe_id, who
from podctl.evidence.results import Variant
from podctl.faults import point
from podctl.gateway.client import Gateway
from podctl.gateway.contract import Approving, AttemptPass
from podctl.honey.planting import NOTHING, Decoys
from podctl.spec.bundle import Bundle
from podctl.spec.checks_boundary import extra_of
from podctl.spec.resolved import boundary_digest
from podctl.spec.topology import databases, tool_servers

#: What a boundary says of everything but databases, left out.
_ONLY_TABLES: Mapping[str, Any] = {"services": {}, "tools": {}, "infrastructure": {}, "cedar": None, "exceptions": ()}


@dataclass(frozen=True)
class Access:
    """``secrets`` are the key and the passwords in ``environment``: worth nothing outside the pod, and not to be written down."""

    environment: dict[str, str]
    secrets: tuple[str, ...]


def new_role() -> str:
    return f"ag_{secrets.token_hex(5)}"


def policies_for(bundle: Bundle) -> tuple[Policy, ...]:
    """What the gateway decides by, alike for every attempt: the boundary's own Cedar file as it was loaded. Raises `SpecError`."""
    return policies_of(bundle.boundary, extra_of(bundle.boundary) if bundle.extra is None else bundle.extra)


def who_works(bundle: Bundle, identity: AgentIdentity, *, pod: str, attempt: str, role: str) -> dict[str, str]:
    """What every record of the attempt says of whose it is."""
    spiffe = spiffe_id(bundle.scenario.run.trust_domain, pod, identity.name, identity.version)
    return who(spiffe, identity.digest, attempt, (bundle.boundary.name, boundary_digest(bundle.boundary)), role)


async def give_access(
    backend: Backend,
    gateway: Gateway,
    bundle: Bundle,
    identity: AgentIdentity,
    *,
    pod: str,
    identified: Mapping[str, str],
    evidence: Path,
    decoys: Decoys = NOTHING,
    variant: Variant | None = None,
    approvals: Approving | None = None,
) -> Access:
    """Make the role of ``identified`` in each database of the pod with the boundary's rights, and open its attempt at the gateway.

    ``evidence`` is the stream that the gateway writes, ``identified`` (`who_works`) on each of its records, ``approvals`` who answers what it
    proposes. Raises `PodctlError`.
    """
    role, attempt = identified["role"], identified["attempt"]
    agent, limits = bundle.agent, bundle.scenario.limits
    credentials = {}
    for name in databases(bundle.topology):
        rules = bundle.boundary.rights(name)
        credentials[name] = (role, await backend.database(pod, name).grant_agent(role, rules))
    places = {}
    if approvals is not None:
        proposable = {name: approvable(bundle.boundary, name) for name in databases(bundle.topology)}
        places = {name: await backend.database(pod, name).grant_approved(rules) for name, rules in proposable.items() if rules}
    point("attempt.granted")
    key = f"pod-{secrets.token_urlsafe(24)}"
    await gateway.open_attempt(
        AttemptPass(
            attempt=attempt,
            pod=pod,
            key=key,
            evidence=evidence,
            tokens=limits.tokens,
            dollars=limits.dollars,
            spans=limits.spans,
            services=agent.tools,
            policies=policies_for(bundle),
            servers=tool_servers(bundle.topology),
            routing=agent.routing,
            honeytokens=decoys.tokens,
            agent=identity.name,
            who=identified,
            variant={} if variant is None else variant.data,
            approvals=approvals,
            tables=None if approvals is None else bundle.boundary.model_copy(update=_ONLY_TABLES),
            places=places,
        )
    )
    point("attempt.opened")
    environment = contract.environment(
        agent,
        identity,
        bundle.topology,
        attempt=attempt,
        pod=pod,
        key=key,
        credentials=credentials,
        proposes=approvals is not None,
    )
    return Access(environment | dict(decoys.environment), (key, *(password for _, password in credentials.values())))
