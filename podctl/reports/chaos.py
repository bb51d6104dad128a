"""What a chaos campaign shows, in the cells that text reports share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from podctl.stats.chaos import FaultScore, Outcome
from podctl.stats.units import interval_text, percent

HEAD = ("fault", "coped", "degraded", "failed", "harm", "not met", "came through", "points lost")
_COUNTS: tuple[Outcome, ...] = ("coped", "degraded", "failed", "damaged", "not met")


def rows(scores: Iterable[FaultScore]) -> Iterator[tuple[str, ...]]:
    """A row for each fault, its name first and as it was written: whoever shows it makes it harmless."""
    for score in scores:
        came = "unknown" if score.interval is None else f"{percent(score.survived or 0.0)} ({interval_text(score.interval)})"
        yield score.name, *(str(score.counts[one]) for one in _COUNTS), came, _lost(score)


def _lost(score: FaultScore) -> str:
    if score.drop is None or score.low is None or score.high is None:
        return "unknown"
    return f"{100 * score.drop:.0f} ({100 * score.low:.0f} to {100 * score.high:.0f})".replace("-", "−")
