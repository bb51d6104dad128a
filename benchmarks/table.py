"""One row a figure: what was measured, what stands beside it, and whether the target is met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """``figures`` in ``unit``, one a repetition; none when it could not be measured. ``target`` is the most they may be at the median, or the least with ``at_least``.

    ``beside`` is the floor or peer measured in the same run, in words with its own figure.
    """

    name: str
    figures: Sequence[float]
    unit: str
    beside: str = ""
    target: float | None = None
    at_least: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.figures)

    @property
    def met(self) -> bool | None:
        if self.target is None or not self.figures:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target


def spread(figures: Sequence[float], unit: str) -> str:
    """``21.3 [20.9–40.1] ms``; a single figure without its bounds."""
    if not figures:
        return "not measured"
    shown = _digits(statistics.median(figures))
    if len(figures) > 1:
        shown += f" [{_digits(min(figures))}–{_digits(max(figures))}]"
    return f"{shown} {unit}"


def ms(seconds: Sequence[float]) -> list[float]:
    return [value * 1000 for value in seconds]


def render(rows: Sequence[Row]) -> str:
    cells = [("", "measured: median [min–max]", "target", "met", "in the same run")]
    for row in rows:
        target = "" if row.target is None else f"{'≥' if row.at_least else '≤'} {row.target:g} {row.unit}"
        met = {True: "yes", False: "NO", None: ""}[row.met]
        cells.append((row.name, spread(row.figures, row.unit), target, met, row.beside))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[4]]).rstrip() for line in cells
    )


def _digits(value: float) -> str:
    return (
        f"{value:,.0f}"
        if value >= 1000
        else f"{value:.3g}"
        if value >= 100 or value == 0
        else f"{value:.1f}"
        if value >= 10
        else f"{value:.2f}"
    )
