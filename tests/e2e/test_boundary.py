"""The boundary in real runs: routes and rows decided and recorded, a suggestion that is enough, rows taken back."""

from __future__ import annotations

from pathlib import Path

import yaml
from project import make_project, ticket

AGENT = r"""
import json, os, urllib.error, urllib.request
import psycopg
ticket = json.load(open(os.environ["PODCTL_TICKET"]))
def ask(method, path, body=None, **headers):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["COUNTER_URL"] + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer: return answer.status, json.load(answer)
    except urllib.error.HTTPError as error: return error.code, json.load(error)["error"]["type"]
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    number = int(ticket["id"])
    database.execute("UPDATE items SET label = %s WHERE id = %s", (ticket["text"], number))
    said = [ask("GET", f"/items/{number}")[0], ask("POST", "/rename", {"id": number + 10, "label": "by the service"})[0]]
    if ticket["text"] == "tries":
        said += [ask("POST", "/people", {})[1], ask("PUT", "/proposals", {})[1], ask("GET", f"/items/../people")[1]]
        try: database.execute("DELETE FROM ledger")
        except psycopg.errors.InsufficientPrivilege: said.append("refused")
json.dump({"status": "done", "output": {"said": said}}, open(os.environ["PODCTL_RESULT"], "w"))
"""
BOUNDARY = """
apiVersion: podctl/v1
kind: Boundary
name: wide
databases:
  main-db:
    items: {update: [label], insert: [id, label]}
services:
  counter:
    GET /**: read
    "* /rename": ai-writable
    PUT /proposals: recommend
    "* /people": human-only
"""


def test_what_is_tried_is_decided_a_suggestion_is_enough_and_rows_go_back(tmp_path: Path) -> None:
    tickets = [ticket("1", "plain"), ticket("2", "tries")]
    scenario = {
        "gate": {"boundary_violations": None},
        "checks": [{"kind": "output", "name": "o", "path": "status", "equals": "done"}],
    }
    project = make_project(tmp_path / "p", agent=AGENT, tickets=tickets, scenario=scenario)
    (project.root / "boundary.yaml").write_text(BOUNDARY.replace("update: [label]", "update: true"))
    covered = project.podctl("run", "scenario.yaml", "-q")
    assert covered.returncode == 2 and "covers `secret` (preset access-control)" in covered.stderr
    (project.root / "boundary.yaml").write_text(BOUNDARY)
    done = project.podctl("run", "scenario.yaml", "-q")
    assert done.returncode == 0 and "tried beyond the boundary" in done.stdout
    said = {one: record["data"] for one in ("1", "2") for record in project.records(one, "http.call")[-1:]}
    assert said["1"]["policy"] == "* counter /rename" and said["2"]["policy"] == "ambiguous"
    tried = [record["data"] for record in project.records("2", "boundary.attempt")]
    assert [(one["via"], one.get("level"), one.get("policy")) for one in tried] == [
        ("http", "human-only", "* counter /people"),
        ("http", "recommend", "PUT counter /proposals"),
        ("http", "human-only", "ambiguous"),
        ("sql", "human-only", "unlisted"),
    ]
    ran = project.run()
    assert [attempt.passed for attempt in ran.attempts] == [True, True]
    kinds = {(one.what, one.rule, one.count) for attempt in ran.attempts for one in attempt.tried}
    assert kinds == {
        ("POST counter /people", "* counter /people", 1),
        ("PUT counter /proposals", "PUT counter /proposals", 1),
        ("GET counter /items/../people", "ambiguous", 1),
        ("DELETE table ledger", "unlisted", 1),
    }
    assert project.attempts()["2"].boundary_attempts == 4
    traced = project.podctl("trace", "latest", "2").stdout
    assert "rule: PUT counter /proposals (recommend)" in traced

    undone = project.podctl("undo", "latest", "2")
    assert undone.returncode == 0 and undone.stdout.count('UPDATE "public"."items"') == 2

    suggested = project.podctl("boundary", "suggest", "latest")
    assert suggested.returncode == 0 and "#   sql table ledger: DELETE FROM ledger" in suggested.stdout, suggested.stderr
    tighter = yaml.safe_load(suggested.stdout)
    assert tighter["databases"] == {"main-db": {"items": {"read": ["id"], "update": ["label"]}}}
    before, first = (project.root / "boundary.yaml").rename(project.root / "wide.yaml"), project.attempts()
    (project.root / "boundary.yaml").write_text(suggested.stdout)
    opened = project.podctl("boundary", "diff", str(before), "boundary.yaml", "--fail-on-open")
    assert opened.returncode == 0 and "closes  insert" in opened.stdout
    results = {one: (first[one].passed, first[one].changes, first[one].boundary_attempts) for one in first}
    assert project.podctl("run", "scenario.yaml", "-q").returncode == 0
    again = project.attempts()
    assert {one: (again[one].passed, again[one].changes, again[one].boundary_attempts) for one in again} == results
