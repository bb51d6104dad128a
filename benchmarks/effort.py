"""How much is measured, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True)
class Effort:
    """``directory`` is empty, the benchmark's own, and removed afterwards."""

    directory: Path
    quick: bool = False
    long: bool = False

    def times(self, number: int) -> int:
        """Repetitions: a fifth of ``number`` when quick, three at least."""
        return max(3, number // 5) if self.quick else number


def seconds(work: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = perf_counter()
        work()
        found.append(perf_counter() - began)
    return found
