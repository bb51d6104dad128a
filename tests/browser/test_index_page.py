"""The site's page of all runs in a real browser: it fits a phone and asks the network for nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from example_run import example_run, run_saying
from test_report_page import CHROMIUM, HARNESS, asked_by, chromium, serving

from podctl.evidence.results import RunResult
from podctl.evidence.store_rows import RunSummary
from podctl.reports.index import render_index

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="needs /usr/bin/chromium: apt-get install chromium")


def page_of(run: RunResult) -> str:
    infos = [replace(run.info, id=f"r-{n}", started_ns=run.info.started_ns - n) for n in range(40)]
    runs = [RunSummary(info, run.status, run.verdict, run.spent_dollars, 48, 48, 40) for info in infos]
    return render_index(runs, {info.id: [(1, 1), (0, 1)] for info in infos}, {info.id: "runs/r.html" for info in infos})


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("kind", ["realistic", "long words"])
def test_nothing_overflows_sideways(tmp_path: Path, width: int, kind: str) -> None:
    page = page_of(example_run() if kind == "realistic" else run_saying("unbreakable" * 40))
    with serving({"/report": page, "/": HARNESS.format(width=width)}) as (port, _):
        dom = chromium(
            tmp_path, "--window-size=1400,1000", "--virtual-time-budget=5000", "--dump-dom", f"http://127.0.0.1:{port}/"
        )
    found = re.search(r"<title>scroll=(\d+) wide=(\d+) (.*?)</title>", dom, re.S)
    assert found is not None, dom[:500]
    assert (int(found[1]), int(found[2])) == (width, 0), found[3]


def test_it_asks_the_network_for_nothing(tmp_path: Path) -> None:
    assert asked_by(tmp_path, page_of(example_run())) == []
