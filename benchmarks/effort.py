"""How much is measured, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeVar

T = TypeVar("T")
Size = Literal["tiny", "quick", "usual", "long"]


@dataclass(frozen=True)
class Effort:
    """``directory`` is empty, the benchmark's own, and removed afterwards."""

    directory: Path
    size: Size = "usual"

    def pick(self, tiny: T, quick: T, usual: T, long: T | None = None) -> T:
        """What belongs to the chosen size; ``usual`` also when long makes no difference."""
        return {"tiny": tiny, "quick": quick, "usual": usual, "long": usual if long is None else long}[self.size]

    def times(self, number: int) -> int:
        """Repetitions: a fifth of ``number`` when quick, three at least."""
        return self.pick(1, max(3, number // 5), number)


def seconds(work: Callable[[], object], times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = perf_counter()
        work()
        found.append(perf_counter() - began)
    return found
