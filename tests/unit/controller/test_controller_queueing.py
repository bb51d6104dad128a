"""Whose turn it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from podctl.controller.queueing import Wanted, too_many, turn

MOST = 10
asked = st.lists(st.tuples(st.integers(0, 5), st.integers(1, MOST)).map(lambda pair: pair), max_size=12).map(
    lambda pairs: [Wanted(f"u{at}", float(created), pods) for at, (created, pods) in enumerate(pairs)]
)


@given(asked)
def test_never_more_than_allowed_nobody_overtakes_and_everybody_gets_a_turn(wanted: list[Wanted]) -> None:
    waiting, running, order = list(wanted), list[str](), list[str]()
    while waiting:
        found = turn(waiting, running, MOST)
        assert set(found.begin) | set(found.waiting) | set(running) == {one.uid for one in waiting}
        assert not set(found.begin) & set(found.waiting)
        running += found.begin
        order += found.begin
        assert sum(one.pods for one in waiting if one.uid in running) <= MOST
        assert running, "nothing runs and nothing begins"
        first = running.pop(0)
        waiting = [one for one in waiting if one.uid != first]
    assert order == [one.uid for one in sorted(wanted, key=lambda one: (one.created, one.uid))]


def test_a_large_one_is_waited_for_and_small_ones_behind_it_wait_too() -> None:
    wanted = [Wanted("a", 1, 6), Wanted("large", 2, 8), Wanted("small", 3, 1)]
    found = turn(wanted, ["a"], MOST)
    assert found.begin == ()
    assert found.waiting == {
        "large": "waits for its turn: it needs 8 test pods, and 4 of 10 are free",
        "small": "waits for its turn: 1 ahead of it",
    }


def test_what_can_never_begin_is_said() -> None:
    assert too_many(10, 10) == ""
    assert "asks for 11 test pods at once, and this cluster allows 10" in too_many(11, 10)
