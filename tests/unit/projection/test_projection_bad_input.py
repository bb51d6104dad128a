"""What cannot be known is said, never a number that looks fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sampled_run import KINDS, Kind, Made, run_of, volume

from podctl.errors import PodctlError
from podctl.evidence.causes import Cause
from podctl.projection.estimate import Known, Settings, project
from podctl.projection.model import Projection
from podctl.reports.projection import render_projection
from podctl.spec.load import load_volume
from podctl.spec.problems import SpecMistakes
from podctl.spec.volume import Volume

QUICK = Settings(replications=1000, coverage=False, timing=False)
POPULATION = {name: kind.there for name, kind in KINDS.items()}
HEAD = "apiVersion: podctl/v1\nkind: Volume\nname: v\n"


def made(run: Made, of: Volume | None = None) -> Projection:
    return project(run.sample, of or volume(tickets=10_000), QUICK)


def codes(found: Projection) -> list[str]:
    return [warning.code for warning in found.warnings]


def failed(run: Made, *tickets: str, cause: Cause = Cause.SANDBOX_FAILED) -> Made:
    for ticket in tickets:
        run = run.changed(ticket, cause=cause, passed=False)
    return run


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("strata: {easy: 5, hrad: 6, odd: 7}", ":4:19", "the run's population has no stratum `hrad`"),
        ("strata: {easy: 5, odd: 7}", ":4:1", "nothing is said of hard"),
        ("strata: {easy: 5, hard: -6, odd: 7}", ":4:25", "a number of at least 0, found the number -6"),
        ("strata: {easy: 5, hard: 6, odd: 7, new: {tickets: 1, like: hrad}}", ":4:60", "has no stratum `hrad`"),
        ("strata: {easy: 5, hard: 6, odd: 7}\ntickets: 5", ":4:1", "`tickets` or `strata`, found both"),
        ("budget: 5", ":1:1", "`tickets` or `strata`, found neither"),
        ("tickets: -1", ":4:10", "a number of at least 0"),
        ("tickets: 5\npeople: {fallback: 5m}", ":5:1", "`dollars_per_hour` is missing here"),
        ("tickets: 5\npeople: {dollars_per_hour: -60}", ":5:28", "a number of at least 0"),
        ("tickets: 5\npeople: {dollars_per_hour: }", ":5:27", "an amount such as 5 or 0.25"),
        ("tickets: 5\npods: {}", ":5:1", "`dollars_per_hour` is missing here"),
        ("tickets: 5\nrework: {dollars: -1}", ":5:19", "a number of at least 0"),
        ("tickets: 5\nrework: {time: 5m}", ":5:1", "no price without people.dollars_per_hour"),
        ("tickets: 5\ncaps: [0]", ":5:8", "a number above 0"),
        ("tickets: 5\nbaseline: {time: 5m, strata: {easy: 5m}}", ":5:1", "exactly one of time, strata, tickets"),
        ("tickets: 5\nbaseline: {strata: {esay: 5m}}", ":5:21", "neither the run nor the volume has a stratum `esay`"),
        ("tickets: 5\nbaseline: {tickets: {file: none.yaml, path: minutes}}", ":5:28", "no such file"),
        ("tickets: 5\ngrowth: -1", ":5:9", "a number above -1"),
        ("tickets: .nan", ":4:10", "a finite number"),
        ("tickets: 1e3", ":4:10", "whole number"),
        ("of: population\ntickets: 5", ":5:1", "`tickets` is for future tickets"),
        ("tickets: 5\ncost: 5", ":5:1", "unknown key `cost`"),
    ],
)
def test_mistakes_in_a_volume_file_are_shown_at_their_place(tmp_path: Path, text: str, place: str, said: str) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(HEAD + text + "\n")
    with pytest.raises(SpecMistakes) as caught:
        load_volume(path, POPULATION)
    shown = caught.value.render()
    assert f"v.yaml{place}" in shown, shown
    assert said in shown, shown


def test_zero_tickets_of_a_stratum_are_zero_and_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "v.yaml"
    path.write_text(HEAD + "strata: {easy: 50, hard: 0, odd: 0}\n")
    found = made(run_of(), load_volume(path, POPULATION))
    assert [stratum.dollars.value for stratum in found.strata][1:] == [0, 0]
    assert found.total.value == pytest.approx(found.strata[0].dollars.value)


def test_a_volume_of_nothing_is_refused() -> None:
    with pytest.raises(PodctlError, match="the volume has no tickets"):
        made(run_of(), volume(tickets=0))


def test_a_stratum_without_a_ticket_that_counts_leaves_the_total_unknown() -> None:
    run = failed(run_of(), *(f"hard-{number}" for number in range(30)))
    found = made(run)
    assert found.total.value is None and found.total.low is None
    assert found.total.at_least == pytest.approx(found.covered_dollars.value)
    assert found.per_ticket.value is None and found.pod_hours.value is None and found.outcomes.resolved.value is None
    assert found.volume.covered == pytest.approx(10_000 * 4300 / 5300)
    assert next(one for one in found.strata if one.name == "hard").confidence == "none"
    text = render_projection(found)
    assert "cost unknown: at least $" in text and "nothing is known of 1,887 of 10,000 tickets" in text
    assert "not-sampled" in codes(found)


def test_strata_that_only_the_volume_has_leave_it_unknown_too() -> None:
    """As a run whose sample has no ticket of a stratum of its population."""
    run = run_of({**KINDS, "rare": Kind(0, 50)})
    found = made(run)
    assert found.total.value is None
    borrowed = volume(strata={"easy": 10, "hard": 10, "odd": 10, "rare": {"tickets": 10, "like": "odd"}})
    assert made(run, borrowed).total.value is not None


def test_when_nothing_is_known_of_any_ticket_there_is_no_projection() -> None:
    run = run_of({**KINDS, "rare": Kind(0, 50)})
    with pytest.raises(PodctlError, match="of no ticket of the volume anything is known"):
        made(run, volume(strata={"easy": 0, "hard": 0, "odd": 0, "rare": 10}))


def test_unknown_dollars_leave_money_unknown_and_all_else_known() -> None:
    run = run_of().changed("easy-3", dollars=None)
    found = made(run, volume(tickets=10_000, people={"dollars_per_hour": 60, "fallback": "20m"}))
    assert found.total.value is None
    assert found.total.why == "what 1 attempt of 100 cost is not known"
    rest = made(
        run_of().changed("easy-3", dollars=Decimal(0)),
        volume(tickets=10_000, people={"dollars_per_hour": 60, "fallback": "20m"}),
    )
    assert found.total.at_least == pytest.approx(rest.total.value)
    assert found.pod_hours.value is not None and found.tokens[0].tokens.value is not None
    by_name = {stratum.name: stratum.dollars.value for stratum in found.strata}
    assert by_name["easy"] is None and by_name["hard"] is not None
    assert found.covered_dollars.value is None and found.per_resolved.value is None
    assert "unpriced" in codes(found)
    budget = made(run, volume(tickets=10_000, budget=100)).budget
    assert budget is not None and budget.over is None and "not known" in budget.why


@pytest.mark.parametrize("dollars", [Decimal("-0.01"), Decimal("-1000")])
def test_costs_below_zero_are_refused(dollars: Decimal) -> None:
    with pytest.raises(PodctlError, match="attempt 00003-1 says that it cost"):
        _ = run_of().changed("easy-3", dollars=dollars).sample


def test_one_surviving_attempt_is_no_sample() -> None:
    run = run_of({"a": Kind(20, 1000)})
    survivor = failed(run, *(f"a-{number}" for number in range(1, 20)))
    found = made(survivor)
    assert found.total.value is not None and found.total.low is None
    assert found.total.why == "1 ticket is too few for a range: 10 at least"
    assert all(stratum.confidence == "low" for stratum in found.strata)
    assert {"low-confidence", "single-ticket", "infrastructure", "no-range"} <= set(codes(found))
    assert "without a range: 1 ticket is too few for a range" in render_projection(found).splitlines()[0]


def test_a_range_asked_of_three_tickets_is_not_given() -> None:
    found = made(run_of({"a": Kind(3, 1000)}))
    for estimate in (found.total, found.per_ticket, found.per_resolved, found.pod_hours, found.outcomes.resolved_share):
        assert estimate.low is None and estimate.high is None and estimate.method == ""
        assert "3 tickets are too few for a range" in estimate.why
    assert found.coverage is None and found.beside[0].low is None
    budget = made(run_of({"a": Kind(3, 1000)}), volume(tickets=100, budget=1)).budget
    assert budget is not None and budget.over is None
    assert "no-chance" in codes(made(run_of({"a": Kind(3, 1000)}), volume(tickets=100, budget=1)))


def test_nothing_at_all_is_refused() -> None:
    run = run_of({"a": Kind(3, 100)})
    with pytest.raises(PodctlError, match=r"no attempt of run .* says anything about the agent"):
        made(failed(run, "a-0", "a-1", "a-2"))
    with pytest.raises(PodctlError, match="there is nothing to project from"):
        made(Made(run.info))


def test_thin_strata_have_low_confidence() -> None:
    found = made(run_of({"thick": Kind(25, 500), "thin": Kind(24, 500)}))
    assert {one.name: one.confidence for one in found.strata} == {"thick": "usual", "thin": "low"}
    assert any("thin (24)" in warning.text and "thick" not in warning.text for warning in found.warnings)


def test_a_stratum_of_one_ticket_bars_the_range_where_it_is_much_of_the_volume() -> None:
    single = {"a": Kind(40, 1000), "b": Kind(1, 1000)}
    found = made(run_of(single))
    assert found.total.low is None and "a single ticket each tells of b" in found.total.why
    little = made(run_of(single), volume(strata={"a": 1000, "b": 10}))
    assert little.total.low is not None and "single-ticket" in codes(little)


def test_infrastructures_failures_are_no_failures_of_the_agent_and_no_silence() -> None:
    run = run_of()
    lost = failed(run, "hard-0", "hard-1", cause=Cause.MODEL_PROVIDER_FAILED)
    assert made(lost).total.value == pytest.approx(made(run.without("hard-0", "hard-1")).total.value)
    assert "infrastructure" in codes(made(lost)) and "unfinished" not in codes(made(lost))
    cancelled = failed(run, "hard-0", cause=Cause.CANCELLED)
    assert "unfinished" in codes(made(cancelled))
    assert "unfinished" in codes(made(run.without("hard-0")))
    assert "unfinished" in codes(project(run.sample, volume(tickets=5), QUICK, Known(status="interrupted")))


def test_simulated_figures_say_so() -> None:
    run = run_of().changed("easy-1", simulated=True)
    found = made(run)
    assert found.simulated and "simulated" in codes(found)
    assert render_projection(found).startswith("SIMULATED")


def test_what_has_no_rate_is_in_no_total() -> None:
    found = made(run_of())
    assert [part.name for part in found.parts if part.counted] == ["models"]
    assert all(part.dollars.value is None and part.dollars.why for part in found.parts if not part.counted)
    assert found.human_hours.value is None
    assert "no-rate" in codes(found)
    people = made(run_of(), volume(tickets=10, people={"dollars_per_hour": 60}))
    why = next(part.dollars.why for part in people.parts if part.name == "fallback")
    assert why == "the volume file gives neither people.fallback nor a baseline"


def test_a_run_that_cost_nothing_is_no_free_lunch() -> None:
    run = run_of()
    free = Made(run.info, [replace(one, dollars=Decimal(0)) for one in run.attempts])
    found = made(free)
    assert found.total.value is None
    assert found.total.why == "models cost nothing in the run, and nothing else has a rate"
    assert all(stratum.dollars.value is None for stratum in found.strata)
    assert made(free, volume(tickets=10, pods={"dollars_per_hour": 1})).total.value is not None


def test_costs_that_are_all_the_same_have_no_range() -> None:
    run = run_of({"a": Kind(30, 100)})
    same = Made(run.info, [replace(one, dollars=Decimal("0.5")) for one in run.attempts])
    found = made(same, volume(of="population"))
    assert found.total.value == pytest.approx(50)
    assert found.total.low is None and "came to the same" in found.total.why


def test_a_stratum_that_always_resolves_at_one_cost_is_projected() -> None:
    """A cost of a resolved ticket that cannot scatter is no mistake."""
    run = run_of({"easy": Kind(12, 4000), "sure": Kind(12, 1000, wrong=0.0, handed_over=0.0)})
    same = Made(run.info, [replace(one, dollars=Decimal("0.5")) for one in run.attempts])
    sure = next(stratum for stratum in made(same).strata if stratum.name == "sure")
    assert sure.dollars_per_resolved.value == pytest.approx(0.5) and "came to the same" in sure.dollars_per_resolved.why


def test_every_line_of_text_is_printable() -> None:
    name = "ev\x1b[31mil\u202e"
    run = run_of({name: Kind(12, 100), "b": Kind(12, 100)})
    text = render_projection(made(run))
    assert all(character.isprintable() or character == "\n" for character in text)


CASES: list[tuple[str, Callable[[Made], Made], dict[str, Any]]] = [
    ("three tickets", lambda run: Made(run.info, run.attempts[:3]), {"tickets": 10}),
    ("unpriced", lambda run: run.changed("hard-1", dollars=None), {"tickets": 10}),
    ("a stratum lost", lambda run: Made(run.info, run.attempts[:50]), {"tickets": 10}),
]


@pytest.mark.parametrize(("what", "change", "of"), CASES, ids=[what for what, _, _ in CASES])
def test_no_figure_is_without_a_reason(what: str, change: Callable[[Made], Made], of: dict[str, Any]) -> None:
    """Whatever has no value or no range says why; whatever has a range says its level and method."""
    found = made(change(run_of()), volume(**of))
    figures = [found.total, found.per_ticket, found.per_resolved, found.pod_hours, found.human_hours, *found.beside]
    figures += [part.dollars for part in found.parts] + [kind.tokens for kind in found.tokens]
    for stratum in found.strata:
        figures += [stratum.dollars, stratum.dollars_per_ticket, stratum.dollars_per_resolved, stratum.resolved_share]
    for estimate in figures:
        assert (estimate.low is None) == (estimate.high is None) == (estimate.level is None)
        assert bool(estimate.method) == (estimate.low is not None)
        assert bool(estimate.why) == (estimate.low is None), estimate
