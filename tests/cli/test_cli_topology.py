"""`podctl topology import` as it is typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import environment_for

COMPOSE = (
    "services:\n  web:\n    image: shop/web\n    ports: [80]\n    environment: {API_TOKEN: blue42monkey}\n    restart: always\n"
)
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: web, image: w, ports: [{containerPort: 80}]}]}\n"


def run(directory: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podctl", "topology", "import", *arguments]
    return subprocess.run(
        command, cwd=directory, env=environment_for({}), input=given, capture_output=True, text=True, timeout=60
    )


def test_without_a_file_nothing_is_written_and_the_report_is_shown(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    done = run(tmp_path, "compose.yaml")
    assert done.returncode == 0 and "nothing was written" in done.stderr
    lines = done.stdout.splitlines()
    assert "compose.yaml:6:5: left out: service web restart: a service that ends fails the attempt" in done.stdout
    assert lines[-1].endswith("1 secrets replaced") and not any(" image" in line for line in lines)
    assert any("imported: service web image" in line for line in run(tmp_path, "compose.yaml", "-v").stdout.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["compose.yaml"]


def test_a_file_and_the_report_as_json(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    done = run(tmp_path, "compose.yaml", "-o", "made.yaml", "-o", "json", "--name", "production")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["kind"] == "TopologyImport" and report["secretsReplaced"] == 1 and report["name"] == "production"
    assert report == json.loads((tmp_path / "made.import.json").read_text())
    assert "blue42monkey" not in done.stdout + done.stderr + (tmp_path / "made.yaml").read_text()
    again = run(tmp_path, "compose.yaml", "-o", "made.yaml")
    assert again.returncode == 2 and "made.yaml is there already" in again.stderr and "--force" in again.stderr
    assert run(tmp_path, "compose.yaml", "-o", "made.yaml", "--force").returncode == 0


def test_manifests_come_from_a_pipe(tmp_path: Path) -> None:
    done = run(tmp_path, "-", "-o", "made.yaml", given=POD)
    assert done.returncode == 0 and "standard input:1:1: " in done.stdout, done.stderr
    assert "web:" in (tmp_path / "made.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "name a SOURCE, or --namespace"),
        (("compose.yaml", "--namespace", "x"), "name a SOURCE, or --namespace"),
        (("compose.yaml", "-o", "a.yaml", "-o", "b.yaml"), "-o names one file"),
        (("compose.yaml", "-o", "a.txt"), "ends with .yaml"),
        (("compose.yaml", "--name", "Not A Name"), "small letters"),
        (("nobody.yaml",), "no such file or directory: nobody.yaml"),
        (("compose.yaml", "-o", "nowhere/a.yaml"), "no such directory: nowhere"),
        (("empty",), "no Compose file and no manifest"),
    ],
)
def test_what_is_typed_wrongly_is_said(arguments: tuple[str, ...], word: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, *arguments)
    assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compose.yaml", "empty"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "closed").mkdir(mode=0o555)
    done = run(tmp_path, "compose.yaml", "-o", "closed/a.yaml")
    assert done.returncode == 3 and "[not-permitted]" in done.stderr
