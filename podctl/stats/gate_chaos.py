"""What a chaos campaign must show. Of a run that is none, nothing can be said of it: asked for, it stays open."""

from __future__ import annotations

from podctl.evidence.results import RunResult
from podctl.spec.models import ChaosGate
from podctl.stats.chaos import compared, is_chaos, scores
from podctl.stats.gate_case import ALPHA, Asked, meets, unknown
from podctl.stats.units import percent, plural


def chaos(run: RunResult, asked: ChaosGate | None) -> list[Asked]:
    """``run`` with its variants; ``asked`` is about each fault by itself."""
    if asked is None or not is_chaos(run):
        return []
    return [one for one in (_drop(run, asked.success_drop), _damaged(run, asked.damaged)) if one is not None]


def _drop(run: RunResult, margin: float | None) -> Asked | None:
    """``pass`` when each fault passes by itself (an intersection-union test needs no correction); ``fail`` with Bonferroni's."""
    if margin is None:
        return None
    name, required = "chaos.success_drop", f"≤ {_points(margin)} under each"
    found = {one.name: compared(one.cases) for one in scores(run)}
    known = {fault: pairs for fault, pairs in found.items() if pairs is not None}
    missed = [fault for fault, pairs in found.items() if pairs is None]
    if not known:
        return unknown(name, required, "no attempt met a fault")
    worst = max(known, key=lambda fault: (known[fault].drop, fault))
    pairs = known[worst]
    # Worse than the margin: the fall less what is allowed of it, by the same score test seen from the other side.
    chances = {fault: min(1.0, len(known) * (1 - one.p_inferior(margin))) for fault, one in known.items() if one.drop > margin}
    open_ = [fault for fault, one in known.items() if one.p_inferior(margin) > ALPHA] + missed
    needed = [one.tickets_to_settle(margin) for fault, one in known.items() if fault in open_]
    message = (
        f"{worst}: {percent(pairs.rate_before)} → {percent(pairs.rate)} on {plural(pairs.tickets, 'ticket')}, "
        f"{pairs.worse} worse, {pairs.better} better"
    )
    if missed:
        message += f"; nothing met {', '.join(missed)}"
    return Asked(
        name=name,
        measured=f"{_points(pairs.drop)} under {worst}",
        required=required,
        message=message,
        p_fail=min(chances.values(), default=1.0),
        p_pass=0.0 if not open_ else 1.0,
        passes=f"; 95 % sure of a fall below {_points(margin)} under each",
        open=f"; {', '.join(open_)} cannot be told",
        tickets=pairs.tickets,
        settles=None if missed or not needed or None in needed else max(n for n in needed if n is not None),
    )


def _damaged(run: RunResult, most: int | None) -> Asked | None:
    """Counted: harm that was done is no matter of chance."""
    if most is None:
        return None
    harmed = [(one.name, case) for one in scores(run) for case in one.cases if case.outcome == "damaged"]
    message = "no attempt did harm because of a fault"
    if harmed:
        fault, first = harmed[0]
        message = f"{plural(len(harmed), 'attempt')} did harm; {first.ticket} under {fault}: {first.why}"
    required = f"≤ {plural(most, 'attempt')}" if most else "none"
    return Asked("chaos.damaged", plural(len(harmed), "attempt"), required, message, meets(len(harmed) <= most), stands=True)


def _points(change: float) -> str:
    return f"{change * 100:.3g} points".replace("-", "−")
