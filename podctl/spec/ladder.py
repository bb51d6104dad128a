"""Trust in an agent version as a ladder: what each step lets it do, and the evidence that the step demands, as users write it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from podctl.spec.base import Model, Name, Share
from podctl.spec.models import Gate
from podctl.spec.tickets import Age

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: What a demand is called in lines, waivers and ``never_waived``: a field of `Level`, or a part of one as in ``gate.pass_rate``.
Demand = Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,39}(\.[A-Za-z0-9][A-Za-z0-9 ._-]{0,79})?$")]


class Approvals(Model):
    """People who say, each with a key of their own, that an agent version may have a level."""

    count: Annotated[int, Field(ge=1, le=20)] = 1
    by: tuple[Name, ...] = Field((), description="who may; default: everybody under the ladder's `people`")


class Level(Model):
    """One step, and what it demands besides what the steps below it demand."""

    name: Name
    description: str = ""
    verdict: Literal["pass", "inconclusive"] = Field("pass", description="the least that the run's verdict must be")
    simulated: bool = Field(False, description="whether a run whose model was a scripted one will do")
    gate: Gate | None = Field(None, description="what the run must have been asked, at least so strictly, and have passed")
    tickets: Annotated[int, Field(ge=1)] | None = Field(None, description="the least that count")
    stratum_tickets: Annotated[int, Field(ge=1)] | None = Field(None, description="the least that count in each stratum")
    strata: tuple[str, ...] = Field((), description="strata that must be in the sample")
    repeats: Annotated[int, Field(ge=1)] | None = None
    fidelity: Share | None = Field(None, description="the least score")
    fidelity_parts: dict[str, Share] = Field(default_factory=dict, description="part -> its least score")
    backends: tuple[Literal["local", "docker", "kubernetes"], ...] = Field((), description="where it may have run")
    controls: tuple[str, ...] = Field(
        (), description="of isolation, as podctl doctor names them; each must have been in effect"
    )
    boundaries: tuple[Digest, ...] = Field((), description="digests; the run's boundary must be one of them")
    boundary_attempts: Annotated[int, Field(ge=0)] | None = Field(None, description="the most there may have been")
    campaigns: tuple[Name, ...] = Field((), description="attack and failure campaigns that must have been passed")
    approvals: Approvals | None = None
    max_age: Age | None = Field(None, description="since the run ended")
    never_waived: tuple[Demand, ...] = ("verdict", "boundary_attempts", "approvals")

    @model_validator(mode="after")
    def _attacks_are_campaigns(self) -> Level:
        if self.gate is not None and self.gate.attack is not None:
            raise ValueError("attack campaigns are runs of their own: demand them by name, under campaigns")
        return self


class Ladder(Model):
    """Levels of trust, the lowest first. Who has one has all below it."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Ladder"]
    name: Name
    description: str = ""
    people: dict[Name, Path] = Field(
        default_factory=dict, description="who may approve or waive -> the file of their public key"
    )
    revocations_max_age: Age | None = Field(
        None, description="podctl verify then needs a list of revocations, no older than this"
    )
    levels: tuple[Level, ...] = Field(min_length=1, max_length=20)

    @model_validator(mode="after")
    def _names_are_known(self) -> Ladder:
        names = [level.name for level in self.levels]
        if len(names) != len(set(names)):
            raise ValueError("two levels have the same name")
        for level in self.levels:
            unknown = [one for one in (level.approvals.by if level.approvals else ()) if one not in self.people]
            if unknown:
                raise ValueError(f"level {level.name} is approved by {', '.join(unknown)}, and `people` has no such name")
        return self

    def up_to(self, name: str) -> tuple[Level, ...]:
        """The level and those below it, lowest first. Raises KeyError for a level that the ladder does not have."""
        for index, level in enumerate(self.levels):
            if level.name == name:
                return self.levels[: index + 1]
        raise KeyError(name)
