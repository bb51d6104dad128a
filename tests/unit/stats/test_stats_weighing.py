"""The gate judges the population's rates where a sample is not in proportion to it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from example_run import attempt, info

from podctl.evidence.results import AttemptResult, GateFinding, RunResult
from podctl.reports.html import render_html
from podctl.reports.markdown import render_markdown
from podctl.reports.model import build_report
from podctl.reports.terminal import render_terminal
from podctl.spec.models import Gate
from podctl.stats.gate import judged
from podctl.stats.paired import paired
from podctl.stats.sequential import Watch, WeighedEvidence, evidence
from podctl.stats.thresholds import share_sides
from podctl.stats.weighed_pairs import WeighedPairs, compared
from podctl.stats.weighed_share import WeighedShare, of_clusters
from podctl.stats.weighing import Weighing, weighing_of

#: A stratum's part of the population of 1,000.
THERE = {"common": 900, "rare": 100}


def run_of(
    outcomes: Mapping[str, Sequence[bool]], there: Mapping[str, int] = THERE, repeats: int = 1, **fields: object
) -> RunResult:
    """Stratum -> whether each of its tickets passed."""
    made: list[AttemptResult] = []
    for stratum, passes in outcomes.items():
        made += [
            attempt(f"{stratum} {n}", passed, stratum=stratum, id=f"{stratum} {n}-{repeat}", repeat=repeat)
            for n, passed in enumerate(passes)
            for repeat in range(1, repeats + 1)
        ]
    strata = {stratum: (len(outcomes.get(stratum, ())), whole) for stratum, whole in there.items()}
    about = info(strata=strata, sample_size=sum(map(len, outcomes.values())), population_size=sum(there.values()), **fields)
    return RunResult(about, "finished", tuple(made), "inconclusive")


def some(passed: int, of: int) -> list[bool]:
    return [n < passed for n in range(of)]


def finding(run: RunResult, gate: Gate, baseline: RunResult | None = None) -> GateFinding:
    return judged(run, gate, baseline).findings[0]


def gate(**fields: object) -> Gate:
    return Gate(boundary_violations=None, **fields)  # type: ignore[arg-type]


def test_a_sample_in_proportion_is_judged_as_it_stands() -> None:
    """To the rounding of tickets; one stratum always is."""
    asked = gate(pass_rate=0.8, regression=0.05, pass_hat={"k": 2, "share": 0.7})
    for outcomes in ({"common": some(80, 91), "rare": some(2, 10)}, {"common": some(80, 90)}):
        there = {stratum: THERE[stratum] for stratum in outcomes}
        run, before = run_of(outcomes, there, 2), run_of({name: [True] * len(one) for name, one in outcomes.items()}, there)
        assert weighing_of(run) is None
        unknown = [replace(one, info=replace(one.info, strata={})) for one in (run, before)]
        assert judged(run, asked, before).findings == judged(unknown[0], asked, unknown[1]).findings
        assert "weighed" not in judged(run, asked, before).findings[0].message


def test_the_rate_is_the_population_s() -> None:
    run = run_of({"common": some(58, 60), "rare": some(30, 60)})
    found = finding(run, gate(pass_rate=0.85))
    assert (found.measured, found.verdict) == ("92 %", "pass")
    assert "88 of 120 passed; strata weighed as in the population; 95 % sure of at least" in found.message
    turned = finding(run_of({"common": some(30, 60), "rare": some(58, 60)}), gate(pass_rate=0.7))
    assert (turned.measured, turned.verdict) == ("54.7 %", "fail"), "73 % of the tickets as drawn"
    hat = finding(run_of({"common": some(58, 60), "rare": some(30, 60)}, repeats=2), gate(pass_hat={"k": 2, "share": 0.85}))
    assert (hat.measured, hat.verdict) == ("92 %", "pass")


def test_a_few_tickets_of_what_is_common_pass_nothing() -> None:
    """Five of five pass where 90 % of the population is: not more than that they are more than half is known."""
    found = finding(run_of({"common": some(5, 5), "rare": some(40, 50)}), gate(pass_rate=0.8))
    assert (found.measured, found.verdict) == ("98 %", "inconclusive")
    assert found.more_tickets is not None and 40 < found.more_tickets < 1000


def test_kinds_without_a_ticket_count_against_every_answer() -> None:
    there = {"common": 800, "rare": 100, "never drawn": 100}
    good, bad = {"common": some(99, 100), "rare": some(99, 100)}, {"common": some(60, 100), "rare": some(60, 100)}
    for outcomes, least, verdict in (
        (good, 0.8, "pass"),
        (good, 0.95, "inconclusive"),
        (bad, 0.65, "inconclusive"),
        (bad, 0.75, "fail"),
    ):
        found = finding(run_of(outcomes, there), gate(pass_rate=least))
        assert found.verdict == verdict
        assert "of which 10 % are of kinds that no ticket here is of" in found.message
    before, after = run_of(good, there), run_of(good, there, id="after")
    assert finding(after, gate(regression=0.09), before).verdict == "inconclusive"
    assert finding(after, gate(regression=0.15), before).verdict == "pass"


def test_one_group_alone_is_what_it_was_without_weights() -> None:
    clusters = [(1, 1)] * 17 + [(0, 1)] * 4
    weighed = WeighedShare((of_clusters(1.0, clusters),))
    alone, sides = weighed.sides(0.6), share_sides(clusters, 0.6)
    assert (alone.low, alone.p_above) == pytest.approx((sides.low, sides.p_above), rel=1e-4)
    alone, sides = weighed.sides(0.95), share_sides(clusters, 0.95)
    assert (alone.high, alone.p_below) == pytest.approx((sides.high, sides.p_below), abs=0.01), "a variance has n − 1"
    before, after = ({f"{n}": (one, 1) for n, one in enumerate(some(k, 60))} for k in (55, 53))
    found, plain = (
        compared(before, after, Weighing({("s", False): 1.0}, dict.fromkeys(after, ("s", False)))),
        paired(before, after),
    )
    assert isinstance(found, WeighedPairs) and plain is not None
    assert (found.drop, found.worse, found.p_worse) == (pytest.approx(plain.drop), plain.worse, plain.p_worse)
    assert found.p_inferior(0.05) == pytest.approx(plain.p_inferior(0.05), rel=1e-3)
    assert found.detectable == pytest.approx(plain.detectable)


def test_what_one_kind_gained_and_another_lost() -> None:
    """Twelve rare tickets fell, four common ones rose: as drawn it is worse for certain, in the population it is not."""
    before = run_of({"common": some(50, 60), "rare": some(60, 60)}, id="base")
    after = run_of({"common": some(54, 60), "rare": some(48, 60)})
    found = judged(after, gate(regression=0.05), before)
    assert found.comparison is not None and found.comparison.weighed
    assert found.comparison.rate - found.comparison.baseline_rate == pytest.approx(0.9 * 4 / 60 - 0.1 * 12 / 60)
    assert found.findings[0].verdict != "fail" and found.findings[0].measured == "+4 points"
    as_drawn = [replace(one, info=replace(one.info, strata={})) for one in (after, before)]
    assert finding(as_drawn[0], gate(regression=0.0), as_drawn[1]).chance == pytest.approx(0.038, abs=0.001)
    assert found.comparison.attribution is not None
    parts = {one.stratum: one.part_of_fall for one in found.comparison.attribution.strata}
    assert parts == {"rare": pytest.approx(0.02), "common": pytest.approx(-0.06)}
    # And the other way about: what the many lost is not made good by what the few gained.
    worse = judged(run_of({"common": some(50, 60), "rare": some(60, 60)}), gate(regression=0.05), run_of({"common": some(60, 60), "rare": some(50, 60)}))  # fmt: skip
    assert worse.findings[0].verdict == "fail"


def test_tickets_that_had_to_be_in_the_sample_stand_for_themselves() -> None:
    named = [f"common {n}" for n in range(20)]
    run = run_of({"common": [*[False] * 20, *some(40, 40)]}, {"common": 1000}, settings={"sample": {"include": named}})
    weighing = weighing_of(run)
    assert weighing is not None and weighing.shares == {("common", True): 0.02, ("common", False): 0.98}
    assert finding(run, gate(pass_rate=0.9)).measured == "98 %"
    only = run_of({"common": some(20, 20), "rare": some(5, 20)}, settings={"sample": {"include": named}})
    assert finding(only, gate(pass_rate=0.9)).measured == "92.5 %", (
        "where no chance was left, they stand for all of their stratum"
    )


def test_a_rate_at_the_threshold_seldom_decides() -> None:
    """5 % is meant; more replications: python -m benchmarks gate."""
    rng = random.Random(11)
    rates = {"common": (0.95, 12), "rare": (0.6, 40)}
    truth = sum(THERE[stratum] / 1000 * rate for stratum, (rate, _) in rates.items())
    verdicts = []
    for _ in range(300):
        made = {stratum: [rng.random() < rate for _ in range(count)] for stratum, (rate, count) in rates.items()}
        verdicts.append(finding(run_of(made), gate(pass_rate=truth)).verdict)
    assert max(verdicts.count("pass"), verdicts.count("fail")) / len(verdicts) <= 0.07


def test_evidence_of_whole_flips_is_what_it_was() -> None:
    weighed = WeighedEvidence()
    for flip in [1, 1, -1, 1, 1, 1, -1, 1, 1]:
        weighed.add(flip)
    assert weighed.value == pytest.approx(evidence(7, 2), rel=1e-4)
    assert WeighedEvidence().value == 1


def test_a_run_ends_early_only_where_the_population_is_worse() -> None:
    strata = {f"{kind} {n}": kind for kind in THERE for n in range(60)}
    run = run_of({kind: some(60, 60) for kind in THERE})
    weighing = weighing_of(run)
    before, planned = dict.fromkeys(strata, (1, 1)), dict.fromkeys(strata, 1)
    before |= {f"common {n}": (0, 1) for n in range(40, 60)}

    def watched(weighing: Weighing | None, fallen: str) -> bool:
        watch = Watch(before, planned, weighing)
        for n in range(60):
            for kind in THERE:
                watch.add(attempt(f"{kind} {n}", not (kind == fallen and n < 20), stratum=kind))
        return watch.enough

    assert not watched(weighing, "rare"), "twenty rare tickets fell, twenty common ones rose"
    before |= {f"common {n}": (1, 1) for n in range(40, 60)}
    assert watched(weighing, "common") and watched(None, "rare")
    assert not watched(weighing, "rare"), "it is little of the population"


def test_every_report_says_whose_rate_it_is() -> None:
    before = run_of({"common": some(50, 60), "rare": some(60, 60)}, id="base")
    run = judged(run_of({"common": some(54, 60), "rare": some(48, 60)}), gate(pass_rate=0.8, seconds_per_ticket=1.0), before)
    report = build_report(run)
    assert report.notes[0].endswith("Weighed by what its tickets stand for, the pass rate is 89 % (95 % interval 79–95 %).")
    for text in (render_terminal(report, paths={}, width=200), render_markdown(report)):
        assert "85 % → 89 % (strata weighed)" in text
    page = render_html(report).replace("\u00a0", " ")
    assert "Pass rate, strata weighed as in the population" in page and "fall of the weighed pass rate" in page
    assert "strata as drawn" in page
