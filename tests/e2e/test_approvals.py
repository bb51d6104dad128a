"""Approvals in real runs: proposed, answered by rules and by a person at the command line, carried out in the pod, recorded, counted."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import yaml
from project import Project, make_project, relabel, ticket

from podctl.signing import SigningKey, make_key

AGENT = r"""
import json, os, urllib.error, urllib.request
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
number = int(ticket["id"])
proposal = {"service": "counter", "method": "POST", "path": "/rename", "reason": "asked \x1b[2J for",
            "body": {"id": number, "label": ticket["text"], "amount": number}}
if number > 10: proposal = {"database": "main-db", "table": "items", "operation": "update", "key": {"id": number},
                            "values": {"label": ticket["text"]}, "reason": "asked \x1b[2J for"}
request = urllib.request.Request(os.environ["PODCTL_APPROVALS"], json.dumps(proposal).encode(), {"Prefer": "wait=15"})
with urllib.request.urlopen(request) as answer: told = json.load(answer)
try: urllib.request.urlopen(os.environ["COUNTER_URL"] + "/rename", b"{}")
except urllib.error.HTTPError as error: told["direct"] = json.load(error)["error"]["message"]
json.dump({"status": "done", "output": told}, open(os.environ["PODCTL_RESULT"], "w"))
"""
BOUNDARY = {
    "databases": {"main-db": {"items": {"read": ["id", "label"], "recommend": {"update": ["label"]}}}},
    "services": {"counter": {"GET /**": "read", "POST /rename": "recommend"}},
}
SMALL = {
    "of": "POST counter /rename",
    "when": {"body.amount": {"at_most": 5}},
    "answer": "approve",
    "delay": "4m",
    "attention": "90s",
}


OF_A_ROW = {"of": "UPDATE main-db.items.label", "when": {"row.label": "item 12", "key.id": 12}, "answer": "approve"}


def project_with(root: Path, approvals: dict[str, Any], tickets: list[dict[str, Any]], **more: Any) -> Project:
    scenario = {"approvals": approvals, "gate": {"pass_rate": 0.5, "boundary_violations": None}, "run": {"pods": 1}}
    project = make_project(root, agent=AGENT, tickets=tickets, scenario=scenario, **more)
    boundary = yaml.safe_load((project.root / "boundary.yaml").read_text())
    (project.root / "boundary.yaml").write_text(yaml.safe_dump(boundary | BOUNDARY))
    return project


def test_rules_answer_and_a_headless_run_asks_nobody(tmp_path: Path) -> None:
    (tmp_path / "alice.pub").write_text(SigningKey.new().public.pem)
    approvals = {
        "people": {"alice": str(tmp_path / "alice.pub")},
        "rules": [SMALL, OF_A_ROW, {"answer": "person", "timeout": "10s"}],
    }
    tickets = [ticket("3", "small", [relabel(3, "small")]), ticket("9", "large"), ticket("12", "a row", [relabel(12, "a row")])]
    project = project_with(tmp_path / "p", approvals, tickets)
    planned = project.podctl("plan", "scenario.yaml").stdout
    assert (
        "  POST counter /rename: approve, by body.amount (simulated)\n" in planned
        and "  *: by people, within 10.0 s;" in planned
    )
    done = project.podctl("run", "scenario.yaml", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    attempts = project.attempts()
    assert [attempts[one].passed for one in ("3", "9", "12")] == [True, True, True]
    kinds = [
        record["kind"].removeprefix("approval.") for record in project.records("3") if record["kind"].startswith("approval")
    ]
    assert kinds == ["proposed", "answered", "executed", "returned"]
    [renamed] = [record for record in project.records("3", "row.change") if record["data"]["table"] == "items"]
    assert renamed["actor"] == "service:counter"
    counts = attempts["9"].approvals
    assert counts is not None and (counts.proposed, counts.denied, counts.executed) == (1, 1, 0)
    assert attempts["3"].boundary_attempts == attempts["9"].boundary_attempts == 1, "the direct request, each"
    [proposed] = [record["data"] for record in project.records("12", "approval.proposed")]
    [written] = project.records("12", "row.change")
    assert written["actor"] == "gateway" and written["data"]["approval"] == {"proposal": proposed["id"], "by": "rule 2"}
    assert proposed["arguments"]["row"] == {"id": "12", "label": "item 12"} and "hidden" not in json.dumps(proposed)
    assert written["who"]["attempt"].endswith(attempts["12"].id) and not project.records("12", "boundary.attempt")[1:]
    undone = project.podctl("undo", "latest", "12")
    assert undone.returncode == 0 and "\"label\" = 'item 12'" in undone.stdout, undone.stdout + undone.stderr
    [told] = [record["data"] for record in project.records("9", "approval.answered")]
    assert told["reason"].startswith("nobody can be asked: this runs ")
    summed = "3 proposals: 2 approved, 1 denied; 2 carried out; 2 answers simulated by rules; answers took 4 min 00 s in all;"
    assert summed in " ".join(done.stdout.split())
    assert "no person is asked to approve anything, and what they would be asked is denied: this runs " in (
        " ".join(done.stdout.split())
    )
    page = (project.store / "runs" / project.run().info.id / "report.html").read_text()
    assert summed in page and "90.0 s of people" in page
    traced = project.podctl("trace", "latest", "3").stdout
    assert "by rule 1, simulated" in traced and "after 240 s, only counted" in traced and "\x1b" not in traced
    run = project.run().info.id
    left = json.loads((project.store / "runs" / run / "attempts" / attempts["3"].id / "result.json").read_text())
    assert (
        '{"service": "counter", "method": "POST"' in left["output"]["direct"]
        and "http://gateway/approvals" in left["output"]["direct"]
    )


def wait_for_proposal(project: Project, run: Any) -> dict[str, Any]:
    for _ in range(100):
        listed = project.podctl("approvals", "list", "-o", "json")
        if listed.returncode == 0 and (items := json.loads(listed.stdout)["items"]):
            return dict(items[0])
        assert run.poll() is None, run.communicate()
        time.sleep(0.2)
    raise AssertionError("nothing was proposed")


def test_a_person_approves_from_another_process(tmp_path: Path) -> None:
    alice = make_key(tmp_path / "alice.pem")
    (tmp_path / "alice.pub").write_text(alice.public.pem)
    mallory = tmp_path / "mallory.pem"
    make_key(mallory)
    approvals = {
        "people": {"alice": str(tmp_path / "alice.pub")},
        "rules": [{"answer": "person", "timeout": "15s", "attention": "2m"}],
    }
    project = project_with(tmp_path / "p", approvals, [ticket("9", "by a person", [relabel(9, "by a person")])])
    barred = project.podctl("run", "scenario.yaml", "-q", "--attended", PODCTL_SIGNING_KEY=str(tmp_path / "alice.pem"))
    assert barred.returncode == 2 and "no-approver" in barred.stderr and "nothing was started" in barred.stderr
    run = project.start("run", "scenario.yaml", "-q", "--attended")
    proposal = wait_for_proposal(project, run)
    shown = project.podctl("approvals", "show", proposal["id"][:10])
    assert shown.returncode == 0 and "POST counter /rename" in shown.stdout and "by a person" in shown.stdout
    assert "\x1b" not in shown.stdout and "\\x1b[2J" in shown.stdout
    refused = project.podctl("approvals", "approve", proposal["id"], "--key", str(mallory))
    assert refused.returncode == 2 and "not-an-approver" in refused.stderr
    approved = project.podctl("approvals", "approve", proposal["id"], "--key", str(tmp_path / "alice.pem"), "--reason", "go on")
    assert approved.returncode == 0, approved.stderr
    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, out + err
    again = project.podctl("approvals", "deny", proposal["id"], "--key", str(tmp_path / "alice.pem"))
    assert again.returncode == 3 and "proposal-over" in again.stderr
    attempt = project.attempts()["9"]
    assert attempt.passed and attempt.approvals is not None and attempt.approvals.attention_s == 120
    [told] = project.records("9", "approval.answered")
    assert (told["actor"], told["data"]["key"], told["data"]["reason"]) == ("human:alice", alice.id, "go on")
    log = project.podctl("audit", "show", "latest").stdout
    assert "approval.answered" in log and "go on" not in log
    verified = project.podctl("audit", "verify", "latest")
    assert verified.returncode == 0, verified.stdout + verified.stderr
