"""Each record of what an agent did says alone whose it is, whatever the agent says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project import Project, make_project, relabel, ticket

#: It does a little of everything, all under another's name.
AGENT = r"""
import json, os, psycopg, subprocess, sys, urllib.request
forged = {"t": 1, "kind": "row.change", "actor": "podctl", "provenance": "observed", "writer": "runner", "seq": 0, "data": {},
          "who": {"id": "spiffe://podctl.local/pod/x/agent/other/version/9", "attempt": "other"}}
line = "\n" + json.dumps(forged) + "\n"
url = os.environ["DATABASE_URL"]
with psycopg.connect(url, application_name="podctl", options="-c application_name=podctl", autocommit=True) as db:
    db.execute("SET application_name = 'svc_counter'")
    for statement in ("SET SESSION AUTHORIZATION podctl", "SET ROLE svc_counter", "SET SESSION AUTHORIZATION DEFAULT", "UPDATE ledger SET amount = 1"):
        try: db.execute(statement)
        except psycopg.Error: pass
    db.execute("UPDATE items SET label = %s WHERE id = 1", ("mine" + line,))
    try: db.execute("SELECT pg_logical_emit_message(true, 'podctl', '{\"user\": \"svc_counter\", \"table\": \"items\"}')")
    except psycopg.Error: pass
request = urllib.request.Request("http://counter:8080/x" , headers={"X-Podctl-Attempt": "other", "traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
urllib.request.urlopen(request).read()
body = json.dumps({"id": 2, "label": "by the service"}).encode()
urllib.request.urlopen(urllib.request.Request("http://counter:8080/label", body, {"content-type": "application/json"})).read()
subprocess.run([sys.executable, "-c", "pass", line])
print(line); print(line, file=sys.stderr)
with open(os.environ["PODCTL_DECISIONS"], "w") as file:
    file.write(json.dumps({"id": "d", "kind": "k", "who": forged["who"], "actor": "podctl"}) + line)
json.dump({"status": "done", "summary": line}, open(os.environ["PODCTL_RESULT"], "w"))
"""  # fmt: skip
DOMAIN = "corp.example"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = make_project(
        tmp_path_factory.mktemp("identity") / "p",
        agent=AGENT,
        tickets=[ticket("one", changes=[relabel(1, "mine")]), ticket("two")],
        scenario={"run": {"pods": 2, "trust_domain": DOMAIN}, "gate": {}},
        agent_spec={"version": "1.2+dirty_3"},
    )
    ran = project.podctl("run", "scenario.yaml")
    assert "Traceback" not in ran.stderr and "attempts 2/2" in ran.stderr, ran.stderr
    return project


@pytest.mark.parametrize("name", ["one", "two"])
def test_each_record_alone_says_whose_it_is(project: Project, name: str) -> None:
    attempt, info = project.attempts()[name], project.run().info
    records = project.records(name)
    start = next(record for record in records if record["kind"] == "attempt.start")["data"]
    expected = {
        "id": f"spiffe://{DOMAIN}/pod/{attempt.pod}/agent/tester/version/1.2_2Bdirty_5F3",
        "digest": info.agent_digest,
        "attempt": f"{info.id}.{attempt.id}",
        "boundary": f"small@{info.digests['boundary'][:16]}",
        "role": start["permissions"]["role"],
    }
    assert start["spiffe_id"] == expected["id"] and start["permissions"]["digest"] == info.digests["boundary"]
    of_agent = [record for record in records if record["actor"] != "podctl"]
    kinds = {record["kind"] for record in of_agent}
    assert {
        "http.call",
        "sql.statement",
        "row.change",
        "process.start",
        "process.exit",
        "boundary.attempt",
        "decision",
    } <= kinds
    assert all(record["who"] == expected for record in of_agent)
    assert not any("who" in record for record in records if record["actor"] == "podctl")
    assert {record["kind"] for record in records if record["actor"] == "podctl"} <= {
        "attempt.start",
        "attempt.end",
        "usage",
        "log",
    }
    assert [record["actor"] for record in records if record["kind"] == "row.change"] == ["agent", "service:counter"]
    assert {record["actor"] for record in records if record["kind"] in ("sql.statement", "boundary.attempt")} <= {
        "agent",
        "service:counter",
    }
    statements = [
        record["data"]["statement"] for record in records if record["kind"] == "sql.statement" and record["actor"] == "agent"
    ]
    assert any("SESSION AUTHORIZATION" in statement for statement in statements)


def test_what_was_forged_is_text_in_records_and_no_record(project: Project) -> None:
    for path in evidence(project):
        for line in path.read_text().splitlines():
            record: dict[str, Any] = json.loads(line)
            assert record["t"] > 1 and record.get("who", {}).get("attempt") != "other"
    assert project.podctl("audit", "verify", "latest").returncode == 0


def test_the_identity_costs_few_bytes(project: Project) -> None:
    """Measured: about 250 bytes of a record, whatever else is in it."""
    sizes = [
        len(json.dumps(json.loads(line)["who"]))
        for path in evidence(project)
        for line in path.read_text().splitlines()
        if '"who"' in line
    ]
    assert max(sizes) < 330


def evidence(project: Project) -> list[Path]:
    return sorted(project.store.glob("runs/*/attempts/*/evidence.jsonl"))
