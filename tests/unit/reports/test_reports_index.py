"""The site of all runs: whole, small, inert, and quick to write again."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from xml.etree import ElementTree

import pytest
from example_run import example_run, run_saying

from podctl.clock import SystemClock
from podctl.errors import SpecError
from podctl.evidence.results import RunResult, Shard
from podctl.evidence.store import Store
from podctl.evidence.store_rows import AttemptState, Planned, RunSummary
from podctl.reports.index import render_index, write_index

BASE = example_run(quirks=False)


def numbered(number: int, run: RunResult = BASE, **fields: object) -> RunResult:
    values: dict[str, object] = {"id": f"r-{number:04d}", "started_ns": run.info.started_ns + number * 10**12, **fields}
    return replace(run, info=replace(run.info, **values))


def summary(run: RunResult) -> RunSummary:
    return RunSummary(run.info, run.status, run.verdict, run.spent_dollars, 48, 48, 40)


def keep(store: Store, run: RunResult) -> None:
    planned = [AttemptState(Planned(a.id, a.ticket, a.stratum, a.position, a.repeat), "ended", 1) for a in run.attempts]
    store.take_in(run, planned, [])


def page_of(runs: list[RunResult], share: tuple[int, int] = (1, 1)) -> str:
    listed = sorted((summary(run) for run in runs), key=lambda run: -run.info.started_ns)
    return render_index(listed, {run.info.id: [(1, 1), (0, 1), share] for run in listed}, {runs[0].info.id: "runs/x.html"})


def test_a_thousand_runs_are_quick_and_small() -> None:
    runs = [numbered(n, agent_name=f"agent-{n % 7}", agent_version=f"1.{n}") for n in range(1000)]
    began = time.process_time()
    page = page_of(runs)
    assert time.process_time() - began < 3
    assert len(page.encode()) < 800_000
    assert page.count('scope="row"') == 1000 + 7
    assert page.count("<svg") == 7


def test_agents_and_scenarios_are_counted_and_simulated_ones_are_marked() -> None:
    runs = [numbered(n, agent_name=f"a{n % 2}", scenario=f"s{n % 3}", simulated=n % 2 == 1) for n in range(6)]
    page = page_of(runs)
    assert "<h1>6 runs of 2 agents in 3 scenarios</h1>" in page
    assert page.count(">SIM<") == 3 + 3, "in each run's row, and in the table of agents above them"
    assert "<h1>1 run of 1 agent</h1>" in page_of(runs[:1])


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '" onload="x', "{{ 7 * 7 }}", "\u202e\x00\ud800]]>&", "../../x"])
def test_names_are_only_names(text: str) -> None:
    strange = run_saying(text)
    page = page_of([replace(strange, info=replace(strange.info, id=f"r-{n}", started_ns=n)) for n in range(3)])
    root = ElementTree.fromstring(page.replace("<!DOCTYPE html>", ""))
    assert {element.tag for element in root.iter()}.isdisjoint({"script", "img", "iframe"})
    assert not any(name.startswith("on") for element in root.iter() for name in element.attrib)
    assert "49" not in "".join(root.itertext()) or "49" in text


def test_only_whole_and_finished_runs_are_in_the_trend() -> None:
    shard = numbered(1, shard=Shard(1, 2, Decimal(1)))
    cut = replace(numbered(2), status="interrupted")
    page = page_of([numbered(0, agent_version="one"), shard, cut, numbered(3, agent_version="two")])
    drawn = page.split("<svg")[1].split("</svg>")[0]
    assert drawn.count("<circle") == 2
    assert "one: 66.7 %" in drawn and "two: 66.7 %" in drawn
    assert "shard 1 of 2" in page and "interrupted, 48 of 48" in page


def test_a_site_has_every_report_and_is_written_again_only_where_it_changed(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s", SystemClock())
    for number in range(3):
        keep(store, numbered(number))
    page, count = write_index(store, tmp_path / "site")
    assert count == 3
    links = [one.attrib["href"] for one in ElementTree.fromstring(page.read_text().replace("<!DOCTYPE html>", "")).iter("a")]
    assert links == [f"runs/r-{number:04d}.html" for number in (2, 1, 0)]
    assert all("podctl report" in (tmp_path / "site" / link).read_text() for link in links)
    report = tmp_path / "site" / links[0]
    before = report.stat().st_ino, report.stat().st_ctime_ns
    (store.run_directory("r-0001") / "report.html").write_text("written again")
    os.utime(store.run_directory("r-0001") / "report.html", (1, 1))
    write_index(store, tmp_path / "site")
    assert (report.stat().st_ino, report.stat().st_ctime_ns) == before
    assert (tmp_path / "site" / "runs" / "r-0001.html").read_text() == "written again"


def test_rates_are_those_of_the_runs_own_report(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "s", SystemClock())
    run = numbered(0, example_run(repeats=2))
    keep(store, run)
    from podctl.stats.summary import summarize

    rate = summarize(run.attempts).rate
    page, _ = write_index(store, tmp_path / "site")
    assert f"{rate.passed} of {rate.of}</td>" in page.read_text()
    tallies = store.tallies()[run.info.id]
    assert (sum(passed for passed, _ in tallies), sum(of for _, of in tallies), len(tallies)) == (
        rate.passed,
        rate.of,
        rate.tickets,
    )


def test_somebody_elses_page_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<p>my site</p>")
    with pytest.raises(SpecError) as refused:
        write_index(Store.open(tmp_path / "s", SystemClock()), tmp_path)
    assert refused.value.code == "index-exists"
    assert (tmp_path / "index.html").read_text() == "<p>my site</p>"


def test_no_run_is_said(tmp_path: Path) -> None:
    page, count = write_index(Store.open(tmp_path / "s", SystemClock()), tmp_path / "site")
    assert count == 0
    assert "There is no run yet." in page.read_text()
