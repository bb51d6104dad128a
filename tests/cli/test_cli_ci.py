"""`podctl ci` as it is typed: what it says before anything is run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from project import Project, make_project, ticket
from repository import GIT, commit, git, make_repository


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("t1"), ticket("t2")])
    make_repository(project.root)
    git(project.root, "checkout", "-q", "-b", "change")
    return project


def test_a_dry_run_lists_what_would_be_run_and_makes_nothing(project: Project) -> None:
    assert project.podctl("ci", "--base", "main", "--dry-run", **GIT).stdout.startswith(
        "nothing to try: of 1 scenario and 1 agent nothing has changed since main ("
    )
    (project.root / "agent" / "main.py").write_text("print()")
    listed = project.podctl("ci", "--base", "main", "--dry-run", **GIT)
    assert listed.returncode == 0, listed.stderr
    heading, row = listed.stdout.splitlines()
    assert heading.split("  ")[0] == "SCENARIO"
    assert [cell.strip() for cell in row.split("  ") if cell] == [
        "small",
        "tester 1",
        "made now",
        "4",
        "$0",
        "the agent changed (agent/main.py)",
    ]
    assert git(project.root, "status", "--porcelain") == " M agent/main.py\n"
    assert not project.store.exists()
    assert not (project.root / "podctl-ci").exists()


def test_it_works_below_the_top_with_a_store_of_another_place(tmp_path: Path) -> None:
    top = Project(tmp_path / "top")
    project = make_project(top.root / "deep" / "p", agent="", tickets=[ticket("t1")])
    make_repository(top.root)
    (project.root / "agent" / "main.py").write_text("print()")
    (top.root / "other" / "base-0123-4194305").mkdir(parents=True)
    listed = project.podctl("ci", "--base", "HEAD", "--dry-run", "--store", "../../other", **GIT)
    assert "made now" in listed.stdout, listed.stderr
    assert not (top.root / "other").exists(), "what a process that is gone had checked out was left"


def test_names_that_are_no_text_are_shown(project: Project) -> None:
    (project.root / "agent" / os.fsdecode(b"\xff\n.py")).write_text("")
    commit(project.root)
    listed = project.podctl("ci", "--base", "main", "--dry-run", **GIT)
    assert listed.returncode == 0, listed.stderr
    assert len(listed.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "podctl ci --base main"),
        (("--base", "nope"), 2, "there is no revision 'nope' here, nor in origin [ci-no-base]"),
        (("--base", "main", "--shard", "0/2"), 2, "write I/N"),
        (("--base", "main", "--shard", "1/2", "--merge", "."), 2, "do not go together"),
        (("--base", "main", "--merge", "agent"), 2, "agent is no store"),
        (("--base", "main", "--scenario", "nope.yaml"), 2, "nope.yaml"),
        (("comment",), 2, "there is nothing to say in podctl-ci"),
        (("cache-key", "nope.yaml"), 2, "nope.yaml"),
    ],
)
def test_mistakes_are_told_in_words(project: Project, arguments: tuple[str, ...], code: int, said: str) -> None:
    (project.root / "agent" / "main.py").write_text("print()")
    refused = project.podctl("ci", *arguments, **GIT)
    assert (refused.returncode, refused.stdout) == (code, ""), refused.stderr
    assert said in refused.stderr and refused.stderr.startswith("error: ")


def test_outside_of_a_repository_it_says_so(tmp_path: Path) -> None:
    refused = Project(tmp_path).podctl("ci", "--base", "main", GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    assert refused.returncode == 2
    assert "is not in a git repository [ci-no-repository]" in refused.stderr
    assert not (tmp_path / ".podctl").exists()
