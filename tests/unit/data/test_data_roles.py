"""Every denial stands beside what is allowed: a role that can do nothing would pass the denials alone."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing

import psycopg
import pytest

from podctl.data.catalog import Catalog, Column, Table
from podctl.data.database import PostgresDatabase
from podctl.data.roles import BoundaryProblem, grants_for_agent, scram_verifier, statements_for_agent
from podctl.spec.models import TableRule

RULES = {
    "customers": TableRule(read=("id", "name"), insert=("name",), delete=True),
    "public.orders": TableRule(read=True, update=("status", "note")),
    "crm.calls": TableRule(insert=True),
    "events": TableRule(insert=True),
    "audit": TableRule(read=False),
}


class Pod:
    """A database with one agent, driven from plain tests."""

    def __init__(self, server, shop: str) -> None:
        self.server = server
        self.runner = asyncio.Runner()
        self.database: PostgresDatabase = self.run(lambda: server.database("pod_roles", shop, ("api",)))
        self.password = self.run(lambda: self.database.grant_agent("ag_roles", RULES))

    def run(self, make: Callable[[], Awaitable]):
        async def go():
            return await make()

        return self.runner.run(go())

    def login(
        self, database: str = "pod_roles", role: str = "ag_roles", password: str = "", options: str = ""
    ) -> psycopg.Connection:
        conninfo = self.server.as_role(role, password or self.password, database)
        return psycopg.connect(conninfo, autocommit=True, options=options or None)


@pytest.fixture(scope="module")
def pod(server, shop: str) -> Iterator[Pod]:
    pod = Pod(server, shop)
    yield pod
    pod.run(lambda: pod.database.close())
    pod.runner.close()


@pytest.fixture
def agent(pod: Pod) -> Iterator[psycopg.Connection]:
    with closing(pod.login()) as connection:
        yield connection


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id, name FROM customers",
        "INSERT INTO customers (name) VALUES ('New')",
        "DELETE FROM customers WHERE id = 99",
        "SELECT * FROM orders",
        "UPDATE orders SET status = 'held', note = 'n' WHERE id = 3",
        "INSERT INTO crm.calls VALUES (20, 's')",
        "SELECT * FROM crm.calls",
        "INSERT INTO events VALUES (2, '2025-06-06')",
        "SELECT now(), set_config('TimeZone', 'UTC', false)",
        "COPY (SELECT id FROM orders) TO STDOUT",
        "SELECT lower('X'), length('x'), pg_backend_pid(), current_setting('server_version')",
    ],
)
def test_what_the_boundary_grants_works(agent: psycopg.Connection, statement: str) -> None:
    if statement.startswith("COPY"):
        with agent.cursor().copy(statement) as copy:
            assert list(copy)
    else:
        agent.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        # data outside the boundary
        "SELECT email FROM customers",
        "SELECT * FROM customers",
        "INSERT INTO customers (name, email) VALUES ('x', 'y')",
        "UPDATE customers SET name = 'x'",
        "UPDATE orders SET total = 0",
        "UPDATE orders SET status = 'x', total = 0",
        "DELETE FROM orders",
        "INSERT INTO orders (customer_id, total) VALUES (1, 1)",
        "TRUNCATE customers",
        "SELECT * FROM audit",
        "SELECT * FROM secrets",
        "SELECT read_secret()",
        "SELECT * FROM events_2025",
        "SELECT nextval('audit_id_seq')",
        "SELECT setval('customers_id_seq', 1000)",
        # files, programs, other roles and rights
        "COPY orders TO PROGRAM 'id'",
        "COPY orders TO '/tmp/x'",
        "SELECT pg_read_file('/etc/passwd')",
        "SET ROLE podctl",
        "SET SESSION AUTHORIZATION podctl",
        "SET session_replication_role = replica",
        "ALTER ROLE ag_roles SUPERUSER",
        "CREATE ROLE other",
        "CREATE DATABASE other",
        # making things
        "CREATE TABLE mine (a int)",
        "CREATE TEMP TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DO $$ BEGIN END $$",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        # the machinery of evidence
        "SELECT pg_logical_emit_message(true, 'podctl', '{}')",
        "SELECT podctl.attribute()",
        "SELECT pg_create_logical_replication_slot('s', 'pgoutput')",
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots",
        "ALTER TABLE orders DISABLE TRIGGER ALL",
        "SET log_min_duration_statement = -1",
        "SET log_min_error_statement = panic",
        "SET log_parameter_max_length = 0",
        "SET log_min_messages = panic",
        "SET temp_file_limit = -1",
        "RESET log_min_duration_statement",
        "ALTER ROLE ag_roles SET log_min_duration_statement = -1",
        "ALTER SYSTEM SET log_destination = 'stderr'",
        # others' time
        "SELECT pg_sleep(0)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_notify('x', 'y')",
        "SELECT pg_reload_conf()",
    ],
)
def test_what_the_boundary_does_not_grant_is_refused(agent: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        agent.execute(statement)


def test_granting_oneself_more_does_nothing(agent: psycopg.Connection) -> None:
    agent.execute("GRANT UPDATE ON orders TO ag_roles")  # a warning, no error, by the SQL standard
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        agent.execute("UPDATE orders SET total = 0")


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_an_agent_connects_to_its_own_database_only(pod: Pod, database: str) -> None:
    pod.login().close()
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        pod.login(database)


def test_templates_and_log_settings_are_out_of_reach_on_connecting(pod: Pod, shop: str) -> None:
    pod.login(options="-c work_mem=1MB").close()
    with pytest.raises(psycopg.OperationalError, match="not currently accepting"):
        pod.login(shop)
    with pytest.raises(psycopg.OperationalError, match="permission denied to set parameter"):
        pod.login(options="-c log_min_duration_statement=-1")


def test_an_agent_has_four_sessions(pod: Pod) -> None:
    sessions = [pod.login() for _ in range(4)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            pod.login()
    finally:
        for session in sessions:
            session.close()


def test_resetting_everything_keeps_the_statement_log_on(pod: Pod) -> None:
    with closing(pod.login()) as connection:
        for statement in (
            "ALTER ROLE ag_roles RESET log_min_duration_statement",
            "ALTER ROLE ag_roles RESET ALL",
            "RESET ALL",
            "DISCARD ALL",
        ):
            connection.execute(statement)
    with closing(pod.login()) as connection:
        shown = connection.execute("SELECT current_setting('log_min_duration_statement')").fetchone()
    assert shown == ("0",)


def test_a_role_ends_with_its_attempt_and_takes_its_own_password_along(pod: Pod) -> None:
    database = pod.database
    password = pod.run(lambda: database.grant_agent("ag_2", {"orders": TableRule(update=("status",))}))
    bystander = pod.login(role="svc_api", password=database.service_passwords["api"])
    session = pod.login(role="ag_2", password=password)
    session.execute("ALTER ROLE ag_2 PASSWORD 'known'")
    pod.login(role="ag_2", password="known").close()
    session.autocommit = False
    session.execute("UPDATE orders SET status = 'never' WHERE id = 1")
    pod.run(lambda: database.revoke_agent("ag_2"))
    with pytest.raises(psycopg.OperationalError):
        session.commit()
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        pod.login(role="ag_2", password="known")
    assert bystander.execute("SELECT status FROM orders WHERE id = 1").fetchone() != ("never",), "others' sessions go on"
    bystander.close()
    again = pod.run(lambda: database.grant_agent("ag_2", {"orders": TableRule(update=("status",))}))
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        pod.login(role="ag_2", password="known")
    pod.login(role="ag_2", password=again).close()
    pod.run(lambda: database.revoke_agent("ag_2"))
    pod.run(lambda: database.revoke_agent("ag_2"))


def test_a_service_reads_and_writes_rows_and_changes_no_schema(pod: Pod) -> None:
    with closing(pod.login(role="svc_api", password=pod.database.service_passwords["api"])) as service:
        for statement in (
            "SELECT * FROM secrets",
            "INSERT INTO orders (customer_id, total) VALUES (1, 1)",
            "UPDATE crm.calls SET summary = 's'",
            "DELETE FROM pairs",
            "SELECT read_secret()",
            "SELECT nextval('audit_id_seq'), setval('audit_id_seq', 50)",
            "SELECT pg_advisory_lock(1), pg_notify('x', 'y'), pg_sleep(0)",
        ):
            service.execute(statement)
        for statement in (
            "CREATE TABLE mine (a int)",
            "ALTER TABLE orders ADD COLUMN x int",
            "DROP TABLE orders",
            "ALTER TABLE orders DISABLE TRIGGER ALL",
            "SELECT pg_logical_emit_message(true, 'podctl', '{}')",
            "SET log_min_duration_statement = -1",
            "COPY orders TO PROGRAM 'id'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement)


def test_psql_works_for_an_agent(pod: Pod) -> None:
    conninfo = psycopg.conninfo.make_conninfo(host=pod.server.host, user="ag_roles", dbname="pod_roles")
    ran = subprocess.run(
        [pod.server.bin / "psql", "-X", "-At", conninfo, "-c", "\\d orders", "-c", "SELECT id FROM orders ORDER BY id LIMIT 1"],
        env={"PGPASSWORD": pod.password},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "customer_id" in ran.stdout
    assert ran.stdout.endswith("\n1\n")


CATALOG = Catalog({1: Table("public", "orders", "r", (Column("id", "integer", True), Column("status", "text")), 1)})


@pytest.mark.parametrize(
    ("rules", "says", "hint"),
    [
        ({"order": TableRule()}, "table order,", "did you mean orders?"),
        ({"crm.orders": TableRule()}, "table crm.orders,", "orders"),
        ({"orders": TableRule(update=("state",))}, "column orders.state,", "did you mean status?"),
        ({"orders": TableRule(read=("zzz",))}, "column orders.zzz,", "it has id, status"),
        ({"orders": TableRule(insert=("id; DROP TABLE orders",))}, "column", "it has id, status"),
    ],
)
def test_a_rule_for_what_is_not_there_is_an_error(rules: dict[str, TableRule], says: str, hint: str) -> None:
    with pytest.raises(BoundaryProblem, match=says) as caught:
        grants_for_agent("ag", rules, CATALOG)
    assert hint in caught.value.hint


def test_names_are_quoted() -> None:
    odd = Catalog({1: Table('s"x', "t able", "r", (Column('c"; --', "text"),), 1)})
    statements = statements_for_agent("ag", "p'w", "d b") + grants_for_agent(
        "ag", {'s"x.t able': TableRule(read=('c"; --',))}, odd
    )
    assert 'GRANT SELECT ("c""; --") ON TABLE "s""x"."t able" TO "ag"' in statements
    assert statements[0].endswith("PASSWORD 'p''w'")


def test_a_rule_that_grants_nothing_gives_no_way_into_the_schema() -> None:
    statements = grants_for_agent("ag", {"orders": TableRule(read=False)}, CATALOG)
    assert not [statement for statement in statements if "SCHEMA" in statement or "TABLE" in statement]


def test_the_verifier_is_the_one_of_rfc_7677() -> None:
    # The example of RFC 7677 section 3: user, password "pencil", its salt and 4096 iterations.
    import base64

    verifier = scram_verifier("pencil", base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    assert verifier == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )
