"""Row changes of disturbed attempts: a rival's writes are nobody's fault, overwriting them is told; renamed columns mean what they did."""

from __future__ import annotations

from typing import Any

import pytest

from podctl.grading.disturbed import as_before, without_rival
from podctl.grading.netdiff import net_changes


def change(user: str, old: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    op = "insert" if old is None else "delete" if new is None else "update"
    key = {"id": (old or new or {})["id"]}
    return {"database": "d", "table": "t", "op": op, "key": key, "old": old or {}, "new": new or {}, "user": user}


def row(note: str, status: str = "open") -> dict[str, Any]:
    return {"id": 1, "note": note, "status": status}


RIVAL = change("rival", row("a"), row("a (rival)"))


@pytest.mark.parametrize(
    ("others", "lost", "net"),
    [
        ([change("ag", row("a (rival)"), row("a (rival)", "done"))], False, {"status": "done"}),
        ([change("ag", row("a (rival)"), row("a", "done"))], True, {"status": "done"}),
        ([change("ag", row("a (rival)"), row("a, seen", "done"))], True, {"note": "a, seen", "status": "done"}),
        ([change("ag", row("a (rival)"), row("mine", "done"))], False, {"note": "mine", "status": "done"}),
        ([change("ag", row("a (rival)"), row("a (rival), seen"))], False, {"note": "a (rival), seen"}),
        ([], False, None),
    ],
)
def test_what_somebody_made_of_a_rivals_row(others: list[dict[str, Any]], lost: bool, net: dict[str, Any] | None) -> None:
    kept, told = without_rival([RIVAL, *others], "rival", " (rival)")
    assert bool(told) == lost and (not lost or told == ("t.note, which somebody else had changed meanwhile, was overwritten",))
    found = net_changes(kept)
    assert (net is None) == (not found)
    if net is not None:
        assert {column: found[0].new[column] for column in found[0].changed_columns()} == net


def test_writes_before_and_after_the_rivals_are_one_change() -> None:
    before, after = change("ag", row("a"), row("a", "seen")), change("ag", row("a (rival)", "seen"), row("a (rival)", "done"))
    rival = change("rival", row("a", "seen"), row("a (rival)", "seen"))
    kept, told = without_rival([before, rival, after], "rival", " (rival)")
    assert not told and [one.changed_columns() for one in net_changes(kept)] == [["status"]]


def test_what_a_trigger_changed_with_the_rivals_write_is_nobodys_loss() -> None:
    rival = change("rival", row("a", "t1"), row("a (rival)", "t2"))
    assert without_rival([rival, change("ag", row("a (rival)", "t2"), row("a (rival)", "t1"))], "rival", " (rival)")[1] == ()


def test_deleting_a_rivals_row_loses_its_write_without_a_word_of_its_own() -> None:
    """Whether a row may go is for the reference to say."""
    kept, told = without_rival([RIVAL, change("ag", row("a (rival)"), None)], "rival", " (rival)")
    assert not told and net_changes(kept)[0].op == "delete" and net_changes(kept)[0].old == row("a")


def test_columns_are_called_as_they_were_and_new_ones_left_out() -> None:
    after = {"id": 1, "note_v2": "b", "status": "open", "podctl_added": None}
    made = [change("ag", row("a"), row("a", "seen")), {**change("ag", after, after), "old": {**after, "note_v2": "a"}}]
    told = as_before(made, {("t", "note_v2"): "note"}, {("t", "podctl_added")})
    assert told[0] == made[0] and told[1]["new"] == row("b") and told[1]["old"] == row("a")
    assert as_before([{**one, "table": "other"} for one in made], {("t", "note_v2"): "note"}, ())[1]["new"] == after
