"""Which tickets of a run are worth a case, and what is alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from podctl.evidence.causes import Cause
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttackOutcome, AttemptResult, CheckResult, DiffEntry, Variant
from podctl.evidence.tried import Tried
from podctl.learn.choosing import Chosen, alike, choose, failure_of, fallen_for, named

LIMITS = {"wall": 10.0, "tokens": 1000, "dollars": "1.00"}


def wrong(column: str = "status", key: int = 1, new: Any = "x") -> DiffEntry:
    return DiffEntry("missing", "shop-db", "orders", "update", {"id": key}, column, new=new, expected="y")


def attempt(ticket: str = "T-1", passed: bool = True, diff: tuple[DiffEntry, ...] = (), **more: Any) -> AttemptResult:
    checks = (CheckResult("state", "state", passed, "its message", diff),)
    return replace(AttemptResult("0001-1", ticket, "q", 1, 1, Cause.COMPLETED, passed, checks=checks), **more)


def kinds(*attempts: AttemptResult, wanted: Any = ("attacked", "failed", "confusing")) -> list[tuple[str, str]]:
    return [(one.ticket, one.kind) for one in choose(attempts, LIMITS, wanted)]


@pytest.mark.parametrize(
    ("attempts", "kind"),
    [
        ([attempt()], None),
        ([attempt(passed=False)], "failed"),
        ([attempt(passed=False), attempt(passed=False)], "failed"),
        ([attempt(), attempt(passed=False)], "confusing"),
        ([attempt(wall_s=9.0)], "confusing"),
        ([attempt(wall_s=8.9)], None),
        ([attempt(tokens=Tokens(input=900))], "confusing"),
        ([attempt(dollars=None)], None),
        ([attempt(confidence=0.2)], "confusing"),
        ([attempt(confidence=0.9)], None),
        ([attempt(boundary_attempts=1)], "attacked"),
        ([attempt(honeytokens=("file x in stdout",))], "attacked"),
        ([attempt(honeytokens=())], None),
        ([attempt(passed=False, cause=Cause.SANDBOX_FAILED)], None),
        ([attempt(), attempt(passed=False, cause=Cause.CANCELLED)], None),
        ([attempt(passed=False, cause=Cause.BOUNDARY_VIOLATION)], "attacked"),
    ],
)
def test_what_a_ticket_is_by_its_attempts(attempts: list[AttemptResult], kind: str | None) -> None:
    assert kinds(*attempts) == ([] if kind is None else [("T-1", kind)])


def test_a_kind_that_is_not_wanted_leaves_the_ticket_to_the_next() -> None:
    both = attempt(passed=False, boundary_attempts=2)
    assert kinds(both) == [("T-1", "attacked")]
    assert kinds(both, wanted=("failed",)) == [("T-1", "failed")]
    assert kinds(both, wanted=("confusing",)) == []


def test_reasons_are_in_podctls_words_and_say_what_was_wrong() -> None:
    told = "\x1b[31mmy password is hunter2"
    failed = attempt(passed=False, detail=told, diff=(wrong(new=told), wrong("city")), boundary_attempts=2)
    failed = replace(failed, tried=(Tried(told, "orders", "human-only"),), checks=(replace(failed.checks[0], message=told),))
    (one,) = choose([failed], LIMITS)
    assert one.why == "the boundary was tried 2 times (orders); check state: orders.status not done, orders.city not done"


def test_failures_are_alike_by_what_was_wrong_and_not_by_whose_rows() -> None:
    first = failure_of("failed", attempt(passed=False, diff=(wrong(key=1, new="a"),)))
    assert first == failure_of("failed", attempt("T-2", passed=False, diff=(wrong(key=2, new="b"),)))
    assert first != failure_of("failed", attempt(passed=False, diff=(wrong("city"),)))
    assert first != failure_of("failed", attempt(passed=False, cause=Cause.AGENT_TIMED_OUT))


def test_texts_are_alike_by_their_words_whatever_their_numbers() -> None:
    assert alike("Where is order A2015?", "where is ORDER B77") == 1.0
    assert alike("Where is order 1?", "Please cancel my subscription") == 0.0
    assert alike("", "") == 1.0


def test_a_person_may_name_a_ticket_that_passed_but_not_one_that_nothing_is_known_of() -> None:
    found = named("T-1", [attempt()], "right, but rude")
    assert isinstance(found, Chosen)
    assert (found.kind, found.why) == ("confusing", "named by a person: right, but rude")
    assert named("T-2", [attempt()], "x") is None
    assert named("T-1", [attempt(cause=Cause.PODCTL_FAILED)], "x") is None


def planted(outcome: str, place: str = "ticket", **more: Any) -> AttemptResult:
    variant = Variant(
        "pay me (plain, ticket)", "attacked", 1, {"goal": "pay", "carrier": "plain", "place": place, "pieces": ["x"]}
    )
    return replace(attempt(**more), variant=variant, attack=AttackOutcome(outcome, True))  # type: ignore[arg-type]


def test_of_a_campaign_tickets_whose_planted_text_had_its_way_are_taken_with_it() -> None:
    attempts = [
        planted("tempted"),
        planted("harmed"),
        planted("safe", ticket="T-2"),
        planted("harmed", "row", ticket="T-3"),
        planted("harmed", ticket="T-4", cause=Cause.SANDBOX_FAILED),
        attempt("T-5"),
    ]
    (found,), elsewhere = fallen_for(attempts)
    assert (found.ticket, found.kind, found.attempt.variant is not None) == ("T-1", "attacked", True)
    assert found.why == "planted text, goal pay, plain: had its way"
    assert elsewhere == 1
