"""A change on its way: tried by `podctl ci`, by the GitHub Action and by the GitLab template, on real clones of a bare remote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from actions import Runner
from github_comments import TOKEN, GitHub, github
from project import Project, environment_for
from repository import GIT, commit, git, make_repository

ROOT = Path(__file__).parents[2]
SPECS = "scenario.yaml"


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare repository of the starter project, with four tickets: ``main``, ``worse`` (cancels nothing) and ``better``."""
    root = tmp_path_factory.mktemp("ci")
    assert Project(root).podctl("init", "work").returncode == 0
    work = root / "work"
    scenario = work / SPECS
    # Every attempt has to pass: no luck is in the verdict.
    strict = re.sub(r"pass_rate: \S+", "pass_rate: 1", scenario.read_text()).replace("size: all", "size: 4")
    scenario.write_text(strict)
    make_repository(work)
    agent = work / "agent" / "agent.py"
    original = agent.read_text()
    git(work, "checkout", "-q", "-b", "worse")
    agent.write_text(original.replace('== "open"', '== "never"'))
    commit(work, "cancel nothing")
    git(work, "checkout", "-q", "-b", "better", "main")
    agent.write_text(original + "# tidy\n")
    commit(work, "tidy up")
    git(work, "checkout", "-q", "main")
    git(root, "clone", "-q", "--bare", "work", "remote.git")
    shutil.rmtree(work)
    return root / "remote.git"


@pytest.fixture
def server() -> Iterator[GitHub]:
    with github() as state:
        yield state


def clone(remote: Path, target: Path, branch: str) -> str:
    """As a job has it: the branch's commit, on no branch; the commit of main."""
    if not target.exists():
        git(target.parent, "clone", "-q", f"file://{remote}", target.name)
    git(target, "checkout", "-q", "--detach", f"origin/{branch}")
    return git(target, "rev-parse", "origin/main").strip()


def shim(directory: Path) -> str:
    """A PATH with podctl on it, as after installing."""
    directory.mkdir(exist_ok=True)
    (directory / "podctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m podctl "$@"\n')
    (directory / "podctl").chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def job(server: GitHub, tmp_path: Path, base: str, **inputs: str) -> Runner:
    """A pull request's job; its title would be a program to a shell that it came to."""
    temporary = tmp_path / "runner"
    temporary.mkdir(exist_ok=True)
    hostile = '"; touch pwned; echo "$(touch pwned)`touch pwned`'
    return Runner(
        ROOT / "action.yml",
        tmp_path / "w",
        temporary,
        "pull_request",
        {"pull_request": {"base": {"sha": base}, "title": hostile, "head": {"ref": hostile}}},
        environment_for(
            {
                **GIT,
                "PATH": shim(tmp_path / "bin"),
                "JOB_TOKEN": TOKEN,
                "GITHUB_API_URL": server.url,
                "GITHUB_REPOSITORY": "acme/shop",
                "GITHUB_REF": "refs/pull/7/merge",
                "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
                "RUNNER_TEMP": str(temporary),
            }
        ),
        {"install": "", **inputs},
    )


def test_a_pull_request_is_tried_and_told_by_one_comment(remote: Path, server: GitHub, tmp_path: Path) -> None:
    base = clone(remote, tmp_path / "w", "worse")
    server.read_only = True  # as with the token of a fork's pull request
    first = job(server, tmp_path, base)
    assert first.run() == 100, first.said
    assert (
        "the token may not write to pull request 7 (Resource not accessible by integration); is it from a fork?" in first.said
    )
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith((tmp_path / "w/podctl-ci/summary.md").read_text())
    assert "✕ failed" in summary and "`the agent changed (agent/agent.py)`" in summary and "not commented" in summary
    written = {path.name.partition(".")[2] for path in (tmp_path / "w/podctl-ci").iterdir()}
    assert written == {"html", "json", "junit.xml", "md"}
    (case,) = json.loads((tmp_path / "w/podctl-ci/result.json").read_text())["cases"]
    assert (case["verdict"], case["exitCode"]) == ("fail", 100)
    assert case["baseline"] is not None
    assert first.used == [
        "Restore templates of databases",
        "Restore runs",
        "Save templates of databases",
        "Save runs",
        "Keep reports",
    ]

    clone(remote, tmp_path / "w", "better")
    server.read_only = False
    second = job(server, tmp_path, base)
    assert second.run() == 0, second.said
    assert f"baseline run {case['baseline']}" in second.said, "the base was run again"
    (comment,) = server.comments
    assert comment["body"].startswith("<!-- podctl:ci-podctl -->\n")
    assert "✓ passed" in comment["body"]

    clone(remote, tmp_path / "w", "main")
    third = job(server, tmp_path, base)
    assert third.run() == 0, third.said
    assert "nothing to try: of 1 scenario and 1 agent nothing has changed" in third.said
    assert "nothing to try" in comment["body"]
    kept = [path for path in (tmp_path / "w").rglob("*") if path.is_file()]
    assert all(TOKEN.encode() not in path.read_bytes() for path in kept)
    assert TOKEN not in first.said + second.said + third.said
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.campaign
def test_shards_of_two_jobs_are_put_together_by_a_third(remote: Path, server: GitHub, tmp_path: Path) -> None:
    base = clone(remote, tmp_path / "w", "worse")
    for number in (1, 2):
        part = job(server, tmp_path, base, shard=f"{number}/2", store="shard")
        assert part.run() == 0, part.said
        assert part.used[-1] == "Keep the shard"
        shutil.move(tmp_path / "w" / "shard", tmp_path / "shards" / str(number))
    assert server.comments == []
    assert not (tmp_path / "w/podctl-ci").exists()
    whole = job(server, tmp_path, base, merge=str(tmp_path / "shards"))
    assert whole.run() == 100, whole.said
    (case,) = json.loads((tmp_path / "w/podctl-ci/result.json").read_text())["cases"]
    report = json.loads((tmp_path / "w/podctl-ci/first-first-agent-1.json").read_text())
    assert [len(report["run"]["merged"]), report["run"]["sampleSize"], report["comparison"]["commonTickets"]] == [2, 4, 4]
    assert case["baseline"] != case["run"]
    assert "✕ failed" in server.comments[0]["body"]
    shutil.rmtree(tmp_path / "shards" / "2")
    lacking = job(server, tmp_path, base, merge=str(tmp_path / "shards"), store="another")
    assert lacking.run() == 2
    assert "shard 2/2 is missing" in lacking.said


def test_no_script_has_anything_put_into_it() -> None:
    steps = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
    scripts = [step["run"] for step in steps if "run" in step]
    assert len(scripts) == 6
    assert all("${{" not in script for script in scripts)
    assert all(len(step["uses"].partition("@")[2]) == 40 for step in steps if "uses" in step), "an action that may change"


@pytest.mark.campaign
def test_the_action_installs_its_own_podctl(server: GitHub, tmp_path: Path) -> None:
    """From what a checkout of the action has, with what it needs."""
    runner = job(server, tmp_path, "main", install="action")
    (tmp_path / "w").mkdir()
    install = yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"][0]
    assert runner._step(install) == 0, runner.said
    assert (tmp_path / "runner/podctl-venv/bin/podctl").exists()


# ---- GitLab ----


def gitlab(name: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A job's scripts in one shell, as its runner does, with the job's variables."""
    spec: dict[str, Any] = yaml.safe_load((ROOT / "manifests/ci/gitlab.yml").read_text())
    job, base = spec[name], spec[spec[name]["extends"]]
    variables = {**spec["variables"], **base["variables"], **job.get("variables", {})}
    known = {**environment, "CI_PROJECT_DIR": str(directory), "CI_JOB_ID": "1"}
    filled = {key: known.get(str(value).removeprefix("$"), str(value)) for key, value in variables.items()}
    script = "\n".join([*base["before_script"], *job["script"]])
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=directory,
        env=environment_for({**GIT, **filled, **known}),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """For the state directories of two machines: short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="pt-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.campaign
def test_gitlab_runs_it_in_one_job_or_in_several(remote: Path, tmp_path: Path, elsewhere: Path) -> None:
    base = clone(remote, tmp_path / "w", "better")
    given = {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "PODCTL_INSTALL": "", "PATH": shim(tmp_path / "bin")}
    for number in ("1", "2"):
        part = gitlab(
            ".podctl-shard", tmp_path / "w", CI_NODE_INDEX=number, CI_NODE_TOTAL="2", PODCTL_STATE=str(elsewhere / "1"), **given
        )
        assert part.returncode == 0, part.stderr
    whole = gitlab("podctl", tmp_path / "w", PODCTL_STATE=str(elsewhere / "1"), **given)
    assert whole.returncode == 0, whole.stderr
    (junit,) = (tmp_path / "w/podctl-ci").glob("*.junit.xml")
    assert junit.read_text().count("<testcase") == 4
    shutil.rmtree(tmp_path / "w/podctl-shards")
    # Another machine, with the cache of the first and its checkout elsewhere.
    moved = (tmp_path / "w").rename(tmp_path / "moved")
    clone(remote, moved, "worse")
    (cached,) = (moved / ".podctl-cache/templates").glob("tpl_*/password")
    alone = gitlab("podctl", moved, PODCTL_STATE=str(elsewhere / "2"), **given)
    assert alone.returncode == 100, alone.stderr
    assert "baseline run " in alone.stderr, "the base was run again"
    assert [path.read_text() for path in elsewhere.glob("2/templates/tpl_*/password")] == [cached.read_text()], (
        "it was built again"
    )
