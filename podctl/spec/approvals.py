"""Who answers what an agent proposes, as users write it."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from podctl.spec.base import Dollars, Model, Name, Seconds, Share

Scalar = str | int | float | bool
Place = Annotated[str, Field(pattern=r"^(body|arguments|key|values|row|ticket)(\.[^.\s]([^.\r\n]{0,98}[^.\s])?){1,8}$")]


def is_called(name: str, of: str) -> bool:
    """Whether ``of`` means ``name``: ``*`` in it is any text, and every other character itself, as names of tables may have any."""
    return re.fullmatch(".*".join(map(re.escape, of.split("*"))), name, re.DOTALL) is not None


class Condition(Model):
    """Of one value; all that is given must hold. Bounds are on numbers of 0 and more, also on those that are written as text."""

    at_least: Dollars | None = None
    at_most: Dollars | None = None
    one_of: tuple[Scalar, ...] | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Condition:
        if self.at_least is None and self.at_most is None and self.one_of is None:
            raise ValueError("expected at_least, at_most or one_of")
        return self

    @property
    def bounds(self) -> tuple[Decimal, Decimal] | None:
        """The least and the most; None where there is neither."""
        if self.at_least is None and self.at_most is None:
            return None
        return self.at_least or Decimal(0), Decimal("Infinity") if self.at_most is None else self.at_most


class Delay(Model):
    """How long an answer takes: ``least`` to ``most`` alike, or lognormal with a ``median`` that nine in ten stay under ``p90``."""

    least: Seconds | None = None
    most: Seconds | None = None
    median: Seconds | None = None
    p90: Seconds | None = None

    @model_validator(mode="after")
    def _is_one_distribution(self) -> Delay:
        uniform, lognormal = (self.least, self.most), (self.median, self.p90)
        for one, other in ((uniform, lognormal), (lognormal, uniform)):
            if other == (None, None) and None not in one:
                if one[0] > one[1]:  # type: ignore[operator]
                    raise ValueError("expected the smaller of the two first: least before most, median before p90")
                return self
        raise ValueError("expected a duration, or least and most, or median and p90")


def _mapping_or_not(value: Any) -> str:
    return "mapping" if isinstance(value, dict | Model) else "plain"


class ApprovalRule(Model):
    """One who answers. The first rule that covers a proposal does; what none covers is denied.

    ``draw`` approves a ``share`` of proposals, by the run's seed. All but ``person`` are simulated, and said so wherever they show.
    """

    of: str = Field(
        "*",
        description="the boundary's rule, as `podctl boundary explain` names it, with .COLUMN behind that of a table where it is about "
        "some; * stands for any text",
    )
    when: dict[
        Place, Annotated[Annotated[Scalar, Tag("plain")] | Annotated[Condition, Tag("mapping")], Discriminator(_mapping_or_not)]
    ] = Field(
        default_factory=dict,
        description="body.FIELD of a request, arguments.NAME of a tool, key.COLUMN, values.COLUMN and row.COLUMN (what stands there) of a "
        "database's row, ticket.FIELD -> its value, or a condition",
    )
    answer: Literal["approve", "deny", "draw", "person"]
    share: Share | None = Field(None, description="of `draw`: how many it approves")
    delay: (
        Annotated[Annotated[Seconds, Tag("plain")] | Annotated[Delay, Tag("mapping")], Discriminator(_mapping_or_not)] | None
    ) = Field(None, description="how long the answer takes; default: none. People take what they take")
    attention: Seconds | None = Field(None, description="of a person, for each proposal; for projections")
    timeout: Seconds = Field(60.0, description="of `person`: denied when nobody has answered by then")
    reason: Annotated[str, Field(pattern=r"^[^\n]{0,500}$")] = Field(
        "", description="what the agent is told; one line of 500 characters at most"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> ApprovalRule:
        if (self.answer == "draw") != (self.share is not None):
            raise ValueError("expected `share` with answer: draw, and only there")
        if self.answer == "person" and self.delay is not None:
            raise ValueError("a person takes as long as it takes: `delay` is for the other answers")
        return self


class Approvals(Model):
    """Proposals of what the boundary calls ``recommend``: who answers them, and what that takes."""

    rules: tuple[ApprovalRule, ...] = Field(min_length=1)
    wait: Literal["accounted", "real"] = Field(
        "accounted", description="'real': the agent waits as long as an answer takes; otherwise the delay is only counted"
    )
    people: dict[Name, Path] = Field(
        default_factory=dict, description="who may answer -> a file with their public key, as podctl audit key show prints it"
    )
    launcher: Literal["may-not-approve", "may-approve"] = Field(
        "may-not-approve",
        description="whether the key that signs the run's audit log may approve what the run's agent proposes",
    )

    @property
    def asks_people(self) -> bool:
        return any(rule.answer == "person" for rule in self.rules)
