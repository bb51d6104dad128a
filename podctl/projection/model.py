"""What a run's sample says of the real workload: frozen figures, each with its range or why it has none, and their JSON form.

Dollars, hours, tickets and tokens are floats: they are estimates. No field is a mapping, so that the JSON form can be read back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from podctl.evidence import codec
from podctl.spec.base import API_VERSION

KIND = "Projection"
#: Counted tickets below which a stratum's figures are called low confidence.
THIN = 25
#: Counted tickets below which no range is given.
LEAST = 10

Unit = Literal["dollars", "tickets", "share", "tokens", "hours", "seconds", "per hour", "pods"]
#: What money is spent on, in the order that tables have.
PartName = Literal["models", "pods", "approvals", "fallback", "rework"]


@dataclass(frozen=True)
class Estimate:
    """``value`` with the range that ``method`` gives at ``level`` (0 to 1).

    ``value`` None: unknown, never 0; ``low`` and ``high`` None: no range. ``why`` says why either is missing, and is empty else.
    ``at_least``: where some costs are unknown, what the known ones come to.
    """

    value: float | None
    unit: Unit
    low: float | None = None
    high: float | None = None
    level: float | None = None
    method: str = ""
    why: str = ""
    at_least: float | None = None


@dataclass(frozen=True)
class Part:
    """One thing that money is spent on. ``quantity`` (tokens, hours) has no price where ``dollars`` is unknown.

    ``counted``: it is in the total. What has no rate is not, and ``why`` of its dollars says so.
    """

    name: PartName
    quantity: Estimate
    dollars: Estimate
    counted: bool


@dataclass(frozen=True)
class TokenKind:
    """Tokens of one of `podctl.evidence.records.TOKEN_KINDS`."""

    kind: str
    tokens: Estimate


@dataclass(frozen=True)
class Outcomes:
    """Tickets of the volume by how they end; the three values add up to it.

    ``resolved``: as the checks ask; ``handed_over``: the agent visibly failed (an error, a refusal, a limit), so a person works it;
    ``wrong``: it said it was done and was not, or changed what it must not, so somebody finds out and works it again.
    """

    resolved: Estimate
    handed_over: Estimate
    wrong: Estimate
    resolved_share: Estimate


@dataclass(frozen=True)
class StratumProjection:
    """``tickets`` of the volume; ``sampled`` of the run, of which ``counted`` say something about the agent.

    ``confidence``: low below `THIN` counted tickets; none: nothing is known of it, and it is in no total.
    ``like``: the stratum whose tickets stand in for its own.
    """

    name: str
    tickets: float
    sampled: int
    counted: int
    population: int
    confidence: Literal["usual", "low", "none"]
    dollars: Estimate
    dollars_per_ticket: Estimate
    dollars_per_resolved: Estimate
    resolved_share: Estimate
    pod_hours: Estimate
    human_hours: Estimate
    like: str = ""


@dataclass(frozen=True)
class Period:
    """One period of the volume, from 1."""

    number: int
    tickets: float
    dollars: Estimate


@dataclass(frozen=True)
class Volume:
    """What is projected to. ``of``: 'future' tickets like those of the population, or the 'population' itself, once each.

    ``covered`` of ``tickets`` are in strata of which something is known. ``uncertainty``: standard deviation of the tickets, as a share.
    """

    name: str
    of: Literal["future", "population"]
    tickets: float
    covered: float
    periods: int
    uncertainty: float


@dataclass(frozen=True)
class Budget:
    """``over``: the chance that the total is above ``dollars``; None when the total has no range."""

    dollars: float
    over: float | None
    why: str = ""


@dataclass(frozen=True)
class Coverage:
    """How often the total's range held the true total over ``populations`` drawn like the run's own data.

    ``achieved`` and ``error`` (one standard error of it) are shares. ``fitted`` says how the populations were made.
    """

    nominal: float
    achieved: float
    error: float
    populations: int
    fitted: str


@dataclass(frozen=True)
class Cap:
    """What a lower cap on a ticket's model dollars would have done: less spent on models, and tickets that people get instead.

    ``lost``: tickets resolved now that would be handed over. ``net``: change of the total, what people then cost included;
    below 0 the cap saves. ``reached``: share of tickets that reach the cap.
    """

    dollars: float
    reached: Estimate
    saves: Estimate
    lost: Estimate
    net: Estimate


@dataclass(frozen=True)
class MixShift:
    """Dollars per ticket at the mix of the run's population; what differs from the projection's ``per_ticket`` is the mix alone."""

    population: Estimate


@dataclass(frozen=True)
class Proposed:
    """What the sample's agents proposed and who answered: ``by_rules`` are simulated. ``tickets``: sampled ones with a proposal.

    ``attention``: seconds of people for one proposal on average, as the scenario states them. ``people_took``: seconds from question to
    answer where people answered, on average and measured; None where none did.
    """

    tickets: int
    proposals: int
    by_rules: int
    by_people: int
    attention: float
    people_took: float | None = None


@dataclass(frozen=True)
class HumanBaseline:
    """What the same volume takes without the agent. ``source``: where the minutes come from; ``saves``: its dollars less the total."""

    source: str
    minutes_per_ticket: float
    hours: float
    dollars: float | None
    saves: Estimate


@dataclass(frozen=True)
class Clearing:
    """A backlog of the volume, worked by ``pods`` at once. ``hours``: simulated median with the range of the simulations.

    ``divided``: work over pods, which heavy tails and limits break. ``bound_by``: what kept it from being faster.
    """

    pods: int
    hours: Estimate
    divided: float
    bound_by: str


@dataclass(frozen=True)
class SteadyState:
    """Tickets that keep arriving, ``per_hour``, worked by ``pods``. Unstable: the queue grows by ``growth_per_hour`` without end, and
    waits are unknown.

    ``busy``: share of what `bound_by` can do; ``least_pods`` that could keep up; ``overloaded``: the share of redrawn samples in which
    the queue grows without end.
    """

    pods: int
    per_hour: float
    stable: bool
    busy: float
    least_pods: int
    growth_per_hour: float
    overloaded: float
    wait_mean: Estimate
    wait_p95: Estimate
    in_system: Estimate
    bound_by: str


@dataclass(frozen=True)
class Deadline:
    """The fewest pods that clear the volume within ``hours``; None with ``why`` when no number of pods does."""

    hours: float
    pods: int | None
    why: str = ""


@dataclass(frozen=True)
class Timing:
    clearing: tuple[Clearing, ...] = ()
    steady: SteadyState | None = None
    deadline: Deadline | None = None
    assumptions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warned:
    """``code`` is stable, for programs; ``text`` is one sentence for people."""

    code: str
    text: str


@dataclass(frozen=True)
class Projection:
    """A run's sample projected to a volume. ``total`` is the sum of the counted parts and is what ``budget`` is held against.

    ``total.value`` is None where some stratum or some cost is unknown; ``covered_dollars`` then says what the known strata
    come to. ``beside``: the total's range by other methods. ``simulated``: figures of a scripted model.
    """

    run: str
    scenario: str
    agent_name: str
    agent_version: str
    simulated: bool
    made_ns: int
    seed: int
    replications: int
    level: float
    volume: Volume
    sampled: int
    counted: int
    repeats: int
    total: Estimate
    covered_dollars: Estimate
    beside: tuple[Estimate, ...]
    parts: tuple[Part, ...]
    per_ticket: Estimate
    per_resolved: Estimate
    outcomes: Outcomes
    tokens: tuple[TokenKind, ...]
    pod_hours: Estimate
    human_hours: Estimate
    strata: tuple[StratumProjection, ...]
    periods: tuple[Period, ...]
    caps: tuple[Cap, ...] = ()
    budget: Budget | None = None
    coverage: Coverage | None = None
    mix: MixShift | None = None
    baseline: HumanBaseline | None = None
    timing: Timing | None = None
    proposed: Proposed | None = None
    warnings: tuple[Warned, ...] = ()
    assumptions: tuple[str, ...] = ()


def to_json(projection: Projection) -> dict[str, Any]:
    """``{apiVersion, kind: Projection, run, …}``, names in camelCase, an unknown value null; `from_json` reads it back."""
    return {"apiVersion": API_VERSION, "kind": KIND, **_renamed(codec.to_json(projection), _camel)}


def from_json(value: dict[str, Any]) -> Projection:
    """Raises ValueError for what is no projection."""
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise ValueError("this is no projection: podctl project -o json writes one")
    try:
        return codec.from_json(Projection, _renamed(value, _snake))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this projection cannot be read: {error}") from error


def _renamed(value: Any, rename: Any) -> Any:
    if isinstance(value, dict):
        return {rename(key): _renamed(item, rename) for key, item in value.items()}
    return [_renamed(item, rename) for item in value] if isinstance(value, list) else value


def _camel(name: str) -> str:
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])|(?<=[a-z])([0-9])", lambda match: "_" + match[0].lower(), name)
