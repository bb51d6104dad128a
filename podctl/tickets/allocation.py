"""How many tickets of each stratum: pure, exact, ties by name."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from fractions import Fraction


def proportional(size: int, totals: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """Largest remainders of size * N_h / N, with at least one a stratum where the size allows it.

    No stratum gets less than its floor or more than it has.
    """
    lowest = one_each(size, totals, floors)
    whole = sum(totals.values())
    share = {name: Fraction(size * total, whole) for name, total in totals.items()}
    counts = {name: max(lowest[name], int(share[name])) for name in totals}
    missing = size - sum(counts.values())
    if missing >= 0:
        return _raise(counts, missing, totals, lambda name, count: count - share[name])
    # Floors took more than the shares leave: take back where the count is furthest above its share.
    heap = [(share[name] - counts[name], name) for name in totals if counts[name] > lowest[name]]
    heapq.heapify(heap)
    for _ in range(-missing):
        _, name = heapq.heappop(heap)
        counts[name] -= 1
        if counts[name] > lowest[name]:
            heapq.heappush(heap, (share[name] - counts[name], name))
    return counts


def equal(size: int, totals: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """The same number a stratum; what a short stratum cannot give, the others do."""
    counts = dict(floors)
    return _raise(counts, size - sum(counts.values()), totals, lambda name, count: count)


def neyman(size: int, totals: dict[str, int], floors: dict[str, int], deviations: Mapping[str, float]) -> dict[str, int]:
    """The whole numbers that make the variance of the estimated mean, Σ N_h² S_h² / n_h, least; at least one a stratum
    where the size allows it.

    Neyman's n_h ∝ N_h S_h (Cochran 1977, Sampling Techniques, 5.5, equation 5.26) in its exact whole-number form: the next ticket
    goes where N_h S_h / √(n_h (n_h + 1)) is greatest (Wright 2012, "The equivalence of Neyman optimum allocation for sampling and
    equal proportions for apportioning", The American Statistician 66). Greedy is exact, as each term is convex in n_h; a stratum
    that has no more tickets is full, and the rest is given to the others (Cochran 1977, 5.8).
    """
    counts = one_each(size, totals, floors)

    def urgency(name: str, count: int) -> float:
        spread = totals[name] * deviations[name]
        if count == 0:
            return -math.inf if spread > 0 else 0.0
        return -spread / math.sqrt(count * (count + 1))

    return _raise(counts, size - sum(counts.values()), totals, urgency)


def one_each(size: int, totals: dict[str, int], floors: dict[str, int]) -> dict[str, int]:
    """The floors, and at least one a stratum if that does not take more than ``size``."""
    ones = {name: max(1, floors[name]) for name in totals}
    return ones if sum(ones.values()) <= size else dict(floors)


def _raise(
    counts: dict[str, int], missing: int, totals: dict[str, int], rank: Callable[[str, int], Fraction | float]
) -> dict[str, int]:
    """Add one at a time where ``rank`` of the count is least and there still is one to take; ties by name."""
    heap = [(rank(name, counts[name]), name) for name in totals if counts[name] < totals[name]]
    heapq.heapify(heap)
    for _ in range(missing):
        _, name = heapq.heappop(heap)
        counts[name] += 1
        if counts[name] < totals[name]:
            heapq.heappush(heap, (rank(name, counts[name]), name))
    return counts
