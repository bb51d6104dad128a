"""Several runs in one view: what differs and what cannot be told, in text, JSON and HTML; and versions over time."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from xml.etree import ElementTree

import pytest
from example_run import attempt, attempts, example_run, info, run_saying
from example_trend import example_trend, in_short, weekly

from podctl.evidence.results import RunResult, Shard
from podctl.reports.comparison import comparison_json, comparison_text, render_comparison, sentence
from podctl.reports.trend import Trend, chosen, point_of, render_trend, trend_json, trend_text
from podctl.stats.side_by_side import SideBySide, side_by_side

HOSTILE = "</title><script>alert(1)</script>{{ 7*7 }}\u202e\x1b[2J"


def compared(*runs: RunResult) -> SideBySide:
    return side_by_side([lambda run=run: run for run in runs])


def two() -> SideBySide:
    return compared(
        example_run(id="run-a", version="2.0", skill=0.5, seed=8, quirks=False),
        example_run(id="run-b", version="3.0", skill=-1, seed=11, quirks=False),
    )


def test_the_range_comes_first_and_its_meaning_is_a_word() -> None:
    strong, rest = sentence(two())
    assert strong == "−48.1 to −18.6 points"
    assert rest.startswith(
        "is how far support-agent 3.0 differs from support-agent 2.0 in tickets resolved (95 % range): worse;"
    )
    assert rest.endswith("Both worked the same 48 tickets.")


def test_the_text_has_each_run_and_each_difference() -> None:
    text = comparison_text(two())
    assert "run-a  support-agent 2.0" in text and "43 of 48" in text
    assert "cost of a resolved ticket" in text and "not told apart" in text


def test_differing_samples_are_said_in_the_first_sentence() -> None:
    first = RunResult(info(id="run-a"), "finished", tuple(attempts(30)), "pass")
    other = RunResult(info(id="run-b", sample_digest="sha256:other"), "finished", tuple(attempts(20, 5)), "pass")
    rest = sentence(compared(first, other))[1]
    assert rest.endswith("The samples are not the same: 25 tickets count in both.")
    assert "! run-b: the samples differ" in comparison_text(compared(first, other))


def test_without_a_common_ticket_there_is_no_number() -> None:
    first = RunResult(info(id="run-a"), "finished", (attempt("A"),), "pass")
    other = RunResult(info(id="run-b"), "finished", (attempt("B"),), "pass")
    found = compared(first, other)
    assert sentence(found)[0] == "unknown"
    assert comparison_text(found).count("no ticket counts in both runs") >= 4
    assert json.loads(comparison_json(found))["others"][0]["passRate"]["value"] is None


def test_json_is_ascii_and_complete() -> None:
    value = json.loads(comparison_json(two()))
    assert (value["kind"], value["sameSample"], value["level"]) == ("RunComparison", True, 0.95)
    assert len(value["sides"]) == 2 and value["others"][0]["commonTickets"] == 48
    assert comparison_json(compared(run_saying("\ud800"), run_saying("\ud800"))).isascii()


def test_simulated_runs_say_so_everywhere() -> None:
    found = compared(example_run(id="run-a", simulated=True), example_run(id="run-b"))
    assert comparison_text(found).startswith("SIMULATED") and "SIMULATED" in render_comparison(found)
    assert any("simulated" in note for note in found.others[0].notes)
    trend = example_trend()
    simulated = replace(trend, points=(replace(trend.points[0], info=info(simulated=True)), *trend.points[1:]))
    assert trend_text(simulated).startswith("SIMULATED") and "SIMULATED" in render_trend(simulated)
    assert "SIMULATED" not in render_trend(trend)


def trend_of(run: RunResult) -> Trend:
    return Trend(run.info.scenario, (point_of(in_short(run), run.attempts, None),) * 2, 0)


@pytest.mark.parametrize("kind", ["comparison", "trend"])
def test_no_text_adds_an_element(kind: str) -> None:
    def tags(text: str) -> list[str]:
        run = run_saying(text)
        page = render_comparison(compared(run, run), text) if kind == "comparison" else render_trend(trend_of(run), text)
        assert "\u202e" not in page and "\x1b" not in page
        return [element.tag for element in ElementTree.fromstring(page).iter()]

    assert tags(HOSTILE) == tags("x")


def test_a_terminal_is_not_obeyed() -> None:
    run = run_saying("\x1b[2J\u202eevil")
    for text in (comparison_text(compared(run, run)), trend_text(trend_of(run))):
        assert "\x1b" not in text and "\u202e" not in text


def test_every_chart_has_a_table() -> None:
    for page in (render_comparison(two()), render_trend(example_trend())):
        root = ElementTree.fromstring(page)
        drawn = [(section, svg) for section in root.iter("section") for svg in section.iter("svg")]
        assert len(drawn) == 2
        for section, svg in drawn:
            assert (svg.findtext("title") or "").strip() and (svg.findtext("desc") or "").strip()
            assert section.find(".//table") is not None


def test_a_trend_has_finished_runs_of_the_scenario_oldest_first() -> None:
    runs = [
        in_short(weekly(2)),
        in_short(weekly(1)),
        in_short(weekly(3), "interrupted"),
        in_short(weekly(0, scenario="other")),
        in_short(weekly(0, shard=Shard(1, 2, Decimal(1)))),
        in_short(weekly(0, agent_name="another")),
    ]
    assert [run.info.id for run in chosen(runs, "shop-refunds", "support-agent")] == ["run-1", "run-2"]
    assert len(chosen(runs, "shop-refunds")) == 3


def test_a_changed_sample_is_marked() -> None:
    trend = example_trend()
    assert [point.changed for point in trend.points] == [(), (), (), ("sample",)]
    assert "need not be the agent's" in trend_text(trend)
    assert json.loads(trend_json(trend))["points"][3]["changed"] == ["sample"]


def test_an_unknown_cost_is_no_bar_and_no_zero() -> None:
    run = weekly(1)
    run = replace(run, attempts=(replace(run.attempts[0], dollars=None), *run.attempts[1:]))
    page = render_trend(trend_of(run))
    assert "≥ $" in page and "Dollars of a ticket, by run" not in page
