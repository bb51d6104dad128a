"""How a run is going: what the terminal shows while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Working:
    pod: str
    ticket: str
    since: float  # monotonic seconds


@dataclass(frozen=True)
class Progress:
    """``eta_s`` is None until an attempt has ended."""

    phase: str
    pods_ready: int
    pods: int
    done: int
    total: int
    passed: int
    counted: int
    spent: Decimal
    budget: Decimal
    simulated: bool
    eta_s: float | None
    running: tuple[Working, ...]


Listener = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """For callers that show nothing."""
