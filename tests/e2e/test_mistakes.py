"""Mistakes that only a database shows stop a run before it has a result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from project import make_project, ticket

from podctl.backends.local import cgroups
from podctl.backends.local.state import State

AGENT = 'import json; json.dump({"status": "done"}, open("result.json", "w"))'


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"itmes": {"read": True}}, "items"),
        ({"items": {"read": True, "update": ["lable"]}}, "label"),
    ],
)
def test_a_boundary_that_names_what_is_not_there(tmp_path: Path, rules: dict[str, object], said: str) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("t1")], boundary={"main-db": rules})
    refused = project.podctl("run", "scenario.yaml", "-q")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert said in refused.stderr
    assert re.search(r"boundary\.yaml:\d+:\d+", refused.stderr)
    assert "Traceback" not in refused.stderr
    assert project.podctl("get", "runs", "-o", "name").stdout == ""
    assert [path for path in cgroups.paths(State.open().scope, "any", "any") if path.parent.parent.exists()] == []


def test_a_reference_to_a_database_that_is_not_there(tmp_path: Path) -> None:
    change = {"database": "orders", "table": "items", "op": "insert", "values": {"id": 1}}
    tickets = [ticket("t1"), ticket("t2", changes=[change]), ticket("t3", changes=[change])]
    project = make_project(tmp_path / "p", agent=AGENT, tickets=tickets)
    for command in ("run", "plan", "validate"):
        refused = project.podctl(command, "scenario.yaml")
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "ticket t2 names database 'orders'" in refused.stderr and "mirrors main-db" in refused.stderr


def test_wrong_tickets_are_found_by_validating_them_or_the_scenario(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("t1"), {**ticket("t2"), "reference": {"changed": []}}])
    for path in ("tickets.yaml", "scenario.yaml"):
        refused = project.podctl("validate", path)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert "(line 2): the reference: unknown key 'changed'" in refused.stderr


def test_an_ignored_column_that_is_not_there(tmp_path: Path) -> None:
    checks = [{"kind": "state", "ignore": ["*.label", "items"], "ignore_tables": ["itmes"]}]
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("t1")], scenario={"checks": checks})
    refused = project.podctl("run", "scenario.yaml", "-q")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "2 mistakes" in refused.stderr
    assert re.search(r"scenario\.yaml:\d+:\d+: no column is called items", refused.stderr)
    assert "under ignore_tables" in refused.stderr and "did you mean `items`?" in refused.stderr
    assert project.podctl("get", "runs", "-o", "name").stdout == ""


def test_a_seed_that_fails_says_where_and_begins_no_run(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("t1")])
    (project.root / "schema.sql").write_text("create table items (id int);\n\nselect * from nowhere;\n")
    refused = project.podctl("run", "scenario.yaml", "-q")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "schema.sql:3" in refused.stderr
    assert "nowhere" in refused.stderr
    assert project.podctl("get", "runs", "-o", "name").stdout == ""


def test_a_service_that_dies_is_infrastructure_with_its_last_words(tmp_path: Path) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("t1")], service="raise SystemExit('no licence')")
    failed = project.podctl("run", "scenario.yaml", "-q")
    assert failed.returncode == 3, failed.stdout + failed.stderr
    assert "service counter died while starting" in failed.stderr
    assert "no licence" in failed.stderr


def test_a_check_that_cannot_be_decided_is_not_the_agents_failure(tmp_path: Path) -> None:
    project = make_project(
        tmp_path / "p",
        agent=AGENT,
        tickets=[ticket("t1")],
        scenario={"checks": [{"kind": "sql", "name": "broken", "database": "main-db", "query": "select nothing from nowhere"}]},
    )
    undecided = project.podctl("run", "scenario.yaml", "-q")
    assert undecided.returncode == 3, undecided.stdout + undecided.stderr
    attempt = project.run().attempts[0]
    assert (attempt.cause.value, attempt.tries) == ("grader_failed", 3)
    assert project.run().verdict == "inconclusive"


@pytest.mark.parametrize("url", ["postgresql://u:hunter22@h.invalid/d", "postgresql://u@h.invalid/d?password=hunter22"])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    project = make_project(tmp_path / "p", agent=AGENT, tickets=[ticket("t1")])
    refused = project.podctl("get", "runs", "--store", url)
    assert refused.returncode == 2 and "PODCTL_STORE" in refused.stderr
    assert "hunter22" not in refused.stdout + refused.stderr
    unreachable = project.podctl("get", "runs", PODCTL_STORE="postgresql://u:hunter22@127.0.0.1:1/d")
    assert unreachable.returncode == 3 and "[store-unusable]" in unreachable.stderr
    assert "hunter22" not in unreachable.stdout + unreachable.stderr
