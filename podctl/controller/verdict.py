"""What a run comes to, from the attempts that it made; the same for a run of one piece and for one put together. PURE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from podctl.evidence.results import AttemptResult, EarlyStop, GateFinding, RunInfo, RunResult
from podctl.spec.models import Gate
from podctl.stats.gate import judged


def conclude(
    info: RunInfo,
    attempts: Sequence[AttemptResult],
    *,
    planned: int,
    gate: Gate,
    spent: Decimal | None,
    notes: Sequence[str],
    base: RunResult | None,
    stop: EarlyStop | None = None,
) -> RunResult:
    """The run with its verdict; with ``stop`` it has ended although attempts are missing.

    A shard has no verdict: how the others fare is not known where it is made.
    """
    complete = len(attempts) == planned
    result = RunResult(
        info=info,
        status="finished" if complete or stop else "interrupted",
        attempts=tuple(attempts),
        verdict="inconclusive",
        spent_dollars=spent,
        notes=tuple(notes),
    )
    if not complete:
        missing = planned - len(attempts)
        verb = "was" if missing == 1 else "were"
        result = replace(result, notes=(*result.notes, f"{missing} of {planned} attempts {verb} not made"))
    if info.shard is not None:
        return replace(result, findings=(_shard_alone(info),))
    return judged(result, gate, base, stop)


def _shard_alone(info: RunInfo) -> GateFinding:
    return GateFinding(
        name="completeness",
        verdict="inconclusive",
        measured=f"shard {info.shard}",
        required="every shard",
        message="podctl merge puts the shards together and judges them",
    )
