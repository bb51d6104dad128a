"""Looking while a run goes on, without failing more good versions for it: an e-process on paired tickets."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from podctl.evidence.results import AttemptResult, EarlyStop
from podctl.stats.summary import mean_dollars, money_of

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


class Watch:
    """Follows a run's attempts as they end; ``enough`` once this version is worse for certain, and from then on.

    A ticket is looked at when all its attempts have ended: worse when a smaller share of those that count passed than of
    the baseline's. ``planned`` is ticket -> attempts of the run; ``before`` ticket -> the baseline's (passed, of).
    """

    def __init__(self, before: Mapping[str, tuple[int, int]], planned: Mapping[str, int]) -> None:
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
        self.worse += old * new_of > new * old_of
        self.better += old * new_of < new * old_of
        now = evidence(self.worse, self.better)
        if not self.enough and now >= ENOUGH:
            self._reached = (now, self.worse, self.better)

    def stop(self, made: list[AttemptResult], planned: int) -> EarlyStop | None:
        """How the run ended early; None where it did not, or nothing was left to be made."""
        left = planned - len(made)
        if self._reached is None or not left:
            return None
        mean: Decimal | None = mean_dollars(money_of(made), len(made))
        return EarlyStop(*self._reached, attempts_not_made=left, dollars_saved=None if mean is None else mean * left)
