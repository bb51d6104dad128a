"""JUnit XML as continuous integration reads it."""

from __future__ import annotations

from xml.etree import ElementTree

from example_run import attempt, example_comparison, example_run, info, run_saying
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunResult
from podctl.reports.junit import render_junit
from podctl.reports.model import build_report


def junit(*made: AttemptResult, **fields: object) -> ElementTree.Element:
    return ElementTree.fromstring(render_junit(build_report(RunResult(info(**fields), "finished", made, "fail"))))


def test_failure_error_and_skipped_are_kept_apart() -> None:
    root = junit(
        attempt("ok", position=1),
        attempt("wrong", passed=False, position=2, detail="nope"),
        attempt("late", cause=Cause.AGENT_TIMED_OUT, position=3),
        attempt("broken", cause=Cause.SEED_FAILED, position=4, detail="disk full"),
        attempt("odd", cause=Cause.UNCLASSIFIED, position=5),
        attempt("never", cause=Cause.CANCELLED, position=6),
    )
    found = {case.get("name"): [e.tag for e in case if e.tag != "properties"] for case in root.iter("testcase")}
    assert found == {
        "ok": [],
        "wrong": ["failure"],
        "late": ["failure"],
        "broken": ["error"],
        "odd": ["error"],
        "never": ["skipped"],
    }
    assert {k: root.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "2",
        "errors": "2",
        "skipped": "1",
    }
    broken = root.find(".//testcase[@name='broken']/error")
    assert broken is not None
    assert (broken.get("type"), broken.get("message")) == ("seed_failed", "disk full")


def test_one_case_a_ticket_with_repeats_as_properties() -> None:
    root = junit(
        *(attempt("A", ok, id=f"1-{i}", repeat=i) for i, ok in enumerate([True, False, True])),
        *(attempt("B", ok, id=f"2-{i}", repeat=i, position=2) for i, ok in enumerate([True, False])),
        attempt("C", cause=Cause.CANCELLED, repeat=0, position=3),
        attempt("C", cause=Cause.SEED_FAILED, repeat=1, position=3),
        repeats=3,
    )
    cases = list(root.iter("testcase"))
    assert [c.get("name") for c in cases] == ["A", "B", "C"]
    assert [c.find("failure") is not None for c in cases] == [False, True, False]
    assert cases[2].find("error") is not None
    properties = {p.get("name"): p.get("value") for p in cases[0].iter("property")}
    assert list(properties) == ["repeat.0", "repeat.1", "repeat.2"]
    assert "wrong result" in str(properties["repeat.1"])


def test_what_became_of_proposals_is_counted_by_suite() -> None:
    first, second = (
        ApprovalCounts(proposed=2, approved=1, denied=1, executed=1),
        ApprovalCounts(proposed=1, timed_out=1, delay_s=2.5),
    )
    root = junit(attempt("A", approvals=first), attempt("B", approvals=second, position=2))
    properties = {p.get("name"): p.get("value") for p in root.findall("testsuite/properties/property")}
    found = {
        name: properties[f"approvals.{name}"] for name in ("proposed", "approved", "denied", "timed_out", "executed", "delay_s")
    }
    assert list(found.values()) == ["3", "1", "1", "1", "1", "2.5"]
    assert "approvals" not in ElementTree.tostring(junit(attempt("A")), encoding="unicode")


def test_suites_are_strata_and_their_counts_add_up() -> None:
    run = example_comparison(scale=2, repeats=2)
    root = ElementTree.fromstring(render_junit(build_report(run)))
    suites = root.findall("testsuite")
    assert [s.get("name") for s in suites] == sorted({a.stratum for a in run.attempts})
    for key in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(key, "")) == sum(int(s.get(key, "")) for s in suites)
    assert int(root.get("tests", "")) == len({a.ticket for a in run.attempts})
    for suite in suites:
        assert len(suite.findall("testcase")) == int(suite.get("tests", ""))
        assert len(list(suite.iter("failure"))) == int(suite.get("failures", ""))


def test_a_failure_tells_what_was_wrong() -> None:
    text = render_junit(build_report(example_run()))
    assert "missing: update shop-db.orders" in text
    assert "expected partially_refunded" in text


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(), min_size=1, max_size=30))
def test_any_text_gives_valid_xml_with_the_same_elements(text: str) -> None:
    def shape(value: str) -> list[tuple[str, list[str]]]:
        root = ElementTree.fromstring(render_junit(build_report(run_saying(value, repeats=2))).encode())
        return [(e.tag, sorted(e.keys())) for e in root.iter()]

    assert shape(text) == shape("x")
