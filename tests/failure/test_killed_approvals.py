"""podctl is killed between a person's grant, its execution and what comes back: nothing that was approved is done twice."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from killing import CLEAN, Ground
from machine import wait_until
from project import Project, make_project, ticket

from podctl.approvals.grants import Grant, sign
from podctl.clock import SystemClock
from podctl.evidence.store import Store
from podctl.faults import SETTING
from podctl.signing import SigningKey

AGENT = """
import json, os, urllib.request
proposal = PROPOSAL
request = urllib.request.Request(os.environ["PODCTL_APPROVALS"], json.dumps(proposal).encode(), {"Prefer": "wait=15"})
json.dump({"status": "done", "output": json.load(urllib.request.urlopen(request))}, open(os.environ["PODCTL_RESULT"], "w"))
"""
REQUEST = {"service": "counter", "method": "POST", "path": "/pay", "reason": "r", "body": {}}
ROW = {"database": "main-db", "table": "ledger", "operation": "insert", "values": {"amount": 1}, "reason": "r"}
#: Writing a row of it is long, too.
SLOW = """
create function slow() returns trigger language plpgsql security definer as $$ begin perform pg_sleep(1.5); return new; end $$;
create trigger slow after insert on ledger for each row execute function slow();
"""
#: Each call pays once more, and is long in saying so.
SERVICE = """
import os, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def do_POST(self):
        import psycopg
        with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
            connection.execute("insert into ledger (amount) values (1)")
        time.sleep(1.5)
        self.send_response(200); self.end_headers(); self.wfile.write(b"paid")
HTTPServer((os.environ["HOST"], 8080), Handler).serve_forever()
"""
RUN = ("run", "scenario.yaml", "-q", "--attended")
ALICE = SigningKey.new()
PAID = [{"database": "main-db", "table": "ledger", "op": "insert", "key": {"id": 1}, "values": {"amount": 1}}]


def project_of(root: Path, proposal: dict[str, Any]) -> Project:
    approvals = {"people": {"alice": "alice.pub"}, "rules": [{"answer": "person", "timeout": "15s"}]}
    scenario = {"approvals": approvals, "run": {"pods": 1}, "gate": {"pass_rate": 1}}
    agent = AGENT.replace("PROPOSAL", repr(proposal))
    project = make_project(root, agent=agent, tickets=[ticket("t1", changes=PAID)], scenario=scenario, service=SERVICE)
    (root / "alice.pub").write_text(ALICE.public.pem)
    boundary = yaml.safe_load((root / "boundary.yaml").read_text()) | {"services": {"counter": {"POST /pay": "recommend"}}}
    boundary["databases"]["main-db"]["ledger"] = {"read": False, "recommend": {"insert": ["amount"]}}
    if proposal == ROW:
        (root / "schema.sql").write_text((root / "schema.sql").read_text() + SLOW)
    (root / "boundary.yaml").write_text(yaml.safe_dump(boundary))
    return project


@contextmanager
def approver(project: Project) -> Iterator[None]:
    """A person at another terminal, who approves whatever waits."""
    over = threading.Event()

    def approve() -> None:
        while not over.wait(0.1):
            if not (project.store / "store.db").exists():
                continue
            store = Store.open(project.store, SystemClock())
            for question in [one for one in store.questions() if one.state == "waiting" and one.until_ns > time.time_ns()]:
                where = question.asked["setting"]
                grant = Grant(
                    question.id, question.asked["action"], where["attempt"], where["pod"], "approved", 0, int(time.time()) + 60
                )
                store.answer(question, sign(grant, ALICE), {"answer": "approved"})
            store.close()

    thread = threading.Thread(target=approve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def executed(project: Project) -> Counter[str]:
    """Proposal -> how often it was carried out, in every try there was."""
    files = [
        path for path in (project.store / "runs").rglob("*") if path.suffix in (".jsonl", ".part") or ".jsonl" in path.name
    ]
    lines = {line for path in files for line in path.read_text().splitlines() if '"approval.executed"' in line}
    return Counter(json.loads(line)["data"]["id"] for line in lines)


@pytest.mark.parametrize(
    ("proposal", "who", "moment"),
    [
        pytest.param(REQUEST, "service:counter", "approval.asked", marks=pytest.mark.campaign),
        pytest.param(REQUEST, "service:counter", "approval.taken", marks=pytest.mark.campaign),
        pytest.param(REQUEST, "service:counter", "approval.granted", marks=pytest.mark.campaign),
        (REQUEST, "service:counter", "it is carried out"),
        pytest.param(ROW, "gateway", "approval.taken", marks=pytest.mark.campaign),
        pytest.param(ROW, "gateway", "approval.granted", marks=pytest.mark.campaign),
        pytest.param(ROW, "gateway", "it is carried out", marks=pytest.mark.campaign),
    ],
)
def test_what_was_approved_is_done_once(here: Ground, tmp_path: Path, proposal: dict[str, Any], who: str, moment: str) -> None:
    project = project_of(tmp_path / "p", proposal)
    fault = {SETTING: f"kill:{moment}"} if moment.startswith("approval") else {}
    with approver(project):
        run = here.start(project, *RUN, **fault)
        if not fault:
            wait_until(lambda: bool(executed(project)), "nothing was carried out")
            time.sleep(0.5)  # the service has paid, and not said so; the row is written, and not for good
            run.send_signal(signal.SIGKILL)
        out, err = run.communicate(timeout=60)
        assert run.returncode == -signal.SIGKILL, out + err
        before = executed(project)
        done = here.podctl(project, *RUN, "--resume", "latest")
        assert done.returncode == 0, done.stdout + done.stderr
    [paid] = [record for record in project.records("t1", "row.change") if record["data"]["table"] == "ledger"]
    assert paid["actor"] == who and project.attempts()["t1"].passed
    done_by = executed(project)
    assert set(done_by.values()) == {1} and len(done_by - before) == 1, "by a grant of its own"
    store = Store.open(project.store, SystemClock())
    questions = store.questions()
    store.close()
    assert len(questions) == 2 and not any(one.state == "waiting" for one in questions)
    assert questions[0].asked["action"] != questions[1].asked["action"], "another pod: another action"
    assert here.holdings() == CLEAN
