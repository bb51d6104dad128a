"""A scenario with everything it refers to, loaded and checked against one another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from podctl.spec.models import Agent, Boundary, Quarantine, Scenario, Tickets, Topology


@dataclass(frozen=True)
class Bundle:
    path: Path
    scenario: Scenario
    topology: Topology
    tickets: Tickets
    agent: Agent
    boundary: Boundary
    quarantine: Quarantine | None = None
