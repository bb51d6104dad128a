"""Columns of a run's tickets, weighted to a volume, as estimates with their ranges."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from podctl.projection.intervals import (
    BCA,
    BOTH,
    GAMMA,
    LOG_T,
    PLAIN_T,
    VOLUME,
    WILSON,
    Ranged,
    added,
    bca_bounds,
    gamma_bounds,
    gamma_draws,
    stratified_wilson,
    student_bounds,
    student_draws,
    widened,
)
from podctl.projection.model import LEAST, Estimate, Unit
from podctl.projection.resampling import Floats, resample
from podctl.projection.sample import Drawn

#: A share of the volume in groups of one ticket, whose scatter nobody saw, above which there is no range.
_UNSEEN = 0.05


@dataclass(frozen=True)
class Cell:
    """A group of sampled tickets and how many of the volume they stand for; ``columns``: attempts × columns."""

    stratum: str
    drawn: Drawn
    weight: float
    columns: Floats

    @property
    def per_ticket(self) -> Floats:
        return np.column_stack([self.drawn.per_ticket(column) for column in self.columns.T])


def merged(cells: Sequence[Cell]) -> list[Cell]:
    """Cells of the same tickets as one: what they tell of one stratum they tell of the others, and they err together."""
    found: dict[int, list[Cell]] = {}
    for cell in cells:
        found.setdefault(id(cell.drawn), []).append(cell)
    return [_as_one(some) for some in found.values()]


def _as_one(cells: Sequence[Cell]) -> Cell:
    weight = math.fsum(cell.weight for cell in cells)
    columns = np.sum([cell.columns * (cell.weight / weight) for cell in cells], axis=0)
    return Cell(", ".join(cell.stratum for cell in cells), cells[0].drawn, weight, columns)


@dataclass(frozen=True)
class Spread:
    """What a figure's error is made of besides how few tickets were sampled.

    ``volume``: relative deviation of the volume as a whole; ``strata``: of each stratum's own; ``of_population``: the figure is of
    the very tickets that were drawn from, else of others like them.
    """

    level: float
    volume: float
    strata: Mapping[str, float]
    of_population: bool


@dataclass(frozen=True)
class Sums:
    """Names of three columns: what every ticket has, what few have, and both together."""

    steady: str
    rare: str
    whole: str


class Figures:
    """Columns over cells, resampled together, so that ratios keep what goes together.

    ``worst(column, stratum)``: the most that one ticket more could have of what is rare and may not have been seen.
    """

    def __init__(
        self,
        names: Sequence[str],
        cells: Sequence[Cell],
        spread: Spread,
        *,
        replications: int,
        seed: Sequence[int],
        worst: Callable[[str, str], float],
        wanted: Sequence[str] | None = None,
        ratios: Sequence[tuple[str, str]] = (),
        scaled: Mapping[str, tuple[str, Sequence[float]]] | None = None,
    ) -> None:
        """``names`` of the cells' columns, of which those ``wanted`` (all) are figures; ``scaled``: one more -> (a column, weights
        of the cells in place of their own)."""
        self._spread = spread
        self._worst = worst
        self._columns = {name: index for index, name in enumerate(names)}
        self._source = {name: name for name in wanted or names} | {name: of for name, (of, _) in (scaled or {}).items()}
        self.order = {name: index for index, name in enumerate([*self._source, *map("/".join, ratios)])}
        picked = [self._columns[source] for source in self._source.values()]
        weights = np.repeat([[cell.weight] for cell in cells], len(picked), axis=1)
        for name, (_, others) in (scaled or {}).items():
            weights[:, self.order[name]] = others
        self._by_cell = [(cell, cell.per_ticket[:, picked], weight) for cell, weight in zip(cells, weights, strict=True)]
        self._cells = merged(cells)
        self._values, self._weights = self._merged()
        pairs = [(self.order[above], self.order[below]) for above, below in ratios]
        self._rng = np.random.default_rng(list(seed))
        self._resampled = resample(self._values, self._weights, replications, self._rng, pairs)

    def _merged(self) -> tuple[list[Floats], Floats]:
        """Tickets × columns of each merged cell, and weights: cells × columns."""
        values, weights = [], []
        for whole in self._cells:
            parts = [(part, weight) for cell, part, weight in self._by_cell if cell.drawn is whole.drawn]
            weight = np.sum([weight for _, weight in parts], axis=0)
            summed = np.sum([part * weight for part, weight in parts], axis=0)
            values.append(np.divide(summed, weight, out=parts[0][0].copy(), where=weight > 0))
            weights.append(weight)
        return values, np.array(weights)

    # ---- what there is ----

    @property
    def tickets(self) -> int:
        return sum(cell.drawn.tickets for cell in self._cells)

    @property
    def no_range(self) -> str:
        """Why no range can be given; empty where one can."""
        if self.tickets < LEAST:
            return f"{self.tickets} {'ticket is' if self.tickets == 1 else 'tickets are'} too few for a range: {LEAST} at least"
        whole = sum(cell.weight for cell in self._cells)
        alone = [cell for cell in self._cells if cell.drawn.tickets == 1]
        if sum(cell.weight for cell in alone) > _UNSEEN * whole:
            names = ", ".join(sorted({cell.stratum for cell in alone})[:5])
            return f"a single ticket each tells of {names}: how tickets differ there is not known"
        return ""

    def value(self, name: str) -> float:
        return float(self._resampled.sums[self.order[name]])

    # ---- estimates ----

    def amount(self, name: str, unit: Unit, *, scales: bool = True) -> Estimate:
        """A sum of amounts above 0: bootstrap-t on the log scale; where too few tickets have any, gamma. ``scales``: with the volume."""
        at, value = self.order[name], self.value(name)
        if self.no_range or not math.isfinite(value):
            return Estimate(value if math.isfinite(value) else None, unit, why=self.no_range or "there is nothing to divide by")
        if value > 0 and self._resampled.errors[at] <= 1e-12 * value:
            return self._without_scatter(name, unit, scales)
        low, high = (
            float(bounds[0])
            for bounds in student_bounds(self._resampled.column(at), self._spread.level, log=True, scale=self._scale(name))
        )
        method = LOG_T
        if not (math.isfinite(low) and math.isfinite(high)):
            if "/" in name:
                return Estimate(value, unit, why="too few tickets of the sample have any of it for a range")
            return self.rare(name, unit)
        if scales:
            low, high = widened(low, high, value, self._deviation(name), self._spread.level)
        return Estimate(value, unit, low, high, self._spread.level, method)

    def _without_scatter(self, name: str, unit: Unit, scales: bool) -> Estimate:
        """Every sampled ticket came to the same: only how many there will be can be uncertain."""
        value, deviation = self.value(name), self._deviation(name) if scales else 0.0
        if deviation == 0:
            return Estimate(value, unit, why="every sampled ticket came to the same, so that no range can be told")
        return Estimate(value, unit, *widened(value, value, value, deviation, self._spread.level), self._spread.level, VOLUME)

    def rare(self, name: str, unit: Unit, *, scales: bool = True) -> Estimate:
        """A sum over tickets of which few, or none, have any."""
        value = self.value(name)
        if self.no_range:
            return Estimate(value, unit, why=self.no_range)
        heaviest = self._heaviest(name)
        if value == 0 and heaviest == 0:
            return Estimate(0.0, unit, why="no sampled ticket had any")
        low, high = (float(bound) for bound in gamma_bounds(*self._rarity(name), self._spread.level))
        if scales:
            low, high = widened(low, high, value, self._deviation(name), self._spread.level)
        return Estimate(value, unit, low, high, self._spread.level, GAMMA)

    def together(self, sums: Sums, unit: Unit, *, scales: bool = True) -> Estimate:
        """What every ticket costs and what few do, each with the range that fits it, added up.

        The bootstrap cannot see a rare outcome that the sample has not: alone it would cover the total of 6 × 10 tickets, of which 2 %
        go wrong at 70 times a ticket's cost, seven times in ten.
        """
        rare = self.rare(sums.rare, unit, scales=False)
        if rare.low is None or rare.high is None:
            return self.amount(sums.whole, unit, scales=scales)
        steady = self.amount(sums.steady, unit, scales=False)
        found = added(_ranged(steady), _ranged(rare), self._correlation(sums.steady, sums.rare))
        value, low, high = self.value(sums.whole), float(found.low[0]), float(found.high[0])
        if scales:
            low, high = widened(low, high, value, self._deviation(sums.whole), self._spread.level)
        return Estimate(value, unit, low, high, self._spread.level, BOTH if steady.value else GAMMA)

    def per(self, sums: Sums, below: str, unit: Unit) -> Estimate:
        """The sum over a count of tickets, ``below``. The bootstrap's where no outcome costs anything; else what outcomes cost and how
        few tickets are left are taken to be at their worst together."""
        rare, count = self.rare(sums.rare, unit, scales=False), self.count(below)
        if rare.low is None or rare.high is None or count.low is None or count.high is None:
            return self.amount(f"{sums.whole}/{below}", unit, scales=False)
        if not count.value or count.low <= 0:
            return Estimate(self.value(f"{sums.whole}/{below}"), unit, why="too few tickets were resolved for a range")
        steady = _ranged(self.amount(sums.steady, unit, scales=False))
        value, fixed, tickets = self.value(f"{sums.whole}/{below}"), float(steady.value[0]), count.value
        of_outcomes = Ranged(
            np.array([value - fixed / tickets]),
            np.array([(fixed + rare.low) / count.high - fixed / tickets]),
            np.array([(fixed + rare.high) / count.low - fixed / tickets]),
        )
        of_machines = Ranged(steady.value / tickets, steady.low / tickets, steady.high / tickets)
        found = added(of_machines, of_outcomes)
        return Estimate(value, unit, float(found.low[0]), float(found.high[0]), self._spread.level, BOTH)

    def share(self, name: str) -> Estimate:
        """Of the tickets, those that a column of 0 to 1 marks."""
        whole = float(self._weights[:, self.order[name]].sum())
        value = self.value(name) / whole
        if self.no_range:
            return Estimate(value, "share", why=self.no_range)
        at = self.order[name]
        found = stratified_wilson(
            [values[:, at] for values in self._values], [weight / whole for weight in self._weights[:, at]], self._spread.level
        )
        return Estimate(value, "share", found.low, found.high, self._spread.level, WILSON)

    def count(self, name: str) -> Estimate:
        """Tickets that a column of 0 to 1 marks."""
        share, whole = self.share(name), float(self._weights[:, self.order[name]].sum())
        if share.low is None or share.high is None:
            return Estimate(self.value(name), "tickets", why=share.why)
        value = self.value(name)
        low, high = widened(share.low * whole, share.high * whole, value, self._deviation(name), self._spread.level)
        return Estimate(value, "tickets", low, high, self._spread.level, WILSON)

    def difference(self, name: str, unit: Unit) -> Estimate:
        """A sum that may be below 0. How sure the volume is does not widen it."""
        at, value = self.order[name], self.value(name)
        if self.no_range:
            return Estimate(value, unit, why=self.no_range)
        low, high = (
            float(bounds[0])
            for bounds in student_bounds(self._resampled.column(at), self._spread.level, log=False, scale=self._scale(name))
        )
        if not (math.isfinite(low) and math.isfinite(high)):
            return Estimate(value, unit, why="too few tickets of the sample differ in it for a range")
        return Estimate(value, unit, low, high, self._spread.level, PLAIN_T)

    def beside(self, name: str, unit: Unit) -> Estimate:
        """The range of `amount` by BCa."""
        at, value = self.order[name], self.value(name)
        if self.no_range or value <= 0 or self._resampled.errors[at] <= 1e-12 * value:
            return Estimate(value, unit, why=self.no_range or "nothing varies")
        values = [group[:, [at]] for group in self._values]
        low, high = bca_bounds(self._resampled.column(at), values, self._weights[:, [at]], self._spread.level)
        # The design's error is the same share of the range whatever the method.
        scale = self._scale(name)
        near, far = (value * (float(bound[0]) / value) ** scale for bound in (low, high))
        near, far = widened(near, far, value, self._deviation(name), self._spread.level)
        return Estimate(value, unit, near, far, self._spread.level, BCA)

    def draws(self, sums: Sums) -> Floats | None:
        """Possible values of what `together` estimates, a replication each; None without a range."""
        if self.together(sums, "dollars").low is None:
            return None
        count, steady = len(self._resampled.replicates), self.amount(sums.steady, "dollars", scales=False)
        if steady.method == LOG_T:
            drawn = student_draws(self._resampled, self.order[sums.steady], self._scale(sums.steady))
        elif steady.method == GAMMA:
            drawn = gamma_draws(*self._rarity(sums.steady), count, self._rng)
        else:
            drawn = np.full(count, steady.value)
        if self.rare(sums.rare, "dollars").low is not None:
            drawn = drawn + gamma_draws(*self._rarity(sums.rare), count, self._rng)
        deviation = self._deviation(sums.whole)
        wider: Floats = drawn * np.exp(self._rng.normal(0, math.sqrt(math.log1p(deviation**2)), count))
        return wider

    # ---- what errors are made of ----

    def _rarity(self, name: str) -> tuple[Floats, Floats, Floats]:
        """Of a sum of rare events: itself, its variance, and the most that one event more could have added.

        The variance is the stratified one, or Σ (weight · value)² as of independent events where that is less.
        """
        at = self.order[name]
        pairs = zip(self._values, self._weights, strict=True)
        of_events = math.fsum(float(((values[:, at] * weight[at] / len(values)) ** 2).sum()) for values, weight in pairs)
        stratified = float(self._resampled.errors[at] ** 2)
        variance = min(of_events, stratified) if stratified > 0 else of_events
        return np.array(self.value(name)), np.array(variance), np.array(self._heaviest(name))

    def _correlation(self, one: str, other: str) -> float:
        """Of two sums' errors; never below 0, so that it only widens."""
        first, second = (self._resampled.replicates[:, self.order[name]] for name in (one, other))
        if first.std() == 0 or second.std() == 0:
            return 0.0
        return max(0.0, float(np.corrcoef(first, second)[0, 1]))

    def _heaviest(self, name: str) -> float:
        """The most that one ticket more could have added to the sum."""
        at, source = self.order[name], self._source[name]
        heaviest = 0.0
        for whole, weight in zip(self._cells, self._weights, strict=True):
            parts = [(cell, values) for cell, values, _ in self._by_cell if cell.drawn is whole.drawn]
            most = max(max(float(values[:, at].max()), self._worst(source, cell.stratum)) for cell, values in parts)
            heaviest = max(heaviest, float(weight[at]) / whole.drawn.tickets * most)
        return heaviest

    def _variances(self, name: str) -> list[tuple[float, float | None, float, Drawn]]:
        """Of each cell: variance among tickets' means, within tickets (None without repeats), weight, and where it is from."""
        at, source = self.order[name], self._columns[self._source[name]]
        found = []
        for cell, values, weight in zip(self._cells, self._values, self._weights, strict=True):
            among = float(values[:, at].var(ddof=1)) if len(values) > 1 else 0.0
            within = cell.drawn.within(cell.columns[:, source])
            found.append((among, within, float(weight[at]), cell.drawn))
        return found

    def _scale(self, name: str) -> float:
        """The standard error of the design over that of independent draws: with repeats, of a finite population, the part between
        tickets shrinks with how many of them were sampled. V = Σ N² [(1 − n/N) σ²_b / n + σ²_w / (n r)]."""
        if not self._spread.of_population or "/" in name:
            return 1.0
        plain = design = 0.0
        for among, within, weight, drawn in self._variances(name):
            plain += weight**2 * among / drawn.tickets
            if within is None:
                design += weight**2 * among / drawn.tickets
                continue
            of_mean = within / drawn.repeats
            between = max(0.0, among - of_mean) * (1 - min(1.0, drawn.tickets / drawn.population))
            design += weight**2 * (between + min(of_mean, among)) / drawn.tickets
        return math.sqrt(design / plain) if plain > 0 else 1.0

    def _deviation(self, name: str) -> float:
        """Relative: what future tickets, or another try of the same, scatter about their mean, and the volume about its plan.

        Σ N (σ²_b + σ²_w) of future tickets, Σ N σ²_w of the population's own with repeats; without repeats the latter is not known
        and left out, as is the finite-population correction, which is at least as large.
        """
        value = self.value(name)
        if value <= 0:
            return 0.0
        scatter = 0.0
        for among, within, weight, drawn in self._variances(name):
            if self._spread.of_population:
                scatter += weight * (within or 0.0)
            else:
                scatter += weight * (among + (within or 0.0) * (1 - 1 / drawn.repeats))
        own = math.fsum((self._spread.strata.get(stratum, 0.0) * part) ** 2 for stratum, part in self._by_stratum(name).items())
        return math.sqrt(scatter / value**2 + own / value**2 + self._spread.volume**2)

    def _by_stratum(self, name: str) -> dict[str, float]:
        at = self.order[name]
        parts: dict[str, float] = {}
        for cell, values, weight in self._by_cell:
            parts[cell.stratum] = parts.get(cell.stratum, 0.0) + float(values[:, at].mean() * weight[at])
        return parts


def _ranged(estimate: Estimate) -> Ranged:
    """An amount without a range, because nothing varies, is its own bounds."""
    value = np.array([estimate.value or 0.0])
    if estimate.low is None or estimate.high is None:
        return Ranged(value, value, value)
    return Ranged(value, np.array([estimate.low]), np.array([estimate.high]))
