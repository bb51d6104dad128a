"""A small project whose runs are killed, cleaned up after and resumed; what must be the same however that went."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from machine import Holdings, Process, holdings, processes, wait_until
from project import Project, make_project, relabel, ticket

from podctl.backends.local.state import State
from podctl.clock import SystemClock
from podctl.evidence.results import RunResult
from podctl.evidence.store import Store
from podctl.faults import SETTING

CLEAN = Holdings()
RUN = ("run", "scenario.yaml", "-q")
RESUME = (*RUN, "--resume", "latest")

#: Asks the model for a label, writes it, asks a service; fails when one of them is not there.
AGENT = r"""
import json, os, time, urllib.request, psycopg
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
def ask(url, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **headers})
    return json.load(urllib.request.urlopen(request, timeout=20))
said = ask(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions",
    {"model": "MODEL", "max_tokens": 50, "messages": [{"role": "user", "content": ticket["text"]}]},
    authorization="Bearer " + os.environ["OPENAI_API_KEY"],
)["choices"][0]["message"]["content"]
if ticket["id"] == "t0":
    time.sleep(PAUSE)
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("update items set label = %s where id = 1", (said,))
seen = ask(os.environ["COUNTER_URL"] + "/seen")["seen"]
json.dump({"status": "done", "output": {"said": said, "seen": seen}}, open("result.json", "w"))
"""

SCRIPT = "rules:\n  - {match: 'label (?P<word>\\w+)', reply: '${word}'}\n"


def killing_project(root: Path, *, pause: float = 0.0, model: dict[str, Any] | None = None, pods: int = 1) -> Project:
    """Three tickets: two that the agent gets right, and one that it does not. With t0 it takes ``pause`` seconds."""
    tickets = [ticket(f"t{n}", f"label word{n}", changes=[relabel(1, f"word{n}" if n != 1 else "other")]) for n in range(3)]
    project = make_project(
        root,
        agent=AGENT.replace("PAUSE", str(pause)).replace("MODEL", "house-model" if model else "scripted-labels"),
        tickets=tickets,
        scenario={
            "run": {"pods": pods, "seed": 5},
            "checks": [{"kind": "state"}, {"kind": "output", "name": "fresh", "path": "output.seen", "equals": 1}],
            "model": model
            or {"mode": "scripted", "script": "script.yaml", "prices": {"scripted-labels": {"input": 3, "output": 7}}},
        },
    )
    (project.root / "script.yaml").write_text(SCRIPT)
    return project


@dataclass
class Ground:
    """A state directory and a TMPDIR of their own, so that everything in them is podctl's."""

    state: Path
    temporary: Path
    environment: dict[str, str] = field(init=False)
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.environment = {"PODCTL_STATE": str(self.state), "TMPDIR": str(self.temporary)}

    def holdings(self) -> Holdings:
        return holdings(self.state, self.temporary, State(self.state).scope)

    def podctl(
        self, project: Project, *arguments: str, through: Sequence[str] = (), **more: str
    ) -> subprocess.CompletedProcess[str]:
        return project.podctl(*arguments, through=through, **{**self.environment, **more})

    def start(self, project: Project, *arguments: str, through: Sequence[str] = (), **more: str) -> subprocess.Popen[str]:
        self.started.append(project.start(*arguments, through=through, **{**self.environment, **more}))
        return self.started[-1]

    def kill_at(self, point: str, project: Project, *arguments: str) -> str:
        """Fails unless the command comes to the point, and is killed there; what it said on stderr until then."""
        done = self.podctl(project, *arguments, **{SETTING: f"kill:{point}"})
        assert done.returncode == -signal.SIGKILL, (
            f"{point} was not reached: exit {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done.stderr

    def gc(self, project: Project) -> list[dict[str, Any]]:
        """The receipt's lines; all of them gone."""
        done = self.podctl(project, "gc", "-o", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        lines: list[dict[str, Any]] = json.loads(done.stdout)["items"]
        assert all(line["gone"] for line in lines), lines
        return lines


@contextmanager
def ground() -> Iterator[Ground]:
    directory = Path(tempfile.mkdtemp(prefix="pk-", dir="/var/tmp"))
    directory.chmod(0o711)  # pods' users must come through
    for name in ("s", "t"):
        (directory / name).mkdir()
    try:
        made = Ground(directory / "s", directory / "t")
        yield made
    finally:
        for process in made.started:  # what a failed test left
            process.kill()
            process.communicate()
        shutil.rmtree(directory)


#: Fields of an attempt's result that differ from one making to the next.
_VARYING = {"wall_s", "cpu_s", "max_rss", "queue_s", "phases", "pod", "started_ns", "ended_ns", "tries", "evidence_root"}


def same_as_ever(result: RunResult) -> dict[str, Any]:
    """What of a run may not depend on how often it was killed: all but times, pods, numbers of tries and hashes."""
    return {
        "status": result.status,
        "verdict": result.verdict,
        "early": result.comparison and (result.comparison.early_stop, result.comparison.flips),
        "findings": [(finding.name, finding.verdict, finding.measured) for finding in result.findings],
        "sample": (result.info.sample_digest, result.info.sample_size, result.info.seed),
        "attempts": [
            {name: value for name, value in vars(attempt).items() if name not in _VARYING} for attempt in result.attempts
        ],
    }


def assert_nothing_lost(project: Project) -> None:
    """Of the latest run: each attempt once, and no cent or token that the gateway recorded is missing."""
    store = Store.open(project.store, SystemClock())
    try:
        run = store.find_run("latest")
        result, spent, planned = store.load_run(run), store.spent(run), store.planned(run)
    finally:
        store.close()
    assert [state.state for state in planned] == ["ended"] * len(planned)
    assert sorted(attempt.id for attempt in result.attempts) == sorted({state.planned.id for state in planned})
    dollars, tokens, unknown = Decimal(0), 0, Decimal(0)
    calls: dict[str, dict[str, Any]] = {}
    for path in sorted((project.store / "runs" / run).rglob("*.jsonl")):
        for line in path.read_text().splitlines(keepends=True):
            record = json.loads(line) if line.endswith("\n") else {}
            if record.get("kind") == "model.call":
                calls.setdefault(record["data"]["call_id"], {}).update(record["data"])
    for call in calls.values():
        if call.get("dollars") is None:
            unknown += Decimal(call["reserved"]["dollars"])
        else:
            dollars += Decimal(call["dollars"])
            tokens += sum(call["tokens"].values())
    assert spent.dollars_upper >= dollars + unknown, "money that was recorded is lost"
    assert spent.tokens.total >= tokens, "tokens that were recorded are lost"
    assert unknown or spent.dollars == dollars, "known money is not known any more"
    assert len(calls) >= len(planned)


def find(what: str, matches: Callable[[Process, list[Process]], bool]) -> int:
    """The pid of the first process that matches, waited for."""
    found: list[int] = []

    def look() -> bool:
        mine = processes()
        found[:] = [process.pid for process in mine if matches(process, mine)]
        return bool(found)

    wait_until(look, f"there is no {what}")
    return found[0]


def agent_runs() -> bool:
    return any(process.command[-1:] == ("/agent/main.py",) and not process.says("--args") for process in processes())


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
