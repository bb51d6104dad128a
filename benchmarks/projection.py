"""What ranges of projections cover, simulated; what a projection takes, beside scipy's own bootstrap of the same total."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from benchmarks.effort import Effort
from benchmarks.table import Row, spread
from podctl.evidence.causes import Cause
from podctl.evidence.records import Tokens
from podctl.evidence.results import AttemptResult, RunInfo
from podctl.projection.estimate import Settings, project
from podctl.projection.intervals import bca_bounds, student_bounds
from podctl.projection.resampling import Floats, resample
from podctl.projection.sample import sampled
from podctl.spec.volume import Volume
from podctl.tickets.allocation import neyman, proportional

#: 10,000 tickets in five strata, log-normal, the largest cheap and the smallest dear: the dearest 1 % are a third of the money.
SIZES = (3500, 2500, 1800, 1300, 900)
SIGMAS = (0.5, 0.7, 0.9, 1.1, 1.4)
TRIED, LEVEL, RESAMPLES = 200, 0.95, 1_000
#: Samples whose ranges are computed at once.
_AT_ONCE = 100

#: The total and nothing that takes long besides.
_QUICK = Settings(replications=RESAMPLES, coverage=False, caps=False, timing=False)

Population = Sequence[Floats]
Bounds = dict[str, tuple[Floats, Floats]]


def measure(effort: Effort) -> list[Row]:
    samples = effort.pick(100, 1_000, 2_000)
    return [*_designs(samples), *_outcomes(samples // 2), *_repeats(samples // 2), *_speed(effort), _memory(effort)]


# ---- coverage -------------------------------------------------------------------------


def population(seed: int = 1) -> list[Floats]:
    rng = np.random.default_rng(seed)
    return [np.exp(rng.normal(stratum, sigma, size)) for stratum, (size, sigma) in enumerate(zip(SIZES, SIGMAS, strict=True))]


def _designs(samples: int) -> list[Row]:
    whole = population()
    by_size = _shared(proportional, whole)
    by_spread = _neyman(whole, [stratum.std() for stratum in whole])
    cap = float(np.quantile(np.concatenate(whole), 0.99))
    capped = [np.minimum(stratum, cap) for stratum in whole]
    dear = np.sort(np.concatenate(whole))[::-1]
    top = dear[: len(dear) // 100].sum() / dear.sum()
    rng = np.random.default_rng(1)
    cases: list[tuple[str, Bounds, float, dict[str, float]]] = []
    cases.append(
        (
            "proportional",
            _ranges(whole, lambda _: by_size, samples, rng),
            _sum(whole),
            {"log-t": 0.920, "BCa": 0.876, "normal": 0.858},
        )
    )
    cases.append(
        (
            "Neyman",
            _ranges(whole, lambda _: by_spread, samples, rng),
            _sum(whole),
            {"log-t": 0.961, "BCa": 0.951, "normal": 0.936},
        )
    )
    cases.append(("Neyman by a pilot of 12, used again", _pilots(whole, samples, rng), _sum(whole), {"BCa": 0.875}))
    enforced = _neyman(capped, [stratum.std() for stratum in capped])
    cases.append(
        (
            "Neyman, a cap enforced",
            _ranges(capped, lambda _: enforced, samples, rng),
            _sum(capped),
            {"log-t": 0.952, "BCa": 0.942},
        )
    )
    rows = []
    for design, bounds, truth, noted in cases:
        for name in ("log-t", "BCa", "normal"):
            achieved = _share(bounds[name], truth)
            beside = f"design notes {noted[name]:.1%}" if name in noted else ""
            if design == "proportional" and name == "log-t":
                beside += f"; dearest 1 % of tickets: {top:.0%} of the money"
            target = 93.0 if (design.startswith("Neyman") and name == "log-t" and "pilot" not in design) else None
            rows.append(_covered(f"{design}: {_LONG[name]}", achieved, len(bounds[name][0]), beside, target))
    pooled = _share(_pooled(whole, by_spread, samples, rng), _sum(whole))
    rows.append(_covered("Neyman, weights forgotten: normal", pooled, samples, "design notes 0.0%"))
    return rows


_LONG = {"log-t": "bootstrap-t, log", "BCa": "BCa", "normal": "normal"}


def _covered(name: str, achieved: float, samples: int, beside: str, target: float | None = None) -> Row:
    error = math.sqrt(achieved * (1 - achieved) / samples)
    shown = f"± {error:.1%} ({samples:,} samples)" + (f"; {beside}" if beside else "")
    return Row(f"95 % range covers, {name}", [100 * achieved], "%", shown, target, at_least=True)


def _sum(whole: Population) -> float:
    return float(sum(stratum.sum() for stratum in whole))


def _share(bounds: tuple[Floats, Floats], truth: float) -> float:
    return float(((bounds[0] <= truth) & (truth <= bounds[1])).mean())


def _shared(allocate: Callable[..., dict[str, int]], whole: Population, *more: object) -> list[int]:
    totals = {str(number): len(stratum) for number, stratum in enumerate(whole)}
    counts = allocate(TRIED, totals, dict.fromkeys(totals, 2), *more)
    return [counts[name] for name in totals]


def _neyman(whole: Population, deviations: Sequence[float]) -> list[int]:
    return _shared(neyman, whole, {str(number): float(deviation) for number, deviation in enumerate(deviations)})


def _drawn(whole: Population, counts: Sequence[int], samples: int, rng: np.random.Generator) -> list[Floats]:
    """Tickets × samples of each stratum, without replacement."""
    return [
        np.column_stack([rng.choice(stratum, count, replace=False) for _ in range(samples)])
        for stratum, count in zip(whole, counts, strict=True)
    ]


def _ranges(whole: Population, counts_of: Callable[[int], Sequence[int]], samples: int, rng: np.random.Generator) -> Bounds:
    parts = []
    for start in range(0, samples, _AT_ONCE):
        groups = _drawn(whole, counts_of(start), min(_AT_ONCE, samples - start), rng)
        parts.append(_bounds(groups, [len(stratum) for stratum in whole], rng))
    return {name: tuple(np.concatenate([part[name][side] for part in parts]) for side in (0, 1)) for name in parts[0]}  # type: ignore[misc]


def _bounds(groups: list[Floats], sizes: Sequence[int], rng: np.random.Generator) -> Bounds:
    weights = np.repeat(np.array(sizes, dtype=float)[:, None], groups[0].shape[1], axis=1)
    found = resample(groups, weights, RESAMPLES, rng)
    return {
        "log-t": student_bounds(found, LEVEL, log=True),
        "BCa": bca_bounds(found, groups, weights, LEVEL),
        "normal": (found.sums - 1.96 * found.errors, found.sums + 1.96 * found.errors),
    }


def _pilots(whole: Population, samples: int, rng: np.random.Generator) -> Bounds:
    """Each sample has a pilot of its own, 12 tickets in all, which says where the other tickets go and stays in the sample."""
    parts, pilot = [], (3, 3, 2, 2, 2)
    for _ in range(samples // 2):
        order = [rng.permutation(stratum) for stratum in whole]
        counts = _neyman(whole, [stratum[:first].std(ddof=1) for stratum, first in zip(order, pilot, strict=True)])
        groups = [stratum[: max(first, count), None] for stratum, first, count in zip(order, pilot, counts, strict=True)]
        parts.append(_bounds(groups, [len(stratum) for stratum in whole], rng))
    return {name: tuple(np.concatenate([part[name][side] for part in parts]) for side in (0, 1)) for name in parts[0]}  # type: ignore[misc]


def _pooled(whole: Population, counts: Sequence[int], samples: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    groups = np.concatenate(_drawn(whole, counts, samples, rng))
    size = sum(map(len, whole))
    mean, error = groups.mean(axis=0), groups.std(axis=0, ddof=1) / math.sqrt(TRIED)
    return size * (mean - 1.96 * error), size * (mean + 1.96 * error)


# ---- coverage of what podctl project itself prints --------------------------------------


def _outcomes(samples: int) -> list[Row]:
    """Whole projections of runs drawn anew each time: heavy-tailed models alone, and with outcomes that people mend."""
    people = {"people": {"dollars_per_hour": 60, "fallback": "20m"}, "rework": {"time": "30m", "dollars": 5}}
    whole = population()
    counts = _neyman(whole, [stratum.std() for stratum in whole])
    heavy = [
        _Stratum(count, size, float(number), sigma)
        for number, (count, size, sigma) in enumerate(zip(counts, SIZES, SIGMAS, strict=True))
    ]
    rows = [
        _of_population("podctl project of the population, Neyman", whole, counts, samples),
        _projected("podctl project of tickets without end, Neyman", heavy, {}, samples),
    ]
    for wrong in (0.02, 0.07, 0.3):
        strata = [_Stratum(10, 1000, -1.0, 1.0, wrong)] * 6
        alone = _log_t_alone(strata, 35.0, samples)
        rows.append(
            _projected(
                f"podctl project, 6 × 10 tickets, {wrong:.0%} wrong at $35",
                strata,
                people,
                samples,
                target=93.0,
                beside=f"bootstrap-t of the sum alone {alone:.1%}",
            )
        )
    return rows


class _Stratum:
    """``tried`` of a stratum that stands for ``there``; log-normal dollars with this mean and deviation of logs."""

    def __init__(self, tried: int, there: int, mean: float, sigma: float, wrong: float = 0.0) -> None:
        self.tried, self.there, self.mean, self.sigma, self.wrong = tried, there, mean, sigma, wrong

    @property
    def expected(self) -> float:
        return math.exp(self.mean + self.sigma**2 / 2)


def _of_population(name: str, whole: Population, counts: Sequence[int], samples: int) -> Row:
    volume = Volume.model_validate({"apiVersion": "podctl/v1", "kind": "Volume", "name": "v", "of": "population"})
    info = _info(
        {f"s{number}": (count, len(stratum)) for number, (count, stratum) in enumerate(zip(counts, whole, strict=True))}
    )
    truth, held = _sum(whole), 0
    for seed in range(samples):
        rng = np.random.default_rng([seed, 9])
        attempts: list[AttemptResult] = []
        for number, (count, stratum) in enumerate(zip(counts, whole, strict=True)):
            for paid in rng.choice(stratum, count, replace=False):
                attempts.append(_attempt(len(attempts), f"s{number}", Decimal(repr(float(paid))), True))
        total = project(sampled(info, attempts), volume, replace(_QUICK, seed=seed)).total
        held += total.low is not None and total.high is not None and total.low <= truth <= total.high
    return _covered(name, held / samples, samples, "", 93.0)


def _projected(
    name: str, strata: Sequence[_Stratum], rates: dict[str, object], samples: int, target: float | None = None, beside: str = ""
) -> Row:
    volume = Volume.model_validate(
        {
            "apiVersion": "podctl/v1",
            "kind": "Volume",
            "name": "v",
            "strata": {f"s{n}": one.there * 1000 for n, one in enumerate(strata)},
            **rates,
        }
    )
    truth = sum(1000 * one.there * (one.expected + one.wrong * 35) for one in strata)
    held = 0
    for seed in range(samples):
        total = project(sampled(*_run(strata, seed)), volume, replace(_QUICK, seed=seed)).total
        held += total.low is not None and total.high is not None and total.low <= truth <= total.high
    return _covered(name, held / samples, samples, beside, target)


def _run(strata: Sequence[_Stratum], seed: int) -> tuple[RunInfo, list[AttemptResult]]:
    rng = np.random.default_rng([seed, 7])
    attempts: list[AttemptResult] = []
    for number, one in enumerate(strata):
        dollars, wrong = rng.lognormal(one.mean, one.sigma, one.tried), rng.random(one.tried) < one.wrong
        first = len(attempts)
        attempts += (
            _attempt(first + at, f"s{number}", Decimal(repr(float(paid))), not missed)
            for at, (paid, missed) in enumerate(zip(dollars, wrong, strict=True))
        )
    return _info({f"s{n}": (one.tried, one.there) for n, one in enumerate(strata)}), attempts


def _info(strata: dict[str, tuple[int, int]]) -> RunInfo:
    tried, there = (sum(pair[side] for pair in strata.values()) for side in (0, 1))
    return RunInfo("20261122-000000-abc123", "s", "a", "1", "", "t", "local", "", "", tried, there, strata, 1, 8, 1, 1)


def _attempt(position: int, stratum: str, dollars: Decimal, passed: bool) -> AttemptResult:
    return AttemptResult(
        f"{position:06d}-1", f"T-{position}", stratum, 1, position, Cause.COMPLETED, passed,
        tokens=Tokens(input=9000, output=700), dollars=dollars, wall_s=4 + position % 37, model_calls=6,
    )  # fmt: skip


def _log_t_alone(strata: Sequence[_Stratum], cost: float, samples: int) -> float:
    rng = np.random.default_rng(3)
    truth = sum(one.there * (one.expected + one.wrong * cost) for one in strata)
    weights = np.repeat(np.array([[float(one.there)] for one in strata]), samples, axis=1)
    groups = [
        rng.lognormal(one.mean, one.sigma, (one.tried, samples)) + cost * (rng.random((one.tried, samples)) < one.wrong)
        for one in strata
    ]
    return _share(student_bounds(resample(groups, weights, RESAMPLES, rng), LEVEL, log=True), truth)


def _repeats(samples: int) -> list[Row]:
    """The share resolved of 50 tickets × 8 repeats that are alike (an intra-ticket correlation of 0.17)."""
    rng = np.random.default_rng(4)
    mean, alike = 0.7, 0.17
    both = (1 - alike) / alike
    held = naive = 0
    for _ in range(samples):
        passed = rng.binomial(8, rng.beta(mean * both, (1 - mean) * both, 50))
        share = passed.sum() / 400
        error = math.sqrt(share * (1 - share) / 400)
        naive += abs(share - mean) <= 1.96 * error
        attempts = [
            replace(_attempt(ticket, "all", Decimal("0.01"), repeat < count), id=f"{ticket}-{repeat}", repeat=repeat + 1)
            for ticket, count in enumerate(passed)
            for repeat in range(8)
        ]
        held += _holds(attempts, mean)
    beside = f"with attempts taken for tickets {naive / samples:.1%}; design notes 94.5% and 81.5%"
    return [_covered("share resolved of 50 tickets × 8 repeats", held / samples, samples, beside, 93.0)]


def _holds(attempts: list[AttemptResult], mean: float) -> bool:
    volume = Volume.model_validate({"apiVersion": "podctl/v1", "kind": "Volume", "name": "v", "tickets": 10_000})
    share = project(sampled(replace(_info({"all": (50, 5000)}), repeats=8), attempts), volume, _QUICK).outcomes.resolved_share
    return share.low is not None and share.high is not None and share.low <= mean <= share.high


# ---- speed and memory -------------------------------------------------------------------


def _speed(effort: Effort) -> list[Row]:
    from scipy import stats

    tickets, replications = effort.pick(200, 2000, 2000), effort.pick(1_000, 10_000, 10_000)
    strata = [
        _Stratum(tickets // 5, size, float(number), sigma, 0.05)
        for number, (size, sigma) in enumerate(zip(SIZES, SIGMAS, strict=True))
    ]
    info, attempts = _run(strata, 1)
    sample = sampled(info, attempts)
    volume = Volume.model_validate({"apiVersion": "podctl/v1", "kind": "Volume", "name": "v", "tickets": 20_000})
    ours = [_taken(lambda: project(sample, volume, Settings(replications=replications))) for _ in range(effort.times(5))]
    costs = [np.array([float(one.dollars or 0) for one in attempts if one.stratum == name]) for name in info.strata]

    def total(*groups: Floats, axis: int) -> Floats:
        summed: Floats = np.sum([size * group.mean(axis=axis) for size, group in zip(SIZES, groups, strict=True)], axis=0)
        return summed

    def theirs() -> object:
        return stats.bootstrap(costs, total, n_resamples=replications, method="BCa", random_state=np.random.default_rng(1))

    began = process_time()
    project(sample, volume, Settings(replications=replications))
    busy = process_time() - began
    beside = [_taken(theirs) for _ in range(effort.times(5))]
    groups = [cost[:, None] for cost in costs]
    weights = np.array([[float(size)] for size in SIZES])
    alone = [
        _taken(lambda: bca_bounds(resample(groups, weights, replications, np.random.default_rng(1)), groups, weights, LEVEL))
        for _ in range(effort.times(5))
    ]
    name = f"a projection of {tickets:,} tickets, {replications:,} replications: every figure, coverage, time"
    return [
        Row(
            name,
            ours,
            "s",
            f"{busy:.1f} s of the processors; scipy.stats.bootstrap, BCa of the total alone {spread(beside, 's')}",
            3,
        ),
        Row("  BCa of the total alone", alone, "s", _same(costs, groups, weights, total, replications)),
    ]


def _same(costs: list[Floats], groups: list[Floats], weights: Floats, total: Callable[..., Floats], replications: int) -> str:
    from scipy import stats

    found = resample(groups, weights, replications, np.random.default_rng(1))
    low, high = bca_bounds(found, groups, weights, LEVEL)
    theirs = stats.bootstrap(
        costs, total, n_resamples=replications, method="BCa", random_state=np.random.default_rng(2)
    ).confidence_interval
    return f"bounds apart from scipy's by {abs(low[0] / theirs.low - 1):.1%} and {abs(high[0] / theirs.high - 1):.1%}"


def _taken(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


_PEAK = """
import sys
from podctl.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
"""


def _memory(effort: Effort) -> Row:
    attempts = effort.pick(500, 20_000, 100_000)
    directory = effort.directory / "store"
    # In a process of its own: a child's peak is never below what its parent held.
    code = f"from pathlib import Path; from benchmarks.projection import fill; fill(Path({str(directory)!r}), {attempts})"
    subprocess.run([sys.executable, "-c", code], check=True)
    command = [sys.executable, "-c", _PEAK, "project", "latest", "--volume", "1000000", "--store", str(directory), "-o", "json"]
    began = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took = perf_counter() - began
    counted = json.loads(done.stdout)["counted"]
    peak = int(done.stderr.split()[-1]) / 1024
    size = (directory / "store.db").stat().st_size / 2**20
    return Row(f"podctl project of {counted:,} attempts, peak", [peak], "MB", f"{took:.0f} s; a store of {size:,.0f} MB", 1024)


def fill(directory: Path, attempts: int) -> None:
    """A store with one finished run of so many attempts, without their evidence."""
    from benchmarks.big_store import take_in

    strata = [_Stratum(attempts // 5, attempts, float(number), sigma, 0.05) for number, sigma in enumerate(SIGMAS)]
    take_in(directory, *_run(strata, 1))
