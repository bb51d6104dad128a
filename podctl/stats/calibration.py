"""Declared confidence against outcome: does the agent know when it is wrong?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from podctl.evidence.results import AttemptResult
from podctl.stats.proportions import Interval, clustered_wilson
from podctl.stats.summary import by_ticket, is_pass

BINS = 5


@dataclass(frozen=True)
class CalibrationBin:
    """Attempts that declared a confidence in [low, high) — the last bin includes 1."""

    low: float
    high: float
    attempts: int
    passed: int
    confidence: float  # mean declared
    share: float  # passed of attempts
    interval: Interval


@dataclass(frozen=True)
class Calibration:
    """``undeclared`` counted attempts declared nothing, or something that is no number from 0 to 1."""

    bins: tuple[CalibrationBin, ...]  # only bins with attempts
    declared: int
    undeclared: int
    confidence: float  # mean
    share: float  # passed of those that declared


def calibrate(attempts: Iterable[AttemptResult]) -> Calibration | None:
    """None when no attempt that counts declared a confidence."""
    counted = [a for a in attempts if a.cause.counts]
    stated = [(a.confidence, a) for a in counted if a.confidence is not None and 0 <= a.confidence <= 1]
    if not stated:
        return None
    groups: dict[int, list[tuple[float, AttemptResult]]] = {}
    for confidence, attempt in stated:
        groups.setdefault(min(BINS - 1, int(confidence * BINS)), []).append((confidence, attempt))
    bins = []
    for index in sorted(groups):
        members = groups[index]
        passed = sum(is_pass(a) for _, a in members)
        bins.append(
            CalibrationBin(
                low=index / BINS,
                high=(index + 1) / BINS,
                attempts=len(members),
                passed=passed,
                confidence=math.fsum(c for c, _ in members) / len(members),
                share=passed / len(members),
                interval=clustered_wilson(list(by_ticket(a for _, a in members).values())),
            )
        )
    return Calibration(
        bins=tuple(bins),
        declared=len(stated),
        undeclared=len(counted) - len(stated),
        confidence=math.fsum(c for c, _ in stated) / len(stated),
        share=sum(is_pass(a) for _, a in stated) / len(stated),
    )
