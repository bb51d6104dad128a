"""What the ranges of podctl compare cover: made-up agents whose difference is known, by the figures that the command prints.

An agent's passes follow its flips from the first agent's; costs are log-normal, a ticket's alike in all runs, and half as dear again where
the ticket fails.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np

from benchmarks.effort import Effort
from benchmarks.gate import INFO, SEED
from benchmarks.table import Row
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunResult
from podctl.stats.side_by_side import Against, side_by_side

#: The first passes 80 %; another passes as much less, and each try on a ticket costs as much more.
RATE, FALL, DEARER = 0.8, 0.05, 1.1
FIGURES = {"tickets resolved": "pass_rate", "cost of a ticket": "cost_per_ticket", "of a resolved one": "cost_per_resolved"}
_WHEN_FAILED = 1.5


def measure(effort: Effort) -> list[Row]:
    times = effort.pick(20, 200, 1000, 4000)
    rng = np.random.default_rng(SEED)
    rows = []
    for tickets, repeats, spread, others in (
        (60, 1, 1.0, 1),
        (200, 1, 1.0, 1),
        (200, 1, 1.4, 1),
        (60, 4, 1.0, 1),
        (200, 1, 1.0, 3),
    ):
        held = [_held(rng, tickets, repeats, spread, others) for _ in range(times)]
        name = f"{tickets} tickets" + (f" × {repeats}" if repeats > 1 else "") + (f", {others} others" if others > 1 else "")
        for figure, covered in zip(FIGURES, zip(*held, strict=True), strict=True):
            margin = 196 * np.sqrt(0.95 * 0.05 / times)
            rows.append(
                Row(
                    f"podctl compare, {name}, σ = {spread:g}: {figure}",
                    [100 * float(np.mean(covered))],
                    "%",
                    f"± {margin:.1f} % ({times:,} samples)" + ("; all ranges together" if others > 1 else ""),
                    93,
                    at_least=True,
                )
            )
    return rows


def _held(rng: Any, tickets: int, repeats: int, spread: float, others: int) -> list[bool]:
    """Whether every range of each figure holds the truth."""
    # Easy tickets nearly always pass, hard ones seldom: a ticket's repeats are alike.
    skill = rng.beta(1.6, 0.4, tickets) if repeats > 1 else None
    size = rng.lognormal(0, spread, tickets)
    runs = [_run(rng, skill, size, tickets, repeats, later) for later in range(1 + others)]
    found = side_by_side([lambda run=run: run for run in runs])  # type: ignore[misc]
    truth = _truths(spread)
    return [all(_holds(one, name, value) for one in found.others) for name, value in zip(FIGURES.values(), truth, strict=True)]


def _run(rng: Any, skill: Any, size: Any, tickets: int, repeats: int, later: int) -> RunResult:
    fall = FALL if later else 0.0
    chance = np.full(tickets, RATE) if skill is None else skill
    # What passes by the first agent's chance falls with such a probability that so much is lost on average.
    passed = rng.random((tickets, repeats)) < (chance * (1 - fall / RATE))[:, None]
    costs = size[:, None] * rng.lognormal(-0.02, 0.2, (tickets, repeats)) * np.where(passed, 1.0, _WHEN_FAILED)
    costs *= DEARER if later else 1.0
    made = tuple(
        AttemptResult(
            f"{t}-{r}",
            f"T{t}",
            "s",
            r,
            t,
            Cause.COMPLETED,
            bool(passed[t, r]),
            dollars=Decimal(repr(float(costs[t, r]))),
            wall_s=1.0,
        )
        for t in range(tickets)
        for r in range(repeats)
    )
    return RunResult(replace(INFO, id=f"r{later}"), "finished", made, "pass")


def _truths(spread: float) -> tuple[float, float, float]:
    rates = RATE, RATE - FALL
    mean = float(np.exp(spread**2 / 2))
    costs = [mean * dearer * (rate + _WHEN_FAILED * (1 - rate)) for rate, dearer in zip(rates, (1.0, DEARER), strict=True)]
    return rates[1] - rates[0], costs[1] - costs[0], costs[1] / rates[1] - costs[0] / rates[0]


def _holds(one: Against, figure: str, value: float) -> bool:
    found = getattr(one, figure)
    return found.low is not None and found.high is not None and found.low <= value <= found.high
