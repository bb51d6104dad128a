"""Probes of the write boundary, as the agent's own database role. Runs inside the sandbox, see `probes`.

The one probe that is not standard library alone: psycopg, from podctl's interpreter, speaks to the server.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

Plan = dict[str, Any]
Seen = tuple[bool | None, str, bool, str]

DENIED = "42501"
GRANTED = "UPDATE tickets SET note = 'seen' WHERE id = 1"


def agent_connection(plan: Plan, **changed: Any) -> psycopg.Connection[Any]:
    return psycopg.connect(**{**plan["database"], "connect_timeout": 5, "autocommit": True, **changed})


def _refusal(connection: psycopg.Connection[Any], script: str) -> str:
    """SQLSTATE of the first statement that was refused, empty when all were carried out."""
    try:
        for statement in script.split(";;"):
            connection.execute(statement.encode())
    except psycopg.Error as error:
        return error.sqlstate or str(error).strip()
    return ""


def _script(*scripts: str, refusals: tuple[str, ...] = (DENIED,)) -> Callable[[Plan], Seen]:
    def probe(plan: Plan) -> Seen:
        answers = []
        for script in scripts:
            with agent_connection(plan) as connection:
                answers.append(_refusal(connection, script))
        worked = [script for script, answer in zip(scripts, answers, strict=True) if not answer]
        # Refused for another reason than a missing right: the statement was not what it should be.
        odd = [answer for answer in answers if answer and answer not in refusals]
        with agent_connection(plan) as connection:
            granted = _refusal(connection, GRANTED)
        how = f"carried out: {worked[0][:80]}" if worked else ", ".join(dict.fromkeys(answers))
        return bool(worked), how, not granted and not odd, f"the granted update: {granted or 'carried out'}"

    return probe


def _login(what: Callable[[Plan], list[dict[str, Any]]]) -> Callable[[Plan], Seen]:
    def probe(plan: Plan) -> Seen:
        answers, entered = [], []
        for changed in what(plan):
            try:
                agent_connection(plan, **changed).close()
                entered.append(f"{changed.get('user', 'the agent')}@{changed.get('dbname', 'its database')}")
            except psycopg.OperationalError as error:
                answers.append(_first(error))
        with agent_connection(plan) as connection:
            granted = _refusal(connection, GRANTED)
        how = f"logged in as {', '.join(entered)}" if entered else "; ".join(dict.fromkeys(answers))
        return bool(entered), how, not granted, f"its own login: {granted or 'works'}"

    return probe


def _first(error: Exception) -> str:
    text = str(error).strip().splitlines()[-1]
    return text.rpartition("FATAL:")[2].strip()[:120]


def _other_databases(plan: Plan) -> list[dict[str, Any]]:
    return [{"dbname": name} for name in plan["other_databases"]]


def _superuser(plan: Plan) -> list[dict[str, Any]]:
    """With the right password, which no agent has."""
    known = {"user": "postgres", "password": plan["superuser_password"]}
    return [{**known, "dbname": name} for name in ("postgres", plan["database"]["dbname"])] + [
        {"user": "postgres", "password": ""}
    ]


def _neighbour(plan: Plan) -> list[dict[str, Any]]:
    return [plan["neighbour_login"]]


def _replication(plan: Plan) -> list[dict[str, Any]]:
    return [{"replication": "database"}, {"replication": "true"}]


def flood(plan: Plan) -> Seen:
    held: list[psycopg.Connection[Any]] = []
    refusal = ""
    for _ in range(30):
        try:
            held.append(agent_connection(plan))
        except psycopg.OperationalError as error:
            refusal = _first(error)
            break
    granted = _refusal(held[0], GRANTED) if held else "no connection at all"
    for connection in held:
        connection.close()
    return len(held) > 8, f"{len(held)} connections, then: {refusal}", not granted, "the first ones work"


PROBES: dict[str, Callable[[Plan], Seen]] = {
    "sql-table": _script(
        "SELECT * FROM ledger", "UPDATE ledger SET amount = 0", "DELETE FROM ledger", "TRUNCATE ledger", "INSERT INTO ledger VALUES (9, 9)"
    ),
    "sql-column": _script(
        "UPDATE tickets SET owner = 'me' WHERE id = 1", "SELECT secret FROM tickets", "INSERT INTO tickets (id) VALUES (9)",
        "DELETE FROM tickets",
    ),
    "sql-definer-function": _script("SELECT raise_limit(1)", "SELECT podctl.attribute()"),
    "sql-view": _script("SELECT * FROM everything", "UPDATE everything SET owner = 'me'"),
    "sql-set-role": _script(
        "SET ROLE postgres", "SET ROLE podctl_check", "SET ROLE podctl_service", "SET SESSION AUTHORIZATION postgres",
        "RESET ROLE;;RESET SESSION AUTHORIZATION;;UPDATE ledger SET amount = 0",
        "SET session_replication_role = replica", "ALTER ROLE CURRENT_USER SUPERUSER",
    ),
    "sql-read-only-commit": _script(
        "BEGIN READ ONLY;;COMMIT;;UPDATE ledger SET amount = 0",
        "BEGIN READ ONLY;;SET TRANSACTION READ WRITE;;UPDATE ledger SET amount = 0",
        refusals=(DENIED, "25001"),
    ),
    "sql-grant": _script(
        "GRANT ALL ON ledger TO CURRENT_USER", "ALTER TABLE tickets DISABLE TRIGGER ALL", "DROP TRIGGER podctl_attribute ON tickets",
        "ALTER TABLE tickets OWNER TO CURRENT_USER", "CREATE ROLE helper", "GRANT podctl_check TO CURRENT_USER",
    ),
    "sql-large-object": _script("SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')", "SELECT lo_import('/etc/passwd')"),
    "sql-copy-program": _script("COPY tickets TO PROGRAM 'cat'", "COPY tickets (note) TO '/tmp/x'", "COPY tickets (note) FROM PROGRAM 'id'"),
    "sql-read-file": _script(
        "SELECT pg_read_file('/etc/passwd')", "SELECT pg_ls_dir('.')", "SELECT pg_read_binary_file('PG_VERSION')",
        "SELECT * FROM pg_authid", "LOAD 'auto_explain'",
    ),
    "sql-create": _script(
        "CREATE TEMP TABLE x (id int)", "CREATE TABLE x (id int)", "CREATE SCHEMA x", "CREATE DATABASE x", "CREATE EXTENSION dblink",
        "DO $$BEGIN NULL; END$$", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ),
    "sql-signals": _script(
        "SELECT pg_logical_emit_message(true, 'podctl', '{}')", "SELECT pg_advisory_lock(1)", "SELECT pg_sleep(0)",
        "SELECT pg_reload_conf()", "SELECT pg_logical_slot_get_changes((SELECT slot_name FROM pg_replication_slots LIMIT 1), NULL, NULL)",
        "ALTER SYSTEM SET log_statement = 'none'", "SET log_min_duration_statement = -1",
    ),
    "sql-other-database": _login(_other_databases),
    "sql-superuser": _login(_superuser),
    "sql-neighbour": _login(_neighbour),
    "sql-replication": _login(_replication),
    "sql-connection-flood": flood,
}  # fmt: skip


def endless(plan: Plan) -> None:
    """Take the time limit off and work for ever."""
    with agent_connection(plan) as connection:
        connection.execute("SET statement_timeout = 0")
        row = connection.execute("SHOW statement_timeout").fetchone()
        print(f"statement_timeout {row[0] if row else '?'}", flush=True)
        connection.execute("SELECT count(*) FROM (SELECT generate_series(1, 1000000000000)) streamed")


if __name__ == "__main__":
    import json

    with open("plan.json") as stream:
        endless(json.load(stream))
