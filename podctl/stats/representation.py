"""Whether a sample has as many tickets of a kind as chance would give it. Exact: populations are finite and samples small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Stratum:
    """``total`` tickets of which ``of_kind`` are of the kind looked at, and ``drawn`` are in the sample."""

    total: int
    of_kind: int
    drawn: int


@dataclass(frozen=True)
class Tails:
    """Chances of at most, and of at least, as many of the kind as the sample has."""

    at_most: float
    at_least: float

    @property
    def two_sided(self) -> float:
        """Twice the smaller tail, 1 at most."""
        return min(1.0, 2 * min(self.at_most, self.at_least))


def tails(found: int, strata: Sequence[Stratum]) -> Tails:
    """Of ``found`` tickets of a kind in a sample drawn without replacement from each stratum.

    A stratum's count is hypergeometric, and the sum's distribution their convolution. With one stratum it is Fisher's exact
    test of the sample against the rest of the population (Fisher 1935). Raises ValueError for counts that cannot be.
    """
    import numpy

    chances = numpy.ones(1)
    for stratum in strata:
        if not 0 <= stratum.of_kind <= stratum.total or not 0 <= stratum.drawn <= stratum.total:
            raise ValueError(f"no stratum has {stratum.of_kind} of a kind and {stratum.drawn} drawn of {stratum.total}")
        if stratum.of_kind and stratum.drawn:
            chances = numpy.convolve(chances, _hypergeometric(stratum))
    if not 0 <= found < len(chances):
        raise ValueError(f"a sample that can have at most {len(chances) - 1} of a kind cannot have {found}")
    return Tails(min(1.0, float(chances[: found + 1].sum())), min(1.0, float(chances[found:].sum())))


def _hypergeometric(stratum: Stratum) -> Any:
    """Chances of 0, 1, … of the kind; scipy's own distribution takes a millisecond a call, and there are thousands."""
    import numpy
    from scipy.special import gammaln

    def ways(of: Any, chosen: Any) -> Any:
        return gammaln(of + 1) - gammaln(chosen + 1) - gammaln(of - chosen + 1)

    others = stratum.total - stratum.of_kind
    least, most = max(0, stratum.drawn - others), min(stratum.of_kind, stratum.drawn)
    counts = numpy.arange(least, most + 1)
    logs = ways(stratum.of_kind, counts) + ways(others, stratum.drawn - counts) - ways(stratum.total, stratum.drawn)
    return numpy.concatenate([numpy.zeros(least), numpy.exp(logs)])


def expected(strata: Sequence[Stratum]) -> float:
    """The mean of what `tails` is about."""
    return sum(stratum.drawn * stratum.of_kind / stratum.total for stratum in strata if stratum.total)


def holm(chances: Sequence[float]) -> list[float]:
    """Each chance, adjusted for how many were looked at, so that one in twenty *samples* is suspected wrongly (Holm 1979)."""
    order = sorted(range(len(chances)), key=lambda index: chances[index])
    adjusted, highest = [0.0] * len(chances), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(chances) - rank) * chances[index]))
        adjusted[index] = highest
    return adjusted
