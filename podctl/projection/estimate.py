"""From a run's sample and a volume to the projection: one bootstrap over what each ticket cost, took and came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from podctl.errors import ExitCode, PodctlError
from podctl.evidence.records import TOKEN_KINDS
from podctl.projection.caveats import assumptions_of, warnings_of
from podctl.projection.coverage import Costs, coverage
from podctl.projection.figures import Cell, Figures, Spread, Sums, merged
from podctl.projection.model import (
    THIN,
    Budget,
    Cap,
    Coverage,
    Estimate,
    HumanBaseline,
    MixShift,
    Outcomes,
    Part,
    Period,
    Projection,
    Proposed,
    StratumProjection,
    Timing,
    TokenKind,
    Unit,
)
from podctl.projection.model import Volume as Projected
from podctl.projection.plan import MACHINES, OUTCOMES, Plan, Stratum, plan_of, strata_of
from podctl.projection.rates import HandlingTimes, PodPrice, handling_times
from podctl.projection.sample import Sampled
from podctl.projection.timing import timing
from podctl.spec.volume import Volume
from podctl.stats.units import plural

#: Replications of ranges of a stratum, or of a period.
_FEWER = 2_000
_DOLLARS = Sums("machines", "outcomes", "total")
_HOURS = Sums("approval_hours", "outcome_hours", "human_hours")
_OF_PART = ("machines", "outcomes", "total", "hours", "approval_hours", "outcome_hours", "human_hours", "resolved")


@dataclass(frozen=True)
class Settings:
    """How it is computed, and what of it. ``caps``: whether caps are tried where the volume names none."""

    level: float = 0.95
    replications: int = 10_000
    seed: int = 1
    coverage: bool = True
    caps: bool = True
    timing: bool = True


@dataclass(frozen=True)
class Known:
    """What a projection is told besides the sample and the volume."""

    baseline: HandlingTimes | None = None
    pods: PodPrice | None = None
    status: str = "finished"
    made_ns: int = 0


def project(sample: Sampled, volume: Volume, settings: Settings | None = None, known: Known | None = None) -> Projection:
    """The projection of ``sample`` to ``volume``. The same arguments give the same figures.

    Raises `PodctlError` where nothing can be projected: no attempt counts, or the volume has no tickets.
    """
    settings, known = settings or Settings(), known or Known()
    strata = strata_of(volume, sample.population)
    _refuse_nothing(sample, strata)
    baseline = handling_times(volume, known.baseline)
    plan = plan_of(sample, volume, strata, baseline, known.pods, caps=settings.caps)
    return _Projecting(sample, volume, settings, known, plan, baseline).projection()


def _refuse_nothing(sample: Sampled, strata: Sequence[Stratum]) -> None:
    if sample.counted == 0:
        raise PodctlError(
            f"no attempt of run {sample.info.id} says anything about the agent: there is nothing to project from",
            code="projection-empty",
            cause=f"{plural(sample.infrastructure, 'attempt')} ended by infrastructure, {sample.not_run} not run",
            hint="podctl run --resume goes on with a run that did not finish",
            exit_code=ExitCode.USAGE,
        )
    if not any(stratum.total > 0 for stratum in strata):
        raise PodctlError(
            "the volume has no tickets: there is nothing to project to",
            code="projection-empty",
            hint="say how many tickets there will be",
            exit_code=ExitCode.USAGE,
        )


class _Projecting:
    def __init__(
        self,
        sample: Sampled,
        volume: Volume,
        settings: Settings,
        known: Known,
        plan: Plan,
        baseline: HandlingTimes | None,
    ) -> None:
        self._sample, self._volume, self._settings, self._known = sample, volume, settings, known
        self._plan, self._rates, self._baseline = plan, plan.rates, baseline
        self._covered = math.fsum(stratum.total for stratum in plan.covered)
        self._whole = math.fsum(stratum.total for stratum in plan.strata)
        groups = [group for groups in sample.strata.values() for group in groups]
        self._models_free = not any(np.nan_to_num(group.attempts[:, 0], nan=1.0).any() for group in groups)
        self._cells = [cell for stratum in plan.covered for cell in plan.cells_of(sample, stratum)]
        self._spread = Spread(
            settings.level,
            volume.uncertainty,
            {stratum.name: stratum.uncertainty for stratum in plan.strata},
            volume.of == "population",
        )

    def projection(self) -> Projection:
        if not self._covered:
            raise PodctlError(
                "of no ticket of the volume anything is known: the run has none of its strata",
                code="projection-empty",
                cause=self._uncovered,
                hint="draw a sample that has them: podctl tickets SCENARIO shows what it has",
                exit_code=ExitCode.USAGE,
            )
        figures = self._figures()
        covered = self._summed(figures.together(_DOLLARS, "dollars"))
        total = self._complete(covered)
        settings, info = self._settings, self._sample.info
        parts = self._parts(figures)
        made = Projection(
            run=info.id,
            scenario=info.scenario,
            agent_name=info.agent_name,
            agent_version=info.agent_version,
            simulated=self._sample.simulated,
            made_ns=self._known.made_ns,
            seed=settings.seed,
            replications=settings.replications,
            level=settings.level,
            volume=Projected(
                self._volume.name,
                self._volume.of,
                self._whole,
                self._covered,
                self._volume.periods,
                self._volume.uncertainty,
            ),
            sampled=sum(taken for taken, _ in info.strata.values()),
            counted=self._sample.tickets,
            repeats=info.repeats,
            total=total,
            covered_dollars=covered,
            beside=(self._summed(figures.beside("total", "dollars")),),
            parts=parts,
            per_ticket=self._complete(self._summed(figures.together(_prefixed("a ticket"), "dollars", scales=False))),
            per_resolved=self._complete(self._per_resolved(figures)),
            outcomes=self._outcomes(figures),
            tokens=tuple(TokenKind(kind, self._complete(figures.amount(kind, "tokens"))) for kind in TOKEN_KINDS),
            pod_hours=self._complete(figures.amount("hours", "hours")),
            human_hours=self._complete(self._human_hours(figures)),
            strata=tuple(self._stratum(number, stratum) for number, stratum in enumerate(self._plan.strata)),
            periods=self._periods(total),
            caps=tuple(self._cap(figures, index, cap) for index, cap in enumerate(self._plan.caps)),
            budget=self._budget(figures, total),
            coverage=self._coverage(total),
            mix=self._mix(),
            baseline=self._human_baseline(total),
            timing=self._timing(),
            proposed=self._proposed(),
        )
        return replace(
            made,
            warnings=warnings_of(made, self._sample, self._rates, self._known.status),
            assumptions=assumptions_of(made, self._volume, self._rates),
        )

    def _figures(self) -> Figures:
        return Figures(
            self._plan.names,
            self._cells,
            self._spread,
            replications=self._settings.replications,
            seed=(self._settings.seed, 0),
            worst=self._plan.worst,
            ratios=(("total", "resolved"),),
            scaled=_scaled("a ticket", [cell.weight / self._covered for cell in self._cells]),
        )

    def _fewer(self, cells: Sequence[Cell], *seed: int, **more: Any) -> Figures:
        """Dollars, hours and what is resolved, of a part of it all."""
        return Figures(
            self._plan.names,
            cells,
            self._spread,
            replications=min(self._settings.replications, _FEWER),
            seed=(self._settings.seed, *seed),
            worst=self._plan.worst,
            wanted=_OF_PART,
            **more,
        )

    # ---- what is not known ----

    @property
    def _unpriced(self) -> str:
        sample = self._sample
        if not sample.unpriced:
            return ""
        return f"what {plural(sample.unpriced, 'attempt')} of {sample.counted:,} cost is not known"

    @property
    def _uncovered(self) -> str:
        missing = [stratum for stratum in self._plan.strata if stratum.total > 0 and stratum not in self._plan.covered]
        if not missing:
            return ""
        names = ", ".join(stratum.name for stratum in missing[:5]) + (
            f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        )
        tickets = sum(stratum.total for stratum in missing)
        return f"nothing is known of {tickets:,.0f} of {self._whole:,.0f} tickets: no ticket of {names} counts in the run"

    def _complete(self, estimate: Estimate) -> Estimate:
        """A figure of the whole volume is unknown where part of it is."""
        if not self._uncovered:
            return estimate
        least = estimate.value if estimate.value is not None else estimate.at_least
        return Estimate(None, estimate.unit, why=self._uncovered, at_least=least)

    def _priced(self, estimate: Estimate) -> Estimate:
        """Money is unknown where some attempt's is."""
        if not self._unpriced:
            return estimate
        return Estimate(None, estimate.unit, why=self._unpriced, at_least=estimate.value)

    def _summed(self, estimate: Estimate) -> Estimate:
        """A sum of what is counted says nothing where models cost nothing and nothing else has a rate."""
        if (
            self._models_free
            and not self._unpriced
            and not any(self._plan.counted[name] for name in (*MACHINES[1:], *OUTCOMES))
        ):
            return Estimate(None, estimate.unit, why="models cost nothing in the run, and nothing else has a rate")
        return self._priced(estimate)

    def _per_resolved(self, figures: Figures) -> Estimate:
        if figures.value("resolved") == 0:
            return Estimate(None, "dollars", why="no sampled ticket was resolved")
        return self._summed(figures.per(_DOLLARS, "resolved", "dollars"))

    def _parts(self, figures: Figures) -> tuple[Part, ...]:
        rates, counted = self._rates, self._plan.counted
        none = Estimate(None, "dollars", why="")
        no_people = "the volume file gives no people.dollars_per_hour"
        hours: dict[str, Estimate] = {
            "models": figures.amount("tokens", "tokens"),
            "pods": figures.amount("hours", "hours"),
            "approvals": figures.amount("approval_hours", "hours"),
            "fallback": figures.rare("fallback_hours", "hours")
            if None not in rates.fallback.values()
            else figures.count("handed_over"),
            "rework": figures.rare("rework_hours", "hours") if None not in rates.rework.values() else figures.count("wrong"),
        }
        dollars = {
            "models": self._priced(figures.amount("models", "dollars")),
            "pods": figures.amount("pods", "dollars"),
            "approvals": figures.amount("approvals", "dollars"),
            "fallback": figures.rare("fallback", "dollars"),
            "rework": figures.rare("rework", "dollars"),
        }
        why = {
            "pods": "neither the volume file nor a price file says what an hour of a pod costs",
            "approvals": no_people,
            "fallback": no_people if rates.people is None else "the volume file gives neither people.fallback nor a baseline",
            "rework": no_people if rates.people is None else "the volume file gives neither rework nor people.fallback",
        }
        found = []
        for name in ("models", "pods", "approvals", "fallback", "rework"):
            there = counted[name] or name == "models"
            money = dollars[name] if there else replace(none, why=why[name])
            found.append(Part(name, self._complete(hours[name]), self._complete(money) if there else money, counted[name]))
        return tuple(found)

    def _human_hours(self, figures: Figures) -> Estimate:
        rates = self._rates
        unknown = [*rates.fallback.values(), *rates.rework.values()]
        if None in unknown:
            why = "the volume file does not say how long people take for a ticket that the agent did not resolve"
            return Estimate(None, "hours", why=why, at_least=figures.value("human_hours"))
        return figures.together(_HOURS, "hours")

    def _outcomes(self, figures: Figures) -> Outcomes:
        resolved, handed_over, wrong = (self._complete(figures.count(name)) for name in ("resolved", "handed_over", "wrong"))
        return Outcomes(resolved, handed_over, wrong, self._complete(figures.share("resolved")))

    def _periods(self, total: Estimate) -> tuple[Period, ...]:
        if self._volume.periods == 1:
            return (Period(1, self._whole, total),)
        scaled: dict[str, tuple[str, Sequence[float]]] = {}
        for number in range(self._volume.periods):
            tickets = {stratum.name: stratum.tickets[number] for stratum in self._plan.covered}
            scaled |= _scaled(f"period {number}", [tickets[cell.stratum] * cell.drawn.share for cell in self._cells])
        each = self._fewer(self._cells, 3, scaled=scaled)
        found = []
        for number in range(self._volume.periods):
            whole = math.fsum(stratum.tickets[number] for stratum in self._plan.strata)
            dollars = each.together(_prefixed(f"period {number}"), "dollars")
            found.append(Period(number + 1, whole, self._complete(self._summed(dollars))))
        return tuple(found)

    def _stratum(self, number: int, stratum: Stratum) -> StratumProjection:
        there = self._sample.population.get(stratum.name, 0)
        taken = self._sample.info.strata.get(stratum.like, (0, 0))[0]
        groups = self._sample.strata.get(stratum.like, ())
        counted = sum(group.tickets for group in groups)
        like = stratum.like if stratum.like != stratum.name else ""

        def made(confidence: str, **figures: Estimate) -> StratumProjection:
            return StratumProjection(stratum.name, stratum.total, taken, counted, there, confidence, like=like, **figures)  # type: ignore[arg-type]

        if not groups or stratum.total == 0:
            why = "no tickets are expected" if stratum.total == 0 else "no ticket of it counts in the run"
            nothing = {
                name: Estimate(0.0 if stratum.total == 0 and extensive else None, unit, why=why)
                for name, (unit, extensive) in _STRATUM_UNITS.items()
            }
            confidence = "none" if not groups else "low" if counted < THIN else "usual"
            return made(confidence, **nothing)
        figures = self._fewer(
            self._plan.cells_of(self._sample, stratum),
            2,
            number,
            ratios=(("total", "resolved"),),
            scaled=_scaled("a ticket", [group.share for group in groups]),
        )
        unpriced = any(np.isnan(group.attempts[:, 0]).any() for group in groups)

        def priced(estimate: Estimate) -> Estimate:
            return self._summed(estimate) if unpriced or not self._unpriced else estimate

        resolved = figures.value("resolved") > 0
        none_resolved = Estimate(None, "dollars", why="no sampled ticket of it was resolved")
        return made(
            "low" if counted < THIN else "usual",
            dollars=priced(figures.together(_DOLLARS, "dollars")),
            dollars_per_ticket=priced(figures.together(_prefixed("a ticket"), "dollars", scales=False)),
            dollars_per_resolved=priced(figures.per(_DOLLARS, "resolved", "dollars")) if resolved else none_resolved,
            resolved_share=figures.share("resolved"),
            pod_hours=figures.amount("hours", "hours"),
            human_hours=self._human_hours(figures),
        )

    def _cap(self, figures: Figures, index: int, cap: float) -> Cap:
        def complete(estimate: Estimate) -> Estimate:
            return self._complete(self._priced(estimate))

        return Cap(
            dollars=cap,
            reached=complete(figures.share(f"reached {index}")),
            saves=complete(figures.amount(f"saves {index}", "dollars")),
            lost=complete(figures.count(f"lost {index}")),
            net=complete(figures.difference(f"net {index}", "dollars")),
        )

    def _budget(self, figures: Figures, total: Estimate) -> Budget | None:
        if self._volume.budget is None:
            return None
        budget = float(self._volume.budget)
        draws = figures.draws(_DOLLARS) if total.value is not None else None
        if draws is None:
            return Budget(budget, None, total.why)
        return Budget(budget, float((draws > budget).mean()))

    def _coverage(self, total: Estimate) -> Coverage | None:
        if not self._settings.coverage or total.low is None:
            return None
        order = {name: index for index, name in enumerate(self._plan.names)}
        costs = []
        worst_of_all = max(self._plan.worst("outcomes", stratum.name) for stratum in self._plan.covered)
        cells = merged(self._cells)
        for cell in cells:
            columns = cell.per_ticket
            worst = max(worst_of_all, float(columns[:, order["outcomes"]].max()))
            costs.append(Costs(columns[:, order["machines"]], columns[:, order["outcomes"]], worst))
        return coverage(costs, np.array([cell.weight for cell in cells]), self._settings.level, self._settings.seed)

    def _proposed(self) -> Proposed | None:
        """None where nothing was."""
        counts = self._sample.approvals
        if counts is None or not counts.proposed:
            return None
        took = counts.people_s / counts.people if counts.people else None
        each = counts.attention_s / counts.proposed
        return Proposed(self._sample.proposing, counts.proposed, counts.simulated, counts.people, each, took)

    def _mix(self) -> MixShift | None:
        """None where the volume's mix is the population's, or some stratum of that was not tried."""
        population = self._sample.population
        whole = sum(population.values())
        own = [
            Stratum(name, name, (there / whole,))
            for name, there in population.items()
            if there and name in self._rates.fallback
        ]
        if not all(self._sample.strata[stratum.name] for stratum in own):
            return None
        volume = {stratum.name: stratum.total / self._whole for stratum in self._plan.strata}
        if all(math.isclose(volume.get(name, 0.0), there / whole, abs_tol=1e-9) for name, there in population.items()):
            return None
        figures = self._fewer([cell for stratum in own for cell in self._plan.cells_of(self._sample, stratum)], 4)
        return MixShift(self._summed(figures.together(_DOLLARS, "dollars", scales=False)))

    def _timing(self) -> Timing | None:
        """None where the time of some tickets is not known."""
        if self._uncovered or not self._settings.timing:
            return None
        whole = [math.fsum(stratum.tickets[number] for stratum in self._plan.covered) for number in range(self._volume.periods)]
        most = whole.index(max(whole))
        busiest = {stratum.name: stratum.tickets[most] for stratum in self._plan.covered}
        return timing(self._cells, busiest, self._volume, self._sample.info.pods, self._settings.seed)

    def _human_baseline(self, total: Estimate) -> HumanBaseline | None:
        if self._baseline is None:
            return None
        times = {stratum: self._baseline.of(stratum.name) or self._baseline.of(stratum.like) for stratum in self._plan.strata}
        missing = sorted(stratum.name for stratum, time in times.items() if time is None and stratum.total > 0)
        if missing:
            return None
        hours = math.fsum(stratum.total * (time or 0.0) for stratum, time in times.items()) / 3600
        dollars = None if self._rates.people is None else hours * self._rates.people
        return HumanBaseline(self._baseline.source, hours * 60 / self._whole, hours, dollars, _saved(dollars, total))


def _prefixed(prefix: str) -> Sums:
    return Sums(f"{prefix} machines", f"{prefix} outcomes", f"{prefix} total")


def _scaled(prefix: str, weights: Sequence[float]) -> dict[str, tuple[str, Sequence[float]]]:
    """The dollars' columns once more, with other weights of the cells, under the names of `_prefixed`."""
    return {f"{prefix} {name}": (name, weights) for name in (_DOLLARS.steady, _DOLLARS.rare, _DOLLARS.whole)}


def _saved(dollars: float | None, total: Estimate) -> Estimate:
    """The baseline less the total, as sure as the total is."""
    if dollars is None:
        return Estimate(None, "dollars", why="the volume file gives no people.dollars_per_hour")
    if total.value is None:
        return Estimate(None, "dollars", why=total.why)
    if total.low is None or total.high is None:
        return Estimate(dollars - total.value, "dollars", why=total.why)
    return Estimate(dollars - total.value, "dollars", dollars - total.high, dollars - total.low, total.level, total.method)


#: Figure of a stratum -> its unit, and whether no tickets make it 0.
_STRATUM_UNITS: dict[str, tuple[Unit, bool]] = {
    "dollars": ("dollars", True),
    "dollars_per_ticket": ("dollars", False),
    "dollars_per_resolved": ("dollars", False),
    "resolved_share": ("share", False),
    "pod_hours": ("hours", True),
    "human_hours": ("hours", True),
}
