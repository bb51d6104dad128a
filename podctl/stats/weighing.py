"""What the tickets of a sample stand for in the population, where the sample is not in proportion to it.

`compared` and the gate weigh by it; where there is no `Weighing` every ticket weighs the same.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from podctl.evidence.results import RunResult

#: A stratum, and whether its tickets had to be in the sample by name: those stand for themselves (Horvitz and Thompson 1952).
Group = tuple[str, bool]
T = TypeVar("T")


@dataclass(frozen=True)
class Weighing:
    """``shares``: group -> its part of the population, 1 in all; ``groups``: ticket -> its group."""

    shares: Mapping[Group, float]
    groups: Mapping[str, Group]

    def split(self, tickets: Mapping[str, T]) -> list[tuple[float, dict[str, T]]]:
        """Each group that has some of ``tickets``: its part of the population, and those."""
        found: dict[Group, dict[str, T]] = defaultdict(dict)
        for ticket, value in tickets.items():
            found[self.groups[ticket]][ticket] = value
        return [(self.shares[group], found[group]) for group in sorted(found)]

    def of_each(self, tickets: Mapping[str, T]) -> dict[str, float]:
        """Ticket -> its part of the population."""
        return {ticket: share / len(those) for share, those in self.split(tickets) for ticket in those}

    @property
    def effect(self) -> float:
        """How many of these tickets tell as much as one where all weigh the same, kinds differing little (Kish 1965)."""
        weights = list(self.of_each(self.groups).values())
        return len(weights) * math.fsum(weight**2 for weight in weights) / math.fsum(weights) ** 2


def weighing_of(run: RunResult) -> Weighing | None:
    included = (run.info.settings.get("sample") or {}).get("include") or ()
    return weighing(run.info.strata, included, {attempt.ticket: attempt.stratum for attempt in run.attempts})


def weighing(strata: Mapping[str, tuple[int, int]], included: Iterable[object], tickets: Mapping[str, str]) -> Weighing | None:
    """``strata``: name -> (in the sample, in the population); ``included``: tickets that had to be in the sample; ``tickets``: every
    ticket of the sample -> its stratum.

    None where every ticket weighs the same: the sample is in proportion to its strata, to the rounding of tickets; or the
    population of some ticket's stratum is not known.
    """
    if not tickets or any(strata.get(stratum, (0, 0))[1] <= 0 for stratum in tickets.values()):
        return None
    certain = frozenset(map(str, included))
    named = Counter(stratum for ticket, stratum in tickets.items() if ticket in certain)
    drawn: dict[Group, tuple[int, int]] = {}
    for stratum, (taken, there) in strata.items():
        if 0 < named[stratum] < taken:
            drawn[stratum, True] = named[stratum], named[stratum]
            drawn[stratum, False] = taken - named[stratum], there - named[stratum]
        else:
            # Where no chance was left, those by name stand for all of it.
            drawn[stratum, named[stratum] > 0] = taken, there
    taken, there = (sum(each) for each in zip(*drawn.values(), strict=True))
    if all(abs(here - taken * whole / there) < 1 for here, whole in drawn.values()):
        return None
    return Weighing(
        {group: whole / there for group, (_, whole) in drawn.items()},
        {ticket: (stratum, ticket in certain) for ticket, stratum in tickets.items()},
    )
