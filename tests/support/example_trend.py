"""Four made-up runs of one scenario, a week apart, as a trend."""

from __future__ import annotations

from example_run import START_NS, example_run

from podctl.evidence.results import RunResult
from podctl.evidence.store_rows import RunSummary
from podctl.reports.trend import Trend, point_of

WEEK_NS = 7 * 86400 * 10**9


def weekly(number: int, **fields: object) -> RunResult:
    return example_run(
        version=f"2.{number}.0", skill=number / 4 - 0.5, seed=number, id=f"run-{number}", started_ns=START_NS + number * WEEK_NS, **fields
    )  # fmt: skip


def in_short(run: RunResult, status: str = "finished") -> RunSummary:
    passed = sum(one.passed for one in run.attempts)
    return RunSummary(run.info, status, run.verdict, run.spent_dollars, len(run.attempts), len(run.attempts), passed)  # type: ignore[arg-type]


def example_trend() -> Trend:
    runs = [weekly(number) for number in range(3)] + [weekly(3, sample_digest="sha256:other")]
    points = tuple(
        point_of(in_short(run), run.attempts, before.info if before else None)  # type: ignore[arg-type]
        for before, run in zip([None, *runs], runs, strict=False)
    )
    return Trend("shop-refunds", points, 0)
