"""What a tried change leaves: bounded whatever is in it, and inert."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_run import example_comparison, run_saying
from project import make_project, ticket

from podctl.ci.caches import caches, github_outputs
from podctl.ci.files import COMMENT, Against, file_name, write_all
from podctl.ci.picking import Case
from podctl.ci.trying import Plan, Tried, worst
from podctl.clock import SystemClock
from podctl.controller.run import prepare
from podctl.errors import ExitCode
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.reports.markdown import MAX_CHARACTERS
from podctl.reports.model import Report, build_report
from podctl.spec.load import load_bundle

HOSTILE = "</td>| `x` <script>alert(1)</script> @everyone [a](javascript:b) ${{ secrets.KEY }} <!-- podctl:ci-podctl -->"


@pytest.fixture
def case(tmp_path: Path) -> Case:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("t1")])
    prepared = prepare(load_bundle(project.root / "scenario.yaml"))
    return Case(prepared.bundle, prepared.identity, ("agent: agent/main.py",), None, True, "")


def tried(case: Case, result: RunResult, code: ExitCode = ExitCode.DONE) -> tuple[Tried, Report]:
    return Tried(Plan(case, prepare(case.bundle), None, None), result, code), build_report(result)


def written(case: Case, results: list[RunResult], out: Path, **environment: str) -> str:
    write_all([tried(case, result) for result in results], Against("main", "c0ffee" * 6, "podctl"), out, environment)
    return (out / COMMENT).read_text()


def test_many_and_large_cases_fit_a_comment_and_a_summary(case: Case, tmp_path: Path) -> None:
    large = example_comparison(scale=20)
    step = tmp_path / "step.md"
    step.write_text("x" * 700_000)
    comment = written(case, [large] * 30, tmp_path / "out", GITHUB_STEP_SUMMARY=str(step))
    assert 20_000 < len(comment) <= MAX_CHARACTERS
    assert comment.count("| `small` |") == 30, "a case is missing from the table"
    assert comment.count("more lines in the full report") == 30
    assert 700_000 < step.stat().st_size <= 1 << 20


@pytest.mark.parametrize("wide", ["€" * 400, "😀" * 400])
def test_letters_of_several_bytes_count_as_such(case: Case, tmp_path: Path, wide: str) -> None:
    step = tmp_path / "step.md"
    comment = written(case, [run_saying(wide, 40)] * 40, tmp_path / "out", GITHUB_STEP_SUMMARY=str(step))
    assert len(comment.encode()) <= MAX_CHARACTERS
    assert step.stat().st_size <= 1 << 20


def test_nothing_in_a_run_means_anything_to_markdown(case: Case, tmp_path: Path) -> None:
    comment = written(replaced(case), [run_saying(HOSTILE)], tmp_path / "out")
    outside = "".join(comment.split("`")[::2])
    for text in ("<script", "@everyone", "](javascript", "${{"):
        assert text in comment
        assert text not in outside
    assert comment.count("<!-- podctl:ci-podctl -->") == 1 + "".join(comment.split("`")[1::2]).count(
        "<!-- podctl:ci-podctl -->"
    )


def replaced(case: Case) -> Case:
    return replace(case, reasons=(f"agent: {HOSTILE}",))


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a b/c", "." * 40, "x" * 500, HOSTILE])
def test_names_of_files_lead_nowhere(name: str) -> None:
    made = file_name(name)
    assert made and "/" not in made and not made.startswith((".", "-")) and len(made) <= 120


def test_the_worst_exit_code_counts(case: Case) -> None:
    run = example_comparison()
    codes = [ExitCode.DONE, ExitCode.INCONCLUSIVE, ExitCode.GATE_FAILED, ExitCode.ENVIRONMENT]
    assert worst([tried(case, run, code)[0] for code in codes]) is ExitCode.GATE_FAILED
    assert worst([]) is ExitCode.DONE


def keys(root: Path, store: Store | None = None) -> dict[str, Any]:
    return {one.name: one for one in caches([load_bundle(root / "scenario.yaml")], store, root / ".podctl")}


def test_keys_go_by_content_and_not_by_place(tmp_path: Path) -> None:
    scenario = {"model": {"mode": "replay", "recordings": "answers"}}
    for name in ("one", "two"):
        make_project(tmp_path / name, agent="", tickets=[ticket("t1")], scenario=scenario)
        (tmp_path / name / "answers" / "ab").mkdir(parents=True)
        (tmp_path / name / "answers" / "ab" / "0001-x-1.json").write_text("{}")
    one, two = keys(tmp_path / "one"), keys(tmp_path / "two")
    assert {name: cache.key for name, cache in one.items()} == {name: cache.key for name, cache in two.items()}
    assert one["models"].paths == (tmp_path / "one" / "answers",)
    (tmp_path / "two" / "schema.sql").write_text("create table other (id int)")
    (tmp_path / "two" / "answers" / "ab" / "0001-x-2.json").write_text("{}")
    changed = keys(tmp_path / "two", Store.open(tmp_path / "two" / ".podctl", SystemClock()))
    assert {name for name in one if changed[name].key != one[name].key} == {"templates", "models"}
    assert all(cache.key.startswith(cache.prefix) for cache in changed.values())
    lines = github_outputs(list(one.values())).splitlines()
    assert f"templates-key={one['templates'].key}" in lines
    assert lines[lines.index(f"models-key={one['models'].key}") - 2] == str(tmp_path / "one" / "answers")
