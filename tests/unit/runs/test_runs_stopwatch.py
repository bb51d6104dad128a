"""Time in which podctl could not run is nobody's."""

from __future__ import annotations

from podctl.clock import ManualClock, Stopwatch


def test_a_stop_counts_for_a_second_and_a_jump_of_the_wall_clock_for_nothing() -> None:
    clock = ManualClock()
    watch = Stopwatch(clock)
    for _ in range(4):
        clock.advance(1.5)
        watch.read()
    assert watch.read() == 6.0
    clock.advance(3600)
    assert watch.read() == 7.0
    clock.jump_wall(-86400)
    assert watch.read() == 7.0
    clock.advance(0.5)
    assert watch.read() == 7.5
