"""Seeds and boundary are tried before a run begins, on a pod that has the databases alone."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping

from podctl.data.template import TemplateFacts
from podctl.pods.plan import PodSpec, Step, steps
from podctl.spec.bundle import Bundle
from podctl.spec.models import Topology
from podctl.spec.tables import check_boundary, check_cases, check_scenario
from podctl.spec.topology import databases

#: The run of a pod that others are made from.
TEMPLATE_RUN = "template"


async def try_seeds(
    bundle: Bundle,
    apply: Callable[[PodSpec, Step], Awaitable[None]],
    facts: Callable[[str], Mapping[str, TemplateFacts]],
    remove: Callable[[str], None],
    keep: Callable[[str], Awaitable[None]] | None = None,
) -> dict[str, str]:
    """The version of each database's server.

    ``facts`` gives those of a pod's templates, by its id; ``remove`` begins its removal, which nobody waits for here.
    ``keep`` may take from it, before, what other pods can be made from.

    Raises `SpecError` when the boundary or the ignored columns do not fit the seeds, and whatever ``apply`` does.
    """
    topology = bundle.topology
    alone = {name: topology.databases[name] for name in databases(topology)}
    if not alone:
        return {}
    spec = PodSpec(
        f"try-{secrets.token_hex(4)}",
        TEMPLATE_RUN,
        Topology(apiVersion=topology.apiVersion, kind=topology.kind, name=topology.name, databases=alone),
    )
    try:
        for step in steps(spec, {}):
            if step.resource.kind != "door":
                await apply(spec, step)
        made = facts(spec.id)
        known = {name: one.columns for name, one in made.items()}
        if bundle.scenario.boundary.is_file():
            check_boundary(bundle.scenario.boundary, known)
        if bundle.path.is_file():
            check_scenario(bundle.path, known)
        check_cases(bundle.cases or (), known)
        if keep is not None:
            await keep(spec.id)
        return {name: one.server for name, one in made.items()}
    finally:
        remove(spec.id)
