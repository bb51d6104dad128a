"""A second writer and a changing schema beside an agent, in real databases: what happened is told, and no one is blamed for another's writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from project import SCHEMA, Project, make_project, relabel, ticket

from podctl.evidence.results import AttemptResult
from podctl.stats.chaos import scores

AGENT = r"""
import json, os
import psycopg

how = json.load(open(os.environ["PODCTL_TICKET"]))["text"]
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    if how == "once":
        database.execute("update items set label = 'done' where id = 1")
    elif how == "column":
        database.execute("select label from items where id = 1")
        try:
            database.execute("update items set label = 'done' where id = 1")
        except psycopg.errors.UndefinedColumn:
            database.execute("update items set label_v2 = 'done' where id = 1")
    elif how == "whole":
        note = database.execute("select note from items where id = 1").fetchone()[0]
        database.execute("update items set label = 'done', note = %s where id = 1", (note,))
    elif how == "locking":
        with database.transaction():
            database.execute("select label from items where id = 1 for update")
            database.execute("update items set label = 'done' where id = 1")
json.dump({"status": "done", "summary": ""}, open(os.environ["PODCTL_RESULT"], "w"))
"""
CHAOS = """
apiVersion: podctl/v1
kind: Chaos
name: databases
faults:
  rival: {kind: rival}
  held: {kind: rival, hold: 600ms}
  added: {kind: migration}
  renamed: {kind: migration, change: rename-column}
  script: {kind: migration, sql: more.sql}
"""
pytestmark = pytest.mark.campaign
COPED, DAMAGED, FAILED, NOT_MET = "coped", "damaged", "failed", "not met"
EXPECTED = {
    "column": {"rival": COPED, "held": COPED, "added": COPED, "renamed": COPED, "script": COPED},
    "whole": {"rival": DAMAGED, "held": DAMAGED, "added": COPED, "renamed": FAILED, "script": COPED},
    "once": dict.fromkeys(("rival", "held", "added", "renamed", "script"), NOT_MET),
    "locking": dict.fromkeys(("rival", "held", "added", "renamed", "script"), COPED),  # its lock makes all of them wait
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    items = {"read": ["id", "label", "note"], "update": ["label", "note"]}
    project = make_project(
        tmp_path_factory.mktemp("rivals") / "p",
        agent=AGENT,
        tickets=[ticket(how, how, [relabel(1, "done")]) for how in EXPECTED],
        boundary={"main-db": {"items": items}},
        scenario={"gate": {"chaos": {}}},
    )
    (project.root / "schema.sql").write_text(SCHEMA + "alter table items add column note text not null default 'plain';")
    (project.root / "chaos.yaml").write_text(CHAOS)
    (project.root / "more.sql").write_text(
        "alter table items add column extra int default 5; create table later (id int primary key);"
    )
    done = project.podctl("chaos", "scenario.yaml", "--file", "chaos.yaml", timeout=280)
    assert done.returncode == 100 and "damage under faults" in done.stdout, done.stdout + done.stderr
    return project


def test_each_agent_comes_to_what_it_does(project: Project) -> None:
    found: dict[str, dict[str, str]] = {how: {} for how in EXPECTED}
    for score in scores(project.run()):
        for case in score.cases:
            found[case.ticket][score.name] = "coped" if case.outcome == "degraded" else case.outcome
    assert found == EXPECTED


def records(project: Project, ticket: str, fault: str) -> tuple[AttemptResult, list[dict[str, Any]]]:
    run = project.run()
    attempt = next(
        one for one in run.attempts if one.ticket == ticket and one.variant is not None and one.variant.name == fault
    )
    path = project.store / "runs" / run.info.id / "attempts" / attempt.id / "evidence.jsonl"
    return attempt, [json.loads(line) for line in path.read_text().splitlines()]


def test_a_rivals_writes_are_its_own_in_the_evidence_and_in_the_grade(project: Project) -> None:
    attempt, told = records(project, "column", "rival")
    changes = [(one["actor"], one["data"]["new"]["note"], one.get("who")) for one in told if one["kind"] == "row.change"]
    assert [one[:2] for one in changes] == [("rival", "plain (rival)"), ("agent", "plain (rival)")]
    assert changes[0][2] is None and changes[1][2] is not None
    assert attempt.passed and attempt.changes == 1
    assert [one["data"]["what"] for one in told if one["kind"] == "fault"] == ["changed items.note where id = 1"]


def test_what_was_overwritten_is_named(project: Project) -> None:
    attempt, _ = records(project, "whole", "rival")
    assert attempt.passed, "by the state alone nobody sees it"
    assert attempt.faults is not None
    assert attempt.faults.damage == ("items.note, which somebody else had changed meanwhile, was overwritten",)


def test_evidence_is_whole_after_a_migration(project: Project) -> None:
    attempt, told = records(project, "column", "renamed")
    assert attempt.passed and attempt.changes == 1
    change = next(one["data"] for one in told if one["kind"] == "row.change")
    assert change["new"]["label_v2"] == "done" and change["old"]["label_v2"] == "item 1" and "label" not in change["new"]
    failed = [one["data"] for one in told if one["kind"] == "sql.statement" and one["data"].get("sqlstate") == "42703"]
    assert len(failed) == 1
    _, told = records(project, "column", "script")
    change = next(one["data"] for one in told if one["kind"] == "row.change")
    assert change["new"]["extra"] == 5 and change["user"].startswith("ag_")


@pytest.mark.campaign
def test_a_migration_that_cannot_be_ends_the_run_with_the_servers_words(project: Project) -> None:
    (project.root / "wrong.yaml").write_text(CHAOS.split("faults:")[0] + "faults: {x: {kind: migration, sql: wrong.sql}}\n")
    (project.root / "wrong.sql").write_text("alter table nowhere add column a int")
    done = project.podctl("chaos", "scenario.yaml", "--file", "wrong.yaml", "--sample", "2", timeout=120)
    assert done.returncode == 2 and 'relation "nowhere" does not exist' in done.stderr, done.stdout + done.stderr


CLOCK = r"""
import datetime, json, os, subprocess, time
import psycopg
said = {"status": "done", "year": datetime.datetime.now(datetime.timezone.utc).year, "monotonic": time.monotonic(), "child": subprocess.run(["date", "+%Y"], capture_output=True, text=True).stdout.strip()}
before = time.monotonic(); time.sleep(0.2); said["slept"] = time.monotonic() - before
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    said["server"] = database.execute("select extract(year from now())::int").fetchone()[0]
json.dump(said, open(os.environ["PODCTL_RESULT"], "w"))
"""


def test_an_agents_clock_is_wrong_and_nobody_elses(tmp_path: Path) -> None:
    project = make_project(
        tmp_path / "p",
        agent=CLOCK,
        tickets=[ticket("1")],
        scenario={"checks": [{"kind": "output", "name": "o", "path": "status", "equals": "done"}]},
    )
    faults = "faults: {back: {kind: clock, offset: -315360000}}\n"
    (project.root / "chaos.yaml").write_text(CHAOS.split("faults:")[0] + faults)
    done = project.podctl("chaos", "scenario.yaml", "--file", "chaos.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    run = project.run()
    assert scores(run)[0].counts["coped"] == 1
    said = {}
    for attempt in run.attempts:
        path = project.store / "runs" / run.info.id / "attempts" / attempt.id / "result.json"
        said["back" if attempt.variant else "plain"] = json.loads(path.read_text())
    now = said["plain"]["year"]
    assert said["back"]["year"] == now - 10 and said["back"]["child"] == str(now - 10)
    assert said["back"]["server"] == said["plain"]["server"] == now
    assert 0.15 < said["back"]["slept"] < 2 and abs(said["back"]["monotonic"] - said["plain"]["monotonic"]) < 60
