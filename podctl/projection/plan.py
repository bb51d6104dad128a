"""What a volume comes to before any figure: its strata, rates, caps, and what each ticket of the sample costs and takes by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from podctl.evidence.records import TOKEN_KINDS
from podctl.projection.figures import Cell
from podctl.projection.model import THIN
from podctl.projection.rates import HandlingTimes, PodPrice, Rates, rates_of
from podctl.projection.resampling import Floats
from podctl.projection.sample import COLUMNS, Drawn, Sampled
from podctl.spec.volume import Volume

#: Where no caps were asked for: these shares of the sampled attempts cost at most so much.
_CAP_SHARES = (0.5, 0.9, 0.99)
MACHINES, OUTCOMES = ("models", "pods", "approvals"), ("fallback", "rework")
#: Columns of every cell; those of caps come behind.
NAMES = (
    *MACHINES, *OUTCOMES, "machines", "outcomes", "total", "hours", "approval_hours", "fallback_hours", "rework_hours", "outcome_hours",
    "human_hours", "resolved", "handed_over", "wrong", *TOKEN_KINDS, "tokens",
)  # fmt: skip


@dataclass(frozen=True)
class Stratum:
    """A stratum of the volume: tickets a period, and the stratum of the run whose tickets tell of it."""

    name: str
    like: str
    tickets: tuple[float, ...]
    uncertainty: float = 0.0

    @property
    def total(self) -> float:
        return math.fsum(self.tickets)


@dataclass(frozen=True)
class Plan:
    """What the volume comes to, before any figure."""

    strata: tuple[Stratum, ...]
    rates: Rates
    names: tuple[str, ...]
    caps: tuple[float, ...]
    counted: Mapping[str, bool]
    covered: tuple[Stratum, ...]

    def cells_of(self, sample: Sampled, stratum: Stratum) -> list[Cell]:
        return [
            Cell(stratum.name, drawn, stratum.total * drawn.share, self._columns(stratum.name, drawn))
            for drawn in sample.strata[stratum.like]
        ]

    def _columns(self, stratum: str, drawn: Drawn) -> Floats:
        """Attempts × the plan's names."""
        rates = self.rates
        known = dict(zip(COLUMNS, drawn.attempts.T, strict=True))
        dollars, handed, wrong = np.nan_to_num(known["dollars"]), known["handed_over"], known["wrong"]
        people, pods = rates.people or 0.0, rates.pods or 0.0
        fallback, rework = rates.fallback[stratum] or 0.0, rates.rework[stratum] or 0.0
        # Answers to what was proposed come before the end, whatever that is; a look at what was done only after it.
        approval_hours = known["attention_hours"] + (1 - handed) * rates.approval
        made = known | {
            "models": dollars,
            "pods": known["hours"] * pods,
            "approvals": approval_hours * people,
            "fallback": handed * rates.dollars_of(stratum, "handed_over"),
            "rework": wrong * rates.dollars_of(stratum, "wrong"),
            "approval_hours": approval_hours,
            "fallback_hours": handed * fallback,
            "rework_hours": wrong * rework,
            "tokens": np.sum([known[kind] for kind in TOKEN_KINDS], axis=0),
        }
        made["machines"] = np.sum([made[name] for name in MACHINES], axis=0)
        made["outcomes"] = made["fallback"] + made["rework"]
        made["total"] = made["machines"] + made["outcomes"]
        made["outcome_hours"] = made["fallback_hours"] + made["rework_hours"]
        made["human_hours"] = made["approval_hours"] + made["outcome_hours"]
        for index, cap in enumerate(self.caps):
            cut = (dollars > cap).astype(float)
            saves, lost = cut * (dollars - cap), cut * known["resolved"]
            # Whatever is cut is handed over: a person works it, and nobody approves or mends what the agent did.
            instead = rates.dollars_of(stratum, "handed_over") * (1 - handed) - made["approvals"] - made["rework"]
            made |= {
                f"reached {index}": cut,
                f"saves {index}": saves,
                f"lost {index}": lost,
                f"net {index}": cut * instead - saves,
            }
        return np.column_stack([made[name] for name in self.names])

    def worst(self, name: str, stratum: str) -> float:
        """The most that one ticket more could have of what is rare and may not have been seen."""
        rates = self.rates
        handed, wrong = rates.dollars_of(stratum, "handed_over"), rates.dollars_of(stratum, "wrong")
        fallback, rework = rates.fallback[stratum] or 0.0, rates.rework[stratum] or 0.0
        return {
            "fallback": handed,
            "rework": wrong,
            "outcomes": max(handed, wrong),
            "fallback_hours": fallback,
            "rework_hours": rework,
            "outcome_hours": max(fallback, rework),
        }.get(name, 0.0)


def plan_of(
    sample: Sampled,
    volume: Volume,
    strata: tuple[Stratum, ...],
    baseline: HandlingTimes | None,
    pods: PodPrice | None,
    *,
    caps: bool,
) -> Plan:
    """``caps``: whether they are tried where the volume names none."""
    rates = rates_of(volume, {stratum.name: stratum.like for stratum in strata}, baseline, pods)
    covered = tuple(stratum for stratum in strata if stratum.total > 0 and sample.strata.get(stratum.like))
    tried = _caps(volume, sample, covered) if caps or volume.caps else ()
    counted = {
        "models": sample.unpriced == 0,
        "pods": rates.pods is not None,
        "approvals": rates.people is not None,
        "fallback": rates.fallback_known,
        "rework": rates.rework_known or rates.rework_dollars > 0,
    }
    names = NAMES + tuple(f"{what} {index}" for index in range(len(tried)) for what in ("reached", "saves", "lost", "net"))
    return Plan(strata, rates, names, tried, counted, covered)


def strata_of(volume: Volume, population: Mapping[str, int]) -> tuple[Stratum, ...]:
    """The volume's strata, by name; those that the file speaks of and the run has not come last."""
    if volume.of == "population":
        return tuple(Stratum(name, name, (float(there),)) for name, there in sorted(population.items()))
    if volume.strata is None:
        whole = sum(population.values())
        shares = {name: (volume.tickets or 0) * there / whole for name, there in sorted(population.items())} if whole else {}
        return tuple(Stratum(name, name, _grown(first, volume.growth, volume.periods)) for name, first in shares.items())
    found = []
    for name in sorted(volume.strata, key=lambda name: (name not in population, name)):
        given = volume.in_stratum(name)
        growth = volume.growth if given.growth is None else given.growth
        found.append(Stratum(name, given.like or name, _grown(given.tickets, growth, volume.periods), given.uncertainty))
    return tuple(found)


def _grown(first: float, growth: float, periods: int) -> tuple[float, ...]:
    return tuple(first * (1 + growth) ** number for number in range(periods))


def _caps(volume: Volume, sample: Sampled, covered: Sequence[Stratum]) -> tuple[float, ...]:
    """Those asked for, else some that part of the sampled attempts would have reached."""
    if volume.caps:
        return tuple(sorted({float(cap) for cap in volume.caps}))
    groups = [group for name in {stratum.like for stratum in covered} for group in sample.strata[name]]
    paid = np.concatenate([group.attempts[:, 0] for group in groups]) if groups else np.zeros(0)
    if sample.unpriced or len(paid) < THIN or not paid.any():
        return ()
    found = {_rounded(float(np.quantile(paid, share))) for share in _CAP_SHARES}
    return tuple(sorted(cap for cap in found if 0 < cap < paid.max()))


def _rounded(amount: float) -> float:
    """To two significant digits: nobody sets a cap of $0.018733."""
    return float(f"{amount:.1e}")
