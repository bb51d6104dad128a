"""Measured against asked: one finding a requirement, one verdict a run.

What was counted (boundary violations, dollars spent) decides as it stands. What a sample only suggests decides in one of
three ways: ``fail`` when it would be so bad by luck in at most 5 % of runs, ``pass`` when it would be so good in at most 5 %
of runs of a version that misses the requirement, else ``inconclusive``, with what would settle it. However much is asked
at once, the chance that a version which meets all of it fails stays at 5 % (Holm 1979).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from podctl.evidence.results import EarlyStop, GateFinding, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.compare import compare
from podctl.stats.gate_attack import attack
from podctl.stats.gate_baseline import cost_rise, regression, stratum_regression
from podctl.stats.gate_case import ALPHA, Asked, Case
from podctl.stats.gate_chaos import chaos
from podctl.stats.gate_counts import boundary, completeness, honeytokens, infrastructure, quarantine, run_dollars, scan, tools
from podctl.stats.gate_sample import cost_per_ticket, pass_hat, pass_rate, seconds_per_ticket
from podctl.stats.paired import holm
from podctl.stats.units import dollars, plural


def judged(run: RunResult, gate: Gate, baseline: RunResult | None = None, stop: EarlyStop | None = None) -> RunResult:
    """``run`` with its verdict, its findings in a fixed order, and its comparison with ``baseline``; of a campaign, plain attempts decide.

    No verdict (``inconclusive``) with too large a share of infrastructure failures, with attempts that were not run, or
    with nothing that counts. Some things stand even then: a boundary that was crossed too often cannot be uncrossed, money
    that was spent is spent, and a run that ended early (``stop``) did so because this version is worse.
    """
    baseline = None if baseline is None else baseline.plain
    comparison = None if baseline is None else compare(baseline, run.plain)
    if comparison is not None:
        comparison = replace(comparison, early_stop=stop)
    case = Case(run.plain, gate, baseline, comparison, stop, run)
    asked = [one for rule in _RULES if (one := rule(case)) is not None] + list(attack(case)) + chaos(run, gate.chaos)
    chances = iter(holm([one.p_fail for one in asked if one.verdict is None]))
    findings = tuple(_finding(case, one, None if one.verdict is not None else next(chances)) for one in asked)
    return replace(run, verdict=_verdict(asked, findings, case.is_whole), findings=findings, comparison=comparison)


def _verdict(asked: Sequence[Asked], findings: Sequence[GateFinding], whole: bool) -> Verdict:
    failed = [one for one, finding in zip(asked, findings, strict=True) if finding.verdict == "fail"]
    if any(one.stands for one in failed) or (failed and whole):
        return "fail"
    if not whole or any(finding.verdict == "inconclusive" for finding in findings):
        return "inconclusive"
    return "pass"


def _finding(case: Case, one: Asked, chance: float | None) -> GateFinding:
    if one.verdict is not None:
        return GateFinding(one.name, one.verdict, one.measured, one.required, one.message)
    assert chance is not None
    if case.stop is not None:
        # It ended because of what had come out so far: that is no sample to test anything else on.
        message = one.message + "; the run ended early"
        return GateFinding(one.name, "inconclusive", one.measured, one.required, message)
    verdict: Verdict = "pass" if one.p_pass <= ALPHA else "fail" if chance <= ALPHA else "inconclusive"
    said = {"pass": one.passes, "fail": one.fails, "inconclusive": one.open}[verdict]
    more = cost = None
    if verdict == "inconclusive":
        more = None if one.settles is None else max(1, one.settles - one.tickets)
        cost = _cost_of(case, more)
        said += "; " + _settled_by(case, more, cost)
    return GateFinding(
        name=one.name,
        verdict=verdict,
        measured=one.measured,
        required=one.required,
        message=one.message + said,
        chance=chance,
        detectable=one.detectable,
        more_tickets=more,
        more_dollars=cost,
    )


def _cost_of(case: Case, more: int | None) -> Decimal | None:
    spent = case.summary.dollars
    if more is None or spent.total is None or not case.tickets:
        return None
    return spent.total / len(case.tickets) * more


def _settled_by(case: Case, more: int | None, cost: Decimal | None) -> str:
    if more is None:
        return "as near to what is required as this, more tickets do not settle it"
    about = f", about {dollars(cost)}," if cost else "" if cost is not None else ", at a cost that is not known,"
    text = f"about {plural(more, 'more ticket')}{about} would settle it"
    left = case.run.info.population_size - case.run.info.sample_size
    if not 0 <= left < more:
        return text
    return f"{text}, and the population has {f'only {left:,}' if left else 'no'} more"


_RULES: tuple[Callable[[Case], Asked | None], ...] = (
    pass_rate,
    pass_hat,
    boundary,
    honeytokens,
    scan,
    tools,
    cost_per_ticket,
    cost_rise,
    run_dollars,
    seconds_per_ticket,
    regression,
    stratum_regression,
    infrastructure,
    quarantine,
    completeness,
)
