"""Runs in one view, and pages for those who decide, from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from example_run import START_NS, example_run
from project import Project

from podctl.clock import SystemClock
from podctl.evidence.owner import Owner
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.evidence.store_rows import Planned

OLD, NEW = "run-20251114-1130-x1c9", "run-20251121-0426-b7k2"


def keep(store: Store, run: RunResult) -> None:
    planned = [Planned(one.id, one.ticket, one.stratum, one.position, one.repeat) for one in run.attempts]
    store.create_run(run.info, planned, Owner.current())
    for one in run.attempts:
        store.start_try(run.info.id, one.id, 1)
        store.finish_try(run.info.id, one.id, 1, one, one.dollars or 0)  # type: ignore[arg-type]
    store.finish_run(run.info.id, run)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A directory with two runs of one scenario in its store."""
    root = tmp_path_factory.mktemp("reports")
    store = Store.open(root / ".podctl", SystemClock())
    keep(store, example_run(version="2.0.3", skill=0.5, seed=8, quirks=False, id=OLD, started_ns=START_NS - 7 * 86400 * 10**9))
    keep(store, example_run(version="2.1.0", quirks=False, id=NEW))
    store.close()
    return Project(root)


def test_two_runs_are_compared_on_the_terminal_as_json_and_as_a_page(project: Project) -> None:
    shown = project.podctl("compare", OLD, "latest", "--html", "compared.html", "--pdf", "compared.pdf")
    assert shown.returncode == 0, shown.stderr
    assert "Both worked the same 48 tickets." in shown.stdout and "not told apart" in shown.stdout
    assert shown.stderr.splitlines()[0] == "html: compared.html"
    assert shown.stderr.splitlines()[1].startswith("pdf: compared.pdf, by WeasyPrint ")
    assert (project.root / "compared.pdf").read_bytes().startswith(b"%PDF-")
    assert f"podctl compare {OLD} {NEW}" in (project.root / "compared.html").read_text()
    machine = project.podctl("compare", OLD, NEW, "-o", "json")
    assert json.loads(machine.stdout)["others"][0]["commonTickets"] == 48


def test_a_comparison_needs_two_runs(project: Project) -> None:
    for runs in ((OLD,), (NEW, "latest")):
        refused = project.podctl("compare", *runs)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "two different runs" in refused.stderr
    assert "no-such-run" in project.podctl("compare", OLD, "elsewhere").stderr


def test_a_trend_is_of_the_latest_scenario_or_the_named(project: Project) -> None:
    shown = project.podctl("trend", "--html", "trend.html")
    assert shown.returncode == 0, shown.stderr
    rows = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("2025-")]
    assert rows == [OLD, NEW]
    assert "podctl trend shop-refunds" in (project.root / "trend.html").read_text()
    assert len(json.loads(project.podctl("trend", "-o", "json").stdout)["points"]) == 2
    for arguments in (("trend", "other"), ("trend", "--agent", "nobody")):
        refused = project.podctl(*arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "there is no finished run" in refused.stderr


def test_a_projection_is_a_page_too(project: Project) -> None:
    command = ("project", NEW, "--volume", "20000", "--replications", "1000")
    shown = project.podctl(*command, "--html", "pages/decision.html")
    assert shown.returncode == 0, shown.stderr
    page = (project.root / "pages" / "decision.html").read_text()
    assert "No projection of this kind has been held against a bill yet." in page
    first = shown.stdout.splitlines()[0]
    assert page.split("<h1><strong>")[1].split("<")[0].replace("\u00a0", " ") in first
    assert f"podctl project {NEW} --volume 20000 --level 0.95 --seed 1 --replications 1000" in page
    kept = shown.stderr.split("kept as ")[1].split(":")[0]
    today = datetime.now(UTC).date()
    bill = f"projection,since,until,dollars\n{kept},{today},{today},600\n"
    (project.root / "bills.csv").write_text(bill)
    entered = project.podctl("bills", "import", "bills.csv")
    assert entered.returncode == 0, entered.stderr
    assert project.podctl(*command, "--html", "again.html", "--what-if").returncode == 0
    assert "Earlier projections against their bills: 1 of 1 bill within" in (project.root / "again.html").read_text()
