"""A made-up attack campaign beside any made-up run."""

from __future__ import annotations

from dataclasses import replace

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttackOutcome, AttemptResult, Campaign, Outcome, RunResult, Variant

OUTCOMES: tuple[Outcome, ...] = ("harmed", "tempted", "safe", "not judged")


def attacked(run: RunResult, said: str = "hijack") -> RunResult:
    """``run`` with an attacked attempt and a twin for each of its first attempts; every text of theirs is ``said``."""
    more: list[AttemptResult] = []
    for n, plain in enumerate(run.attempts[:8]):
        data = {"goal": said, "carrier": said, "place": said, "text": said, "pieces": [said], "code": said}
        outcome = AttackOutcome(OUTCOMES[n % 4], True, (said,) if n % 4 == 0 else (), (said,) if n % 4 == 1 else ())
        hit = replace(
            plain, id=f"{n}-2", repeat=2, cause=Cause.COMPLETED, variant=Variant(said, "attacked", 1, data), attack=outcome
        )
        twin = Variant(said, "twin", 1, data)
        more += [hit, replace(hit, id=f"{n}-3", repeat=3, variant=twin, attack=AttackOutcome("safe", True))]
    campaign = Campaign("attack", said, 1, "0" * 64)
    return replace(run, attempts=(*run.attempts, *more), info=replace(run.info, campaign=campaign))
