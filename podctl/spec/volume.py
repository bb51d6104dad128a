"""The real workload that a run's sample is projected to, and what things cost there, as users write it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from podctl.spec.base import Dollars, Model, Name, Seconds, Share
from podctl.spec.tickets import Age

Count = Annotated[int, Field(ge=0, le=10**12)]
#: A change from one period to the next, as a share: 0.02 is 2 % more.
Growth = Annotated[float, Field(gt=-1, le=10)]
#: A standard deviation as a share of the mean.
Deviation = Annotated[float, Field(ge=0, le=2)]


class StratumVolume(Model):
    """Tickets of one stratum in the first period, and how they change."""

    tickets: Count
    growth: Growth | None = Field(None, description="from each period to the next; default: the volume's")
    uncertainty: Deviation = Field(
        0.0, description="standard deviation of the tickets, as a share of them; besides the volume's"
    )
    like: str | None = Field(None, description="a stratum of the run that stands in for it, where the run has no such tickets")


def _number_or_mapping(value: Any) -> str:
    return "StratumVolume" if isinstance(value, dict | StratumVolume) else "number"


InStratum = Annotated[
    Annotated[Count, Tag("number")] | Annotated[StratumVolume, Tag("StratumVolume")], Discriminator(_number_or_mapping)
]


class Approval(Model):
    """A person looks at what the agent did before it counts."""

    share: Share = Field(1.0, description="of the tickets that the agent says it did")
    time: Seconds = Field(description="a person's, for each")


class People(Model):
    dollars_per_hour: Dollars = Field(description="what an hour of a person's work costs, all included")
    approval: Approval | None = Field(None, description="default: nobody approves anything")
    fallback: Seconds | None = Field(
        None, description="a person's time for a ticket that the agent hands over; default: the baseline's"
    )


class Rework(Model):
    """What it takes to find and mend a wrong outcome."""

    time: Seconds | None = Field(None, description="a person's; default: as for a ticket that is handed over")
    dollars: Dollars | None = Field(None, description="besides: a refund paid twice, a customer's goodwill")


class PodRate(Model):
    dollars_per_hour: Dollars = Field(description="of one pod that works one ticket at a time")


class BaselineTickets(Model):
    """Handling times of tickets that people worked: a number in each ticket's row."""

    file: Path = Field(description="a Tickets file")
    path: str = Field(description="of a number in the row, such as handling.events or minutes_worked")
    each: Seconds = Field(60.0, description="a person's time for one of that number; default: it is minutes")
    at_most: Seconds | None = Field(None, description="times above this count as this: tickets that were forgotten, not worked")


class Baseline(Model):
    """What people take for a ticket without an agent; exactly one."""

    time: Seconds | None = Field(None, description="the mean for any ticket")
    strata: dict[str, Seconds] | None = Field(None, description="stratum -> the mean for its tickets")
    tickets: BaselineTickets | None = None


class RateLimit(Model):
    """What a provider lets through; left out: not limited."""

    tokens_per_minute: Annotated[float, Field(gt=0)] | None = None
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None


class Work(Model):
    """Where and how the tickets are worked: for the time it takes."""

    pods: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field((), description="tickets at once; one answer for each")
    deadline: Age | None = Field(None, description="how many pods clear the volume within it?")
    chance: Annotated[float, Field(gt=0, lt=1)] = Field(0.95, description="how surely the deadline is to be met")
    reset: Annotated[float, Field(ge=0, le=86_400)] = Field(0.0, description="seconds between two tickets of a pod")
    provider: RateLimit = RateLimit()
    connections: Annotated[int, Field(ge=1)] | None = Field(None, description="the database pool of all pods together")
    connections_each: Annotated[int, Field(ge=1)] = 1


class Volume(Model):
    """How many tickets there will be and what things cost. What has no rate here is in no total, and the projection says so."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Volume"]
    name: Name
    description: str = ""
    of: Literal["future", "population"] = Field(
        "future", description="'population': the very tickets that the sample was drawn from, once each"
    )
    tickets: Count | None = Field(None, description="in the first period, by the mix of the run's population")
    strata: dict[str, InStratum] | None = Field(
        None, description="stratum -> tickets in the first period, or a mapping; every stratum of the run's population"
    )
    period: Literal["day", "week", "month", "quarter", "year"] = "month"
    periods: Annotated[int, Field(ge=1, le=120)] = 1
    growth: Growth = Field(0.0, description="of all strata, from each period to the next")
    uncertainty: Deviation = Field(0.0, description="standard deviation of the volume, as a share of it; of all strata alike")
    people: People | None = None
    rework: Rework | None = None
    pods: PodRate | None = None
    baseline: Baseline | None = None
    budget: Dollars | None = Field(None, description="for all periods together")
    caps: tuple[Annotated[Dollars, Field(gt=0)], ...] = Field(
        (), description="model dollars for a ticket: what would such a cap save and lose? 10 at most"
    )
    work: Work | None = None

    def in_stratum(self, name: str) -> StratumVolume:
        """Raises KeyError for a stratum without an entry."""
        found = (self.strata or {})[name]
        return found if isinstance(found, StratumVolume) else StratumVolume(tickets=found)
