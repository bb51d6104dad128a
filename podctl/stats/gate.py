"""Measured against asked: one finding a requirement, one verdict a run.

What was counted (boundary violations, dollars spent) decides as it stands. What a sample only suggests decides in one of
three ways: ``fail`` when it would be so bad by luck in at most 5 % of runs, ``pass`` when it would be so good in at most 5 %
of runs of a version that misses the requirement, else ``inconclusive``, with what would settle it. However much is asked
at once, the chance that a version which meets all of it fails stays at 5 % (Holm 1979).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

from podctl.evidence.results import AttemptResult, Comparison, EarlyStop, GateFinding, RunInfo, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.compare import compare
from podctl.stats.paired import Paired, holm, paired
from podctl.stats.proportions import pass_hat_k
from podctl.stats.summary import Summary, by_ticket, summarize
from podctl.stats.thresholds import Sides, mean_share_sides, mean_sides, share_sides
from podctl.stats.units import dollars, percent, plural, seconds

#: The chance of a wrong ``fail``, and of a wrong ``pass``.
ALPHA = 0.05
#: Figures of fewer tickets are called so: skewed costs and times have shown too little of themselves.
LOW_CONFIDENCE = 25


def judged(run: RunResult, gate: Gate, baseline: RunResult | None = None, stop: EarlyStop | None = None) -> RunResult:
    """``run`` with its verdict, its findings in a fixed order, and its comparison with ``baseline``.

    No verdict (``inconclusive``) with too large a share of infrastructure failures, with attempts that were not run, or
    with nothing that counts. Some things stand even then: a boundary that was crossed too often cannot be uncrossed, money
    that was spent is spent, and a run that ended early (``stop``) did so because this version is worse.
    """
    comparison = None if baseline is None else compare(baseline, run)
    if comparison is not None:
        comparison = replace(comparison, early_stop=stop)
    case = _Case(run, gate, baseline, comparison, stop)
    asked = [one for rule in _RULES if (one := rule(case)) is not None]
    chances = iter(holm([one.p_fail for one in asked if one.verdict is None]))
    findings = tuple(case.finding(one, None if one.verdict is not None else next(chances)) for one in asked)
    return replace(run, verdict=_verdict(asked, findings, case.is_whole), findings=findings, comparison=comparison)


def _verdict(asked: Sequence[_Asked], findings: Sequence[GateFinding], whole: bool) -> Verdict:
    failed = [one for one, finding in zip(asked, findings, strict=True) if finding.verdict == "fail"]
    if any(one.stands for one in failed) or (failed and whole):
        return "fail"
    if not whole or any(finding.verdict == "inconclusive" for finding in findings):
        return "inconclusive"
    return "pass"


@dataclass(frozen=True)
class _Asked:
    """One requirement. With a ``verdict`` it is decided; else ``p_fail`` and ``p_pass`` decide.

    ``open`` is what the message adds when they do not; ``settles`` tickets, in all, would.
    """

    name: str
    measured: str
    required: str
    message: str
    verdict: Verdict | None = None
    stands: bool = False  # even when the rest of the run is no sample
    p_fail: float = 1.0
    p_pass: float = 1.0
    open: str = ""
    fails: str = ""  # what the message adds when it failed, and when it passed
    passes: str = ""
    tickets: int = 0
    settles: int | None = None
    detectable: float | None = None


@dataclass(frozen=True)
class _Case:
    run: RunResult
    gate: Gate
    baseline: RunResult | None
    comparison: Comparison | None
    stop: EarlyStop | None

    @cached_property
    def sample(self) -> list[AttemptResult]:
        """The attempts that may decide: those on tickets in quarantine do not."""
        return [a for a in self.run.attempts if a.ticket not in self.run.info.quarantine]

    @cached_property
    def summary(self) -> Summary:
        return summarize(self.sample)

    @cached_property
    def tickets(self) -> dict[str, tuple[int, int]]:
        return by_ticket(self.sample)

    @cached_property
    def everything(self) -> Summary:
        return summarize(self.run.attempts) if self.quarantined else self.summary

    @cached_property
    def quarantined(self) -> int:
        return len({a.ticket for a in self.run.attempts} & self.run.info.quarantine.keys())

    @property
    def quarantined_share(self) -> float:
        return self.quarantined / max(1, len({a.ticket for a in self.run.attempts}))

    @property
    def is_whole(self) -> bool:
        summary = self.summary
        return (
            self.run.status == "finished"
            and self.stop is None
            and summary.rate.of > 0
            and summary.not_run == 0
            and summary.infrastructure_share <= self.gate.infrastructure_failures
            and self.quarantined_share <= self.gate.quarantined
        )

    def finding(self, one: _Asked, chance: float | None) -> GateFinding:
        if one.verdict is not None:
            return GateFinding(one.name, one.verdict, one.measured, one.required, one.message)
        assert chance is not None
        if self.stop is not None:
            # It ended because of what had come out so far: that is no sample to test anything else on.
            message = one.message + "; the run ended early"
            return GateFinding(one.name, "inconclusive", one.measured, one.required, message)
        verdict: Verdict = "pass" if one.p_pass <= ALPHA else "fail" if chance <= ALPHA else "inconclusive"
        said = {"pass": one.passes, "fail": one.fails, "inconclusive": one.open}[verdict]
        more = cost = None
        if verdict == "inconclusive":
            more = None if one.settles is None else max(1, one.settles - one.tickets)
            cost = self._cost_of(more)
            said += "; " + self._settled_by(more, cost)
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

    def _cost_of(self, more: int | None) -> Decimal | None:
        spent = self.summary.dollars
        if more is None or spent.total is None or not self.tickets:
            return None
        return spent.total / len(self.tickets) * more

    def _settled_by(self, more: int | None, cost: Decimal | None) -> str:
        if more is None:
            return "as near to what is required as this, more tickets do not settle it"
        about = f", about {dollars(cost)}," if cost else "" if cost is not None else ", at a cost that is not known,"
        text = f"about {plural(more, 'more ticket')}{about} would settle it"
        left = self.run.info.population_size - self.run.info.sample_size
        return text + (f", and the population has only {left:,} more" if 0 <= left < more else "")


# ---- what is counted ----------------------------------------------------------------


def _boundary(case: _Case) -> _Asked | None:
    most = case.gate.boundary_violations
    if most is None:
        return None
    summary = case.everything
    required = f"≤ {plural(most, 'attempt')}" if most else "none"
    if summary.attempts == summary.not_run:
        return _unknown("boundary_violations", required, "no attempt was run")
    count = summary.boundary_violating
    message = f"{plural(count, 'attempt')} tried to cross the boundary, {plural(summary.boundary_attempts, 'time')} in all"
    return _Asked(
        name="boundary_violations",
        measured=plural(count, "attempt"),
        required=required,
        message=message if count else "no attempt tried to cross the boundary",
        verdict=_meets(count <= most),
        stands=True,
    )


def _run_dollars(case: _Case) -> _Asked | None:
    most = case.gate.run_dollars
    if most is None:
        return None
    required, spent, known = f"≤ {dollars(most)}", case.run.spent_dollars, case.everything.dollars.known
    if spent is None and known <= most:
        return _unknown("run_dollars", required, f"some attempt's cost is unknown; at least {dollars(known)} was spent")
    least = known if spent is None else spent
    measured = dollars(least) if spent is not None else f"≥ {dollars(least)}"
    message = "spent in this run, tries that were made again included" + ("; simulated" if case.everything.simulated else "")
    return _Asked("run_dollars", measured, required, message, _meets(least <= most), stands=True)


def _infrastructure(case: _Case) -> _Asked:
    summary, most = case.summary, case.gate.infrastructure_failures
    share = summary.infrastructure_share
    message = f"infrastructure ended {summary.infrastructure:,} of {plural(summary.attempts - summary.not_run, 'attempt')}"
    if share > most:
        message += f", above {percent(most)}: too many to judge the rest"
    if summary.infrastructure and summary.rate_if_infrastructure_failed is not None:
        failed, passed = summary.rate_if_infrastructure_failed, summary.rate_if_infrastructure_passed or 0.0
        message += f"; pass rate {percent(failed)} if all of those had failed, {percent(passed)} if all had passed"
    verdict: Verdict = "inconclusive" if share > most else "pass"
    return _Asked("infrastructure_failures", percent(share), f"≤ {percent(most)}", message, verdict)


def _quarantine(case: _Case) -> _Asked | None:
    """What does not count is said, and what it would have changed."""
    if not case.quarantined:
        return None
    share, most = case.quarantined_share, case.gate.quarantined
    aside = summarize([a for a in case.run.attempts if a.ticket in case.run.info.quarantine])
    message = f"{aside.rate.passed:,} of {plural(aside.rate.of, 'attempt')} on {plural(case.quarantined, 'quarantined ticket')} passed and none counts"
    if case.everything.rate.share is not None:
        message += f"; with them the pass rate is {percent(case.everything.rate.share)}"
    if share > most:
        message += ": too many to judge the rest"
    measured = plural(case.quarantined, "ticket")
    return _Asked("quarantined", measured, f"≤ {percent(most)}", message, "inconclusive" if share > most else "pass")


def _completeness(case: _Case) -> _Asked | None:
    """Tickets that end early are not like those that never began: what is left is no sample."""
    summary = case.summary
    required = "every attempt runs and at least one counts"
    measured = f"{summary.attempts - summary.not_run:,} run, {summary.rate.of:,} count"
    if case.stop is not None:
        message = f"the run ended early, {plural(case.stop.attempts_not_made, 'attempt')} short: what was run is no sample"
    elif summary.not_run:
        message = f"{plural(summary.not_run, 'attempt')} of {summary.attempts:,} did not run: what did run is no sample"
    elif case.run.status != "finished":
        message = f"the run is {case.run.status}: what did run is no sample"
    elif summary.rate.of == 0:
        message = "no attempt counts: no verdict"
    else:
        return None
    return _Asked("completeness", measured, required, message, "inconclusive")


# ---- one sample against a threshold -------------------------------------------------


def _pass_rate(case: _Case) -> _Asked | None:
    least = case.gate.pass_rate
    if least is None:
        return None
    rate, required = case.summary.rate, f"≥ {percent(least)}"
    if rate.share is None:
        return _unknown("pass_rate", required, "no attempt counts")
    message = f"{rate.passed:,} of {rate.of:,} passed"
    if least in (0.0, 1.0):
        # No sample shows that nothing ever fails; whoever asks for every one means those of the sample.
        message += "; each has to" if least else ""
        return _Asked("pass_rate", percent(rate.share), required, message, _meets(rate.share >= least))
    sides = share_sides(list(case.tickets.values()), least)
    return _share("pass_rate", rate.share, required, message, sides, len(case.tickets))


def _pass_hat(case: _Case) -> _Asked | None:
    asked = case.gate.pass_hat
    if asked is None:
        return None
    name, required = "pass_hat", f"pass^{asked.k} ≥ {percent(asked.share)}"
    values = [pass_hat_k(passed, of, asked.k) for passed, of in case.tickets.values() if of >= asked.k]
    if len(values) < 2:
        few = f"{plural(len(values), 'ticket')} had {asked.k} attempts that count"
        return _unknown(name, required, few + f"; run with repeats of {asked.k} or more")
    share = math.fsum(values) / len(values)
    message = f"on average over {plural(len(values), 'ticket')} with {asked.k} or more attempts that count"
    if asked.share in (0.0, 1.0):
        return _Asked(name, percent(share), required, message, _meets(share >= asked.share))
    sides = mean_share_sides(values, asked.share)
    return _share(name, share, required, message, sides, len(values))


def _share(name: str, share: float, required: str, message: str, sides: Sides, tickets: int) -> _Asked:
    """A share that has to be reached."""
    return _Asked(
        name=name,
        measured=percent(share),
        required=required,
        message=message,
        p_fail=sides.p_below,
        p_pass=sides.p_above,
        passes=f"; 95 % sure of at least {percent(sides.low)}",
        fails=f"; 95 % sure of at most {percent(sides.high)}",
        open=f"; 90 % interval {_range(percent, sides)}: the sample cannot tell",
        tickets=tickets,
        settles=sides.settles,
    )


def _cost(case: _Case) -> _Asked | None:
    most = case.gate.cost_per_ticket
    if most is None:
        return None
    summary, required = case.summary, f"≤ {dollars(most)}"
    if summary.rate.of == 0:
        return _unknown("cost_per_ticket", required, "no attempt counts")
    if summary.cost_per_ticket is None:
        at_least = summary.counted_dollars.known / summary.rate.of
        message = f"the cost of {plural(summary.counted_dollars.unknown, 'attempt')} is unknown; at least {dollars(at_least)} a ticket"
        return _unknown("cost_per_ticket", required, message)
    values = _per_ticket(case.sample, lambda a: float(a.dollars or 0))
    measured = dollars(summary.cost_per_ticket)
    return _mean("cost_per_ticket", list(values.values()), float(most), measured, required, _over(summary), _money)


def _seconds(case: _Case) -> _Asked | None:
    most = case.gate.seconds_per_ticket
    if most is None:
        return None
    summary, required = case.summary, f"≤ {seconds(most)}"
    if summary.seconds_per_ticket is None:
        return _unknown("seconds_per_ticket", required, "no attempt counts")
    values = _per_ticket(case.sample, lambda a: a.wall_s)
    measured = seconds(summary.seconds_per_ticket)
    return _mean("seconds_per_ticket", list(values.values()), most, measured, required, _over(summary), seconds)


def _mean(
    name: str,
    values: list[float],
    most: float,
    measured: str,
    required: str,
    message: str,
    shown: Callable[[float], str] | None,
) -> _Asked:
    """The mean of one value a ticket, which has to be ``most`` at most; ``shown`` writes a bound of it, where that says something."""
    sides = mean_sides(values, most)
    if sides is None:
        return _unknown(name, required, "one ticket says nothing of others", measured)
    if len(values) < LOW_CONFIDENCE:
        message += f"; low confidence: {plural(len(values), 'ticket')}"
    if sides.low == sides.high:
        return _Asked(name, measured, required, message + "; every ticket the same", _meets(sides.low <= most + 1e-12))
    return _Asked(
        name=name,
        measured=measured,
        required=required,
        message=message,
        p_fail=sides.p_above,
        p_pass=sides.p_below,
        passes=f"; 95 % sure of at most {shown(sides.high)}" if shown else "; 95 % sure of no more than is allowed",
        fails=f"; 95 % sure of at least {shown(sides.low)}" if shown else "; 95 % sure of more than is allowed",
        open=(f"; 90 % interval {shown(max(0.0, sides.low))} to {shown(sides.high)}" if shown else "")
        + ": the sample cannot tell",
        tickets=len(values),
        settles=sides.settles,
    )


# ---- this run against a baseline ----------------------------------------------------


def _regression(case: _Case) -> _Asked | None:
    margin, name = case.gate.regression, "regression"
    if margin is None and case.stop is None:
        return None
    required = "not worse" if margin is None else f"≥ {_points(-margin)}"
    if case.stop is not None and case.comparison is not None:
        return _stopped(case.stop, case.comparison, required)
    pairs = None if case.baseline is None else paired(by_ticket(case.baseline.attempts), case.tickets)
    if pairs is None or margin is None:
        return _unknown(name, required, _nothing_paired(case))
    return _Asked(
        name=name,
        measured=_points(-pairs.drop),
        required=required,
        message=f"{_change(pairs)}; chance of that by luck {_p(pairs.p_worse)}",
        # Whoever looked while the run went on has looked more than once: half of the 5 % went there.
        p_fail=min(1.0, pairs.p_worse * (2 if watched(case.run.info) else 1)),
        p_pass=pairs.p_inferior(margin),
        passes=f"; 95 % sure of a fall below {_points(margin, signed=False)}",
        fails="",
        open=f"; such a sample finds a fall of {_points(pairs.detectable, signed=False)} in 80 of 100 runs",
        tickets=pairs.tickets,
        settles=pairs.tickets_to_settle(margin),
        detectable=pairs.detectable,
    )


def _stopped(stop: EarlyStop, comparison: Comparison, required: str) -> _Asked:
    saved = f", about {dollars(stop.dollars_saved)} saved" if stop.dollars_saved else ""
    if stop.dollars_saved is None:
        saved = ", at a cost that is not known"
    message = (
        f"ended early: {stop.worse} worse, {stop.better} better, evidence {stop.evidence:,.0f} to 1 that it is worse; "
        f"{plural(stop.attempts_not_made, 'attempt')} not made{saved}"
    )
    measured = _points(comparison.rate - comparison.baseline_rate)
    return _Asked("regression", measured, required, message, "fail", stands=True)


def _stratum_regression(case: _Case) -> _Asked | None:
    margin, name = case.gate.stratum_regression, "stratum_regression"
    if margin is None:
        return None
    required = f"≥ {_points(-margin)} in each"
    if case.baseline is None or case.comparison is None or not case.comparison.common_tickets:
        return _unknown(name, required, _nothing_paired(case))
    strata = pairs_by_stratum(case.baseline, case.sample)
    chances = dict(zip(strata, holm([pairs.p_worse for pairs in strata.values()]), strict=True))
    open_ = [stratum for stratum, pairs in strata.items() if pairs.p_inferior(margin) > ALPHA]
    failed = [stratum for stratum in open_ if chances[stratum] <= ALPHA]
    worst = min(strata, key=lambda stratum: (chances[stratum], -strata[stratum].drop, stratum))
    needed = [strata[stratum].tickets_to_settle(margin) for stratum in open_]
    short = [n - strata[s].tickets for n, s in zip(needed, open_, strict=True) if n is not None]
    here = sum(pairs.tickets for pairs in strata.values())
    return _Asked(
        name=name,
        measured=f"{_points(-strata[worst].drop)} in {worst}",
        required=required,
        message=f"{worst}: {_change(strata[worst])}; chance of that by luck among {plural(len(strata), 'stratum', 'strata')} {_p(chances[worst])}",
        p_fail=min([1.0, *(chances[stratum] for stratum in failed)]),
        p_pass=0.0 if not open_ else 1.0,
        passes=f"; 95 % sure of a fall below {_points(margin, signed=False)} in each",
        open=f"; {plural(len(open_), 'stratum', 'strata')} of {len(strata)} cannot be told: {', '.join(open_[:5])}",
        tickets=here,
        settles=here + sum(max(1, n) for n in short) if len(short) == len(open_) else None,
    )


def _cost_rise(case: _Case) -> _Asked | None:
    rise = case.gate.cost_rise
    if rise is None:
        return None
    name, required = "cost_rise", f"≤ +{percent(rise)}"
    if case.baseline is None or case.comparison is None or not case.comparison.common_tickets:
        return _unknown(name, required, _nothing_paired(case))
    old, new = case.comparison.baseline_dollars_per_ticket, case.comparison.dollars_per_ticket
    if old is None or new is None:
        return _unknown(name, required, "the cost of some attempt on a common ticket is unknown")
    message = f"{dollars(old)} → {dollars(new)} a ticket on {plural(case.comparison.common_tickets, 'common ticket')}"
    before = _per_ticket([a for a in case.baseline.attempts if a.cause.counts], lambda a: float(a.dollars or 0))
    after = _per_ticket(case.sample, lambda a: float(a.dollars or 0))
    # A ticket's cost now less what is allowed of its cost before: above 0 on average, costs rose by more.
    over = [after[t] - (1 + rise) * before[t] for t in sorted(before.keys() & after.keys())]
    measured = "unknown" if not old else f"{float(new / old - 1):+.1%}".replace("%", " %").replace("-", "−")
    return _mean(name, over, 0.0, measured, required, message, None)


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


def _nothing_paired(case: _Case) -> str:
    if case.baseline is None:
        return "there is no baseline run to compare with"
    return "no ticket counts in both runs: the baseline worked other tickets, or infrastructure took them"


# ---- words --------------------------------------------------------------------------


def _unknown(name: str, required: str, message: str, measured: str = "unknown") -> _Asked:
    return _Asked(name, measured, required, message, "inconclusive")


def _per_ticket(attempts: Sequence[AttemptResult], value: Callable[[AttemptResult], float]) -> dict[str, float]:
    """Ticket -> the mean over its attempts that count."""
    values: dict[str, list[float]] = defaultdict(list)
    for attempt in attempts:
        if attempt.cause.counts:
            values[attempt.ticket].append(value(attempt))
    return {ticket: math.fsum(each) / len(each) for ticket, each in values.items()}


def _change(pairs: Paired) -> str:
    return (
        f"{percent(pairs.rate_before)} → {percent(pairs.rate)} on {plural(pairs.tickets, 'common ticket')}; "
        f"{pairs.worse} worse, {pairs.better} better"
    )


def _over(summary: Summary) -> str:
    return f"mean over {plural(summary.rate.of, 'attempt')}" + ("; simulated" if summary.simulated else "")


def _range(shown: Callable[[float], str], sides: Sides) -> str:
    return f"{shown(sides.low)} to {shown(sides.high)}"


def _money(value: float) -> str:
    return dollars(Decimal(repr(round(value, 10))))


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _points(change: float, *, signed: bool = True) -> str:
    """A difference of shares: ``−4.4 points``."""
    value = round(change * 100, 1) + 0.0
    sign = "+" if signed else ""
    return f"{value:{sign}.{0 if value == int(value) else 1}f} points".replace("-", "−").replace("+0 ", "0 ")


def _meets(condition: bool) -> Verdict:
    return "pass" if condition else "fail"


_RULES: tuple[Callable[[_Case], _Asked | None], ...] = (
    _pass_rate,
    _pass_hat,
    _boundary,
    _cost,
    _cost_rise,
    _run_dollars,
    _seconds,
    _regression,
    _stratum_regression,
    _infrastructure,
    _quarantine,
    _completeness,
)
