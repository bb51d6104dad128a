"""Time, injected: the system's, or one a test moves by hand."""

from __future__ import annotations

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
