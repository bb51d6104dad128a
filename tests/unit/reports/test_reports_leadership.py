"""The page that somebody decides by: the range first, six rows, what is unknown said, every text inert."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from example_projection import around, example_projection, projection_saying
from example_run import example_comparison, run_saying

from podctl.evidence.results import GateFinding, RunResult
from podctl.projection.ledger import Calibration, Tally
from podctl.projection.model import Deadline, Estimate, Timing, Warned
from podctl.reports.leadership import Row, leadership, render_leadership, track_record
from podctl.stats.proportions import Interval

RUN = replace(example_comparison(), attempts=())
HOSTILE = "</title></style><script>alert(1)</script>{{ 7*7 }}<img src=x onerror=alert(1)>\u202e\x00"


def row(name: str, head: RunResult = RUN, **changed: object) -> Row:
    return next(one for one in leadership(head, example_projection(**changed)).rows if one.name == name)


def said(name: str, head: RunResult = RUN, **changed: object) -> str:
    found = row(name, head, **changed)
    return " ".join((found.strong, *found.lines))


def tags(page: str) -> Counter[str]:
    return Counter(element.tag for element in ElementTree.fromstring(page).iter())


def test_the_range_comes_first_and_six_rows_follow() -> None:
    page = leadership(RUN, example_projection())
    assert re.fullmatch(r"\$[\d,]+ – \$[\d,]+", page.range)
    assert page.rest.startswith(
        "(95 % range) for support-agent 2.1.0 on 12,000 tickets in 3 periods, best estimate $2,815 for models"
    )
    names = [one.name for one in page.rows]
    assert names == ["Verdict", "Money", "Time", "What drives it", "What could break it", "Assumptions and method"]


def test_the_upper_bound_is_what_is_bold() -> None:
    page = render_leadership(RUN, example_projection())
    total = example_projection().total
    assert f"<strong>up to ${total.high:,.0f}</strong>" in page
    assert re.search(r"<h1><strong>\$[\d,]+ – \$[\d,]+</strong>", page)


def test_without_a_range_the_sentence_says_why() -> None:
    page = leadership(RUN, example_projection(total=Estimate(2815.0, "dollars", why="too few tickets: 7 count")))
    assert page.range == "About $2,815, without a range,"
    assert "too few tickets: 7 count" in page.rest
    assert page.rows[1].strong == "about $2,815, no upper bound"


def test_an_unknown_total_is_no_number_but_a_lower_bound() -> None:
    unknown = Estimate(None, "dollars", why="the cost of 3 attempts is unknown", at_least=1200.0)
    page = leadership(RUN, example_projection(total=unknown))
    assert page.range == "At least $1,200"
    assert "because the cost of 3 attempts is unknown" in page.rest
    assert page.rows[1].strong == "at least $1,200, no upper bound"
    nothing = leadership(RUN, example_projection(total=replace(unknown, at_least=None)))
    assert (nothing.range, nothing.rows[1].strong) == ("Not known", "unknown")


def test_money_names_budget_people_and_what_is_not_in_it() -> None:
    text = said("Money")
    assert "Budget $3,200: the chance to need more is 17 %." in text
    assert "People alone would cost $92,000; saved: $87,000" in text
    assert "Not in it, for want of a rate: pods." in text


def test_a_verdict_is_a_word_with_what_it_rests_on() -> None:
    assert row("Verdict").verdict == "fail"
    assert "1 of 6 requirements missed: boundary 3 attempts (asked: none)." in said("Verdict")
    finding = GateFinding("regression", "inconclusive", "−2 points", "≥ −5 points", "120 more tickets, about $6, settle it")
    open_ = said("Verdict", replace(RUN, verdict="inconclusive", findings=(finding,)))
    assert "1 of 1 requirement left open: regression" in open_ and "120 more tickets, about $6, settle it." in open_
    assert "still running" in said("Verdict", replace(RUN, status="running"))
    assert "Nothing was required" in said("Verdict", replace(RUN, findings=()))


def test_time_leads_with_the_latest_end() -> None:
    assert row("Time").strong == "up to 85.2 h on 4 pods"
    assert "A deadline of 24 h needs 12 pods." in said("Time")
    assert "18 tickets an hour on 8 pods: 95 % wait less than 18.0 min." in said("Time")
    timing = example_projection().timing
    assert timing is not None and timing.steady is not None
    growing = replace(timing, steady=replace(timing.steady, stable=False), deadline=Deadline(24, None, "the provider's limit"))
    assert "the queue grows without end; 5 pods at least keep up." in said("Time", timing=growing)
    assert "A deadline of 24 h is not met: the provider's limit." in said("Time", timing=growing)
    assert "Work: 212 h" in said("Time", timing=None) and row("Time", timing=Timing()).strong == ""


def test_drivers_are_the_dearest_parts_and_kinds() -> None:
    text = said("What drives it")
    assert "models 46 %, fallback to people 29 %, rework of wrong outcomes 18 %" in text
    assert "refund / simple: 34 % of the money on 47 % of the tickets." in text


def test_what_could_break_it_is_in_short_above_and_whole_below() -> None:
    assert row("What could break it").lines[-1] == "1 more below."
    page = render_leadership(RUN, example_projection())
    assert page.count("no sampled ticket of cancel was wrong") == 1
    assert "No warning arose" in said("What could break it", warnings=())


def test_bills_or_their_absence_are_told() -> None:
    assert "has been held against a bill yet" in said("Assumptions and method")
    page = render_leadership(RUN, example_projection(), ["Of 9 projections, 8 bills lay in their range."])
    assert page.count("Of 9 projections, 8 bills lay in their range.") == 2
    assert "has been held against a bill yet" not in page


def test_every_chart_has_a_title_a_description_and_a_table() -> None:
    root = ElementTree.fromstring(render_leadership(RUN, example_projection()))
    drawn = [(section, svg) for section in root.iter("section") for svg in section.iter("svg")]
    assert len(drawn) == 3
    for section, svg in drawn:
        assert (svg.findtext("title") or "").strip() and (svg.findtext("desc") or "").strip()
        assert section.find(".//table") is not None


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_figures_say_so(simulated: bool) -> None:
    root = ElementTree.fromstring(render_leadership(RUN, example_projection(simulated=simulated)))
    badges = [e for e in root.iter("span") if "simulated" in (e.get("class") or "").split()]
    assert len(badges) == (1 + 6 if simulated else 0)


def test_no_text_adds_an_element() -> None:
    def page(text: str) -> str:
        return render_leadership(run_saying(text), projection_saying(text), [text], text)

    hostile, benign = page(HOSTILE), page("x")
    assert tags(hostile) == tags(benign)
    assert "&lt;script&gt;" in hostile and "\u202e" not in hostile and "\x00" not in hostile


def test_hundreds_of_kinds_and_warnings_do_not_grow_the_page() -> None:
    one = example_projection().strata[0]
    many = example_projection(
        strata=tuple(replace(one, name=f"kind {number}", dollars=around(number + 1.0)) for number in range(2000)),
        warnings=tuple(Warned("w", f"warning {number} " + "w" * 2000) for number in range(500)),
    )
    page = render_leadership(RUN, many)
    assert len(page) < 100_000
    assert "kind 1999" in page and "1,988 more kinds" in page


def test_a_projection_of_another_run_is_refused() -> None:
    with pytest.raises(ValueError, match="run-1"):
        render_leadership(RUN, example_projection(run="run-1"))


def test_a_track_record_is_the_ledgers() -> None:
    tally = Tally(9, 8, 1, 0, 0.95, Interval(0.56, 0.98), 0.04, (-0.02, 0.1))
    lines = track_record(Calibration(tally, tally, 2, 0, ()))
    assert lines[0].startswith("Earlier projections against their bills: 8 of 9 bills within the stated range (95 % should be;")
    assert lines[1].startswith("For the tickets that really came: 8 of 9")
    assert track_record(Calibration(None, None, 3, 1, ())) == []
