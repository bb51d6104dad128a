"""A scenario with everything it refers to, loaded and checked against one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from podctl.spec.cedar import Extra
from podctl.spec.models import Agent, Boundary, Quarantine, Scenario, Tickets, Topology
from podctl.spec.suite import Case, Suite


@dataclass(frozen=True)
class Bundle:
    path: Path
    scenario: Scenario
    topology: Topology
    tickets: Tickets | Suite
    agent: Agent
    boundary: Boundary
    quarantine: Quarantine | None = None
    #: Of the boundary's Cedar file, as it was when the bundle was loaded; None: not read yet.
    extra: tuple[Extra, ...] | None = None
    #: Of a suite, reviewed or not; None: the tickets are those of a source.
    cases: tuple[Case, ...] | None = None
    #: Files that were put in place where these say ``use``.
    components: tuple[Path, ...] = ()
