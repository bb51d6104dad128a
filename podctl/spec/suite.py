"""Suites: tickets that went wrong once, each kept as a case with the rows it needs, and reviewed by a person."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from podctl.spec.base import Model, Name
from podctl.spec.models import Gate

#: Why a ticket became a case.
Kind = Literal["failed", "confusing", "attacked", "incident"]
KINDS: tuple[Kind, ...] = ("attacked", "failed", "confusing", "incident")
#: Of a suite.
MOST_CASES = 5_000
#: Frozen rows of a case: it is a file that people read.
MOST_ROWS = 2_000

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
CaseName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class CaseTicket(Model):
    """The ticket as the agent sees it; ``stratum`` is that of the source it came from."""

    id: Annotated[str, Field(min_length=1, max_length=200)]
    text: str = ""
    stratum: str = ""
    fields: dict[str, Any] = Field(default_factory=dict)


class FrozenRows(Model):
    """Rows of a table as they were before an attempt, values as PostgreSQL writes them as text.

    Those of the seed that have a key in ``gone`` give way to ``rows``.
    """

    key: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    gone: tuple[tuple[str | None, ...], ...] = ()
    rows: tuple[tuple[str | None, ...], ...] = ()


class CaseOrigin(Model):
    """Where a case comes from. Of an incident that no run saw, ``run`` and what belongs to it is empty."""

    kind: Kind
    why: str
    like: str = Field("", description="another case that failed alike when this one was added by name")
    run: str = ""
    attempt: str = ""
    agent: str = ""
    digest: Digest | Literal[""] = Field("", description="of the agent")
    evidence: Digest | Literal[""] = Field("", description="the root of the attempt's sealed evidence")
    failure: Digest | Literal[""] = Field(
        "", description="of how it failed: its cause, checks, and what of which tables was wrong"
    )
    unmasked: str = Field("", description="why the ticket is here as its source has it")
    learned: str = Field(description="when, in UTC")
    by: str = Field(description="the account that learned it")


class Review(Model):
    """What a person said of a case; an accepted one is run. ``content`` is the digest of what was reviewed."""

    status: Literal["proposed", "accepted", "rejected"] = "proposed"
    by: str = ""
    at: str = ""
    because: str = ""
    content: Digest | Literal[""] = ""
    key: str = Field("", description="id of the key that signed")
    signature: str = ""


class Case(Model):
    """A ticket to be worked again: with its state, what should come of it, and where it comes from."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Case"]
    name: CaseName
    ticket: CaseTicket
    reference: dict[str, Any] | None = Field(None, description="how it should be resolved; null: a reviewer has to say it")
    state: dict[Name, dict[str, FrozenRows]] = Field(default_factory=dict, description="database -> table -> rows")
    seeds: dict[Name, Digest] = Field(default_factory=dict, description="database -> the seed that the state belongs to")
    origin: CaseOrigin
    review: Review = Review()

    @property
    def content(self) -> str:
        """sha256 over the ticket, its reference and its state: what a reviewer reviews."""
        return _digest(self.model_dump(mode="json", include={"ticket", "reference", "state", "seeds"}))

    @property
    def identity(self) -> str:
        """sha256 over the ticket and its state, whatever its reference: the same is not learned twice."""
        return _digest(self.model_dump(mode="json", include={"ticket", "state"}))


class Suite(Model):
    """Cases are the files ``cases/NAME.yaml`` beside this one."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset()

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Suite"]
    name: Name
    description: str = ""
    scenario: Path = Field(description="what cases are worked in: its topology, agent, boundary, checks and limits")
    gate: Gate = Field(Gate(pass_rate=1), description="what a run of the suite must reach, in place of the scenario's")
    reviewers: dict[str, Path] = Field(
        default_factory=dict, description="who may accept cases -> the file of their public key; without, nobody has to sign"
    )


def cases_directory(suite: Path) -> Path:
    """Beside the suite's file."""
    return suite.parent / "cases"


def review_statement(case: Case, review: Review) -> bytes:
    """What a reviewer signs."""
    said = review.model_dump(mode="json", include={"status", "by", "at", "because", "content"})
    return _canonical({"podctl": "review of a case, 1", "case": case.name, **said})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _digest(value: Any) -> str:
    return hashlib.sha256(_canonical(value)).hexdigest()
