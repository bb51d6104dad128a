"""What is proposed twice is told and not added; what is beyond the bound is left for later."""

from __future__ import annotations

from pathlib import Path

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult
from podctl.learn.adding import added
from podctl.learn.choosing import Chosen
from podctl.learn.proposing import Seen, case_of
from podctl.spec.suite import Case
from podctl.tickets.types import Ticket


def case(id: str, text: str = "give the money of order 7 back", failure: str = "f" * 64) -> Case:
    attempt = AttemptResult("0001-1", id, "all", 1, 0, Cause.UNCLASSIFIED, False)
    return case_of(
        Chosen(id, "failed", "it failed", attempt, failure),
        Ticket(id, text, "all", {}),
        {},
        Seen("2026-11-22T00:00:00Z", "ana", "r-1"),
    )


def test_each_is_written_once_and_no_more_than_asked_for(tmp_path: Path) -> None:
    proposals = [case("a"), case("a"), case("b"), case("c", "open an account"), case("d", "close the shop")]
    told = list(added(tmp_path / "suite.yaml", [], proposals, most=2, by_name=False))
    assert [(one.case.name, one.outcome) for one in told] == [
        ("a", "proposed"),
        ("a", "there already"),
        ("b", "like a case"),
        ("c", "proposed"),
        ("d", "left for later"),
    ]
    assert told[2].words == "like case a: --ticket adds it all the same"
    assert sorted(path.name for path in (tmp_path / "cases").iterdir()) == ["a.yaml", "c.yaml"]


def test_one_like_another_is_added_when_it_is_named_and_says_so(tmp_path: Path) -> None:
    changed = case("a", "take the money of order 7")
    same, like = added(tmp_path / "suite.yaml", [case("a")], [changed, case("b")], most=2, by_name=True)
    assert same.words == "is case a, proposed, with other words or another state: reject and remove a to learn it anew"
    assert like.case.origin.like == "a" and like.path == tmp_path / "cases" / "b.yaml"
