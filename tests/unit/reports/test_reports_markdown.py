"""A comment that is short, findable, and inert."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from example_run import attempts, example_comparison, info, run_saying
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.causes import Cause
from podctl.evidence.results import Campaign, FaultsMet, RunResult, Variant
from podctl.reports.markdown import MAX_CHARACTERS, marker, prose, quoted, render_markdown
from podctl.reports.model import build_report

NASTY = st.one_of(
    st.sampled_from(
        [
            "@octocat",
            "a|b",
            "`|`",
            "\\|",
            "\\",
            "<img src=x>",
            "--> <b>",
            "[a](http://x)",
            "#1",
            "$x$",
            "``",
            "- x\n# y",
            "***",
            "www.example.com",
        ]
    ),
    st.text(st.characters(), min_size=1, max_size=25),
)


def without_code(line: str) -> str:
    return re.sub(r"`[^`]*`", "", line)


def test_the_first_line_lets_a_later_run_find_its_comment() -> None:
    text = render_markdown(build_report(example_comparison()))
    assert text.startswith("<!-- podctl:shop-refunds -->\n### ✕ failed: `shop-refunds`\n")


@given(NASTY)
def test_the_marker_cannot_be_closed_from_inside(scenario: str) -> None:
    line = marker(scenario)
    assert re.fullmatch(r"<!-- podctl:[A-Za-z0-9._-]* -->", line)
    assert "--" not in line[4:-3]


@given(NASTY)
def test_quoted_text_stays_in_its_span(text: str) -> None:
    span = quoted(text)
    assert span.startswith("`")
    assert span.endswith("`")
    assert not set("`|\n\r") & set(span[1:-1])
    assert span[1:-1].strip() == span[1:-1] != ""


@given(NASTY)
def test_prose_is_plain_only_when_nothing_in_it_means_anything(text: str) -> None:
    shown = prose(text)
    if not shown.startswith("`"):
        assert not set("@<>[]*_#|`&~!/\n") & set(shown)
        assert not re.search(r"(?<!\\)\$", shown)
        assert "www." not in shown.lower()


@settings(max_examples=40, deadline=None)
@given(NASTY)
def test_no_text_breaks_a_table_or_leaves_its_code_span(text: str) -> None:
    page, benign = render_markdown(build_report(run_saying(text))), render_markdown(build_report(run_saying("x@")))
    assert page.count("\n") == benign.count("\n")
    for line, plain in zip(page.splitlines(), benign.splitlines(), strict=True):
        if plain.startswith("|"):
            assert line.count("|") == plain.count("|")
        assert line.count("`") % 2 == 0
        outside = without_code(line)
        assert not outside.startswith("<!--") or outside == marker(text)
        if not outside.startswith("<!--"):
            assert not set("@<>[]") & set(outside), outside


@pytest.mark.parametrize("text", ["w" * 400, "\u202e" * 400, "𝄞" * 400])
def test_it_never_grows_over_the_limit(text: str) -> None:
    run = example_comparison(scale=60)
    loud = tuple(type(a)(**{**vars(a), "detail": text, "ticket": f"{a.ticket}{text}"}) for a in run.attempts)
    page = render_markdown(
        build_report(RunResult(run.info, "finished", loud, "fail", run.findings, run.comparison, notes=(text,) * 50))
    )
    assert len(page) <= MAX_CHARACTERS
    assert len(page.encode()) <= 2**18  # a job summary may have four times that
    assert page.rstrip().endswith("in the full report._")
    assert page.splitlines()[0] == marker(run.info.scenario)


def under_faults(text: str) -> RunResult:
    """A chaos campaign of two tickets: one fails under a fault, one copes; every string is ``text``."""
    variant = Variant(text, "errors", 1, {})
    made = []
    for ticket, passed in (("a", False), ("b", True)):
        plain = replace(attempts(1)[0], id=f"{ticket}-1", ticket=f"{text}{ticket}", passed=True, cause=Cause.COMPLETED)
        of = replace(variant, data={"of": plain.id})
        met = replace(plain, id=f"{ticket}-2", passed=passed, variant=of, faults=FaultsMet({"errors": 1}), detail=text)
        made += [plain, met]
    return RunResult(info(campaign=Campaign("chaos", text, 1, "d")), "finished", tuple(made), "pass")


def test_a_campaign_of_faults_has_a_row_a_fault_and_a_line_a_pair_that_was_lost() -> None:
    page = render_markdown(build_report(under_faults("hung up")))
    assert "| `hung up` | 1 | 0 | 1 | 0 | 0 | 50 % (" in page
    assert "- failed under `hung up`: `hung upa`: `hung up`" in page


@settings(max_examples=20, deadline=None)
@given(NASTY)
def test_no_text_of_a_campaign_leaves_its_cell(text: str) -> None:
    page, benign = (render_markdown(build_report(under_faults(one))) for one in (text, "x@"))
    assert page.count("\n") == benign.count("\n")
    lines = page.splitlines()
    for line in lines[lines.index("#### Under faults") + 1 :]:
        assert line.count("|") in (0, 9) and not set("@<>[]#") & set(without_code(line)), line


def test_flips_failures_and_infrastructure_are_listed() -> None:
    run = example_comparison()
    page = render_markdown(build_report(run))
    assert run.comparison is not None
    for flip in run.comparison.flips:
        assert f"`{flip.ticket}`" in page
    assert "#### 9 failed tickets" in page
    assert "2 attempts ended by infrastructure" in page


def test_simulated_and_passing() -> None:
    page = render_markdown(build_report(RunResult(info(simulated=True), "finished", tuple(attempts(3)), "pass")))
    assert "(SIMULATED)" in page
    assert "failed tickets" not in page


def test_who_approved_is_said_with_what_was_simulated() -> None:
    counts = ApprovalCounts(proposed=2, approved=1, denied=1, executed=1, simulated=1, people=1, people_s=30, attention_s=60)
    first, *others = attempts(3)
    run = RunResult(info(), "finished", (replace(first, approvals=counts), *others), "pass")
    [told] = [line for line in render_markdown(build_report(run)).splitlines() if line.startswith("Approvals: ")]
    assert "2 proposals: 1 approved, 1 denied" in told and "1 answer simulated by rules" in told
    assert "1 answer by people, after 30.0 s on average" in told
    assert "Approvals" not in render_markdown(build_report(replace(run, attempts=tuple(others))))
