"""Who answers what an attempt proposes, from its scenario and from whoever launched the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from podctl.gateway.contract import Approving
from podctl.signing import PublicKey
from podctl.spec.approvals import Approvals
from podctl.spec.bundle import Bundle
from podctl.spec.resolved import boundary_digest
from podctl.tickets.types import Ticket


@dataclass(frozen=True)
class Approvers:
    """``people``: name -> key; ``barred``: key ids that may not answer, and why; ``nobody``: why no person can be asked, or nothing."""

    people: Mapping[str, PublicKey] = field(default_factory=dict)
    barred: Mapping[str, str] = field(default_factory=dict)
    nobody: str = "nobody waits for people's answers"


NOBODY = Approvers()


def approvers(spec: Approvals | None, launcher: PublicKey | None, nobody: str) -> Approvers:
    """``launcher``: whose key signs the run's audit log. Raises `KeyProblem` for a key that cannot be read."""
    if spec is None:
        return NOBODY
    people = {name: PublicKey.read(path) for name, path in spec.people.items()}
    barred = {}
    if launcher is not None and spec.launcher == "may-not-approve":
        barred[launcher.id] = "the key launched the run (approvals.launcher)"
    return Approvers(people, barred, nobody)


def approving(bundle: Bundle, attempt: str, ticket: Ticket, who: Approvers) -> Approving | None:
    """Of one planned attempt; None where nobody answers. What rules draw is the same in every run of the seed."""
    spec = bundle.scenario.approvals
    if spec is None:
        return None
    known = json.loads(json.dumps({**ticket.fields, "id": ticket.id, "stratum": ticket.stratum}, default=str))
    seed = f"{bundle.scenario.run.seed}:{attempt}"
    return Approving(spec, seed, known, boundary_digest(bundle.boundary), who.people, who.barred, who.nobody)
