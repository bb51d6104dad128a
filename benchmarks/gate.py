"""How often the gate is wrong: verdicts on made-up runs whose truth is known, beside rules that look simpler.

A ticket flips with the chance ψ between two versions of one agent; costs are log-normal. Every verdict is `judged`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
from scipy.special import bdtrc, stdtr

from benchmarks.effort import Effort, seconds
from benchmarks.table import Row, ms
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunInfo, RunResult, Verdict
from podctl.spec.models import Gate
from podctl.stats.gate import judged
from podctl.stats.power import Design, chances
from podctl.stats.sequential import ENOUGH, WeighedEvidence, evidence
from podctl.stats.thresholds import Sides, exact, share_sides

SEED = 20261122
#: ψ: what two unrelated versions of an agent that passes 80 % would have.
FLIPS = 0.3
INFO = RunInfo("r", "s", "a", "1", "d", "t", "memory", "", "x", 0, 10**6, {}, 1, 1, 1, 0)


def measure(effort: Effort) -> list[Row]:
    times = effort.pick(20, 200, 1000, 4000)
    rng = np.random.default_rng(SEED)
    rows = [_false_fails(rng, tickets, times) for tickets in (60, 200, 740)]
    rows.append(_with_repeats(rng, times))
    rows.append(_everything_at_its_limit(rng, times))
    rows += _opposite(rng, times)
    rows += _false_passes(rng, times)
    rows += _power(rng, times)
    rows += _watched(rng, times)
    rows += _weighed_rates(rng, times)
    rows.append(_weighed_falls(rng, times))
    rows.append(_weighed_watch(rng, times))
    rows += _means(rng, times)
    before, after = _runs(*_flips(rng, 2000, 0.05))
    rows.append(
        Row(
            "gate: 2,000 tickets judged against a baseline",
            ms(seconds(lambda: judged(after, Gate(regression=0.05), before), 5)),
            "ms",
        )
    )
    return rows


# ---- made-up runs -------------------------------------------------------------------


@cache
def _attempt(ticket: int, passed: bool, repeat: int = 1) -> AttemptResult:
    return AttemptResult(f"{ticket}-{repeat}", f"T{ticket}", "s", repeat, ticket, Cause.COMPLETED, passed, wall_s=1.0)


def _run(passed: Sequence[bool]) -> RunResult:
    return RunResult(INFO, "finished", tuple(_attempt(i, bool(p)) for i, p in enumerate(passed)), "inconclusive")


def _runs(before: Sequence[bool], after: Sequence[bool]) -> tuple[RunResult, RunResult]:
    return _run(before), _run(after)


def _flips(rng: Any, tickets: int, fall: float, flips: float = FLIPS) -> tuple[Any, Any]:
    """Outcomes of two versions, the second worse by ``fall``; eight of ten tickets that do not flip pass."""
    drawn = rng.random(tickets)
    worse, better = drawn < (flips + fall) / 2, (drawn >= (flips + fall) / 2) & (drawn < flips)
    same = rng.random(tickets) < 0.8
    return np.where(worse, True, np.where(better, False, same)), np.where(worse, False, np.where(better, True, same))


def _verdicts(pairs: Callable[[], tuple[RunResult, RunResult]], gate: Gate, times: int) -> list[Verdict]:
    return [judged(after, gate, before).verdict for before, after in (pairs() for _ in range(times))]


def _share(verdicts: Sequence[Verdict], verdict: Verdict) -> float:
    return 100 * verdicts.count(verdict) / len(verdicts)


# ---- rows ---------------------------------------------------------------------------


def _false_fails(rng: Any, tickets: int, times: int) -> Row:
    pairs = [_flips(rng, tickets, 0.0) for _ in range(times)]
    drawn = iter(pairs)
    verdicts = _verdicts(lambda: _runs(*next(drawn)), Gate(regression=0.05), times)
    simple = 100 * sum(after.sum() < before.sum() for before, after in pairs) / times
    beside = f"fewer passes than the baseline: {simple:.1f} %"
    return Row(f"gate fails an unchanged version, {tickets} tickets", [_share(verdicts, "fail")], "%", beside, 5)


def _with_repeats(rng: Any, times: int) -> Row:
    """Four attempts each on 60 tickets of very different difficulty."""
    naive = 0

    def pair() -> tuple[RunResult, RunResult]:
        nonlocal naive
        skill = rng.beta(0.6, 0.2, 60)
        both = [rng.random((60, 4)) < skill[:, None] for _ in range(2)]
        # As if the 240 attempts were tickets of their own, each paired with its number in the other run.
        worse, better = int((both[0] & ~both[1]).sum()), int((~both[0] & both[1]).sum())
        naive += worse > 0 and float(bdtrc(worse - 1, worse + better, 0.5)) <= 0.05
        made = [tuple(_attempt(t, bool(one[t, r]), r + 1) for t in range(60) for r in range(4)) for one in both]
        first, second = (RunResult(INFO, "finished", attempts, "inconclusive") for attempts in made)
        return first, second

    verdicts = _verdicts(pair, Gate(regression=0.05), times)
    beside = f"McNemar on 240 pairs of attempts: {100 * naive / times:.1f} %"
    return Row("  60 tickets, 4 attempts each", [_share(verdicts, "fail")], "%", beside, 5)


def _everything_at_its_limit(rng: Any, times: int) -> Row:
    """Five requirements that 200 tickets meet exactly: any failure is false."""
    gate = Gate(
        pass_rate=0.8,
        cost_per_ticket=Decimal(repr(float(np.exp(0.5)) / 100)),
        seconds_per_ticket=float(np.exp(0.5)),
        regression=0.05,
        cost_rise=0.0,
    )
    singly = 0

    def pair() -> tuple[RunResult, RunResult]:
        made = []
        for _ in range(2):
            passed, costs, times_ = rng.random(200) < 0.8, rng.lognormal(0, 1, 200) / 100, rng.lognormal(0, 1, 200)
            made.append(
                tuple(
                    replace(_attempt(i, bool(passed[i])), dollars=Decimal(repr(float(costs[i]))), wall_s=float(times_[i]))
                    for i in range(200)
                )
            )
        first, second = (RunResult(INFO, "finished", attempts, "inconclusive") for attempts in made)
        nonlocal singly
        singly += any(
            judged(second, Gate(boundary_violations=None, **{name: getattr(gate, name)}), first).verdict == "fail"
            for name in ("pass_rate", "cost_per_ticket", "seconds_per_ticket", "regression", "cost_rise")
        )
        return first, second

    verdicts = _verdicts(pair, gate, max(1, times // 2))
    beside = f"each of the five at 5 % for itself: {100 * singly / len(verdicts):.1f} %"
    return Row("  five requirements met exactly, 200 tickets", [_share(verdicts, "fail")], "%", beside, 5)


def _opposite(rng: Any, times: int) -> list[Row]:
    """The same version twice against the same baseline, worse by half the margin: pass once and fail once?"""
    flipped = simple = 0
    gate = Gate(regression=0.05)
    for _ in range(max(1, times // 2)):
        before, one = _flips(rng, 200, 0.025)
        # The other run's outcomes given the baseline's.
        chance = np.where(before, (FLIPS + 0.025) / 2 / before.mean(), (FLIPS - 0.025) / 2 / (1 - before.mean()))
        other = before ^ (rng.random(200) < chance)
        found = {judged(_run(after), gate, _run(before)).verdict for after in (one, other)}
        flipped += {"pass", "fail"} <= found
        simple += len({bool(before.mean() - after.mean() <= 0.05) for after in (one, other)}) == 2
    made = max(1, times // 2)
    beside = f"fall of at most 5 points by the point estimate: {100 * simple / made:.1f} %"
    return [Row("one version twice, 200 tickets: pass and fail", [100 * flipped / made], "%", beside, 5)]


def _false_passes(rng: Any, times: int) -> list[Row]:
    rows = []
    for tickets, flips, margin in ((60, 0.06, 0.05), (200, 0.3, 0.05), (184, 0.3, 0.10)):
        simple = 0

        def pair(tickets: int = tickets, flips: float = flips, margin: float = margin) -> tuple[RunResult, RunResult]:
            before, after = _flips(rng, tickets, margin, flips)
            drop = before.mean() - after.mean()
            error = np.sqrt(max(0.0, (before != after).mean() - drop**2) / tickets)
            nonlocal simple
            simple += drop + 1.645 * error < margin
            return _runs(before, after)

        verdicts = _verdicts(pair, Gate(regression=margin), times)
        name = f"gate passes what is worse by δ = {margin * 100:.0f} points, ψ = {flips:g}, {tickets} tickets"
        # Half a point for drawing so few, and for a test that is of large samples.
        rows.append(Row(name, [_share(verdicts, "pass")], "%", f"d + 1.645 se < δ: {100 * simple / times:.1f} %", 6))
    return rows


def _power(rng: Any, times: int) -> list[Row]:
    rows = []
    for tickets, margin in ((740, 0.05), (184, 0.10)):
        for part in (0.0, 0.5, 1.0, 1.5, 2.0):
            fall = part * margin
            verdicts = _verdicts(lambda n=tickets, f=fall: _runs(*_flips(rng, n, f)), Gate(regression=margin), times)  # type: ignore[misc]
            told = chances(Design(tickets, 1, FLIPS), margin, fall)
            name = f"δ = {margin * 100:.0f} points, {tickets} tickets, worse by {fall * 100:g}:"
            for verdict, expected in (("fail", told.fail), ("pass", told.passes)):
                # 80 by the formula, less what 1,000 drawings and discreteness can take.
                wanted = {("fail", 1.0): 75.0, ("pass", 0.0): 75.0}.get((verdict, part))
                figure = _share(verdicts, verdict)  # type: ignore[arg-type]
                rows.append(
                    Row(f"  {name} {verdict}", [figure], "%", f"podctl power: {100 * expected:.1f} %", wanted, at_least=True)
                )
    return rows


def _watched(rng: Any, times: int) -> list[Row]:
    """740 tickets, looked at one by one."""
    e_fails = peeks = either = 0
    ended = []
    table: dict[tuple[int, int], float] = {}

    def e(worse: int, better: int) -> float:
        if (worse, better) not in table:
            table[worse, better] = evidence(worse, better)
        return table[worse, better]

    for fall in (0.0, 0.10):
        for _ in range(times):
            before, after = _flips(rng, 740, fall)
            worse, better = np.cumsum(before & ~after), np.cumsum(~before & after)
            flips = np.flatnonzero(before != after)
            reached = next((int(at) for at in flips if e(int(worse[at]), int(better[at])) >= ENOUGH), None)
            if fall:
                ended.append(740 if reached is None else reached + 1)
                continue
            looks = range(9, 740, 10)
            peeks += any(worse[at] and bdtrc(worse[at] - 1, worse[at] + better[at], 0.5) <= 0.05 for at in looks)
            e_fails += reached is not None
            either += reached is not None or bool(bdtrc(worse[-1] - 1, worse[-1] + better[-1], 0.5) <= 0.025)
    beside = f"McNemar every ten tickets: {100 * peeks / times:.1f} %"
    return [
        Row("--fail-fast ends an unchanged version, 740 tickets", [100 * e_fails / times], "%", beside, 5),
        Row("  ends it, or the gate fails it at the end", [100 * either / times], "%", "", 5.5),
        Row(
            "  tickets worked of 740 when worse by 10 points",
            [float(np.mean(ended))],
            "tickets",
            f"median {np.median(ended):.0f}",
        ),
    ]


#: Parts of the population, and rates of passing, of samples that have as many tickets of each (or other numbers).
_EQUAL = ((0.6, 0.2, 0.1, 0.06, 0.04), (0.9, 0.8, 0.7, 0.6, 0.5))
_MANY = ((0.3, 0.2, 0.1, 0.1, 0.08, 0.07, 0.05, 0.04, 0.03, 0.03), (0.95,) * 10)
_HEAVY = ((0.9, 0.1), (0.95, 0.6))


def _in_strata(shares: Sequence[float], outcomes: Sequence[Any]) -> RunResult:
    """``outcomes``: of the tickets of each stratum, whose part of the population is known."""
    made = [
        AttemptResult(f"{h}-{i}", f"{h}-{i}", f"{h}", 1, i, Cause.COMPLETED, bool(passed))
        for h, those in enumerate(outcomes)
        for i, passed in enumerate(those)
    ]
    strata = {f"{h}": (len(outcomes[h]), round(share * 10**6)) for h, share in enumerate(shares)}
    return RunResult(replace(INFO, strata=strata), "finished", tuple(made), "inconclusive")


def _weighed_rates(rng: Any, times: int) -> list[Row]:
    """The population's pass rate is in truth at the threshold: passing and failing are both wrong."""
    rows = []
    for name, (shares, rates), sizes in (
        ("5 strata of 40", _EQUAL, (40,) * 5),
        ("5 strata of 12", _EQUAL, (12,) * 5),
        ("10 strata of 6", _MANY, (6,) * 10),
        ("20 and 200 tickets for 90 % and 10 %", _HEAVY, (20, 200)),
    ):
        truth = float(np.dot(shares, rates))
        verdicts: list[Verdict] = []
        drawn = {"pass": 0, "fail": 0}
        alike = {"pass": 0, "fail": 0}
        for _ in range(times):
            outcomes = [rng.random(size) < rate for size, rate in zip(sizes, rates, strict=True)]
            verdicts.append(judged(_in_strata(shares, outcomes), Gate(pass_rate=truth, boundary_violations=None)).verdict)
            _count(alike, share_sides([(int(p), 1) for those in outcomes for p in those], truth))
            means = [those.mean() for those in outcomes]
            share = float(np.dot(shares, means))
            variance = sum(w * w * m * (1 - m) / (n - 1) for w, m, n in zip(shares, means, sizes, strict=True))
            size = sum(sizes) if variance == 0 else min(sum(sizes), share * (1 - share) / variance)
            below, above = exact(share * size, size, truth)
            drawn["fail"] += below <= 0.05
            drawn["pass"] += above <= 0.05
        for word in ("pass", "fail"):
            beside = f"as drawn: {100 * alike[word] / times:.1f} %; by effective size: {100 * drawn[word] / times:.1f} %"
            what = f"pass rate at the limit, {name}: passes" if word == "pass" else "  fails"
            # Half a point for drawing so few.
            rows.append(Row(what, [_share(verdicts, word)], "%", beside, 5.5))  # type: ignore[arg-type]
    return rows


def _count(found: dict[str, int], sides: Sides) -> None:
    found["fail"] += sides.p_below <= 0.05
    found["pass"] += sides.p_above <= 0.05


def _weighed_falls(rng: Any, times: int) -> Row:
    """Of a rare kind 40 % fell, of the common one 10 % rose: the population's rate is what it was."""
    alike = 0

    def pair() -> tuple[RunResult, RunResult]:
        flips = [_flips(rng, 30, -0.1, 0.2), _flips(rng, 30, 0.4, 0.6)]
        nonlocal alike
        before, after = (np.concatenate(both) for both in zip(*flips, strict=True))
        alike += judged(_run(after), Gate(regression=0.05), _run(before)).verdict == "fail"
        one, other = (_in_strata((0.8, 0.2), both) for both in zip(*flips, strict=True))
        return one, other

    verdicts = _verdicts(pair, Gate(regression=0.05), 2 * times)
    beside = f"as drawn: {100 * alike / len(verdicts):.1f} %"
    return Row("gate fails what a kind of 20 % lost and one of 80 % gained", [_share(verdicts, "fail")], "%", beside, 5.5)


def _weighed_watch(rng: Any, times: int) -> Row:
    """The same kinds of flips, 100 tickets each in any order, looked at one by one."""
    ends = alike = 0
    for _ in range(times):
        flips = [(before.astype(int) - after, weight) for before, after, weight in (
            (*_flips(rng, 100, -0.1, 0.2), 1.0), (*_flips(rng, 100, 0.4, 0.6), 0.25)
        )]  # fmt: skip
        seen = rng.permutation([(flip, flip * weight) for those, weight in flips for flip in those if flip])
        weighed = WeighedEvidence()
        counts = {1: 0, -1: 0}
        reached = [False, False]
        for flip, weight in seen:
            counts[int(flip)] += 1
            weighed.add(float(weight))
            reached[0] |= weighed.value >= ENOUGH
            reached[1] |= evidence(counts[1], counts[-1]) >= ENOUGH
        ends, alike = ends + reached[0], alike + reached[1]
    return Row(
        "--fail-fast ends such a run, 200 tickets", [100 * ends / times], "%", f"as drawn: {100 * alike / times:.1f} %", 5
    )


def _means(rng: Any, times: int) -> list[Row]:
    """A mean cost that is in truth at the threshold: passing and failing are both wrong."""
    rows = []
    for tickets, sigma in ((30, 1.0), (200, 1.0), (200, 1.4)):
        most = float(np.exp(sigma**2 / 2)) / 100
        gate = Gate(cost_per_ticket=Decimal(repr(most)), boundary_violations=None)
        verdicts: list[Verdict] = []
        simple = 0
        for _ in range(times):
            costs = rng.lognormal(0, sigma, tickets) / 100
            made = tuple(replace(_attempt(i, True), dollars=Decimal(repr(float(cost)))) for i, cost in enumerate(costs))
            verdicts.append(judged(RunResult(INFO, "finished", made, "inconclusive"), gate).verdict)
            simple += stdtr(tickets - 1, (costs.mean() - most) / costs.std(ddof=1) * np.sqrt(tickets)) <= 0.05
        name = f"cost at the limit, σ = {sigma:g}, {tickets} tickets"
        rows.append(Row(f"{name}: fails", [_share(verdicts, "fail")], "%", "", 5))
        rows.append(Row("  passes", [_share(verdicts, "pass")], "%", f"Student's t: {100 * simple / times:.1f} %"))
    return rows
