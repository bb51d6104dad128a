"""The example production and the two worked examples on real data, through the command line."""

from __future__ import annotations

import html.parser
import json
from pathlib import Path

import pytest
from project import Project, traces_of
from worked_examples import RETAIL, TICKETS, needs_retail, needs_triage, prepare


class References(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href") and tag != "a"]
        if tag == "script":
            self.found.append("<script>")


@pytest.mark.campaign
def test_the_demo_compares_two_versions_and_shows_the_difference(tmp_path: Path) -> None:
    project = Project(tmp_path)
    finished = project.podctl("demo", "shop", "--sample", "18", "-q", timeout=400)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    shop = Project(tmp_path / "shop")
    result = shop.run()
    assert (result.info.agent_version, result.verdict) == ("2", "fail")
    assert any(finding.name == "boundary_violations" and finding.verdict == "fail" for finding in result.findings)
    assert result.comparison is not None
    directions = {(flip.direction, flip.stratum) for flip in result.comparison.flips}
    assert ("better", "address-change") in directions
    assert ("worse", "refund-request") in directions
    assert traces_of(result) == []

    page = (shop.store / "runs" / result.info.id / "report.html").read_text()
    references = References()
    references.feed(page)
    assert [place for place in references.found if not place.startswith("data:")] == [], (
        "the report refers to something outside itself"
    )
    assert result.info.agent_digest[:12] in page
    crossing = next(attempt for attempt in result.attempts if attempt.boundary_attempts)
    shown = shop.podctl("trace", "latest", crossing.ticket)
    assert "access_grants" in shown.stdout
    assert "42501" in shown.stdout
    failed = next(a for a in result.attempts if not a.passed and a.stratum == "refund-request")
    assert "amount" in shop.podctl("diff", "latest", failed.ticket).stdout
    for form in ("otlp", "atif"):
        assert shop.podctl("export", "latest", "--format", form, "--out", form).returncode == 0
        assert len(list((shop.root / form).iterdir())) == 18
    trajectory = json.loads((shop.root / "atif" / f"{failed.id}.atif.json").read_text())
    assert trajectory["schema_version"] == "ATIF-v1.8"
    assert shop.podctl("export", "latest", "--format", "junit", "--out", "junit.xml").returncode == 0
    assert shop.podctl("audit", "verify", "latest").returncode == 0


@needs_retail
@pytest.mark.campaign
@pytest.mark.parametrize(("size", "of"), [("12", 12), ("all", 114)])
def test_retail_requests_resolved_as_recorded_all_pass(tmp_path: Path, size: str, of: int) -> None:
    project = prepare("retail", RETAIL, tmp_path / "retail")
    finished = project.podctl("run", "retail-exact.yaml", "-q", "--sample", size, timeout=600)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    attempts = project.run().attempts
    assert len(attempts) == of
    assert [attempt.ticket for attempt in attempts if not attempt.passed] == []


@needs_retail
@pytest.mark.campaign
def test_retail_without_its_last_write_or_with_one_more_fails(tmp_path: Path) -> None:
    project = prepare("retail", RETAIL, tmp_path / "retail")
    references = {row["id"]: row["reference"] for row in map(json.loads, (project.root / "tickets.jsonl").open())}
    assert project.podctl("run", "retail-omit-last-write.yaml", "-q", "--sample", "all", timeout=900).returncode == 100
    for attempt in project.run().attempts:
        writes = bool(references[attempt.ticket]["changes"])
        assert attempt.passed != writes, attempt.ticket
        # A last write that takes an earlier one back leaves that one standing: collateral, and nothing missing.
        assert not writes or {"missing", "collateral"} & {entry.class_ for check in attempt.checks for entry in check.diff}
    assert project.podctl("run", "retail-extra-write.yaml", "-q", "--sample", "all", timeout=900).returncode == 100
    for attempt in project.run().attempts:
        assert not attempt.passed
        assert any(entry.class_ == "collateral" for check in attempt.checks for entry in check.diff)


@needs_triage
@pytest.mark.campaign
@pytest.mark.parametrize("size", ["40", "400"])
def test_triage_declares_its_reasons_and_the_report_shows_confidence_against_outcome(tmp_path: Path, size: str) -> None:
    project = prepare("triage", TICKETS, tmp_path / "triage")
    finished = project.podctl("run", "triage.yaml", "-q", "--sample", size, timeout=1500)
    assert finished.returncode in (0, 100), finished.stdout + finished.stderr
    result = project.run()
    assert len(result.attempts) == int(size)
    assert sum(attempt.passed for attempt in result.attempts) > int(size) * 0.6
    for attempt in result.attempts:
        assert attempt.confidence is not None
        decisions = project.records(attempt.ticket, "decision")
        assert decisions, attempt.ticket
        decision = decisions[0]["data"]["decision"]
        assert decision["features"]
        assert all("score" in near and near["ticket"] != attempt.ticket for near in decision["similar"])
        assert any(not option["chosen"] for option in decision["options"])
        assert decisions[0]["provenance"] == "declared"
    page = (project.store / "runs" / result.info.id / "report.html").read_text()
    assert "onfidence" in page
