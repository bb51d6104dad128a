"""Budget at two levels, attempt and run: reserved before a call, settled after it.

A call is made only when its reservation fits into what is neither spent nor reserved, of its attempt's budget and of
the run's. Reserved are all bytes of the request as tokens of the dearest kind of input, and all the output that the
request allows (`GatewayConfig.default_output` when it does not say). A call whose cost stays unknown is spent at its
reservation. Hence, for each budget B, at any moment and with any number of pods:

    spent ≤ B + Σ max(0, cost − reservation), over the calls that were under way when B ran out

The sum is 0 with a provider that bills no more tokens than bytes were sent and no more output than was allowed. The
calls under way are at most as many as their reservations fit into B.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from podctl.gateway.contract import LimitName


@dataclass
class Purse:
    """One budget; ``tokens`` or ``dollars`` of None is no limit."""

    tokens: int | None = None
    dollars: Decimal | None = None
    taken_tokens: int = 0
    taken_dollars: Decimal = Decimal(0)

    def lacks(self, tokens: int, dollars: Decimal) -> str | None:
        """``tokens`` or ``dollars`` when that much is no longer there."""
        if self.tokens is not None and self.taken_tokens + tokens > self.tokens:
            return "tokens"
        if self.dollars is not None and self.taken_dollars + dollars > self.dollars:
            return "dollars"
        return None

    def move(self, tokens: int, dollars: Decimal) -> None:
        self.taken_tokens += tokens
        self.taken_dollars += dollars

    def left(self, what: str) -> str:
        if what == "tokens":
            return f"{(self.tokens or 0) - self.taken_tokens} tokens"
        return f"${(self.dollars or Decimal(0)) - self.taken_dollars}"


class OverBudget(Exception):
    """The reservation does not fit; ``limit`` names the budget, ``message`` says the figures."""

    def __init__(self, limit: LimitName, message: str) -> None:
        super().__init__(message)
        self.limit = limit
        self.message = message


@dataclass
class Reservation:
    """Held from before the call until `settle`, which must be called exactly once."""

    tokens: int
    dollars: Decimal
    attempt: Purse
    run: Purse

    def settle(self, tokens: int | None, dollars: Decimal | None) -> None:
        """Replace the reservation with what was used; None keeps the reservation as spent."""
        more_tokens = 0 if tokens is None else tokens - self.tokens
        more_dollars = Decimal(0) if dollars is None else dollars - self.dollars
        self.attempt.move(more_tokens, more_dollars)
        self.run.move(more_tokens, more_dollars)


def reserve(attempt: Purse, run: Purse, tokens: int, dollars: Decimal) -> Reservation:
    """Raises `OverBudget`; then nothing is reserved."""
    for purse, level in ((attempt, ""), (run, "run_")):
        what = purse.lacks(tokens, dollars)
        if what is not None:
            need = f"{tokens} tokens" if what == "tokens" else f"${dollars}"
            owner = "run" if level else "attempt"
            limit: LimitName = "run_dollars" if level else ("tokens" if what == "tokens" else "dollars")
            raise OverBudget(limit, f"the call may need up to {need} and the {owner}'s budget has {purse.left(what)} left")
    attempt.move(tokens, dollars)
    run.move(tokens, dollars)
    return Reservation(tokens, dollars, attempt, run)
