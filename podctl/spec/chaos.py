"""What a chaos campaign does to a ticket's attempts, as users write it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from podctl.spec.base import Model, Name, Seconds, Share

#: A door of the pod: a service's name, or ``models``.
Door = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
#: Whether a call whose answer fails did its work: never (before it), always (after it), or as the seed says.
Effect = Literal["before", "after", "either"]
Call = Annotated[int, Field(ge=1, le=10_000)]
Status = Annotated[int, Field(ge=400, le=599)]


class _Calls(Model):
    """Which calls are hit. One of a door's first three is, and each other with ``share``; or just the ``calls`` that are named."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset()

    where: tuple[Door, ...] = Field((), description="services, or models; empty: all of them")
    share: Share = 0.2
    calls: tuple[Call, ...] = Field((), description="these calls of each door, counted from 1, in place of a share")


class Latency(_Calls):
    """Calls take longer: log-normally, as slow systems do."""

    kind: Literal["latency"]
    median: Seconds = 0.5
    spread: Annotated[float, Field(ge=0, le=3)] = Field(0.8, description="standard deviation of the logarithm")
    most: Seconds = 5.0
    share: Share = 0.5


class Errors(_Calls):
    """Calls are answered with an error, a model's in its provider's own words, a tool's as servers say it."""

    kind: Literal["errors"]
    statuses: tuple[Status, ...] = Field((500, 502, 503, 429), min_length=1)
    model_statuses: tuple[Literal[429, 500, 503, 529], ...] = Field((429, 500, 529), min_length=1)
    tool_errors: tuple[Literal["result", "protocol"], ...] = Field(
        ("result", "protocol"), min_length=1, description="a tool's result that says so, or an error of JSON-RPC"
    )
    effect: Effect = "either"


class Timeouts(_Calls):
    """Calls are not answered: the connection is held, then closed."""

    kind: Literal["timeouts"]
    hold: Seconds = 3.0
    effect: Effect = "either"


class Broken(_Calls):
    """Answers that are no answers: cut off, not whole JSON, or in drips."""

    kind: Literal["broken"]
    how: tuple[Literal["reset", "truncated", "drip"], ...] = Field(("reset", "truncated", "drip"), min_length=1)
    seconds: Seconds = Field(2.0, description="how long a drip takes")


class Stale(_Calls):
    """A service's GETs, and calls of tools that only read, are answered as when they were first made in the attempt, like a replica that lags."""

    kind: Literal["stale"]
    answers: Annotated[int, Field(ge=1, le=1000)] = Field(3, description="stale answers to one address before it is fresh")
    share: Share = 1.0


class Rival(Model):
    """Somebody else writes the rows that the ticket refers to, once the agent has called or looked."""

    kind: Literal["rival"]
    tables: tuple[str, ...] = Field((), description="database.table; empty: those that the ticket's reference changes")
    after: Call = Field(1, description="the agent's how manieth statement or call sets it off")
    hold: Seconds | None = Field(None, description="it keeps its rows locked so long before it commits")


class Migration(Model):
    """The schema of a database changes while the agent works."""

    kind: Literal["migration"]
    database: Name | None = Field(None, description="needed where there are several")
    change: Literal["add-column", "rename-column", "index", "constraint"] = "add-column"
    table: str | None = Field(None, description="default: the first that the agent may write")
    column: str | None = Field(
        None, description="of rename-column and constraint; default: the first that the agent may update"
    )
    sql: Path | None = Field(None, description="a file that is applied in place of a change")
    after: Call = 1


class Clock(Model):
    """The agent's clock is wrong."""

    kind: Literal["clock"]
    offset: Annotated[float, Field(ge=-10 * 366 * 86400, le=10 * 366 * 86400)] = Field(
        3 * 86400.0, description="seconds; below 0: in the past"
    )


Fault = Annotated[
    Latency | Errors | Timeouts | Broken | Stale | Rival | Migration | Clock,
    Field(discriminator="kind"),
]
FAULTS: dict[str, type[Model]] = {
    "latency": Latency,
    "errors": Errors,
    "timeouts": Timeouts,
    "broken": Broken,
    "stale": Stale,
    "rival": Rival,
    "migration": Migration,
    "clock": Clock,
}


class Chaos(Model):
    """A campaign: each ticket is worked as it is, and once more with each of the faults."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Chaos"]
    name: Name
    description: str = ""
    seed: int = 1
    faults: dict[Name, Fault] = Field(min_length=1)
