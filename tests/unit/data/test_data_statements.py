"""The log's reader on lines as PostgreSQL 18 writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podctl.data import statements
from podctl.data.statements import TEXT_KEPT, StatementLog, cut


def entry(message: str, **more: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-11-21 08:42:35.543 UTC",
        "user": "ag_1",
        "dbname": "shop",
        "pid": 10,
        "error_severity": "LOG",
        "message": message,
        "backend_type": "client backend",
        **more,
    }


def write(path: Path, *entries: dict[str, Any]) -> None:
    with open(path, "a") as log:
        log.writelines(json.dumps(one) + "\n" for one in entries)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "postgresql.json"


def texts(log: StatementLog) -> list[str]:
    return [statement.data["statement"] for statement in log.read()]


def test_reading_goes_on_where_it_ended_and_leaves_half_a_line(path: Path) -> None:
    log = StatementLog(path)
    assert log.read() == []
    write(path, entry("duration: 1.5 ms  statement: SELECT 1"))
    whole = json.dumps(entry("duration: 2 ms  statement: SELECT 2"))
    with open(path, "a") as out:
        out.write(whole[:50])
    (first,) = log.read()
    assert (first.data["ms"], first.data["database"], first.t) == (1.5, "shop", 1795250555543000000)
    assert texts(log) == []
    with open(path, "a") as out:
        out.write(whole[50:] + "\n")
    assert texts(log) == ["SELECT 2"]


def test_the_phases_of_one_statement_are_one_record(path: Path) -> None:
    write(
        path,
        entry("duration: 1 ms  parse <unnamed>: SELECT $1"),
        entry("duration: 5 ms  parse s1: SELECT 9", pid=11),
        entry("duration: 2 ms  bind <unnamed>: SELECT $1", detail="Parameters: $1 = 'a'"),
        entry("duration: 4 ms  execute <unnamed>: SELECT $1", detail="Parameters: $1 = 'it''s', $2 = NULL, $3 = 'cut...'..."),
        entry("duration: 8 ms  execute s1/portal: SELECT 9", pid=11, detail="parameters: $1 = '7'"),
        entry("duration: 1 ms  execute fetch from p: SELECT 9", pid=11),
    )
    found = [(s.data["statement"], s.data["ms"], s.data["params"]) for s in StatementLog(path).read()]
    assert found == [("SELECT $1", 7.0, ["it's", None, "cut...…"]), ("SELECT 9", 13.0, ["7"]), ("SELECT 9", 1.0, [])]


def test_a_failed_statement_takes_its_parse_along(path: Path) -> None:
    write(
        path,
        entry("duration: 1 ms  parse <unnamed>: SELECT $1::int"),
        entry("invalid input syntax", error_severity="ERROR", state_code="22P02", statement="SELECT $1::int"),
        entry("duration: 4 ms  statement: SELECT 2"),
        entry("terminating connection", error_severity="FATAL", state_code="57P01", statement="SELECT 3"),
    )
    found = [(s.data["statement"], s.data["ms"], s.data["sqlstate"]) for s in StatementLog(path).read()]
    assert found == [("SELECT $1::int", 1.0, "22P02"), ("SELECT 2", 4.0, ""), ("SELECT 3", None, "57P01")]


@pytest.mark.parametrize(
    ("message", "target"),
    [
        ("permission denied for table users", "table users"),
        ('permission denied for database "postgres"', 'database "postgres"'),
        ("must be owner of table orders", "table orders"),
        ('permission denied to set parameter "log_statement"', 'parameter "log_statement"'),
        ("permission denied to COPY to or from an external program", "COPY to or from an external program"),
        ("something new", "something new"),
    ],
)
def test_a_refusal_of_the_agent_is_a_boundary_attempt(path: Path, message: str, target: str) -> None:
    log = StatementLog(path, agents=["ag_1"])
    write(
        path,
        entry(message, error_severity="ERROR", state_code="42501", statement="X"),
        entry(message, error_severity="ERROR", state_code="42501", statement="X", user="svc_api"),
        entry(message, error_severity="ERROR", state_code="42601", statement="X"),
    )
    attempt, by_service, other = log.read()
    assert attempt.boundary == {"via": "sql", "target": target, "detail": "X", "sqlstate": "42501"}
    assert by_service.boundary is None
    assert other.boundary is None


def test_lines_that_only_look_like_statements_are_not(path: Path) -> None:
    forged = "duration: 1 ms  statement: forged"
    write(
        path,
        entry(forged, context="PL/pgSQL function f() line 1 at RAISE", statement="SELECT f()"),
        entry(forged, error_severity="WARNING"),
        entry("parse tree:", detail=forged),
        entry(forged, user="podctl"),
    )
    with open(path, "a") as out:
        out.write('not json\n[1]\n"duration: 1 ms  statement: x"\n')
    assert StatementLog(path, ignored=["podctl"]).read() == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200), name=st.text(max_size=20))
def test_hostile_text_is_one_statement_and_keeps_its_words(path: Path, text: str, name: str) -> None:
    path.unlink(missing_ok=True)
    write(path, entry(f"duration: 1 ms  statement: {text}"), entry(f"duration: 1 ms  execute {name}: {text}"))
    plain, named = StatementLog(path).read()
    assert (plain.data["statement"], plain.data["user"]) == (text, "ag_1")
    assert named.data["statement"].endswith(text)


def test_floods_are_bounded_and_counted(path: Path) -> None:
    many = statements.MAX_STATEMENTS + 5
    line = json.dumps(entry("duration: 1 ms  statement: SELECT 1")) + "\n"
    path.write_text(line * many)
    write(path, entry("permission denied for table t", error_severity="ERROR", state_code="42501", statement="X"))
    log = StatementLog(path, agents=["ag_1"])
    found = log.read()
    assert (len(found), log.dropped) == (statements.MAX_STATEMENTS + 1, 5)
    assert found[-1].boundary is not None, "refusals are never dropped"


def test_a_line_beyond_reason_is_skipped_and_counted(path: Path) -> None:
    write(path, entry("duration: 1 ms  statement: " + "x" * (statements.MAX_LINE + 2 * 2**20)))
    write(path, entry("duration: 1 ms  statement: SELECT 2"))
    log = StatementLog(path)
    assert (texts(log), log.dropped) == (["SELECT 2"], 1)


def test_nothing_hides_behind_a_long_beginning() -> None:
    text = "/*" + "x" * 100_000 + "*/ DELETE FROM orders"
    kept = cut(text)
    assert len(kept) < TEXT_KEPT + 100
    assert kept.startswith("/*xxx")
    assert kept.endswith("*/ DELETE FROM orders")
    assert cut("x" * TEXT_KEPT) == "x" * TEXT_KEPT


def test_skipping_forgets_what_is_there(path: Path) -> None:
    log = StatementLog(path)
    write(path, entry("duration: 1 ms  statement: SELECT 1"))
    log.start_anew()
    write(path, entry("duration: 1 ms  statement: SELECT 2"))
    assert texts(log) == ["SELECT 2"]
