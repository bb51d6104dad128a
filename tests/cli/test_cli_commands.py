"""The command line as a newcomer meets it: help, mistakes, the small project, kept pods."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project, make_project, ticket

from podctl.cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(tmp_path: Path, command: str) -> None:
    shown = Project(tmp_path).podctl(command, "--help")
    assert shown.returncode == 0
    assert f"Usage: podctl {command}" in shown.stdout
    assert f"podctl {command}" in shown.stdout.split("Options:")[0].split("\n", 1)[1] or command in ("doctor", "completion")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("rum",), 2, "did you mean run?"),
        (("run",), 2, "missing argument"),
        (("run", "nowhere.yaml"), 2, "nowhere.yaml"),
        (("trace", "latest", "t1"), 2, "error: "),
        (("get", "attempts", "nope"), 2, "error: "),
        (("psql", "nope"), 2, "no kept pod nope"),
        (("describe", "pod", "nope"), 2, "no pod nope"),
        (("schema", "Nope"), 2, "Scenario"),
        (("up", "x.yaml", "--ttl", "soon"), 2, "expected a duration"),
        (("learn", "incident", "t1", "--scenario", "x.yaml", "--because", " "), 2, "it says nothing"),
    ],
)
def test_mistakes_are_told_in_words(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    finished = Project(tmp_path).podctl(*arguments)
    assert (finished.returncode, finished.stdout) == (code, "")
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr
    assert finished.stderr.startswith("error: ")


def test_a_mistake_in_a_spec_has_its_position_and_makes_nothing(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("t1")])
    text = (project.root / "topology.yaml").read_text().replace("ready:", "reddy:")
    (project.root / "topology.yaml").write_text(text)
    for command in ("run", "validate", "plan"):
        finished = project.podctl(command, "scenario.yaml")
        assert finished.returncode == 2
        line = next(number for number, line in enumerate(text.splitlines(), 1) if "reddy" in line)
        assert f"topology.yaml:{line}:" in finished.stderr
        assert "ready" in finished.stderr
    assert not project.store.exists()


@pytest.mark.campaign
def test_init_gives_a_project_that_validates_plans_and_runs(tmp_path: Path) -> None:
    here = Project(tmp_path)
    made = here.podctl("init", "mine")
    assert made.returncode == 0, made.stderr
    project = Project(tmp_path / "mine")
    assert project.podctl("validate", "scenario.yaml").stdout == "scenario.yaml: a valid Scenario\n"
    planned = project.podctl("plan", "scenario.yaml")
    assert planned.returncode == 0, planned.stderr
    assert "make database/" in planned.stdout
    assert not project.store.exists(), "plan made something"
    reports = {"--html": "r.html", "--junit": "r.xml", "--markdown": "r.md", "--json": "r.json"}
    flags = [part for pair in reports.items() for part in pair]
    finished = project.podctl("run", "scenario.yaml", *flags)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert all((project.root / name).stat().st_size > 200 for name in reports.values())
    assert json.loads((project.root / "r.json").read_text())["verdict"] == "pass"
    listed = json.loads(project.podctl("get", "runs", "-o", "json").stdout)
    (run,) = listed["items"]
    assert (run["verdict"], run["passed"], run["spentDollars"], run["info"]["agentName"]) == ("pass", 12, "0", "first-agent")
    attempts = json.loads(project.podctl("get", "attempts", "latest", "-o", "json").stdout)["items"]
    assert attempts == json.loads((project.root / "r.json").read_text())["attempts"], "two commands say the same differently"
    assert f"agentVersion: '{run['info']['agentVersion']}'" in project.podctl("describe", "run", "latest").stdout
    assert here.podctl("init", "mine").returncode == 2, "init must not overwrite"


def test_a_kept_pod_is_looked_into_and_removed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent="print(1)", tickets=[ticket("t1")])
    up = project.podctl("up", "scenario.yaml", "--ttl", "10m")
    assert up.returncode == 0, up.stderr
    pod = up.stdout.strip()
    try:
        assert pod in project.podctl("get", "pods").stdout
        ran = project.podctl("exec", pod, "--", "sh", "-c", "cat /agent/main.py; echo to-err >&2; exit 7")
        assert (ran.returncode, ran.stdout, ran.stderr) == (7, "print(1)", "to-err\n")
        asked = "import os, urllib.request; print(urllib.request.urlopen(os.environ['COUNTER_URL'] + '/x').status)"
        called = project.podctl("exec", pod, "--", sys.executable, "-c", asked)
        assert called.stdout == "200\n", called.stderr
        count = project.podctl("psql", pod, "-tAc", "select count(*) from items")
        assert count.stdout.strip() == "20", count.stderr
        assert project.podctl("logs", pod, "main-db").returncode == 0
        assert "owner" in project.podctl("describe", "pod", pod).stdout
        assert json.loads(project.podctl("gc", "-o", "json").stdout)["items"] == [], "gc took a pod that is kept"
    finally:
        down = project.podctl("down", pod)
    assert down.stdout == f"{pod}: gone\n"
    assert pod not in project.podctl("get", "pods").stdout


def test_doctor_names_what_there_is(tmp_path: Path) -> None:
    found = Project(tmp_path).podctl("doctor", "-o", "json")
    names = {item["name"] for item in json.loads(found.stdout)["items"]}
    assert {"sandbox", "postgresql", "bubblewrap", "seccomp", "cgroups"} <= names
    assert found.returncode == 0, found.stderr


def test_without_user_namespaces_an_untrusted_agent_is_refused_and_doctor_says_why(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent="", tickets=[ticket("t1")])
    code = (
        "import ctypes, struct, sys, runpy\n"
        # A filter of our own that refuses unshare(2), inherited by all that podctl starts.
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "steps = [(0x20,0,0,0),(0x15,0,1,272),(0x06,0,0,0x00050001),(0x06,0,0,0x7fff0000)]\n"
        "data = b''.join(struct.pack('HBBI', *s) for s in steps)\n"
        "buffer = ctypes.create_string_buffer(data)\n"
        "program = struct.pack('HxxxxxxP', len(steps), ctypes.addressof(buffer))\n"
        "assert libc.prctl(38, 1, 0, 0, 0) == 0\n"
        "assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0\n"
        "sys.argv = ['podctl', *sys.argv[1:]]\n"
        "runpy.run_module('podctl', run_name='__main__')\n"
    )
    from project import environment_for

    def podctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, *arguments]
        return subprocess.run(command, cwd=project.root, env=environment_for({}), capture_output=True, text=True, timeout=60)

    doctor = podctl("doctor")
    assert doctor.returncode == 3
    assert "NO  sandbox" in doctor.stdout
    assert "sysctl" in doctor.stdout
    refused = podctl("run", "scenario.yaml", "-q")
    assert refused.returncode == 3
    assert "cannot isolate an untrusted agent" in refused.stderr
    assert "nothing was made" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_store_of_another_version_or_no_store_is_refused_in_words(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.store.mkdir()
    (project.store / "store.db").write_bytes(b"not a database at all, " * 100)
    refused = project.podctl("get", "runs")
    assert refused.returncode == 3
    assert refused.stderr.startswith("error: ")
    (project.store / "store.db").unlink()
    assert project.podctl("get", "runs").returncode == 0
    with sqlite3.connect(project.store / "store.db") as database:
        database.execute("update alembic_version set version_num = '0099_podctl_9.9'")
    newer = project.podctl("get", "runs")
    assert newer.returncode == 3
    assert "newer" in newer.stderr


def test_completion_offers_the_commands(tmp_path: Path) -> None:
    script = Project(tmp_path).podctl("completion", "bash")
    assert "_PODCTL_COMPLETE" in script.stdout
    offered = Project(tmp_path).podctl(_PODCTL_COMPLETE="bash_complete", COMP_WORDS="podctl ", COMP_CWORD="1")
    assert "run" in offered.stdout


def test_help_is_quick(tmp_path: Path) -> None:
    code = (
        "import sys; from podctl.cli import main; print([m for m in ('pydantic', 'sqlalchemy', 'scipy') if m in sys.modules])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert loaded.stdout == "[]\n", loaded.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make another user's file")
def test_another_users_store_above_is_not_ones_own(tmp_path: Path) -> None:
    store = tmp_path / ".podctl" / "store.db"
    below = Project(tmp_path / "mine")
    below.root.mkdir()
    assert Project(tmp_path).podctl("get", "runs").returncode == 0
    assert store.exists()
    store.write_bytes(b"not a store")
    assert "damaged" in below.podctl("get", "runs").stderr, "the nearest store above is the one that is read"
    os.chown(store, 4711, 4711)
    assert below.podctl("get", "runs").returncode == 0
