"""What a test pod consists of, and the steps from what exists to what should. PURE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from podctl.spec.models import Topology
from podctl.spec.topology import databases, service_order
from podctl.tickets.states import DatabaseState

Kind = Literal["directory", "network", "database", "service", "door"]
_ORDER: tuple[Kind, ...] = ("directory", "network", "database", "service", "door")


@dataclass(frozen=True, order=True)
class Resource:
    kind: Kind
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}" if self.name else self.kind


@dataclass(frozen=True)
class PodSpec:
    """A desired pod. ``generation`` counts the attempts that got a fresh state from it.

    ``states``: the databases of this generation that are not as their templates are.
    """

    id: str
    run: str
    topology: Topology
    generation: int = 1
    share_services: bool = False
    states: Mapping[str, DatabaseState] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Step:
    """``make`` what is missing, ``reset`` a database to its template, ``remove`` what is outdated."""

    action: Literal["make", "reset", "remove"]
    resource: Resource
    generation: int = 1

    def __str__(self) -> str:
        return f"{self.action} {self.resource}"


def desired(spec: PodSpec) -> dict[Resource, int]:
    """Every resource of the pod with the generation it should have, in the order of making."""
    wanted: dict[Resource, int] = {Resource("directory"): 1, Resource("network"): 1}
    for name in databases(spec.topology):
        wanted[Resource("database", name)] = spec.generation
    for name in service_order(spec.topology):
        # A stub answers from its routes alone: it has nothing of an earlier attempt to forget.
        keeps = spec.share_services or spec.topology.services[name].mode == "stubbed"
        wanted[Resource("service", name)] = 1 if keeps else spec.generation
    wanted[Resource("door")] = 1
    return wanted


def steps(spec: PodSpec, observed: Mapping[Resource, int]) -> list[Step]:
    """The steps that make ``observed`` the desired pod; none when it already is.

    Outdated services stop before their databases are reset and start again after.
    """
    wanted = desired(spec)
    extra = [resource for resource in observed if resource not in wanted]
    outdated = [resource for resource, generation in wanted.items() if observed.get(resource, generation) != generation]
    result = [Step("remove", resource) for resource in _teardown_order(extra)]
    stale_services = [resource for resource in outdated if resource.kind == "service"]
    result += [Step("remove", resource) for resource in reversed(stale_services)]
    for resource, generation in wanted.items():
        if resource not in observed or resource in stale_services:
            result.append(Step("make", resource, generation))
        elif resource in outdated:
            result.append(Step("reset", resource, generation))
    return result


def batches(plan: Sequence[Step], topology: Topology) -> list[list[Step]]:
    """The same steps in the same order, grouped where neighbours do not wait for one another.

    Databases go together, and services that depend on no other service of their group.
    """
    grouped: list[list[Step]] = []
    for step in plan:
        if grouped and _together(grouped[-1], step, topology):
            grouped[-1].append(step)
        else:
            grouped.append([step])
    return grouped


def _together(group: list[Step], step: Step, topology: Topology) -> bool:
    kind = step.resource.kind
    if kind not in ("database", "service") or any(one.resource.kind != kind or one.action != step.action for one in group):
        return False
    if kind == "database" or step.action == "remove":
        return True
    return not {one.resource.name for one in group} & set(topology.services[step.resource.name].depends_on)


def advance(observed: Mapping[Resource, int], step: Step) -> dict[Resource, int]:
    """What exists once a step has been applied: the meaning of a step, in one place."""
    after = dict(observed)
    if step.action == "remove":
        after.pop(step.resource, None)
    else:
        after[step.resource] = step.generation
    return after


def teardown(observed: Mapping[Resource, int]) -> list[Step]:
    return [Step("remove", resource) for resource in _teardown_order(list(observed))]


def _teardown_order(resources: list[Resource]) -> list[Resource]:
    return sorted(resources, key=lambda resource: (-_ORDER.index(resource.kind), resource.name))
