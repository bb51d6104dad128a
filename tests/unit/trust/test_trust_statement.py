"""A certificate says no more than the run shows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from certified import AGENT, BOUNDARY, SAMPLE, certificate, certified, facts, run
from example_run import attempt

from podctl.errors import PodctlError
from podctl.evidence.causes import Cause
from podctl.evidence.results import Quarantined, RunResult, Shard
from podctl.trust.statement import evidence_root, statement


def result(made: RunResult) -> tuple[str, set[str]]:
    """What the certificate says, which can be read, and the codes of its caveats."""
    document = certified(made)
    assert certificate(document).result == document["predicate"]["result"]
    return document["predicate"]["result"], {caveat["code"] for caveat in facts(document)["caveats"]}


def info(made: RunResult, **fields: Any) -> RunResult:
    return replace(made, info=replace(made.info, **fields))


def test_a_run_that_passed_is_passed_and_bound_to_what_it_was_made_of() -> None:
    found = certificate()
    assert (found.result, found.agent.digest) == ("PASSED", AGENT)
    assert (found.digests["sample"], found.digests["boundary"]) == (SAMPLE, BOUNDARY)
    assert found.digests["evidence"] == found.facts.audit.root == evidence_root(run())
    assert found.facts.passRate.low is not None and 0.9 < found.facts.passRate.low < 1
    assert found.facts.isolation.controls["escape suite"] == "yes"
    assert found.facts.strata["cancel"].tickets == 64


@pytest.mark.parametrize(
    ("made", "said", "caveat"),
    [
        (lambda: run(simulated=True), "WARNED", "simulated"),
        (
            lambda: replace(run(), attempts=(replace(run().attempts[0], simulated=True), *run().attempts[1:])),
            "WARNED",
            "simulated",
        ),
        (lambda: run(skill=0.3, scale=1), "WARNED", "inconclusive"),
        (lambda: run(skill=0.3), "FAILED", ""),
        (lambda: run(skill=0.3, simulated=True), "FAILED", "simulated"),
        (lambda: replace(run(), status="interrupted", verdict="inconclusive"), "WARNED", "interrupted"),
        (lambda: info(run(), resumed=True), "PASSED", "resumed"),
        (lambda: info(run(), merged=("r-1", "r-2")), "PASSED", "merged"),
        (lambda: info(run(), quarantine={"T-1": Quarantined("ana", "flaky", "2999-01-01")}), "PASSED", "quarantined"),
        (lambda: info(run(), dirty=True, revision="a" * 40), "PASSED", "uncommitted"),
        (lambda: info(run(), controls={}), "PASSED", "isolation-unknown"),
        (lambda: info(run(), controls={"cgroups": "partly"}), "PASSED", "isolation"),
        (lambda: info(run(), model_mode="replay"), "PASSED", "replayed"),
    ],
)
def test_what_lessens_a_run_is_said_and_what_is_no_pass_is_not_passed(made: Any, said: str, caveat: str) -> None:
    got, caveats = result(made())
    assert got == said
    assert not caveat or caveat in caveats


def test_the_pass_rate_is_the_gate_s_own() -> None:
    """The made-up sample has few of what the population has many of: the rate that is judged is weighed, and so is the certified one."""
    made = run(skill=0.3)
    rate = certificate(certified(made)).facts.passRate
    judged = next(one.measured for one in made.findings if one.name == "pass_rate")
    assert rate.weighed and rate.share is not None
    assert judged.startswith(f"{rate.share * 100:.1f} %")
    plain = facts(certified(info(made, strata={name: (size, size) for name, (size, _) in made.info.strata.items()})))[
        "passRate"
    ]
    assert not plain["weighed"] and plain["share"] != rate.share


def test_what_counts_is_counted_without_quarantine_and_boundaries_with_it() -> None:
    made = run()
    first = replace(made.attempts[0], boundary_attempts=2)
    made = replace(made, attempts=(first, *made.attempts[1:]))
    counts = facts(certified(info(made, quarantine={first.ticket: Quarantined("ana", "flaky", "2999-01-01")})))["counts"]
    assert (counts["tickets"], counts["attempts"], counts["quarantined"]) == (len(made.attempts) - 1, len(made.attempts), 1)
    assert (counts["boundaryAttempts"], counts["boundaryViolating"]) == (2, 1)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: info(run(), shard=Shard(1, 2, run().spent_dollars or 0)), "shard 1/2"),  # type: ignore[arg-type]
        (lambda: replace(run(), status="running"), "still being worked on"),
        (lambda: info(replace(run(), status="interrupted"), ended_ns=0), "has not ended"),
        (lambda: info(run(), digests={}), "before runs kept the digests"),
    ],
)
def test_what_is_no_whole_run_is_not_certified(made: Any, why: str) -> None:
    with pytest.raises(PodctlError) as caught:
        statement(made(), 2 * 10**18)
    assert why in caught.value.what
    assert caught.value.hint and caught.value.unchanged == "nothing was written"


def test_the_evidence_root_is_of_every_attempt_by_id() -> None:
    made = run()
    other = replace(made, attempts=tuple(reversed(made.attempts)))
    assert evidence_root(other) == evidence_root(made)
    assert evidence_root(replace(made, attempts=made.attempts[1:])) != evidence_root(made)
    changed = replace(made.attempts[0], evidence_root="0" * 64)
    assert evidence_root(replace(made, attempts=(changed, *made.attempts[1:]))) != evidence_root(made)
    cancelled = attempt("T-x", False, Cause.CANCELLED)
    assert evidence_root(replace(made, attempts=(*made.attempts, cancelled))) != evidence_root(made)
