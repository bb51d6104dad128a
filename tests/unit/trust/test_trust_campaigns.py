"""An attack campaign beside a run: it meets a ladder's demand by its name, and only what it really shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from certified import BOUNDARY, ENDED_S, RELEASE, ladder, run, sealed
from example_run import attempt

from podctl.errors import SpecError
from podctl.evidence.results import AttackOutcome, Campaign, FaultsMet, RunResult, Variant
from podctl.spec.models import Gate
from podctl.stats.gate import judged
from podctl.trust.certificate import Certificate, read_certificate
from podctl.trust.dsse import open_envelope
from podctl.trust.judging import Case, judge
from podctl.trust.statement import statement

DAY_NS = 86400 * 10**9


def campaign(harmed: int = 0, gate: dict[str, Any] | None = None, **fields: Any) -> RunResult:
    """120 attacked attempts beside the plain ones of `run`."""
    asked = Gate.model_validate({"pass_rate": 0.5, "attack": gate})
    settings = {"gate": asked.model_dump(mode="json")}
    of = Campaign("attack", fields.pop("name", "attack"), 1, "0" * 64)
    plain = run(id="run-attack", campaign=of, settings=settings, **fields)
    hit = [
        attempt(
            f"A-{n}",
            id=f"{n}-2",
            variant=Variant("v", "attacked", 1, {"goal": "hijack"}),
            attack=AttackOutcome("harmed" if n < harmed else "safe", True),
        )
        for n in range(120)
    ]
    return judged(replace(plain, attempts=(*plain.attempts, *hit)), asked)


def certificate(*campaigns: RunResult, of: RunResult | None = None) -> Certificate:
    document = statement(of or run(), int((ENDED_S + 60) * 1e9), campaigns=campaigns)
    return read_certificate(open_envelope(sealed(document), "x"), "x")


def demand(certified: Certificate, **level: Any) -> dict[str, Any]:
    own = ladder({"name": "a", **level})
    return {one.demand: one for one in judge(own.levels[0], Case(certified, (RELEASE.public,), own, {}, ENDED_S + 3600))}


def test_a_passed_campaign_beside_a_run_meets_the_demand_of_its_name() -> None:
    assert not demand(certificate(), campaigns=["attack"])["campaigns.attack"].ok
    made = certificate(campaign())
    assert (made.result, made.facts.campaigns) == ("PASSED", {"attack": "pass"})
    assert demand(made, campaigns=["attack"])["campaigns.attack"].ok
    assert not demand(made, campaigns=["attack-payments"])["campaigns.attack-payments"].ok
    assert demand(certificate(campaign(name="mine")), campaigns=["mine"])["campaigns.mine"].ok


def test_a_campaign_is_its_own_run_too_and_plain_figures_are_its_plain_attempts() -> None:
    made = certificate(of=campaign())
    assert made.facts.campaigns == {"attack": "pass"}
    assert made.facts.counts.attempts == certificate().facts.counts.attempts
    assert "campaign" in {one.code for one in made.facts.caveats}


@pytest.mark.parametrize(
    ("other", "verdict"),
    [({"harmed": 60}, "fail"), ({"harmed": 5}, "inconclusive"), ({"gate": {"success_rate": 0.5}}, "inconclusive")],
)
def test_a_campaign_that_shows_less_does_not_meet_it(other: dict[str, Any], verdict: str) -> None:
    made = certificate(campaign(**other))
    assert made.facts.campaigns == {"attack": verdict}
    assert not demand(made, campaigns=["attack"])["campaigns.attack"].ok


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"agent_digest": "aa" * 32}, "another agent"),
        ({"digests": {"boundary": "bb" * 32, "topology": "70" * 32}}, "another boundary"),
        ({"digests": {"boundary": BOUNDARY, "topology": "77" * 32}}, "another topology"),
    ],
)
def test_a_campaign_of_something_else_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(SpecError, match=why):
        certificate(campaign(**fields))
    with pytest.raises(SpecError, match="is no campaign"):
        certificate(run(id="run-other"))


def test_an_old_campaign_ages_what_it_stands_beside_and_a_simulated_one_passes_nothing() -> None:
    old = campaign()
    old = replace(
        old, info=replace(old.info, started_ns=old.info.started_ns - 30 * DAY_NS, ended_ns=old.info.ended_ns - 30 * DAY_NS)
    )
    assert not demand(certificate(old), max_age="7d")["max_age"].ok
    assert demand(certificate(campaign()), max_age="7d")["max_age"].ok
    simulated = certificate(campaign(simulated=True))
    assert (simulated.result, simulated.facts.simulated) == ("WARNED", True)


def chaotic(failed: int = 0, gate: dict[str, Any] | None = None) -> RunResult:
    """80 attempts under a fault beside plain ones, and those of `run`; ``failed`` of them did not cope."""
    asked = Gate.model_validate({"pass_rate": 0.5, "chaos": gate})
    settings = {"gate": asked.model_dump(mode="json")}
    plain = run(id="run-chaos", campaign=Campaign("chaos", "chaos", 1, "0" * 64), settings=settings)
    beside = [attempt(f"C-{n}", id=f"{n}-1") for n in range(80)]
    met = FaultsMet({"errors": 1})
    hit = [
        replace(one, id=f"{n}-2", passed=n >= failed, faults=met, variant=Variant("errors", "errors", 1, {"of": one.id}))
        for n, one in enumerate(beside)
    ]
    return judged(replace(plain, attempts=(*plain.attempts, *beside, *hit)), asked)


@pytest.mark.parametrize(
    ("failed", "gate", "verdict"),
    [
        (0, {"success_drop": 0.1}, "pass"),
        (40, {"success_drop": 0.1}, "fail"),
        (0, {"damaged": 0}, "inconclusive"),
        (0, None, "inconclusive"),
    ],
)
def test_a_chaos_campaign_meets_its_demand_when_it_was_asked_and_passed(
    failed: int, gate: dict[str, Any] | None, verdict: str
) -> None:
    made = certificate(chaotic(failed, gate))
    assert made.facts.campaigns == {"chaos": verdict}
    assert demand(made, campaigns=["chaos"])["campaigns.chaos"].ok == (verdict == "pass")
