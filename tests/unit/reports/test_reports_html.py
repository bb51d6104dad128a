"""The page: whole, inert, bounded, and readable in both themes."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from example_run import attempt, example_comparison, example_records, example_run, info, run_saying, timeline_saying
from hypothesis import given, settings
from hypothesis import strategies as st

import podctl.reports.html as html_module
from podctl.evidence.results import CheckResult, DiffEntry, RunResult
from podctl.reports.charts import Bin, bins_of, histogram
from podctl.reports.html import render_html
from podctl.reports.model import DETAILED_TICKETS, LISTED_TICKETS, TIMELINE_ROWS, build_report, excerpt
from podctl.reports.timeline import TimelineRow, timeline
from podctl.stats.compare import compare

CSS = (Path(html_module.__file__).parent / "templates" / "report.css").read_text("utf-8")
HOSTILE = [
    "</title></style><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7*7 }}{% raw %}",
    "]]>--><!-- &lt; &#0; &",
    "\u202e\x00\ud800\x1b[2J",
]


def tags(page: str) -> Counter[str]:
    return Counter(element.tag for element in ElementTree.fromstring(page).iter())


class _Tags(HTMLParser):
    """The elements as HTML's own rules see them, with their attributes' names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[f"{tag} {sorted(name for name, _ in attrs)}"] += 1
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data", "poster")]


def page_saying(text: str) -> str:
    return render_html(
        build_report(run_saying(text), lambda _: timeline(timeline_saying(text)), reproduce_command="podctl run x")
    )


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), min_size=1, max_size=30)))
def test_no_text_adds_or_removes_an_element(text: str) -> None:
    page, benign = page_saying(text), page_saying("x")
    assert tags(page) == tags(benign)
    assert _Tags(page).seen == _Tags(benign).seen


def test_hostile_text_is_on_the_page_as_text() -> None:
    page = page_saying("<script>alert(1)</script>\u202e")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩" in page
    assert "\u202e" not in page


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = render_html(build_report(example_comparison(), lambda a: timeline(example_records(a))))
    seen = _Tags(page)
    assert seen.links == ["data:,"]
    assert not [tag for tag in seen.seen if tag.startswith(("script", "iframe", "object", "embed", "form"))]
    assert not re.search(r"url\(|@import|\son\w+=", page)
    assert "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"" in page


def test_the_verdict_comes_first_in_words() -> None:
    run = example_comparison()
    page = render_html(build_report(run))
    text = " ".join(ElementTree.fromstring(page).find(".//main").itertext()).replace("\u00a0", " ")  # type: ignore[union-attr]
    assert text.index("failed") < text.index("Measured")
    assert "support-agent 2.1.0 failed: it resolved 37 of 46 tickets (80.4 %; 95 % interval 67–89 %)" in text
    for finding in run.findings:
        assert finding.message in text


def test_every_chart_has_a_title_a_description_and_a_table() -> None:
    root = ElementTree.fromstring(render_html(build_report(example_comparison())))
    charts = 0
    for section in root.iter("section"):
        for svg in section.iter("svg"):
            charts += 1
            assert (svg.findtext("title") or "").strip()
            assert (svg.findtext("desc") or "").strip()
            assert section.find(".//table") is not None
    assert charts == 5 + 2 + 1


@pytest.mark.parametrize("simulated", [True, False])
def test_simulated_figures_say_so(simulated: bool) -> None:
    page = render_html(build_report(example_run(simulated=simulated)))
    root = ElementTree.fromstring(page)
    badges = [e for e in root.iter("span") if "simulated" in (e.get("class") or "").split()]
    assert bool(badges) == simulated
    if simulated:
        marked = {(h.text or "").strip() for h in root.iter("h2") if h.find("span") is not None}
        assert {"Totals", "By kind of ticket", "How cost and time are spread"} <= marked


def test_one_simulated_attempt_is_enough() -> None:
    run = RunResult(info(), "finished", (attempt("A"), attempt("B", simulated=True)), "pass")
    assert build_report(run).simulated


def test_a_failed_ticket_shows_diff_and_timeline() -> None:
    page = render_html(
        build_report(example_comparison(), lambda a: timeline(example_records(a)), show_command="podctl look ATTEMPT")
    )
    for text in (
        "forbidden",
        "missing",
        "collateral",
        "intended",
        "partially_refunded",
        "ATTEMPT ACROSS THE BOUNDARY by sql: payments",
        "refund one item, rejected",
    ):
        assert text in page


def test_long_timelines_are_cut_and_say_how_to_see_the_rest() -> None:
    page = render_html(
        build_report(example_comparison(), lambda a: timeline(example_records(a, rows=100)), show_command="podctl look ATTEMPT")
    )
    first = ElementTree.fromstring(page).find(".//ol")
    assert first is not None
    assert len(list(first)) == TIMELINE_ROWS
    assert f"{100 - TIMELINE_ROWS} more rows: <code>podctl look 0043-1</code>" in page


def test_an_excerpt_keeps_what_stands_out_and_the_end() -> None:
    rows = [TimelineRow(i, "agent", "execution", str(i), tone="boundary" if i == 50 else "neutral") for i in range(100)]
    assert [row.title for row in excerpt(rows, 4)] == ["0", "1", "50", "99"]
    assert excerpt(rows[:3], 4) == tuple(rows[:3])


def test_ten_thousand_attempts_are_quick_and_small() -> None:
    run = example_run(scale=209)
    asked: list[str] = []

    def rows(attempt_id: str) -> list[TimelineRow]:
        asked.append(attempt_id)
        return timeline(example_records(attempt_id, 80))

    start = time.perf_counter()
    page = render_html(build_report(run, rows))
    assert time.perf_counter() - start < 5
    assert len(run.attempts) > 10_000
    assert len(page.encode()) < 3_000_000
    assert len(set(asked)) <= 2 * DETAILED_TICKETS


@pytest.mark.parametrize("character", ['"', "\u202e", "漢", "<"])
def test_the_size_holds_against_text_that_grows_when_escaped(character: str) -> None:
    text = character * 5000
    entries = tuple(
        DiffEntry("collateral", text, text, "update", {text: text}, text, text, text, text, text) for _ in range(60)
    )
    checks = (CheckResult(text, "state", False, text, entries),)
    made = tuple(
        attempt(
            f"{i}{text}",
            passed=False,
            id=f"{i}{text}",
            position=i,
            stratum=f"{i % 300}{text}",
            detail=text,
            checks=checks,
            pod=text,
        )
        for i in range(2500)
    )
    rows = [TimelineRow(1.0, text, "execution", text, text, "bad")] * 100
    report = build_report(RunResult(info(), "finished", made, "fail"), lambda _: rows)
    page = render_html(report)
    assert len(page.encode()) < 3_000_000
    assert len(report.detailed) + len(report.listed) + report.left_out_tickets == 2500
    assert len(report.listed) == LISTED_TICKETS
    assert f"{report.left_out_tickets:,} more failed tickets are not listed here" in page


@pytest.mark.parametrize(
    "run",
    [
        RunResult(info(strata={}), "finished", (), "inconclusive"),
        RunResult(info(ended_ns=0), "running", (attempt("A"),), "inconclusive"),
        RunResult(info(), "interrupted", (attempt("A", dollars=None),), "inconclusive", spent_dollars=None),
        RunResult(info(), "finished", (attempt("A", wall_s=0.0, dollars=Decimal(0)),), "pass"),
    ],
)
def test_odd_runs_render(run: RunResult) -> None:
    ElementTree.fromstring(render_html(build_report(run)))


def test_a_run_cut_short_says_so() -> None:
    page = render_html(
        build_report(RunResult(info(), "interrupted", (attempt("A", dollars=None),), "inconclusive", spent_dollars=None))
    )
    assert "The run is interrupted" in page
    assert "unknown" in page


def test_unknown_costs_are_never_shown_as_zero() -> None:
    made = (attempt("A", dollars=None), attempt("B", dollars=Decimal("0.5")))
    page = render_html(build_report(RunResult(info(), "finished", made, "pass", spent_dollars=None)))
    assert "the cost of 1 attempt is unknown" in page
    assert "≥ $0.25" in page


def test_infrastructure_stands_apart_from_failed_tickets() -> None:
    report = build_report(example_comparison())
    failed = {t.attempt.id for t in report.detailed}
    assert failed
    assert not failed & {a.id for a in report.infrastructure}


def test_flips_are_listed_by_stratum() -> None:
    run = example_comparison()
    assert run.comparison is not None
    report = build_report(run)
    assert sum(map(len, report.flips.values())) == len(run.comparison.flips)
    assert list(report.flips) == sorted(report.flips)


def texts(page: str, heading: str) -> list[list[str]]:
    """The rows of the table under a heading, cell by cell."""
    section = next(e for e in ElementTree.fromstring(page).iter("section") if heading in [h.text for h in e.iter("h3")])
    parts = list(section)
    table = parts[next(i for i, part in enumerate(parts) if part.text == heading) + 1]
    cells = (["".join(cell.itertext()).replace("\u00a0", " ") for cell in row] for row in table.iterfind("tbody/tr"))
    return list(cells)


def test_what_changed_against_a_baseline_is_on_the_page() -> None:
    before = [attempt(f"r{n:03d}", stratum="refund", uses={"GET orders": 1}) for n in range(30)]
    wrong = (CheckResult("state", "state", False, "", (DiffEntry("missing", "d", "t", "update", {"id": 1}),)),)
    after = [replace(a, passed=n > 5, checks=wrong if n <= 5 else (), uses={"GET orders": 3}) for n, a in enumerate(before)]
    after += [attempt("c", stratum="cancel")]
    baseline = RunResult(info(id="base"), "finished", (*before, attempt("c", stratum="cancel")), "pass")
    run = replace(
        baseline, info=info(), attempts=tuple(after), comparison=compare(baseline, replace(baseline, attempts=tuple(after)))
    )
    page = render_html(build_report(run))
    assert texts(page, "Kinds of tickets that changed") == [
        ["refund", "30", "100 %", "80 %", "6", "0", "−19.4 points", "3.1 %"]
    ]
    assert texts(page, "Kinds of failures that changed") == [["state (missing)", "0", "19.4", "+19.4"]]
    assert texts(page, "Calls of services and tools that changed") == [["GET orders", "96.8", "290", "+194"]]
    flips = texts(page, "Tickets that changed sides")
    assert flips[:2] == [["refund"], ["r000", "worse", "1 of 1 → 0 of 1", "state (missing)"]] and len(flips) == 7
    assert run.comparison is not None
    unchanged = render_html(build_report(replace(run, comparison=compare(baseline, baseline))))
    assert "that changed" not in unchanged
    old = replace(run, comparison=replace(run.comparison, attribution=None))
    assert "that changed</h3>" not in render_html(build_report(old)), "runs that were compared before there was attribution"


def test_lists_of_what_changed_are_bounded_and_say_what_is_left_out() -> None:
    before = [attempt(f"T{n:03d}", stratum=f"s{n:03d}") for n in range(90)]
    uses = [{f"GET orders /{n}/{m}": m for m in range(60)} for n in range(90)]
    failing = [(CheckResult(f"check {n}", "output", False),) for n in range(90)]
    after = [replace(a, passed=False, checks=failing[n], uses=uses[n]) for n, a in enumerate(before)]
    baseline = RunResult(info(id="base"), "finished", tuple(before), "pass")
    run = replace(baseline, attempts=tuple(after))
    page = render_html(build_report(replace(run, comparison=compare(baseline, run))))
    assert len(texts(page, "Kinds of tickets that changed")) == 60 and "30 more are in the JSON report." in page
    assert len(texts(page, "Kinds of failures that changed")) == 20 and "70 more changed less than these." in page
    assert len(texts(page, "Calls of services and tools that changed")) == 20 and "5,290 more changed less than these." in page


def test_a_majority_of_repeats_decides_a_ticket() -> None:
    made = tuple(attempt("A", ok, id=f"1-{i}", repeat=i) for i, ok in enumerate([True, False, True]))
    made += tuple(attempt("B", ok, id=f"2-{i}", repeat=i, position=2) for i, ok in enumerate([True, False]))
    report = build_report(RunResult(info(repeats=3), "finished", made, "fail"))
    assert [(t.ticket, t.passed, t.of) for t in report.detailed] == [("B", 1, 2)]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_bins_hold_every_value_once(values: list[float]) -> None:
    bins = bins_of(values)
    assert sum(b.count for b in bins) == len(values)
    assert bins[0].low == 0
    assert all(a.high == b.low for a, b in pairwise(bins))
    for b in bins[:-1]:
        assert b.count == sum(b.low <= v < b.high for v in values) or b.high < 1e-9


def test_the_page_is_the_same_every_time() -> None:
    run = example_comparison()
    assert render_html(build_report(run)) == render_html(build_report(replace(run)))


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _palettes() -> dict[str, dict[str, str]]:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.S)
    found = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block)) for block in blocks]
    full = [{k: v if len(v) == 7 else "#" + "".join(c * 2 for c in v[1:]) for k, v in p.items()} for p in found]
    return dict(zip(("light", "dark", "print"), full, strict=True))


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_text_contrast_is_at_least_4_5(theme: str) -> None:
    palette = _palettes()[theme]
    pairs = [(ink, "paper") for ink in ("ink", "soft", "pass", "fail", "open", "fill")]
    pairs += [(name, f"{name}-bg") for name in ("pass", "fail", "open")]
    for ink, ground in pairs:
        assert _contrast(palette[ink], palette[ground]) >= 4.5, (theme, ink, ground)


@pytest.mark.parametrize("median", [0, 5, 20, 50, 80, 95])
@pytest.mark.parametrize("above", [0, 4, 15, 30, 60])
def test_labels_of_a_chart_do_not_lie_on_each_other(median: int, above: int) -> None:
    p95 = min(100, median + above)
    drawn = histogram([Bin(0, 50, 1), Bin(50, 100, 1, last=True)], [("median", median), ("p95", p95)], str, "t")
    spans = []
    for x, anchor, label in re.findall(r'<text x="([\d.]+)" y="12" text-anchor="(\w+)">([^<]*)<', drawn):
        width = 6.0 * len(label)  # generous for the 10 px of these labels
        spans.append((float(x) - width, float(x)) if anchor == "end" else (float(x), float(x) + width))
    spans = sorted(span for span in spans if span[0] != span[1])
    assert spans and spans[0][0] >= 0 and spans[-1][1] <= 340
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_a_cost_of_nothing_is_a_sentence_and_no_chart() -> None:
    run = example_run()
    free = replace(run, attempts=tuple(replace(one, dollars=Decimal(0)) for one in run.attempts))
    shown, drawn = render_html(build_report(free)), render_html(build_report(run))
    assert "$0 for every attempt" in shown and "for every attempt" not in drawn
    assert "Dollars of an attempt</title>" in drawn and "Dollars of an attempt</title>" not in shown
