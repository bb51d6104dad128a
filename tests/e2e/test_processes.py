"""Processes in the evidence of a run: the agent's own, those of services, and what is said where there is none."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import SERVICE, Project, environment_for, make_project, ticket, traces_of

from podctl.backends.local.state import State
from podctl.evidence.causes import Cause

AGENT = r"""
import json, os, subprocess, sys, time, urllib.error, urllib.request
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
how = ticket["text"]
if how == "children":
    subprocess.run(["/bin/sh", "-c", "exit 3"])
    subprocess.run(["/bin/echo", "--key=" + os.environ["OPENAI_API_KEY"], os.environ["DATABASE_URL"]])
    subprocess.run(["/bin/true", "\x1b[2J\x1b]0;owned\x07", "line\nbreak", "x" * 300])
if how == "crowd":
    for _ in range(1200):
        os.fork() or os._exit(0)
        os.wait()
if how == "crash":
    try: urllib.request.urlopen("http://counter:8080/crash", timeout=3)
    except OSError: pass
    time.sleep(0.2)
if how == "wait":
    time.sleep(3)
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""
CRASHING = SERVICE.replace(
    "        global seen\n", '        global seen\n        if self.path == "/crash": os.kill(os.getpid(), 11)\n'
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    tickets = [ticket(how, how) for how in ("children", "crowd")]
    project = make_project(tmp_path_factory.mktemp("processes") / "p", agent=AGENT, tickets=tickets)
    ran = project.podctl("run", "scenario.yaml", "--html", "page.html")
    assert ran.returncode == 0, ran.stderr
    return project


def test_each_process_is_in_the_evidence(project: Project) -> None:
    records = project.records("children")
    children = {
        record["data"]["pid"]: record["data"]
        for record in records
        if record["kind"] == "process.start" and "pid" in record["data"]
    }
    ended = {
        record["data"]["pid"]: record["data"]
        for record in records
        if record["kind"] == "process.exit" and "pid" in record["data"]
    }
    assert next(data["argv"][:2] for data in children.values()) == ["/bin/sh", "-c"]
    own = next(data["pid"] for data in ended.values() if data.get("name") == "tester")
    assert {data["parent"] for data in children.values()} == {own}
    assert [ended[pid]["exit_code"] for pid in children] == [3, 0, 0]
    assert all(data["ms"] > 0 and data["cpu_s"] >= 0 for data in ended.values())
    usage = next(record["data"] for record in records if record["kind"] == "usage")
    assert usage["processes"] == 4 == project.attempts()["children"].processes
    assert project.podctl("audit", "verify", "latest").returncode == 0


def test_no_secret_of_the_attempt_is_in_it(project: Project) -> None:
    evidence = json.dumps([record for record in project.records("children") if record["kind"].startswith("process")])
    assert "--key=[redacted]" in evidence
    assert ":[redacted]@main-db" in evidence
    assert "pod-" not in evidence


def test_the_timeline_has_a_line_for_each_that_a_terminal_can_show(project: Project) -> None:
    shown = project.podctl("trace", "latest", "children", "--kind", "process").stdout
    assert all(line.isprintable() for line in shown.splitlines())
    lines = [line for line in shown.splitlines() if " of 2, " in line]
    assert len(lines) == 3
    assert re.search(r"\+0\.\d+s +agent +process +3 of 2, exit code 3, [0-9.]+ ms: /bin/sh -c 'exit 3'$", lines[0])
    assert r"\x1b[2J" in lines[2]
    page = (project.root / "page.html").read_text()
    assert "\x1b" not in page


def test_exports_have_them(project: Project) -> None:
    def exported(form: str) -> str:
        assert project.podctl("export", "latest", "--format", form, "--out", form).returncode == 0
        return next(
            path.read_text() for path in (project.root / form).iterdir() if project.attempts()["children"].id in path.name
        )

    otlp = json.loads(exported("otlp"))
    spans = [span for resource in otlp["resourceSpans"] for scope in resource["scopeSpans"] for span in scope["spans"]]
    shells = [span for span in spans if span["name"] == "process dash" or span["name"] == "process sh"]
    assert len(shells) == 1
    told = {attribute["key"]: attribute["value"] for attribute in shells[0]["attributes"]}
    assert told["process.exit.code"] == {"intValue": "3"}
    assert int(shells[0]["endTimeUnixNano"]) > int(shells[0]["startTimeUnixNano"])
    assert "sh -c 'exit 3'" in exported("atif")


def test_more_than_are_kept_are_counted_and_said(project: Project) -> None:
    attempt = project.attempts()["crowd"]
    assert (attempt.cause, attempt.processes) == (Cause.COMPLETED, 1201)
    starts = [record for record in project.records("crowd", "process.start") if "pid" in record["data"]]
    assert len(starts) == 999
    warnings = [record["data"]["body"] for record in project.records("crowd", "log")]
    assert warnings == ["201 of 1,201 processes were counted and not kept"]
    assert "1,201 processes" in project.podctl("trace", "latest", "crowd").stdout


def test_a_service_that_dies_is_in_the_attempt_that_it_died_in(tmp_path: Path) -> None:
    tickets = [ticket("crash", "crash"), ticket("children", "children")]
    settings = {"run": {"pods": 1, "retries": 0}}
    project = make_project(tmp_path / "p", agent=AGENT, tickets=tickets, service=CRASHING, scenario=settings)
    project.podctl("run", "scenario.yaml")
    assert project.attempts()["crash"].cause is Cause.SANDBOX_FAILED
    ends = [record for record in project.records("crash", "process.exit") if record["actor"] != "agent"]
    assert [(record["actor"], record["data"]) for record in ends] == [
        ("service:counter", {"name": "counter", "exit_code": None, "signal": 11})
    ]
    starts = {record["actor"]: record["data"]["argv"] for record in project.records("crash", "process.start")}
    assert starts["service:counter"] == ["${python}", "-B", "service.py"]
    assert starts["database:main-db"] == ["postgres"]
    assert "counter ended, killed by signal 11" in project.podctl("trace", "latest", "crash").stdout
    assert not [record for record in project.records("children", "process.exit") if record["actor"] != "agent"]


# ---- where there is no record ----


def kill_recorder(project: Project, running: subprocess.Popen[str]) -> None:
    """The first recorder that works in a pod of this run."""
    deadline = time.monotonic() + 60
    state = State.open()
    while time.monotonic() < deadline and running.poll() is None:
        for init in [record.init.pid for record in state.records() if record.owner.pid == running.pid and record.init]:
            try:
                children = Path(f"/proc/{init}/task/{init}/children").read_text().split()
                recorders = [pid for pid in children if "podctl-recorder" in Path(f"/proc/{pid}/comm").read_text()]
            except OSError:
                continue
            if recorders:
                time.sleep(0.2)
                os.kill(int(recorders[0]), signal.SIGKILL)
                return
        time.sleep(0.01)
    raise AssertionError("no recorder was seen")


@pytest.mark.campaign
def test_an_attempt_without_its_recorder_is_made_again(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("1", "wait")], scenario={"run": {"pods": 1}})
    running = project.start("run", "scenario.yaml")
    kill_recorder(project, running)
    assert running.wait(60) == 0, running.stderr
    attempt = project.attempts()["1"]
    assert (attempt.cause, attempt.tries) == (Cause.COMPLETED, 2)
    (first,) = project.store.glob("runs/*/attempts/*/tries/1/evidence.jsonl")
    end = next(record for record in map(json.loads, first.read_text().splitlines()) if record["kind"] == "attempt.end")
    assert end["data"]["cause"] == "sandbox_failed"
    assert "recorder of processes died" in end["data"]["detail"]
    assert traces_of(project.run()) == []


def test_where_ptrace_is_refused_a_run_says_so_or_does_not_begin(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("1", "children")])
    script = Path(__file__).parents[1] / "support" / "without_ptrace.py"

    def podctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), sys.executable, "-m", "podctl", *arguments]
        return subprocess.run(command, cwd=project.root, env=environment_for({}), capture_output=True, text=True, timeout=90)

    found = {item["name"]: item for item in json.loads(podctl("doctor", "-o", "json").stdout)["items"]}
    assert found["processes"]["state"] == "partly"
    assert "ptrace" in found["processes"]["detail"]
    ran = podctl("run", "scenario.yaml")
    assert ran.returncode == 0, ran.stderr
    assert project.attempts()["1"].processes is None
    assert any("processes are not recorded" in note for note in project.run().notes)
    (warning,) = [record["data"]["body"] for record in project.records("1", "log")]
    assert warning.startswith("processes were not recorded: ptrace: ")
    assert "processes unknown" in project.podctl("trace", "latest", "1").stdout
    scenario = project.root / "scenario.yaml"
    scenario.write_text(scenario.read_text().replace("run:\n", "run:\n  processes: required\n"))
    refused = podctl("run", "scenario.yaml")
    assert refused.returncode == 3
    assert "requires a record of processes" in refused.stderr
