"""Certificates of made-up runs, for tests of what they are enough for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

from example_run import GATE, START_NS, example_run

from podctl.evidence.results import FidelityPart, RunResult
from podctl.signing import PublicKey, SigningKey
from podctl.spec.ladder import Ladder
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
