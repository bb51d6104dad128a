"""Looking while a run goes on, without failing more good versions for it: an e-process on paired tickets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from podctl.evidence.results import AttemptResult, EarlyStop
from podctl.stats.summary import mean_dollars, money_of
from podctl.stats.weighing import Weighing

#: Evidence at which a run ends: between equal versions it is ever reached in at most 1 of 20 runs (Ville 1939).
ENOUGH = 20.0


def evidence(worse: int, better: int) -> float:
    """E of so many flips, against the two directions being equally likely; valid whenever one looks.

    The likelihood ratio of a uniform prior over the shares of worse flips above one half (Robbins 1970):
    log E = ln 2 + ln B(b+1, c+1) + ln P(Beta(b+1, c+1) > ½) + (b + c) ln 2.
    """
    if worse + better == 0:
        return 1.0
    from scipy.special import betaincc, betaln

    above = float(betaincc(worse + 1, better + 1, 0.5))
    if above <= 0:
        return 0.0
    log = math.log(2) + float(betaln(worse + 1, better + 1)) + math.log(above) + (worse + better) * math.log(2)
    return math.exp(min(log, 700.0))


class WeighedEvidence:
    """`evidence` of flips that weigh more or less, 0 to 1: the same prior, over bets λ that E[weight × direction] is above 0.

    Π (1 + λ x) over flips x, averaged over λ (Waudby-Smith and Ramdas 2024). Any average is as valid as the integral, which it is near;
    with all weights 1 it is `evidence`.
    """

    _BETS = tuple((at + 0.5) / 500 for at in range(500))

    def __init__(self) -> None:
        self._logs = [0.0] * len(self._BETS)

    def add(self, flip: float) -> None:
        self._logs = [log + math.log1p(bet * flip) for log, bet in zip(self._logs, self._BETS, strict=True)]

    @property
    def value(self) -> float:
        return math.fsum(math.exp(min(log, 700.0)) for log in self._logs) / len(self._BETS)


class Watch:
    """Follows a run's attempts as they end; ``enough`` once this version is worse for certain, and from then on.

    A ticket is looked at when all its attempts have ended: worse when a smaller share of those that count passed than of
    the baseline's. ``planned`` is ticket -> attempts of the run; ``before`` ticket -> the baseline's (passed, of). With a ``weighing``
    a ticket counts for what it stands for, so that the run ends only where the population is worse for certain.
    """

    def __init__(
        self, before: Mapping[str, tuple[int, int]], planned: Mapping[str, int], weighing: Weighing | None = None
    ) -> None:
        weights = {} if weighing is None else weighing.of_each({ticket: 1 for ticket in planned if ticket in before})
        heaviest = max(weights.values(), default=1.0)
        self._weights = {ticket: weight / heaviest for ticket, weight in weights.items()}
        self._weighed = None if weighing is None else WeighedEvidence()
        self._before = before
        self._left = dict(planned)
        self._counts: dict[str, tuple[int, int]] = {}
        self._made = 0
        self._reached: tuple[float, int, int] | None = None
        self.worse = self.better = 0

    @property
    def enough(self) -> bool:
        return self._reached is not None

    def replay(self, ended: Iterable[AttemptResult]) -> None:
        """What ended before this process began, in the order in which it ended."""
        for attempt in sorted(ended, key=lambda one: (one.ended_ns, one.id)):
            self.add(attempt)

    def add(self, attempt: AttemptResult) -> None:
        self._made += 1
        ticket = attempt.ticket
        if attempt.cause.counts:
            passed, of = self._counts.get(ticket, (0, 0))
            self._counts[ticket] = (passed + attempt.passed, of + 1)
        self._left[ticket] = self._left.get(ticket, 1) - 1
        if self._left[ticket] or ticket not in self._before or ticket not in self._counts:
            return
        (old, old_of), (new, new_of) = self._before[ticket], self._counts[ticket]
        worse, better = old * new_of > new * old_of, old * new_of < new * old_of
        self.worse += worse
        self.better += better
        if self._weighed is None:
            now = evidence(self.worse, self.better)
        else:
            if worse or better:
                self._weighed.add((worse - better) * self._weights[ticket])
            now = self._weighed.value
        if not self.enough and now >= ENOUGH:
            self._reached = (now, self.worse, self.better)

    def stop(self, made: list[AttemptResult], planned: int) -> EarlyStop | None:
        """How the run ended early; None where it did not, or nothing was left to be made."""
        left = planned - len(made)
        if self._reached is None or not left:
            return None
        mean: Decimal | None = mean_dollars(money_of(made), len(made))
        return EarlyStop(*self._reached, attempts_not_made=left, dollars_saved=None if mean is None else mean * left)
