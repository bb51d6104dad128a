"""Time, injected: the system's, or one a test moves by hand."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch; may jump."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; for durations and deadlines."""


class SystemClock:
    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()


class Stopwatch:
    """Counts the seconds in which this process could run, from when it is made.

    What passes while it is stopped, by ^Z or in a paused container, is nobody's fault and does not count.
    """

    #: Seconds between two looks; a gap of more than two is a stop.
    _LOOK_S = 1.0

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seen = self._clock.monotonic()
        self._counted = 0.0

    def read(self) -> float:
        """To be read at least every two seconds: `reached` does."""
        now = self._clock.monotonic()
        gap, self._seen = now - self._seen, now
        self._counted += gap if gap <= 2 * self._LOOK_S else self._LOOK_S
        return self._counted

    async def reached(self, seconds: float) -> None:
        """Wait until so many have been counted."""
        while (left := seconds - self.read()) > 0:
            await asyncio.sleep(min(left, self._LOOK_S))


class ManualClock:
    """A clock that stands still until told; shipped for tests of code that takes a Clock."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000, monotonic: float = 0.0) -> None:
        self._wall_ns = wall_ns
        self._monotonic = monotonic

    def wall_ns(self) -> int:
        return self._wall_ns

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._wall_ns += int(seconds * 1e9)
        self._monotonic += seconds

    def jump_wall(self, seconds: float) -> None:
        """Move the wall clock alone, as a time service or a suspended laptop does."""
        self._wall_ns += int(seconds * 1e9)
