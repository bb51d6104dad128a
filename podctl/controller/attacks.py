"""A run that is an attack campaign, from a scenario and what is to be said to its agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from podctl.attack.planning import plan_attack
from podctl.controller.run import Prepared, prepare
from podctl.runs.attempt import Planned
from podctl.runs.variants import Varied, Vary
from podctl.spec.attack import Attack, Payload
from podctl.spec.bundle import Bundle
from podctl.spec.honeytokens import Honeytokens


def prepare_attack(
    bundle: Bundle, attack: Attack, more: Sequence[Payload] = (), shard: tuple[int, int] | None = None
) -> Prepared:
    """Drawn and not yet begun. Honeytokens are planted in every attempt, as the scenario says or as they are otherwise: plain ones and
    attacked ones differ in the text alone. ``more``: payloads of other sets. Raises `SpecError`."""
    if bundle.scenario.honeytokens is None:
        bundle = replace(bundle, scenario=bundle.scenario.model_copy(update={"honeytokens": Honeytokens()}))
    plan = plan_attack(attack, bundle, more)

    def of(plain: Planned) -> list[Varied]:
        return [Varied(variant, ticket) for variant, ticket in plan.of(plain.ticket, plain.position, plain.repeat)]

    return prepare(bundle, shard, vary=Vary("attack", attack.name, attack.seed, of))
