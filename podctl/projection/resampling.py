"""The bootstrap of stratified sums: weights of resampled tickets times their columns, in chunks of matrix products.

Tickets are resampled within their group (a stratum, or what had to be in its sample), each as often as the group has tickets.
A column is one figure: Σ_g weight_g · mean_g. Everything is in float64; arrays are replications × columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Cells of a chunk of weights: 32 MB.
_CELLS = 1 << 22


@dataclass(frozen=True)
class Resampled:
    """Sums and their standard errors: of the sample (columns), and of each replication (replications × columns)."""

    sums: Floats
    errors: Floats
    replicates: Floats
    replicate_errors: Floats

    def column(self, at: int) -> Resampled:
        """One column alone."""
        one = [at]
        return Resampled(self.sums[one], self.errors[one], self.replicates[:, one], self.replicate_errors[:, one])


def resample(
    groups: Sequence[Floats],
    weights: Floats,
    replications: int,
    rng: np.random.Generator,
    ratios: Sequence[tuple[int, int]] = (),
) -> Resampled:
    """``groups``: tickets × columns each; ``weights``: groups × columns. A ratio (numerator, denominator) of two columns is one
    more column, its error by linearisation (Cochran 1977, 6.3); a ratio over 0 is not a number.

    The error of a sum is √(Σ_g weight² s² / n), s² over n − 1; a group of one ticket adds nothing to it.
    """
    first = _Sums.zeros(1, weights.shape[1], len(ratios))
    again = _Sums.zeros(replications, weights.shape[1], len(ratios))
    for values, weight in zip(groups, weights, strict=True):
        products = _products(values, ratios)
        part = _Part(values.mean(axis=0), len(values), weight, ratios)
        first.add(slice(None), part, np.full((1, len(values)), 1 / len(values)) @ products)
        for rows, shares in _resamples(len(values), replications, rng):
            again.add(rows, part, shares @ products)
    sums, errors = first.finished(ratios)
    replicates, replicate_errors = again.finished(ratios)
    return Resampled(sums[0], errors[0], replicates, replicate_errors)


def _products(values: Floats, ratios: Sequence[tuple[int, int]]) -> Floats:
    """Values about their mean, so that variances keep their digits; their squares; the products of each ratio's two columns."""
    centred = values - values.mean(axis=0)
    return np.column_stack([centred, centred**2, *(centred[:, above] * centred[:, below] for above, below in ratios)])


@dataclass(frozen=True)
class _Part:
    """A group: means of its columns, how many tickets it has, and what each column's mean weighs."""

    centre: Floats
    tickets: int
    weight: Floats
    ratios: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class _Sums:
    """Replications × columns, and of ratios their covariances."""

    sums: Floats
    variances: Floats
    covariances: Floats

    @staticmethod
    def zeros(replications: int, columns: int, ratios: int) -> _Sums:
        return _Sums(np.zeros((replications, columns)), np.zeros((replications, columns)), np.zeros((replications, ratios)))

    def add(self, rows: slice, part: _Part, means: Floats) -> None:
        """``means`` of what `_products` gives, a replication each."""
        columns = len(part.weight)
        shift, squares, crossed = means[:, :columns], means[:, columns : 2 * columns], means[:, 2 * columns :]
        # s²/n = (mean of squares − square of the mean) / (n − 1)
        scale = part.weight**2 / (part.tickets - 1) if part.tickets > 1 else 0 * part.weight
        self.sums[rows] += (part.centre + shift) * part.weight
        self.variances[rows] += np.maximum(squares - shift**2, 0) * scale
        for index, (above, below) in enumerate(part.ratios):
            spread = crossed[:, index] - shift[:, above] * shift[:, below]
            self.covariances[rows, index] += spread * np.sqrt(scale[above] * scale[below])

    def finished(self, ratios: Sequence[tuple[int, int]]) -> tuple[Floats, Floats]:
        """Sums and errors, those of ratios behind the columns."""
        sums, variances = self.sums, self.variances
        with np.errstate(divide="ignore", invalid="ignore"):
            for index, (above, below) in enumerate(ratios):
                ratio = sums[:, above] / sums[:, below]
                spread = variances[:, above] - 2 * ratio * self.covariances[:, index] + ratio**2 * variances[:, below]
                sums = np.column_stack([sums, ratio])
                variances = np.column_stack([variances, np.maximum(spread, 0) / sums[:, below] ** 2])
        return sums, np.sqrt(variances)


def _resamples(count: int, replications: int, rng: np.random.Generator) -> Iterator[tuple[slice, Floats]]:
    """Which replications, and the share that each ticket has in them: replications × tickets."""
    rows = max(1, _CELLS // count)
    for start in range(0, replications, rows):
        some = min(rows, replications - start)
        drawn = rng.integers(0, count, (some, count), dtype=np.int64)
        drawn += np.arange(some)[:, None] * count
        yield slice(start, start + some), np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count) / count
