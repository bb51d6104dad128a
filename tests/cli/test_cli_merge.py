"""Shards from the command line: each in a store of its own, as jobs of continuous integration have them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from project import Project

from podctl.faults import SETTING


@pytest.mark.campaign
def test_shards_of_two_machines_are_merged_judged_and_verified(tmp_path: Path) -> None:
    assert Project(tmp_path).podctl("init", "p").returncode == 0
    project = Project(tmp_path / "p")
    for number in (1, 2):
        made = project.podctl(
            "run", "scenario.yaml", "-q", "--sample", "4", "--shard", f"{number}/2", "--store", f"s{number}", "-o", "json"
        )
        assert made.returncode == 0, made.stderr
        shard = json.loads(made.stdout)
        assert shard["verdict"] == "inconclusive"
        assert shard["run"]["shard"] == {"number": number, "of": 2, "runDollars": "12.500000"}
        assert shard["headline"].startswith(f"Shard {number}/2 of first-agent 1: it resolved 2 of 2 tickets")
    alone = project.podctl("merge", "s2")
    assert (alone.returncode, alone.stdout) == (2, "")
    assert "shard 1/2 is missing [merge-missing]" in alone.stderr
    one = next((project.root / "s1" / "runs").iterdir())
    for name in ("merge.copied", "merge.stored"):
        killed = project.podctl("merge", "s1", "s2", **{SETTING: f"kill:{name}"})
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    whole = project.podctl("merge", "s2", str(one), "--junit", "junit.xml")
    assert whole.returncode == 0, whole.stderr
    assert "No verdict on first-agent 1: it resolved 4 of 4 tickets" in whole.stdout
    assert (project.root / "junit.xml").read_text().count("<testcase") == 4
    assert project.podctl("audit", "verify", "latest").stdout.endswith("4 of 4 attempts are as sealed\n")
    assert project.podctl("merge", "s1", "s2", "--baseline", "latest").stderr.startswith("these shards were merged before")
    assert "shard 1/2" in project.podctl("get", "runs", "--store", "s1").stdout
    assert len(project.podctl("get", "runs", "-o", "name").stdout.splitlines()) == 1


@pytest.mark.campaign
def test_a_shard_is_not_asked_for_a_verdict(tmp_path: Path) -> None:
    assert Project(tmp_path).podctl("init", "p").returncode == 0
    project = Project(tmp_path / "p")
    for options, said in {
        ("--shard", "1/2", "--strict"): "give --strict to podctl merge",
        ("--shard", "1/2", "--baseline", "latest"): "give --baseline to podctl merge",
        ("--shard", "3/2"): "write I/N",
        ("--shard", "1/13"): "at most --shard I/12",
    }.items():
        refused = project.podctl("run", "scenario.yaml", *options)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert said in refused.stderr
    assert not project.store.exists()
