"""Agent versions over a suite's cases."""

from __future__ import annotations

from dataclasses import replace

from example_run import info as example

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunInfo
from podctl.stats.standing import CaseFacts, standing

CASES = [
    CaseFacts(name, f"ticket {name}", origin, 100) for name, origin in (("a", "failed"), ("b", "failed"), ("c", "attacked"))
]


def info(agent: str, at: int, digest: str = "") -> RunInfo:
    return replace(example(), id=f"{agent}-{at}", agent_version=agent, agent_digest=digest or agent, started_ns=at)


def attempts(**passed: bool) -> list[AttemptResult]:
    return [AttemptResult(name, f"ticket {name}", "q", 1, 1, Cause.COMPLETED, ok) for name, ok in passed.items()]


def test_runs_of_one_digest_are_one_version_and_the_oldest_comes_first() -> None:
    found = standing(
        "s",
        CASES,
        [
            (info("2", 300), attempts(a=True, b=False)),
            (info("1", 200), attempts(a=True, b=False, c=False)),
            (info("2", 400), attempts(a=True)),
        ],
    )
    first, second = found.versions
    assert (first.agent.endswith("1"), first.runs, second.runs) == (True, ("1-200",), ("2-300", "2-400"))
    assert (first.rate.passed, first.rate.of, first.not_worked) == (1, 3, 0)
    assert (second.rate.passed, second.rate.of, second.not_worked) == (2, 3, 1)
    assert (first.common.passed, first.common.of) == (1, 2)
    assert first.rate.interval is not None
    assert {name: (rate.passed, rate.of) for name, rate in first.origins.items()} == {"failed": (1, 2), "attacked": (0, 1)}
    assert [one.results for one in found.cases] == [((1, 1), (2, 2)), ((0, 1), (0, 1)), ((0, 1), None)]
    assert (found.of("every version passes"), found.of("no version passes")) == (["a"], ["b", "c"])


def test_what_was_worked_before_its_case_was_accepted_does_not_count() -> None:
    (old,) = standing("s", CASES, [(info("1", 99), attempts(a=True, b=True))]).versions
    assert (old.rate.of, old.outdated, old.not_worked) == (0, 2, 3)


def test_what_infrastructure_ended_and_tickets_that_are_no_case_count_nowhere() -> None:
    lost = [replace(one, cause=Cause.SANDBOX_FAILED) for one in attempts(a=False)]
    (version,) = standing("s", CASES, [(info("1", 200), [*lost, *attempts(z=True)])]).versions
    assert (version.rate.of, version.not_worked) == (0, 3)


def test_versions_of_one_name_are_told_apart() -> None:
    found = standing("s", CASES, [(info("1", 200, "d" * 64), attempts(a=True)), (info("1", 300, "e" * 64), attempts(a=True))])
    assert [one.agent[-8:] for one in found.versions] == ["d" * 8, "e" * 8]
