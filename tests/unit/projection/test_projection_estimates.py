"""From a sample to a volume: what must be exact is exact, and what is uncertain says so."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampled_run import KINDS, Kind, Made, run_of, volume

from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.causes import Cause
from podctl.projection.estimate import Settings, project
from podctl.projection.model import Estimate, Projection, from_json, to_json
from podctl.spec.volume import Volume

QUICK = Settings(replications=1000, coverage=False, timing=False)
TIMED = replace(QUICK, timing=True)
RATES = {
    "people": {"dollars_per_hour": 60, "fallback": "20m", "approval": {"share": 0.5, "time": "2m"}},
    "rework": {"time": "30m", "dollars": 5},
    "pods": {"dollars_per_hour": 0.2},
}


def made(run: Made, of: Volume | None = None, settings: Settings = QUICK) -> Projection:
    return project(run.sample, of or volume(tickets=10_000), settings)


def weighted(run: Made, what: str = "dollars") -> float:
    """Σ N ȳ by hand, over 10,000 tickets at the mix of the population."""
    whole = sum(there for _, there in run.info.strata.values())
    total = 0.0
    for name, (_, there) in run.info.strata.items():
        own = [float(getattr(one, what)) for one in run.attempts if one.stratum == name]
        total += 10_000 * there / whole * sum(own) / len(own)
    return total


def test_what_is_dear_together_is_uncertain_together() -> None:
    """Tickets that go wrong cost more to try as well: the total's range is wider than if the two had nothing to do with one another."""
    run = run_of({"all": Kind(80, 4000, wrong=0.2, handed_over=0.0)})
    run.attempts[:] = [one if one.passed else replace(one, dollars=(one.dollars or 0) * 80) for one in run.attempts]
    found = made(run, volume(of="population", people={"dollars_per_hour": 60}, rework={"time": "20m"}))
    models, rework = (next(part.dollars for part in found.parts if part.name == name) for name in ("models", "rework"))
    ends = [(one.high or 0) - (one.value or 0) for one in (models, rework)]
    assert found.total.value == pytest.approx((models.value or 0) + (rework.value or 0)) and None not in (
        models.high,
        rework.high,
    )
    apart = (found.total.high or 0) - (found.total.value or 0)
    assert 1.1 * math.hypot(*ends) < apart <= 1.0001 * sum(ends)


def test_totals_are_weighted_by_stratum() -> None:
    run = run_of()
    found = made(run)
    assert found.total.value == pytest.approx(weighted(run))
    assert found.pod_hours.value == pytest.approx(weighted(run, "wall_s") / 3600)
    assert found.per_ticket.value == pytest.approx(weighted(run) / 10_000)
    assert sum(stratum.dollars.value or 0 for stratum in found.strata) == pytest.approx(weighted(run))
    naive = 10_000 * sum(float(one.dollars or 0) for one in run.attempts) / len(run.attempts)
    assert abs(naive / weighted(run) - 1) > 0.3  # the sample is not in proportion, and that matters here


def test_one_total_of_models_pods_people_and_rework() -> None:
    run, of = run_of(), volume(tickets=10_000, **RATES)
    found = made(run, of)
    parts = {part.name: part.dollars.value for part in found.parts}
    outcomes = found.outcomes
    assert all(part.counted for part in found.parts)
    assert found.total.value == pytest.approx(sum(value or 0 for value in parts.values()))
    assert parts["fallback"] == pytest.approx((outcomes.handed_over.value or 0) * 20)
    assert parts["rework"] == pytest.approx((outcomes.wrong.value or 0) * 35)
    assert parts["approvals"] == pytest.approx((10_000 - (outcomes.handed_over.value or 0)) * 0.5 * 2)
    assert parts["pods"] == pytest.approx((found.pod_hours.value or 0) * 0.2)
    ends = outcomes.resolved.value or 0, outcomes.handed_over.value or 0, outcomes.wrong.value or 0
    assert sum(ends) == pytest.approx(10_000)
    assert found.per_resolved.value == pytest.approx((found.total.value or 0) / ends[0])
    assert found.human_hours.value == pytest.approx(ends[1] / 3 + ends[2] / 2 + (10_000 - ends[1]) * 0.5 / 30)


def test_what_people_approve_is_in_their_time_and_whose_word_it_is_is_said() -> None:
    """Of `easy`, every second ticket proposes once; rules answer, as a person who takes 90 seconds."""
    run = run_of()
    simulated = ApprovalCounts(proposed=1, approved=1, simulated=1, attention_s=90, delay_s=300)
    signed = ApprovalCounts(proposed=2, approved=1, denied=1, people=2, attention_s=30, delay_s=40, people_s=40)
    easy = [one for one in run.attempts if one.stratum == "easy"]
    for one in easy[::2]:
        run = run.changed(one.ticket, approvals=simulated)
    of = volume(tickets=10_000, **RATES)
    before, after = made(run_of(), of), made(run, of)
    whole = sum(there for _, there in run.info.strata.values())
    hours = 10_000 * 4000 / whole * 0.5 * 90 / 3600
    assert (after.human_hours.value or 0) - (before.human_hours.value or 0) == pytest.approx(hours)
    assert (after.total.value or 0) - (before.total.value or 0) == pytest.approx(hours * 60)
    [told] = [text for text in after.assumptions if "propose" in text]
    assert "20 proposals on 20 sampled tickets: rules answered 20, which is a simulation of people" in told
    assert "90.0 s of a person on average, as its scenario assumes: nobody measured that" in told
    assert from_json(json.loads(json.dumps(to_json(after)))) == after and after.proposed is not None
    assert not [one for one in after.warnings if one.code in ("attention-unknown", "few-proposals")]

    by_people = made(run_of().changed("easy-0", approvals=signed), of)
    [told] = [text for text in by_people.assumptions if "propose" in text]
    assert "people answered 2, 20.0 s after they were asked on average" in told and "simulation" not in told
    assert "few-proposals" in [one.code for one in by_people.warnings]


def test_proposals_whose_attention_nobody_stated_are_warned_of() -> None:
    found = made(run_of().changed("easy-0", approvals=ApprovalCounts(proposed=1, approved=1, simulated=1)))
    assert "attention-unknown" in [one.code for one in found.warnings]


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 1000), st.integers(0, 5))
def test_a_volume_that_is_so_many_times_as_large_costs_so_many_times_as_much(times: int, seed: int) -> None:
    run = run_of(seed=seed)
    one, more = made(run), made(run, volume(tickets=10_000 * times))
    assert more.total.value == pytest.approx((one.total.value or 0) * times)
    assert more.per_ticket.value == pytest.approx(one.per_ticket.value)
    assert more.outcomes.wrong.value == pytest.approx((one.outcomes.wrong.value or 0) * times)


@settings(max_examples=8, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(10, 30), min_size=1), st.integers(0, 99))
def test_a_census_gives_what_it_cost(sizes: dict[str, int], seed: int) -> None:
    run = run_of({name: Kind(size, size) for name, size in sizes.items()}, seed=seed)
    found = made(run, volume(of="population"))
    assert found.total.value == pytest.approx(float(sum(one.dollars or Decimal(0) for one in run.attempts)))
    assert found.outcomes.resolved.value == pytest.approx(sum(one.passed for one in run.attempts))
    assert found.tokens[0].tokens.value == pytest.approx(sum(one.tokens.input for one in run.attempts))


def test_the_same_seed_gives_the_same_figures_and_another_nearly() -> None:
    run = run_of()
    first, again = made(run), made(run)
    other = made(run, settings=replace(QUICK, seed=2))
    assert first == again
    assert other.total != first.total
    assert other.total.high == pytest.approx(first.total.high, rel=0.1)


def test_ranges_narrow_with_more_tickets_and_widen_with_the_level() -> None:
    few = {name: replace(kind, tried=10, sigma=0.5) for name, kind in KINDS.items()}
    many = {name: replace(kind, tried=250) for name, kind in few.items()}
    assert width(made(run_of(many)).total) < width(made(run_of(few)).total)
    run = run_of()
    sure, usual = (made(run, settings=replace(QUICK, level=level)).total for level in (0.99, 0.8))
    assert (sure.low or 0) < (usual.low or 0) < (usual.high or 0) < (sure.high or 0)
    assert sure.level == 0.99


def width(estimate: Estimate) -> float:
    assert estimate.low is not None and estimate.high is not None
    return estimate.high - estimate.low


def test_tickets_that_had_to_be_in_the_sample_stand_for_themselves() -> None:
    kinds = {"all": Kind(40, 1000, sigma=0.3)}
    plain = run_of(kinds)
    dear = plain.changed("all-0", dollars=Decimal(1000))
    named = Made(replace(dear.info, settings={"sample": {"include": ["all-0"]}}), dear.attempts)
    others = [float(one.dollars or 0) for one in dear.attempts[1:]]
    found = made(named, volume(of="population"))
    assert found.total.value == pytest.approx(1000 + 999 * sum(others) / 39)
    assert (made(dear, volume(of="population")).total.value or 0) > 20 * (found.total.value or 0) / 2
    # A ticket that was named has no part in what chance may have done otherwise.
    assert (found.total.high or 0) < 1.5 * (found.total.value or 0)


def test_a_stratum_of_named_tickets_alone_says_that_chance_had_no_part() -> None:
    kinds = {"a": Kind(30, 300), "b": Kind(12, 300)}
    run = run_of(kinds, include=[f"b-{number}" for number in range(12)])
    found = made(run)
    assert [warning.code for warning in found.warnings].count("not-drawn") == 1
    census = run_of({"a": Kind(30, 300), "b": Kind(12, 12)}, include=[f"b-{number}" for number in range(12)])
    assert "not-drawn" not in [warning.code for warning in made(census).warnings]


def test_repeats_are_of_their_ticket_and_not_tickets_more() -> None:
    one, eight = run_of(seed=3), run_of(seed=3, repeats=8)
    assert eight.sample.tickets == one.sample.tickets
    # Repeats tell more of each ticket, and nothing of other tickets.
    assert width(made(eight).total) > 0.5 * width(made(one).total)


def test_of_a_finite_population_only_what_differs_between_tickets_shrinks() -> None:
    """With every ticket tried, what is left of the range is that another try would go otherwise."""
    kinds = {"a": Kind(60, 60, sigma=1.0, wrong=0, handed_over=0)}
    run = run_of(kinds, repeats=4)
    population, future = made(run, volume(of="population")), made(run, volume(tickets=60))
    assert width(population.total) < 0.35 * width(future.total)
    wider = run_of({"a": replace(kinds["a"], there=100_000)}, repeats=4)
    assert width(made(wider, volume(of="population")).total) / 100_000 > 3 * width(population.total) / 60
    # Without repeats nobody can tell the two parts apart: no correction.
    once = run_of(kinds)
    assert (
        width(made(once, volume(of="population")).total)
        > 0.8 * width(made(run_of({"a": replace(kinds["a"], there=100_000)}), volume(of="population")).total) * 60 / 100_000
    )


def test_a_few_future_tickets_scatter_more_than_many() -> None:
    run = run_of()
    few, many = made(run, volume(tickets=100)).total, made(run, volume(tickets=1_000_000)).total
    assert width(few) / (few.value or 1) > 1.3 * width(many) / (many.value or 1)


def test_uncertainty_of_the_volume_adds_its_variance() -> None:
    run = run_of({"a": Kind(500, 1000, sigma=0.1, wrong=0, handed_over=0)})
    found = made(run, volume(tickets=10**7, uncertainty=0.2)).total
    assert math.log((found.high or 0) / (found.value or 1)) == pytest.approx(1.96 * math.sqrt(math.log(1.04)), rel=0.05)
    strata = {"a": {"tickets": 10**7, "uncertainty": 0.2}}
    assert made(run, volume(strata=strata)).total.high == pytest.approx(found.high, rel=0.02)
    # Not what a ticket costs.
    assert width(made(run, volume(tickets=10**7, uncertainty=0.2)).per_ticket) < 0.1 * (found.value or 0) / 10**7


def test_volume_grows_by_stratum_and_shifts_the_mix() -> None:
    run = run_of()
    strata = {"easy": 1000, "hard": {"tickets": 100, "growth": 0.5}, "odd": 0}
    found = made(run, volume(strata=strata, periods=3, growth=0.1))
    assert [period.tickets for period in found.periods] == pytest.approx([1100, 1100 + 150, 1210 + 225])
    assert found.volume.tickets == pytest.approx(1100 + 1250 + 1435)
    assert found.total.value == pytest.approx(sum(period.dollars.value or 0 for period in found.periods))
    by_name = {stratum.name: stratum for stratum in found.strata}
    assert by_name["odd"].tickets == 0 and by_name["odd"].dollars.value == 0
    assert found.mix is not None
    assert found.mix.population.value == pytest.approx(made(run).per_ticket.value)
    assert made(run).mix is None


def test_a_stratum_that_borrows_anothers_tickets_errs_with_it() -> None:
    run = run_of()
    split = {"easy": 1000, "hard": 600, "odd": 0, "new": {"tickets": 400, "like": "hard"}}
    whole = {"easy": 1000, "hard": 1000, "odd": 0}
    borrowed, plain = made(run, volume(strata=split)), made(run, volume(strata=whole))
    assert borrowed.total.value == pytest.approx(plain.total.value)
    assert width(borrowed.total) == pytest.approx(width(plain.total), rel=0.05)
    assert borrowed.strata[-1].like == "hard"
    assert "borrowed" in [warning.code for warning in borrowed.warnings]


def test_what_was_not_seen_may_yet_be() -> None:
    """Rework of which the sample has none still has an upper bound, and the total has room for it."""
    kinds = {"a": Kind(60, 1000, sigma=0.2, wrong=0, handed_over=0)}
    found = made(run_of(kinds), volume(tickets=10_000, **RATES))
    rework = next(part for part in found.parts if part.name == "rework")
    assert rework.dollars.value == 0
    assert rework.dollars.high == pytest.approx(10_000 / 60 * 35 * -math.log(0.025), rel=0.01)
    assert (found.total.high or 0) > 0.9 * (rework.dollars.high or 0)
    assert found.outcomes.wrong.high == pytest.approx(10_000 * 0.06, rel=0.1)
    assert [warning.code for warning in found.warnings].count("not-seen") == 2


def test_a_budget_has_a_chance_to_be_passed() -> None:
    run = run_of()
    total = made(run).total
    chances = []
    for dollars in (total.low, total.value, total.high):
        budget = made(run, volume(tickets=10_000, budget=round(dollars or 0, 2))).budget
        assert budget is not None and budget.over is not None
        chances.append(budget.over)
    assert chances[0] == pytest.approx(0.975, abs=0.01)
    assert 0.3 < chances[1] < 0.8
    assert chances[2] == pytest.approx(0.025, abs=0.01)


def test_a_cap_saves_on_models_and_loses_tickets_to_people() -> None:
    run, cap = run_of(), 0.3
    found = made(run, volume(tickets=10_000, caps=[cap], **RATES)).caps[0]
    whole = sum(there for _, there in run.info.strata.values())
    saves = lost = 0.0
    for name, (tried, there) in run.info.strata.items():
        over = [one for one in run.attempts if one.stratum == name and float(one.dollars or 0) > cap]
        each = 10_000 * there / whole / tried
        saves += each * sum(float(one.dollars or 0) - cap for one in over)
        lost += each * sum(one.passed for one in over)
    assert found.saves.value == pytest.approx(saves)
    assert found.lost.value == pytest.approx(lost)
    assert found.net.value is not None and found.net.value > -saves  # people work what is cut off
    assert made(run, volume(tickets=10_000, caps=[1e6])).caps[0].saves.value == 0


def test_people_without_the_agent_stand_beside_it() -> None:
    found = made(run_of(), volume(tickets=10_000, baseline={"time": "15m"}, **RATES))
    assert found.baseline is not None
    assert found.baseline.hours == pytest.approx(2500)
    assert found.baseline.dollars == pytest.approx(150_000)
    assert found.baseline.saves.value == pytest.approx(150_000 - (found.total.value or 0))
    assert found.baseline.saves.low == pytest.approx(150_000 - (found.total.high or 0))
    by_stratum = {"easy": "10m", "hard": "1h", "odd": "20m"}
    other = made(run_of(), volume(strata={"easy": 60, "hard": 10, "odd": 0}, baseline={"strata": by_stratum}))
    assert other.baseline is not None and other.baseline.hours == pytest.approx(20)
    assert other.baseline.dollars is None


def test_coverage_is_tried_on_populations_like_the_runs_own() -> None:
    good = made(run_of(), settings=Settings(replications=1000))
    assert good.coverage is not None
    assert 0.9 < good.coverage.achieved <= 1
    assert good.coverage.populations == 1000
    heavy = {"a": Kind(12, 1000, sigma=2.5, wrong=0, handed_over=0)}
    poor = made(run_of(heavy), settings=Settings(replications=1000))
    assert poor.coverage is not None and poor.coverage.achieved < 0.9
    assert "coverage" in [warning.code for warning in poor.warnings]


def test_the_json_form_is_read_back_and_has_no_number_that_is_none() -> None:
    found = made(
        run_of(), volume(tickets=10_000, caps=[0.3], budget=100, baseline={"time": "15m"}, **RATES), Settings(replications=1000)
    )
    written = json.dumps(to_json(found), allow_nan=False)
    assert from_json(json.loads(written)) == found
    value = json.loads(written)
    assert (value["apiVersion"], value["kind"]) == ("podctl/v1", "Projection")
    assert value["perResolved"]["unit"] == "dollars"
    with pytest.raises(ValueError, match="no projection"):
        from_json({"kind": "RunReport"})
    del value["run"]
    with pytest.raises(ValueError, match="cannot be read"):
        from_json(value)


def test_endings_are_told_apart() -> None:
    run = run_of({"a": Kind(20, 100, wrong=0, handed_over=0)})
    for ticket, cause in (
        ("a-0", Cause.AGENT_FAILED),
        ("a-1", Cause.AGENT_REFUSED),
        ("a-2", Cause.AGENT_EXHAUSTED_BUDGET),
        ("a-3", Cause.BOUNDARY_VIOLATION),
        ("a-4", Cause.COMPLETED),
    ):
        run = run.changed(ticket, cause=cause, passed=False)
    outcomes = made(run, volume(of="population")).outcomes
    values = outcomes.resolved.value, outcomes.handed_over.value, outcomes.wrong.value
    assert values == pytest.approx((75, 15, 10))


def test_nothing_depends_on_the_order_of_numpys_sums() -> None:
    run = run_of()
    turned = Made(run.info, list(reversed(run.attempts)))
    assert made(turned).total.value == pytest.approx(made(run).total.value)
    assert np.isfinite(made(turned).total.high or 0)


def test_the_time_is_that_of_a_simulation_beside_a_division() -> None:
    of = volume(tickets=500, period="day", work={"pods": [1, 8, 400], "deadline": "1h", "reset": 2})
    found = made(run_of(), of, TIMED)
    assert found.timing is not None
    one, eight, many = found.timing.clearing
    hours = (found.pod_hours.value or 0) + 500 * 2 / 3600
    assert one.divided == pytest.approx(hours, rel=0.1)
    assert one.hours.value == pytest.approx(one.divided, rel=0.01)
    assert (eight.pods, eight.hours.unit, eight.bound_by) == (8, "hours", "pods")
    # So many pods wait for the longest ticket: what a division would say is wrong.
    assert (many.hours.value or 0) > 3 * many.divided and many.bound_by == "last tickets"
    assert found.timing.deadline is not None and 1 < (found.timing.deadline.pods or 0) < 12
    assert found.timing.steady is not None and found.timing.steady.per_hour == pytest.approx(500 / 24)


@pytest.mark.campaign
def test_a_providers_limit_bounds_the_time_whatever_the_pods() -> None:
    run = run_of()
    work = {"pods": [100], "provider": {"tokens_per_minute": 10_000}, "deadline": "1h"}
    projection = made(run, volume(tickets=100, period="day", work=work), TIMED)
    found, tokens = projection.timing, sum(kind.tokens.value or 0 for kind in projection.tokens)
    assert found is not None
    assert (found.clearing[0].hours.value or 0) * 60 == pytest.approx(tokens / 10_000, rel=0.25)
    assert found.clearing[0].bound_by == "tokens"
    assert found.deadline is not None and found.deadline.pods is None and "tokens" in found.deadline.why


def test_arrivals_that_are_too_many_make_a_queue_without_end() -> None:
    found = made(run_of(), volume(tickets=200_000, period="day", work={"pods": [1]}), TIMED).timing
    assert found is not None and found.steady is not None
    assert not found.steady.stable and found.steady.wait_p95.value is None
    assert found.steady.least_pods > 1 and found.steady.growth_per_hour > 0


@pytest.mark.campaign
def test_larger_backlogs_are_simulated_in_proportion() -> None:
    some, more = (made(run_of(), volume(tickets=tickets), TIMED).timing for tickets in (100_000, 1_000_000))
    assert some is not None and more is not None
    assert more.clearing[0].hours.value == pytest.approx(10 * (some.clearing[0].hours.value or 0), rel=0.05)
    assert any("in proportion" in text for text in more.assumptions)
