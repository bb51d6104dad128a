"""Certificates of made-up runs, for tests of what they are enough for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from example_run import GATE, START_NS, example_run

from podctl.agents.identity import agent_digest
from podctl.clock import SystemClock
from podctl.evidence.results import FidelityPart, RunResult
from podctl.evidence.store import Store
from podctl.evidence.store_rows import AttemptState, Planned
from podctl.signing import PublicKey, SigningKey
from podctl.spec.ladder import Ladder
from podctl.spec.load import load_model
from podctl.spec.models import Agent, Boundary
from podctl.spec.resolved import boundary_digest
from podctl.stats.gate import judged
from podctl.trust.certificate import FACTS, Certificate, read_certificate
from podctl.trust.dsse import IN_TOTO, open_envelope, seal
from podctl.trust.statement import statement

RELEASE, ANA, BOB, STRANGER = (SigningKey(bytes([number]) * 32) for number in range(1, 5))
AGENT, SAMPLE, BOUNDARY = "9f4c21ab" * 8, "51d0e7c3" * 8, "b0" * 32
ENDED_S = START_NS / 1e9 + 214
DAY_S = 86400.0
CONTROLS = {"sandbox": "yes", "seccomp": "yes", "escape suite": "yes"}


def run(*, skill: float = 1.0, scale: int = 8, **fields: Any) -> RunResult:
    """A run that passes its gate, unless told otherwise; ``fields`` are of its `RunInfo`."""
    known = {
        "agent_digest": AGENT,
        "sample_digest": SAMPLE,
        "spec_digest": "0a" * 32,
        "digests": {"boundary": BOUNDARY, "topology": "70" * 32, "scenario": "5c" * 32, "tickets": "7c" * 32},
        "controls": CONTROLS,
        "fidelity": (FidelityPart("services", 0.8, {"orders": "mirrored"}), FidelityPart("clock", None, {})),
        "settings": {"gate": GATE.model_dump(mode="json") | {"regression": None, "cost_per_ticket": None}},
        **fields,
    }
    gate = GATE.model_copy(update={"regression": None, "cost_per_ticket": None})
    made = example_run(skill=skill, scale=scale, quirks=False, **known)
    return judged(replace(made, info=replace(made.info, simulated=known.get("simulated", False))), gate)


@cache
def _usual() -> str:
    return json.dumps(statement(run(), int((ENDED_S + 60) * 1e9)))


def certified(made: RunResult | None = None, *, by: str = "") -> dict[str, Any]:
    if made is None and not by:
        usual: dict[str, Any] = json.loads(_usual())
        return usual
    return statement(made or run(), int((ENDED_S + 60) * 1e9), by=by)


def sealed(document: dict[str, Any] | None = None, *keys: SigningKey, payload_type: str = IN_TOTO) -> bytes:
    return seal(document or certified(), payload_type, keys or (RELEASE,))


def facts(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["predicate"][FACTS]
    return found


def changed(change: Callable[[dict[str, Any]], Any], document: dict[str, Any] | None = None) -> dict[str, Any]:
    """A copy of a statement, changed in place by ``change``."""
    copy: dict[str, Any] = json.loads(json.dumps(document or certified()))
    change(copy)
    return copy


def certificate(document: dict[str, Any] | None = None) -> Certificate:
    return read_certificate(open_envelope(sealed(document), "c"), "c")


def ladder(*levels: dict[str, Any], people: dict[str, str] | None = None, **fields: Any) -> Ladder:
    head = {
        "apiVersion": "podctl/v1",
        "kind": "Ladder",
        "name": "ours",
        "people": people or {"ana": "ana.pub", "bob": "bob.pub"},
    }
    return Ladder.model_validate({**head, "levels": list(levels) or [{"name": "first"}], **fields})


PEOPLE: dict[str, PublicKey] = {"ana": ANA.public, "bob": BOB.public}


def of_this_agent(root: Path) -> dict[str, object]:
    """Fields of a run's info: the agent and the boundary of the project in ``root``, ended now."""
    agent = agent_digest(load_model(root / "agent.yaml", Agent))
    boundary = boundary_digest(load_model(root / "boundary.yaml", Boundary))
    digests = {"boundary": boundary, "topology": "70" * 32, "scenario": "5c" * 32, "tickets": "7c" * 32}
    named = {"agent_name": agent.name, "agent_version": agent.version, "agent_digest": agent.digest}
    return {**named, "digests": digests, "ended_ns": time.time_ns(), "started_ns": START_NS}


def keep(root: Path, made: RunResult, url: str | None = None) -> None:
    """Into the store of the project in ``root``."""
    store = Store.open(root / ("shared" if url else ".podctl"), SystemClock(), url=url)
    planned = [
        AttemptState(Planned(a.id, a.ticket, a.stratum, a.position, a.repeat), "ended", 1, None, a.cause) for a in made.attempts
    ]
    store.take_in(made, planned, [])
    store.close()
