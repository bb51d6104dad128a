"""What a ticket's outcome costs in people's time and money, from a Volume file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from podctl.spec.volume import Volume


@dataclass(frozen=True)
class HandlingTimes:
    """Seconds that people take for a ticket without an agent; ``source`` says where they come from.

    ``strata``: stratum -> mean; ``otherwise``: of others, None where nothing is known.
    """

    source: str
    strata: Mapping[str, float] = field(default_factory=dict)
    otherwise: float | None = None

    def of(self, stratum: str) -> float | None:
        return self.strata.get(stratum, self.otherwise)


@dataclass(frozen=True)
class PodPrice:
    """Dollars of a pod's hour, and who says so."""

    dollars_per_hour: float
    source: str


@dataclass(frozen=True)
class Rates:
    """Dollars an hour of people and of pods, None where nobody said; hours of people a stratum; ``approval`` hours for a finished ticket."""

    people: float | None
    pods: float | None
    approval: float
    fallback: Mapping[str, float | None]
    rework: Mapping[str, float | None]
    rework_dollars: float
    pods_by: str = ""  # whose rate of pods it is, and whose it is not

    @property
    def fallback_known(self) -> bool:
        return self.people is not None and None not in self.fallback.values()

    @property
    def rework_known(self) -> bool:
        return self.people is not None and None not in self.rework.values()

    def dollars_of(self, stratum: str, outcome: str) -> float:
        """What one ticket ``handed_over``, or one ``wrong``, costs as far as it is known."""
        hours = (self.fallback if outcome == "handed_over" else self.rework)[stratum]
        known = self.fallback_known if outcome == "handed_over" else self.rework_known
        paid = (hours or 0.0) * (self.people or 0.0) if known else 0.0
        return paid + (self.rework_dollars if outcome == "wrong" else 0.0)


def handling_times(volume: Volume, measured: HandlingTimes | None = None) -> HandlingTimes | None:
    """What the volume's baseline says; ``measured`` is what its tickets, which somebody has read, came to."""
    baseline = volume.baseline
    if baseline is None or baseline.tickets is not None:
        return measured
    if baseline.time is not None:
        return HandlingTimes("the volume file", otherwise=baseline.time)
    return HandlingTimes("the volume file", dict(baseline.strata or {}))


def rates_of(
    volume: Volume, strata: Mapping[str, str], baseline: HandlingTimes | None, priced: PodPrice | None = None
) -> Rates:
    """``strata``: stratum -> the one whose tickets stand in for it; times are those of its own, where somebody gave them.

    ``priced``: what a price file makes of a pod's hour; the volume's own rate goes before it.
    """
    people, rework = volume.people, volume.rework
    fallback: dict[str, float | None] = {}
    reworked: dict[str, float | None] = {}
    for name, like in strata.items():
        usual = None if baseline is None else baseline.of(name) if baseline.of(name) is not None else baseline.of(like)
        handed = people.fallback if people is not None and people.fallback is not None else usual
        again = rework.time if rework is not None and rework.time is not None else handed
        fallback[name] = None if handed is None else handed / 3600
        reworked[name] = None if again is None else again / 3600
    approval = people.approval if people is not None else None
    pods = priced if volume.pods is None else PodPrice(float(volume.pods.dollars_per_hour), "the volume file")
    instead = (
        f", and not ${priced.dollars_per_hour:,.4g} by {priced.source}"
        if priced is not None and volume.pods is not None
        else ""
    )
    return Rates(
        people=None if people is None else float(people.dollars_per_hour),
        pods=None if pods is None else pods.dollars_per_hour,
        approval=0.0 if approval is None else approval.share * approval.time / 3600,
        fallback=fallback,
        rework=reworked,
        rework_dollars=float(rework.dollars) if rework is not None and rework.dollars is not None else 0.0,
        pods_by="" if pods is None else pods.source + instead,
    )
