"""A part of podctl is killed while an agent works; and gc beside what is not its business."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from killing import (
    CLEAN,
    RESUME,
    RUN,
    Ground,
    agent_runs,
    assert_nothing_lost,
    find,
    kill,
    killing_project,
    same_as_ever,
)
from machine import Process, processes, wait_until
from project import Project

from podctl.backends.local.state import State, since_boot_ns
from podctl.clock import SystemClock
from podctl.evidence.causes import Cause
from podctl.evidence.store import Store

CAMPAIGN = pytest.mark.campaign


def _descends(process: Process, ancestor: Callable[[Process], bool], mine: list[Process]) -> bool:
    by_pid = {one.pid: one for one in mine}
    while process.parent in by_pid:
        process = by_pid[process.parent]
        if ancestor(process):
            return True
    return False


def _is_init(process: Process) -> bool:
    return process.says("podinit.py")


def _runs(script: str) -> Callable[[Process, list[Process]], bool]:
    return lambda process, mine: process.says(script) and not process.says("--args")


def _sandbox_of_the_agent(process: Process, mine: list[Process]) -> bool:
    """The outermost bwrap, whose parent is the pod's init."""
    by_pid = {one.pid: one for one in mine}
    child = any(
        one.command[-1:] == ("/agent/main.py",) and _descends(one, lambda above: above.pid == process.pid, mine) for one in mine
    )
    return child and process.parent in by_pid and _is_init(by_pid[process.parent])


PARTS: dict[str, Callable[[Process, list[Process]], bool]] = {
    "database": lambda process, mine: process.says("/postgres") and "-D" in process.command,
    "session": lambda process, mine: (
        any("svc_counter" in part or "ag_" in part for part in process.command) and process.command[0].startswith("postgres:")
    ),
    "service": lambda process, mine: process.command[-1:] == ("service.py",) and not process.says("--args"),
    "sandbox": _sandbox_of_the_agent,
    "init": lambda process, mine: _is_init(process),
}


def mid_attempt(here: Ground, project: Project) -> subprocess.Popen[str]:
    """A run whose agent has had its model's answer for t0 and is at work."""
    running = here.start(project, *RUN)

    def answered() -> bool:
        streams = list(project.store.glob("runs/*/attempts/*/streams/gateway.jsonl"))
        said = [path.read_text() for path in streams]
        return any('"status":200' in text and "word0" in text for text in said) and agent_runs()

    wait_until(answered, "no agent has come so far")
    return running


@pytest.mark.parametrize("part", [pytest.param(part, marks=() if part == "database" else CAMPAIGN) for part in PARTS])
def test_a_part_of_a_pod_killed_while_an_agent_works(here: Ground, whole: dict[str, Any], tmp_path: Path, part: str) -> None:
    """The run goes on by itself: the attempt is made again in another pod, and what the first try cost is counted."""
    project = killing_project(tmp_path / "p", pause=1.0)
    running = mid_attempt(here, project)
    kill(find(part, PARTS[part]))
    out, said = running.communicate(timeout=60)
    assert running.returncode == 0, out + said
    result = project.run()
    assert same_as_ever(result) == {**whole, "sample": same_as_ever(result)["sample"]}
    assert_nothing_lost(project)
    tries = tries_of(project)
    assert [one.cause for one in tries if one.cause not in (Cause.COMPLETED,)] == [Cause.SANDBOX_FAILED]
    failed = next(one for one in tries if one.cause is Cause.SANDBOX_FAILED)
    assert failed.dollars == next(a.dollars for a in result.attempts if a.id == failed.attempt), "what it cost is lost"
    assert here.holdings() == CLEAN


def tries_of(project: Project) -> list[Any]:
    store = Store.open(project.store, SystemClock())
    try:
        return store.tries(store.find_run("latest"))
    finally:
        store.close()


def test_the_gateway_killed_while_an_agent_works(here: Ground, whole: dict[str, Any], tmp_path: Path) -> None:
    """Without it nothing goes on: the run ends with an error, and is finished by resuming it."""
    project = killing_project(tmp_path / "p", pause=1.0)
    running = mid_attempt(here, project)
    kill(find("gateway", lambda process, mine: process.says("podctl.gateway.process")))
    _, said = running.communicate(timeout=60)
    assert running.returncode == 3
    assert "the gateway was lost" in said and "Traceback" not in said
    assert here.holdings() == CLEAN, "the run did not clean up after itself"
    done = here.podctl(project, *RESUME)
    assert done.returncode == 0, done.stdout + done.stderr
    assert same_as_ever(project.run())["attempts"] == whole["attempts"]
    assert_nothing_lost(project)
    assert here.holdings() == CLEAN


# ---- money ----


class SlowProvider(BaseHTTPRequestHandler):
    """Answers when it is let; each answer has a price."""

    protocol_version = "HTTP/1.1"
    asked: list[str]
    gate: threading.Event

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = body["messages"][-1]["content"]
        type(self).asked.append(text)
        self.gate.wait(30)
        message = {"role": "assistant", "content": text.removeprefix("label ")}
        reply = {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "house-model",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
        data = json.dumps(reply).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # whoever asked is dead

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def slow_provider() -> Iterator[ThreadingHTTPServer]:
    SlowProvider.asked, SlowProvider.gate = [], threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), SlowProvider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        SlowProvider.gate.set()
        server.shutdown()
        server.server_close()


@CAMPAIGN
@pytest.mark.parametrize("who", ["podctl", "gateway"])
def test_a_kill_in_the_middle_of_a_model_call_is_paid_for(here: Ground, tmp_path: Path, who: str) -> None:
    """Nobody knows what the call cost: it counts at what was reserved for it, before the next call is made."""
    prices = {"house-model": {"input": 2, "output": 8}}
    key = {"HOUSE_KEY": "sk-real-key-77"}
    with slow_provider() as server:
        url = f"http://127.0.0.1:{server.server_port}/v1"
        model = {"mode": "live", "openai_url": url, "openai_key_env": "HOUSE_KEY", "prices": prices}
        project = killing_project(tmp_path / "p", model=model)
        running = here.start(project, *RUN, **key)
        wait_until(lambda: len(SlowProvider.asked) == 1, "no model call was made")
        kill(running.pid if who == "podctl" else find("gateway", lambda process, mine: process.says("podctl.gateway.process")))
        running.communicate(timeout=30)
        SlowProvider.gate.set()
        done = here.podctl(project, *RESUME, **key)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(SlowProvider.asked) == 4, "three answers, and the one that nobody heard"
    assert_nothing_lost(project)
    store = Store.open(project.store, SystemClock())
    spent = store.spent(store.find_run("latest"))
    store.close()
    known = 3 * (Decimal(10) * 2 + Decimal(5) * 8) / 1_000_000
    reserved = spent.dollars_upper - known
    assert spent.dollars is None, "it is not known what the run cost"
    assert reserved >= Decimal(50) * 8 / 1_000_000, "the answer could have been 50 tokens long"
    assert spent.tokens.total == 45
    assert here.holdings() == CLEAN


# ---- what is not gc's business ----


def test_gc_leaves_alone_what_is_foreign_or_alive(here: Ground, tmp_path: Path) -> None:
    living = killing_project(tmp_path / "living", pause=1.0)
    running = mid_attempt(here, living)
    agent = find("agent", lambda process, mine: process.command[-1:] == ("/agent/main.py",) and not process.says("--args"))
    os.kill(agent, signal.SIGSTOP)  # it lives for as long as this takes
    foreign = foreigners(here)
    dead = killing_project(tmp_path / "dead")
    here.kill_at("attempt.agent-running", dead, *RUN)
    try:
        before = here.holdings()
        lines = here.gc(dead)
        assert lines, "the kill left nothing: this proves nothing"
        state = State(here.state)
        mine = [record.id for record in state.records() if record.owner.pid == running.pid]
        assert mine and not {line["pod"] for line in lines} & set(mine)
        assert [name for name, alive in foreign.items() if not alive()] == []
        after = here.holdings()
        assert before.minus(after).kinds() == set() or all(
            any(pod in text for pod in {line["pod"] for line in lines}) for text in before.minus(after).files
        )
        os.kill(agent, signal.SIGCONT)
        out, said = running.communicate(timeout=60)
        assert running.returncode == 0, out + said
        assert sum(attempt.passed for attempt in living.run().attempts) == 2
        assert [attempt.tries for attempt in living.run().attempts] == [1, 1, 1], "the living run was disturbed"
        assert [name for name, alive in foreign.items() if not alive()] == []
    finally:
        running.kill()
        running.communicate()
        remove_foreigners(here)


#: A process that a careless cleaner would take for a pod's: by its argument, and under a uid of pods'.
_FOREIGN_GROUP = Path("/sys/fs/cgroup/pids/podctl-ffffffff/somebody")


def foreigners(here: Ground) -> dict[str, Callable[[], bool]]:
    """Things that look like podctl's and are not, each with whether it is still there."""
    directory = here.state / "pods" / "notes"
    directory.mkdir()
    (directory / "todo.txt").write_text("not podctl's")
    (here.state / "pods" / "file").write_text("not podctl's")
    (here.state / "pods" / ".hidden").mkdir()
    sleeper = [sys.executable, "-c", "import time; time.sleep(120)", "podinit.py", str(here.state / "pods" / "notes")]
    process = subprocess.Popen(sleeper)
    found: dict[str, Callable[[], bool]] = {
        "directory": (directory / "todo.txt").exists,
        "file": (here.state / "pods" / "file").exists,
        "hidden directory": (here.state / "pods" / ".hidden").exists,
        "process": lambda: process.poll() is None,
    }
    _FOREIGN.append(process)
    if os.getuid() == 0:
        under = subprocess.Popen(["sleep", "120"], user=State(here.state)._free_uids() + 1, cwd="/")
        _FOREIGN.append(under)
        found["process under a pod's uid"] = lambda: under.poll() is None
    if _FOREIGN_GROUP.parents[1].is_dir() and os.access(_FOREIGN_GROUP.parents[1], os.W_OK):
        _FOREIGN_GROUP.mkdir(parents=True)
        found["control group"] = _FOREIGN_GROUP.exists
    return found


_FOREIGN: list[subprocess.Popen[bytes]] = []


def remove_foreigners(here: Ground) -> None:
    while _FOREIGN:
        process = _FOREIGN.pop()
        process.kill()
        process.wait()
    (here.state / "pods" / "notes" / "todo.txt").unlink()
    (here.state / "pods" / "notes").rmdir()
    (here.state / "pods" / "file").unlink()
    (here.state / "pods" / ".hidden").rmdir()
    for path in (_FOREIGN_GROUP, _FOREIGN_GROUP.parent):
        if path.exists():
            path.rmdir()


# ---- what is said ----


@pytest.mark.campaign
def test_the_receipt_names_everything_that_was_held(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p", pause=30)
    running = mid_attempt(here, project)
    state = State(here.state)
    record = next(record for record in state.records() if record.owner.pid == running.pid)
    held = here.holdings()
    kinds = {"processes", "networks", "mounts", "files", "sockets"} | ({"uids"} if os.getuid() == 0 else set())
    assert kinds <= held.kinds(), "otherwise there is nothing to name"
    assert {"net:[" + network.split("[")[1] for network in held.networks} == set(record.networks)
    kill(running.pid)
    running.communicate(timeout=30)
    lines = here.gc(project)
    named = "\n".join(line["what"] for line in lines)
    assert record.init is not None and record.gateway is not None
    for thing in (
        f"process {record.init.pid} (init",
        f"process {record.gateway.pid} (gateway",
        *record.networks,
        f"mounts beneath {state.directory(record.id)}",
        f"socket {state.directory(record.id)}/sock/main-db/",
        f"directory {state.directory(record.id)}",
        *(f"cgroup {group}" for group in held.groups if f"/{record.id}" in group),
        *([f"uids {record.base_uid}-{record.base_uid + 3}"] if record.base_uid is not None else []),
    ):
        assert thing in named, f"the receipt does not name {thing}:\n{named}"
    assert here.holdings() == CLEAN


@pytest.mark.campaign
def test_any_next_call_notices(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    here.kill_at("attempt.agent-running", project, *RUN)
    run = project.run().info.id
    for command in (("get", "runs"), ("describe", "run", "latest"), ("validate", "scenario.yaml")):
        noticed = here.podctl(project, *command)
        assert noticed.returncode == 0
        assert f"1 pod is left of what died ({run}): podctl gc" in noticed.stderr
        assert ("interrupted" in noticed.stdout) == (command[0] != "validate")
    said = here.kill_at("run.admitted", project, *RUN)
    assert f"run {run} was cut off" in said and f"--resume {run}" in said
    assert "a dead run had left" in said
    assert "died" not in here.podctl(project, "get", "runs").stderr
    assert here.holdings() == CLEAN


@CAMPAIGN
def test_a_stopped_init_and_a_stopped_gateway_do_not_survive_their_podctl(here: Ground, tmp_path: Path) -> None:
    """Neither can notice that podctl is gone: gc ends the one, the kernel the other."""
    project = killing_project(tmp_path / "p", pause=30)
    running = mid_attempt(here, project)
    for what in ("podinit.py", "podctl.gateway.process"):
        os.kill(find(what, lambda process, mine, what=what: process.says(what)), signal.SIGSTOP)  # type: ignore[misc]
    kill(running.pid)
    running.communicate(timeout=30)
    time.sleep(0.2)
    assert not [process for process in processes() if process.says("podctl.gateway.process")], "the gateway goes on"
    assert [process for process in processes() if process.says("podinit.py")], "it ended by itself: this proves nothing"
    here.gc(project)
    assert here.holdings() == CLEAN


def test_a_killed_keeper_leaves_a_pod_that_gc_removes(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    kept = here.podctl(project, "up", "scenario.yaml").stdout.strip()
    record = State(here.state).read(kept)
    assert record is not None
    kill(record.owner.pid)
    wait_until(lambda: not record.owner.alive(), "the keeper does not die")
    named = [line["what"] for line in here.gc(project)]
    assert any(text.endswith("keeper.sock") for text in named)
    assert here.holdings() == CLEAN


@CAMPAIGN
def test_a_kept_pod_whose_time_is_over_goes_with_a_keeper_that_hangs(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    kept = here.podctl(project, "up", "scenario.yaml", "--ttl", "1s").stdout.strip()
    record = State(here.state).read(kept)
    assert record is not None
    os.kill(record.owner.pid, signal.SIGSTOP)
    wait_until(lambda: since_boot_ns() >= record.over_ns, "time does not pass")
    named = [line["what"] for line in here.gc(project)]
    assert f"process {record.owner.pid} (its keeper)" in named
    assert here.holdings() == CLEAN


def test_what_is_half_made_is_named_and_removed_and_a_template_under_way_is_left(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    state = State.open(here.state)
    half = [
        state.pods / ".a.new",
        state.pods / ".b.old",
        state.templates / "tpl_0.building",
        state.templates / "tpl_1.building",
    ]
    for path in half:
        (path / "inside").mkdir(parents=True)
    with state.locked("tpl_1"):
        said = here.podctl(project, "gc", "--dry-run").stdout
        assert [str(path) in said for path in half] == [True, True, True, False]
        assert "3 to remove" in said
        assert [line["what"] for line in here.gc(project)] == [f"directory {path}" for path in half[:3]]
        assert [path.exists() for path in half] == [False, False, False, True]
    assert [line["what"] for line in here.gc(project)] == [f"directory {half[3]}"]
