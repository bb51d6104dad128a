"""This run against a baseline."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from podctl.evidence.results import AttemptResult, Comparison, EarlyStop, RunInfo, RunResult
from podctl.stats.gate_case import ALPHA, Asked, Case, per_ticket, unknown
from podctl.stats.gate_sample import as_drawn, mean_at_most
from podctl.stats.paired import Paired, holm, paired
from podctl.stats.summary import by_ticket
from podctl.stats.units import dollars, percent, plural, points
from podctl.stats.weighed_pairs import WeighedPairs, compared


def regression(case: Case) -> Asked | None:
    margin, name = case.gate.regression, "regression"
    if margin is None and case.stop is None:
        return None
    required = "not worse" if margin is None else f"≥ {points(-margin)}"
    if case.stop is not None and case.comparison is not None:
        return _stopped(case.stop, case.comparison, required)
    pairs = None if case.baseline is None else compared(by_ticket(case.baseline.attempts), case.tickets, case.weighing)
    if pairs is None or margin is None:
        return unknown(name, required, _nothing_paired(case))
    return Asked(
        name=name,
        measured=points(-pairs.drop),
        required=required,
        message=f"{_change(pairs)}; chance of that by luck {_p(pairs.p_worse)}",
        # Whoever looked while the run went on has looked more than once: half of the 5 % went there.
        p_fail=min(1.0, pairs.p_worse * (2 if watched(case.run.info) else 1)),
        p_pass=pairs.p_inferior(margin),
        passes=f"; 95 % sure of a fall below {points(margin, signed=False)}",
        fails="",
        open=f"; such a sample finds a fall of {points(pairs.detectable, signed=False)} in 80 of 100 runs",
        tickets=pairs.tickets,
        settles=pairs.tickets_to_settle(margin),
        detectable=pairs.detectable,
    )


def _stopped(stop: EarlyStop, comparison: Comparison, required: str) -> Asked:
    saved = f", about {dollars(stop.dollars_saved)} saved" if stop.dollars_saved else ""
    if stop.dollars_saved is None:
        saved = ", at a cost that is not known"
    message = (
        f"ended early: {stop.worse} worse, {stop.better} better, evidence {stop.evidence:,.0f} to 1 that it is worse; "
        f"{plural(stop.attempts_not_made, 'attempt')} not made{saved}"
    )
    measured = points(comparison.rate - comparison.baseline_rate)
    return Asked("regression", measured, required, message, "fail", stands=True)


def stratum_regression(case: Case) -> Asked | None:
    margin, name = case.gate.stratum_regression, "stratum_regression"
    if margin is None:
        return None
    required = f"≥ {points(-margin)} in each"
    if case.baseline is None or case.comparison is None or not case.comparison.common_tickets:
        return unknown(name, required, _nothing_paired(case))
    strata = pairs_by_stratum(case.baseline, case.sample)
    chances = dict(zip(strata, holm([pairs.p_worse for pairs in strata.values()]), strict=True))
    open_ = [stratum for stratum, pairs in strata.items() if pairs.p_inferior(margin) > ALPHA]
    failed = [stratum for stratum in open_ if chances[stratum] <= ALPHA]
    worst = min(strata, key=lambda stratum: (chances[stratum], -strata[stratum].drop, stratum))
    needed = [strata[stratum].tickets_to_settle(margin) for stratum in open_]
    short = [n - strata[s].tickets for n, s in zip(needed, open_, strict=True) if n is not None]
    here = sum(pairs.tickets for pairs in strata.values())
    return Asked(
        name=name,
        measured=f"{points(-strata[worst].drop)} in {worst}",
        required=required,
        message=f"{worst}: {_change(strata[worst])}; chance of that by luck among {plural(len(strata), 'stratum', 'strata')} {_p(chances[worst])}",
        p_fail=min([1.0, *(chances[stratum] for stratum in failed)]),
        p_pass=0.0 if not open_ else 1.0,
        passes=f"; 95 % sure of a fall below {points(margin, signed=False)} in each",
        open=f"; {plural(len(open_), 'stratum', 'strata')} of {len(strata)} cannot be told: {', '.join(open_[:5])}",
        tickets=here,
        settles=here + sum(max(1, n) for n in short) if len(short) == len(open_) else None,
    )


def cost_rise(case: Case) -> Asked | None:
    rise = case.gate.cost_rise
    if rise is None:
        return None
    name, required = "cost_rise", f"≤ +{percent(rise)}"
    if case.baseline is None or case.comparison is None or not case.comparison.common_tickets:
        return unknown(name, required, _nothing_paired(case))
    old, new = case.comparison.baseline_dollars_per_ticket, case.comparison.dollars_per_ticket
    if old is None or new is None:
        return unknown(name, required, "the cost of some attempt on a common ticket is unknown")
    message = (
        f"{dollars(old)} → {dollars(new)} a ticket on {plural(case.comparison.common_tickets, 'common ticket')}{as_drawn(case)}"
    )
    before = per_ticket([a for a in case.baseline.attempts if a.cause.counts], lambda a: float(a.dollars or 0))
    after = per_ticket(case.sample, lambda a: float(a.dollars or 0))
    # A ticket's cost now less what is allowed of its cost before: above 0 on average, costs rose by more.
    over = [after[t] - (1 + rise) * before[t] for t in sorted(before.keys() & after.keys())]
    measured = "unknown" if not old else f"{float(new / old - 1):+.1%}".replace("%", " %").replace("-", "−")
    return mean_at_most(name, over, 0.0, measured, required, message, None)


def pairs_by_stratum(baseline: RunResult, attempts: Sequence[AttemptResult]) -> dict[str, Paired]:
    """Stratum -> its tickets in both runs, by name; strata without a common ticket are absent."""
    before = by_ticket(baseline.attempts)
    groups: dict[str, list[AttemptResult]] = defaultdict(list)
    for attempt in attempts:
        groups[attempt.stratum].append(attempt)
    found = {stratum: paired(before, by_ticket(groups[stratum])) for stratum in sorted(groups)}
    return {stratum: pairs for stratum, pairs in found.items() if pairs is not None}


def watched(info: RunInfo) -> bool:
    """Whether it was looked at while it went on; a shard is not."""
    return bool(info.settings.get("run", {}).get("fail_fast")) and not info.merged


def _nothing_paired(case: Case) -> str:
    if case.baseline is None:
        return "there is no baseline run to compare with"
    return "no ticket counts in both runs: the baseline worked other tickets, or infrastructure took them"


def _change(pairs: Paired | WeighedPairs) -> str:
    text = (
        f"{percent(pairs.rate_before)} → {percent(pairs.rate)} on {plural(pairs.tickets, 'common ticket')}; "
        f"{pairs.worse} worse, {pairs.better} better"
    )
    if isinstance(pairs, WeighedPairs):
        text += "; strata weighed as in the population"
        if pairs.seen < 1 - 1e-9:
            text += f", of which {percent(1 - pairs.seen)} are of kinds that no common ticket is of, and may have fallen"
    return text


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"
