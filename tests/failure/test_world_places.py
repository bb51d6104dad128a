"""Where podctl is started, from what, and beside whom: long and odd paths, no home, other locales, stores it cannot use."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from killing import CLEAN, RESUME, RUN, Ground, agent_runs, assert_nothing_lost, killing_project
from machine import wait_until
from project import Project, make_project, relabel, ticket
from world import CAMPAIGN, ROOT_ONLY, private, runs_of, shell, understood, works

from podctl.backends.local.state import Owner, State
from podctl.controller.sweep import orphans
from podctl.evidence.reading import verify

# ---- paths ----


def deep(directory: Path, length: int) -> Path:
    """A directory beneath, made, whose path has so many bytes."""
    path = directory
    while (left := length - len(os.fsencode(path)) - 1) > 100:
        path /= "d" * 98  # so that never a single byte is left, which would be the slash
    path /= "d" * left
    assert len(os.fsencode(path)) == length
    path.mkdir(parents=True)
    return path


@pytest.mark.campaign
@CAMPAIGN
def test_a_project_far_down_needs_a_store_elsewhere_and_says_so(here: Ground, tmp_path: Path) -> None:
    project = killing_project(deep(tmp_path, 3000) / "p")
    failed = here.podctl(project, *RUN)
    understood(failed, 3, "[store-unusable]", "SQLite opens no path of more than 500 bytes", "--store")
    assert here.holdings() == CLEAN
    near = tmp_path / "store"
    understood(here.podctl(project, *RUN, "--store", str(near)), 0)
    assert (near / "store.db").exists()
    assert here.holdings() == CLEAN


def test_a_state_directory_too_long_for_sockets_says_by_how_much(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    directory = here.state.parent / "long"
    long = Ground(deep(directory, 90), here.temporary)
    refused = long.podctl(project, *RUN)
    understood(refused, 3, "[path-too-long]", "its socket", "PODCTL_STATE")
    beyond = re.search(r"at least (\d+) bytes? shorter", refused.stderr)
    assert beyond, refused.stderr
    assert long.holdings() == CLEAN
    assert runs_of(long, project) == []
    shutil.rmtree(directory)
    # What is said is what is so: a path that much shorter will do.
    works(Ground(deep(directory, 90 - int(beyond[1])), here.temporary), project)
    shutil.rmtree(directory)


REPORTS = ("--html", "o.html", "--junit", "o.xml", "--markdown", "o.md", "--json", "o.json")
ODD = b'it\'s "odd" $HOME `id` \\ %s {x} \xff\xfe\nsecond l\xc3\xafne;&|<>*?~#'


def test_a_project_and_pods_in_directories_with_odd_names(here: Ground, tmp_path: Path) -> None:
    here = Ground(here.state / "pods ünd more", here.temporary)
    project = killing_project(tmp_path / os.fsdecode(ODD))
    works(here, project, *RUN, *REPORTS)
    assert_nothing_lost(project)
    elsewhere = Project(tmp_path / "elsewhere")
    elsewhere.root.mkdir()
    for command in (
        ("run", str(project.root / "scenario.yaml"), "-q", *REPORTS),
        ("report", "latest"),
        ("describe", "run", "latest"),
    ):
        understood(here.podctl(elsewhere, *command), 0)
    assert here.holdings() == CLEAN
    shutil.rmtree(here.state)


@pytest.mark.parametrize("name", ["it's", "a\nb", "$HOME"])
def test_a_state_directory_that_a_shell_would_take_apart_is_refused(here: Ground, tmp_path: Path, name: str) -> None:
    """PostgreSQL's own programs hand paths to a shell."""
    project = killing_project(tmp_path / "p")
    odd = Ground(here.temporary / name, here.temporary)
    understood(odd.podctl(project, *RUN), 3, "[state-path]", "nothing was made", "set PODCTL_STATE to a plain path")
    assert not (here.temporary / name).exists()


# ---- home and locale ----


@CAMPAIGN
def test_no_home(here: Ground, tmp_path: Path) -> None:
    works(here, killing_project(tmp_path / "p"), through=shell("unset HOME XDG_CACHE_HOME XDG_CONFIG_HOME"))


@ROOT_ONLY
def test_a_read_only_project_and_home_say_where_else_to_write(here: Ground, tmp_path: Path) -> None:
    project = killing_project(tmp_path / "p")
    store = here.state.parent / "store"
    frozen = private(f"mount --bind {tmp_path} {tmp_path}; mount -o remount,ro,bind {tmp_path}; cd {project.root}")
    refused = here.podctl(project, *RUN, through=frozen, HOME=str(tmp_path))
    understood(refused, 3, "[store-unusable]", "Read-only file system", "--store")
    understood(here.podctl(project, *RUN, "--store", str(store), through=frozen, HOME=str(tmp_path)), 0)
    assert here.holdings() == CLEAN
    shutil.rmtree(store)


ECHO = r"""
import json, os, psycopg
ticket = json.load(open(os.environ["PODCTL_TICKET"], encoding="utf-8"))
with psycopg.connect(os.environ["DATABASE_URL"]) as db:
    db.execute("update items set label = %s where id = 1", (ticket["text"],))
print(ticket["text"].encode("utf-8").decode("latin-1"))
with open("result.json", "w", encoding="utf-8") as file:
    json.dump({"status": "done", "summary": ticket["text"], "output": {"said": ticket["text"]}}, file, ensure_ascii=False)
"""
TEXT = "naïve 日本語 🧪 ﷽ Ω"


@pytest.mark.parametrize(
    "locale",
    [
        pytest.param({"LC_ALL": "C"}, marks=CAMPAIGN, id="C"),
        pytest.param(
            {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"}, id="ascii"
        ),
    ],
)
def test_text_survives_a_locale_that_does_not_know_it(here: Ground, tmp_path: Path, locale: dict[str, str]) -> None:
    expected = {f"right {TEXT}": TEXT, f"wrong {TEXT}": "another"}
    tickets = [ticket(name, TEXT, changes=[relabel(1, label)]) for name, label in expected.items()]
    project = make_project(tmp_path / "prøject", agent=ECHO, tickets=tickets)
    lines = [json.dumps(one, ensure_ascii=False) + "\n" for one in tickets]
    (project.root / "tickets.jsonl").write_text("".join(lines), encoding="utf-8")
    understood(here.podctl(project, *RUN, *REPORTS, **locale), 0)
    assert {attempt.ticket: attempt.passed for attempt in project.run().attempts} == {
        f"right {TEXT}": True,
        f"wrong {TEXT}": False,
    }
    assert [record["data"]["new"]["label"] for record in project.records(f"right {TEXT}", "row.change")] == [TEXT]
    for report in ("o.html", "o.xml", "o.md"):
        assert TEXT in (project.root / report).read_text(encoding="utf-8"), report
    for command in (("trace", "latest", "0001-1"), ("diff", "latest", "0001-1"), ("report", "latest"), ("get", "attempts")):
        understood(here.podctl(project, *command, **locale), 0)
    assert here.holdings() == CLEAN


# ---- the store ----


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return killing_project(tmp_path / "p")


def newer(store: Path) -> None:
    with sqlite3.connect(store) as database:
        database.execute("update alembic_version set version_num = '0099_podctl_9.9'")
    database.close()


def truncated(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2 + 100)


STORES = {
    "of a newer podctl": (newer, ["[store-newer]", "it needs podctl 9.9 or newer", "pip install 'podctl>=9.9'"]),
    "truncated": (truncated, ["[store-damaged]", "move it away to start a new one"]),
    "not a store": (lambda store: store.write_bytes(b"no database " * 1000), ["[store-damaged]", "move it away"]),
}


@pytest.mark.parametrize("what", [pytest.param(what, marks=() if "newer" in what else CAMPAIGN) for what in STORES])
def test_a_store_that_cannot_be_used_stops_a_run_before_it_made_anything(here: Ground, project: Project, what: str) -> None:
    break_it, said = STORES[what]
    understood(here.podctl(project, "get", "runs"), 0)
    store = project.store / "store.db"
    break_it(store)
    before = store.read_bytes()
    for command in (RUN, RESUME, ("get", "runs"), ("report", "latest")):
        understood(here.podctl(project, *command), 3, *said, "nothing was changed")
    assert store.read_bytes() == before
    assert here.holdings() == CLEAN


@CAMPAIGN
@pytest.mark.parametrize("since", ["the start", "the middle"])
def test_a_store_locked_for_longer_than_is_waited_for(here: Ground, tmp_path: Path, since: str) -> None:
    project = killing_project(tmp_path / "p", pause=2.0)
    understood(here.podctl(project, "get", "runs"), 0)
    other = sqlite3.connect(project.store / "store.db", isolation_level=None)
    if since == "the start":
        other.execute("BEGIN EXCLUSIVE")
    running = here.start(project, *RUN)
    if since == "the middle":
        wait_until(agent_runs, "no agent runs")
        other.execute("BEGIN IMMEDIATE")
    out, said = running.communicate(timeout=60)
    assert running.returncode == 3 and "[store-locked]" in said and "Traceback" not in said, out + said
    other.execute("ROLLBACK")
    other.close()
    assert here.holdings() == CLEAN
    begun = runs_of(here, project)
    assert bool(begun) == ("--resume" in said) == (since == "the middle")
    works(here, project, *(RESUME if begun else RUN))
    assert_nothing_lost(project)


@CAMPAIGN
@pytest.mark.parametrize("many", [2, 20])
def test_many_runs_at_once_in_one_store(here: Ground, project: Project, many: int) -> None:
    """They begin with nothing: one of them makes the store, one the template, and each its own run."""
    shutil.rmtree(here.state / "templates", ignore_errors=True)
    running = [here.start(project, *RUN) for _ in range(many)]
    for one in running:
        out, said = one.communicate(timeout=300)
        assert one.returncode == 0, out + said
    assert here.holdings() == CLEAN
    runs = runs_of(here, project)
    assert len(set(runs)) == many
    for run in runs:
        result = project.run(run)
        assert (result.status, [attempt.tries for attempt in result.attempts]) == ("finished", [1, 1, 1])
        assert sum(attempt.passed for attempt in result.attempts) == 2
        for attempt in result.attempts:
            assert verify(project.store / "runs" / run / "attempts" / attempt.id, attempt.evidence_root).intact
    assert len(list((here.state / "templates").iterdir())) == 1
    with sqlite3.connect(project.store / "store.db") as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()


def test_a_wall_clock_set_ahead_does_not_end_a_kept_pods_time(here: Ground) -> None:
    """A kept pod lives by the clock since boot: made before the clock was set ahead, it is not over."""
    state = State.open(here.state)
    for pod, left in (("kept-a", 60.0), ("kept-b", 0.0)):
        state.create(pod, "kept", owner=Owner.me(), now_ns=0, ttl_s=left, kept=True, own_uids=False)
    dead, living = orphans(state)
    assert (dead, [pod.id for pod in living]) == (["kept-b"], ["kept-a"])
    for pod in ("kept-a", "kept-b"):
        state.remove(pod)
    assert here.holdings() == CLEAN
