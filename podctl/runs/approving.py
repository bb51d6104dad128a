"""Who answers what an attempt proposes, from its scenario and from whoever launched the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from podctl.errors import SpecError
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
    """``launcher``: whose key signs the run's audit log. Raises `KeyProblem` for a key that cannot be read, `SpecError` where people
    are to be asked and none of them may answer."""
    if spec is None:
        return NOBODY
    people = {name: PublicKey.read(path) for name, path in spec.people.items()}
    barred = {}
    if launcher is not None and spec.launcher == "may-not-approve":
        barred[launcher.id] = "the key launched the run (approvals.launcher)"
    if spec.asks_people and not nobody and all(key.id in barred for key in people.values()):
        raise SpecError(
            "people are to be asked, and none of them may answer",
            code="no-approver",
            cause=f"the key of {', '.join(people)} signs the run's audit log: who launches a run does not approve what its agent does",
            unchanged="nothing was started",
            hint="list somebody else under approvals.people, launch with another key, or say launcher: may-approve",
        )
    return Approvers(people, barred, nobody)


def approving(bundle: Bundle, attempt: str, ticket: Ticket, who: Approvers) -> Approving | None:
    """Of one planned attempt; None where nobody answers. What rules draw is the same in every run of the seed."""
    spec = bundle.scenario.approvals
    if spec is None:
        return None
    known = json.loads(json.dumps({**ticket.fields, "id": ticket.id, "stratum": ticket.stratum}, default=str))
    seed = f"{bundle.scenario.run.seed}:{attempt}"
    return Approving(spec, seed, known, boundary_digest(bundle.boundary), who.people, who.barred, who.nobody)
