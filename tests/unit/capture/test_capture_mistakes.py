"""What a capture cannot be made of is said in words, and nothing half-made is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from capturing import Server, ask, captured, dump_programs, planned, project

from podctl.capture.capturing import Order, write_seeds
from podctl.capture.masked import Unmasked
from podctl.capture.planning import opened
from podctl.capture.postgres_schema import DumpPrograms, able
from podctl.errors import PodctlError
from podctl.masking.problems import MaskingProblem

SHOP = """
CREATE TABLE users (id int PRIMARY KEY, mail text); INSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 50) g;
CREATE TABLE orders (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users, via int REFERENCES users);
INSERT INTO orders SELECT g, 1 + g % 50, 1 + g % 7 FROM generate_series(1, 500) g;
"""
ONE = [{"id": "1", "order": 5}]
BY_ORDER = [{"path": "order", "table": "orders", "column": "id"}]


def refused(path: Path, out: Path) -> PodctlError:
    """The capture's error; nothing of it is left."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(PodctlError) as caught:
        captured(path, out)
    assert sorted(out.parent.iterdir()) == before
    assert "Traceback" not in caught.value.render()
    return caught.value


def told(error: PodctlError) -> str:
    return error.render()


def test_a_budget_that_does_not_suffice_names_the_chain_and_what_to_cut(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP)
    children = [{"table": "orders", "of": "users", "columns": ["via"], "cap": 100}]
    path = project(tmp_path, url, ONE, rows=BY_ORDER, children=children, budget={"rows": 60})
    error = refused(path, tmp_path / "seed")
    assert error.code == "capture-budget"
    assert "tickets name 1 rows" in told(error)
    assert "users of orders (orders.user_id, always needed)" in told(error) or "orders.via, may be empty" in told(error)
    assert "orders of users (orders.via, declared under children): " in told(error)
    assert "cheapest to cut" in told(error)
    path = project(tmp_path, url, ONE, rows=BY_ORDER, children=children, budget={"tables": {"users": 10}})
    assert "10 rows of users (budget.tables.users)" in told(refused(path, tmp_path / "seed"))


def test_the_cheapest_cut_is_one_that_may_be_cut(server: Server, tmp_path: Path) -> None:
    script = """CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
        CREATE TABLE c (id int PRIMARY KEY, b int REFERENCES b); INSERT INTO a SELECT generate_series(1, 90);
        INSERT INTO b SELECT g, g FROM generate_series(1, 90) g; INSERT INTO c SELECT g, g FROM generate_series(1, 90) g;"""
    ids = [{"id": "1", "c": list(range(1, 80))}]
    path = project(
        tmp_path, server.database(script), ids, rows=[{"path": "c", "table": "c", "column": "id"}], budget={"rows": 200}
    )
    error = refused(path, tmp_path / "seed")
    assert "b of c (c.b, may be empty): 79 rows" in told(error)
    assert "parents: {follow: {c.b: never}}; about 158 of these rows came by it" in told(error)


def test_a_whole_table_beyond_the_budget_is_refused_before_it_is_read(server: Server, tmp_path: Path) -> None:
    error = refused(project(tmp_path, server.database(SHOP), whole=["orders"], budget={"rows": 100}), tmp_path / "seed")
    assert error.code == "capture-budget" and "orders is to be taken whole and has 500 rows" in told(error)
    analysed = server.database(SHOP + "ANALYZE;")
    error = refused(project(tmp_path, analysed, whole=["*"], budget={"rows": 540}), tmp_path / "seed")
    assert error.code == "capture-budget" and "orders 500, users 50" in told(error)


def test_names_that_the_source_has_not_are_shown_at_their_place(server: Server, tmp_path: Path) -> None:
    rows = [{"path": "order", "table": "order", "column": "id"}]
    children = [{"table": "orders", "of": "users"}, {"table": "users", "of": "orders"}]
    follow = {"orders.user_id": "never", "orders.vai": "always"}
    path = project(
        tmp_path,
        server.database(SHOP),
        ONE,
        rows=rows,
        children=children,
        parents={"follow": follow},
        whole=["nothing_*"],
        edges=[{"table": "users", "columns": ["mial"], "of": "orders", "to": ["id"]}],
        budget={"tables": {"usrs": 3}},
    )
    said = told(refused(path, tmp_path / "seed"))
    for part in (
        "no table order\n", "2 references lead from orders to users", "columns: [user_id]; columns: [via]",
        "no reference from users to orders", "orders.user_id cannot be empty", "no reference is by orders.vai", "`orders.via`",
        "no table nothing_*", "users has no column mial", "did you mean `mail`?", "no table usrs",
    ):  # fmt: skip
        assert part in said, (part, said)
    assert f"{len(said.split('capture.yaml:')) - 1} mistakes" in said


def test_a_path_that_matches_nothing(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP)
    path = project(tmp_path, url, ONE, rows=[{"path": "ordr", "table": "orders", "column": "id"}])
    error = refused(path, tmp_path / "seed")
    assert error.code == "capture-path" and "'ordr'" in told(error) and "order" in error.cause
    for value in (99999, "no number", "7\x1b[31m", 2**63, "1e5", "", None):
        path = project(tmp_path, url, [{"id": "1", "order": value}], rows=BY_ORDER)
        assert refused(path, tmp_path / "seed").code == "capture-path"
    path = project(tmp_path, url, [{"id": "1", "order": [5, "nine", 999]}, {"id": "2", "order": 999}], rows=BY_ORDER)
    (unmatched,) = planned(path).unmatched
    assert (unmatched.column, unmatched.values, unmatched.tickets) == ("orders.id", 2, 2)


def test_nothing_to_take_is_a_mistake(server: Server, tmp_path: Path) -> None:
    assert refused(project(tmp_path, server.database(SHOP)), tmp_path / "seed").code == "capture-empty"


def test_tables_that_may_not_be_read_are_all_named_with_what_to_type(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP + "CREATE SCHEMA pay; CREATE TABLE pay.roll (id int); CREATE TABLE open (id int);")
    ask(server.url, "DROP ROLE IF EXISTS reader")
    ask(server.url, "CREATE ROLE reader LOGIN")
    ask(url, "GRANT SELECT ON open TO reader")
    path = project(tmp_path, server.of(urlsplit(url).path[1:], "reader"), whole=["open"])
    error = refused(path, tmp_path / "seed")
    assert error.code == "capture-permission" and "reader may not read orders, pay.roll, users" in told(error)
    for statement in error.hint.splitlines()[0].split("; "):
        ask(url, statement)
    captured(path, tmp_path / "seed")
    ask(url, "ALTER TABLE open ENABLE ROW LEVEL SECURITY")
    error = refused(path, tmp_path / "other")
    assert error.code == "capture-permission" and "row-level security hides rows of open from reader" in told(error)


def test_a_lock_that_somebody_holds_is_waited_for_and_no_longer(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP)
    path = project(tmp_path, url, whole=["users"])
    with psycopg.connect(url, application_name="migration-7") as holder:
        holder.execute("LOCK TABLE orders")
        error = refused(path, tmp_path / "seed")
    assert error.code == "capture-locked"
    assert "orders is locked by somebody else" in told(error) and "migration-7" in told(error) and "0.3 s" in told(error)


def test_a_query_that_takes_too_long_is_ended(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP + "INSERT INTO users SELECT g, repeat('x', 300) FROM generate_series(100, 400000) g;")
    path = project(tmp_path, url, whole=["users"], source={"statement_timeout": "40ms"})
    assert refused(path, tmp_path / "seed").code == "capture-timeout"


def test_a_source_that_cannot_be_reached(tmp_path: Path) -> None:
    error = refused(project(tmp_path, "postgresql://u@127.0.0.1:9/x", whole=["*"]), tmp_path / "seed")
    assert error.code == "capture-unreachable" and "refused" in told(error)


def test_passwords_come_from_the_environment_and_go_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("postgresql://u:hunter2@h/x", "postgresql://u@h/x?password=hunter2", "host=h password=hunter2"):
        error = refused(project(tmp_path, url, whole=["*"]), tmp_path / "seed")
        assert error.code == "capture-secret" and "hunter2" not in told(error)
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    path = project(tmp_path, "postgresql://u@h/x", whole=["*"], source={"password_env": "NO_SUCH_PASSWORD"})
    error = refused(path, tmp_path / "seed")
    assert error.code == "capture-secret" and "NO_SUCH_PASSWORD is not set" in told(error)
    assert refused(project(tmp_path, "ftp://h/x", whole=["*"]), tmp_path / "seed").code == "capture-url"


def test_text_that_is_not_what_the_database_says_is_named_by_its_place(server: Server, tmp_path: Path) -> None:
    url = server.database(encoding="SQL_ASCII")
    with psycopg.connect(url, autocommit=True, client_encoding="SQL_ASCII") as session:
        session.execute(b"CREATE TABLE t (id int PRIMARY KEY, a text, b text)")
        session.execute(b"INSERT INTO t VALUES (1, 'x', 'caf\xc3\xa9'), (2, 'tab\there', 'caf\xe9')")
    error = refused(project(tmp_path, url, whole=["t"]), tmp_path / "seed")
    assert error.code == "capture-encoding" and "t.b holds text that is not utf-8: the byte 0xe9 in row 2" in told(error)
    ask(url, "DELETE FROM t WHERE id = 1")
    captured(project(tmp_path, url, whole=["t"], source={"encoding": "latin-1"}), tmp_path / "seed")
    assert ask(server.loaded(tmp_path / "seed"), "SELECT b FROM t") == [("café",)]
    assert (
        refused(project(tmp_path, url, whole=["t"], source={"encoding": "klingon"}), tmp_path / "x").code == "capture-encoding"
    )


@pytest.mark.campaign
def test_a_row_of_a_hundred_megabytes(server: Server, tmp_path: Path) -> None:
    url = server.database(
        "CREATE TABLE docs (id int PRIMARY KEY, doc jsonb);"
        "INSERT INTO docs VALUES (1, '{}'), (2, jsonb_build_object('a', repeat('0123456789', 10000000)));"
    )
    error = refused(project(tmp_path, url, whole=["docs"]), tmp_path / "seed")
    assert error.code == "capture-value-size" and "a row of docs has 100 MB" in told(error) and "pg_column_size" in told(error)
    captured(project(tmp_path, url, whole=["docs"], value_bytes="200Mi"), tmp_path / "seed")
    assert ask(server.loaded(tmp_path / "seed"), "SELECT length(doc ->> 'a') FROM docs ORDER BY id") == [(None,), (10**8,)]


def test_references_that_the_source_itself_broke(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP)
    ask(url, "SET session_replication_role = replica; DELETE FROM users WHERE id = 6")
    error = refused(project(tmp_path, url, ONE, rows=BY_ORDER), tmp_path / "seed")
    assert error.code == "capture-source-broken" and "orders.user_id" in told(error)
    path = project(tmp_path, url, [{"id": "1", "order": 11}], rows=BY_ORDER)  # its user is there, what it came via is not
    ask(url, "SET session_replication_role = replica; UPDATE orders SET via = 6 WHERE id = 11")
    assert planned(path).subset.dangling == {"orders.via": 1}


def test_what_is_to_be_empty_cannot_be_needed(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP)
    for spec in ({"rows": BY_ORDER, "empty": ["users"]}, {"rows": BY_ORDER, "empty": ["orders"]}):
        arguments: dict[str, Any] = spec
        assert refused(project(tmp_path, url, ONE, **arguments), tmp_path / "seed").code == "capture-contradiction"
    error = refused(project(tmp_path, url, whole=["orders"], empty=["users"]), tmp_path / "seed")
    assert "every row of orders must have one" in told(error)


def test_a_schema_that_changes_meanwhile(server: Server, tmp_path: Path) -> None:
    """Between the snapshot and the end; a table cannot change while it is locked, but one can be added to its like."""
    url = server.database(SHOP + "CREATE TABLE big AS SELECT g AS id, repeat('x', 200) AS t FROM generate_series(1, 300000) g;")
    path = project(tmp_path, url, whole=["*"])
    caught: list[PodctlError] = []

    def capture() -> None:
        try:
            captured(path, tmp_path / "seed")
        except PodctlError as error:
            caught.append(error)

    worker = threading.Thread(target=capture)
    with psycopg.connect(url, autocommit=True) as session:
        worker.start()
        waiting_for(
            lambda: bool(ask(url, "SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND mode = 'AccessShareLock'"))
        )
        session.execute("CREATE TABLE fresh (id int)")
        worker.join(60)
    assert [error.code for error in caught] == ["capture-schema-changed"]
    assert "fresh, column id is new" in told(caught[0])
    assert not (tmp_path / "seed").exists() and list(tmp_path.glob(".seed*")) == []


def waiting_for(there: Any) -> None:
    deadline = time.monotonic() + 30
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def big(cluster: Server) -> str:
    """A database with a table that takes a moment to copy."""
    return cluster.database(
        SHOP + "CREATE TABLE big AS SELECT g AS id, repeat('x', 500) AS t FROM generate_series(1, 400000) g;"
    )


def test_a_source_that_is_killed_amid_a_table(server: Server, big: str, tmp_path: Path) -> None:
    path = project(tmp_path, big, whole=["big"])
    process = command(path, tmp_path / "seed")
    waiting_for(lambda: any(file.stat().st_size > 1 << 20 for file in tmp_path.glob(".seed*/seed/tables/*.copy")))
    ask(server.url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'podctl data capture'")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 3, said
    assert "the source was lost while podctl was copying big [capture-source-lost]" in said
    assert not (tmp_path / "seed").exists() and list(tmp_path.glob(".seed*")) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_podctl_asked_to_end_amid_a_table(big: str, tmp_path: Path, number: signal.Signals) -> None:
    path = project(tmp_path, big, whole=["big"])
    process = command(path, tmp_path / "seed")
    waiting_for(lambda: any(file.stat().st_size > 1 << 20 for file in tmp_path.glob(".seed*/seed/tables/*.copy")))
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "Traceback" not in said
    assert not (tmp_path / "seed").exists() and list(tmp_path.glob(".seed*")) == []


def test_podctl_killed_amid_a_table_leaves_no_seed_no_query_and_nothing_for_long(
    server: Server, big: str, tmp_path: Path
) -> None:
    path = project(tmp_path, big, whole=["big"])
    process = command(path, tmp_path / "seed")
    waiting_for(lambda: any(file.stat().st_size > 1 << 20 for file in tmp_path.glob(".seed*/seed/tables/*.copy")))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (tmp_path / "seed").exists() and len(list(tmp_path.glob(".seed*"))) == 1
    mine = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'podctl data capture'"
    waiting_for(lambda: not ask(server.url, mine))
    captured(project(tmp_path, big, whole=["users"]), tmp_path / "seed")
    assert list(tmp_path.glob(".seed*")) == []


@pytest.mark.parametrize(
    "point",
    [
        "capture.set-aside",
        *(
            pytest.param(point, marks=pytest.mark.campaign)
            for point in ("capture.begun", "capture.copied:2", "capture.whole", "capture.made")
        ),
    ],
)
def test_podctl_killed_while_it_replaces_a_seed(server: Server, tmp_path: Path, point: str) -> None:
    url = server.database(SHOP)
    path = project(tmp_path, url, whole=["*"])
    old = captured(path, tmp_path / "seed").digest
    ask(url, "UPDATE users SET mail = 'new' WHERE id = 1")
    process = command(path, tmp_path / "seed", "--replace", PODCTL_FAULT=f"kill:{point}")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    # What was set aside is brought back by the next capture, also by one that may not replace it.
    if not (tmp_path / "seed").exists():
        assert point == "capture.set-aside"
        assert refused_code(path, tmp_path / "seed") == "capture-target"
    (digest,) = [(tmp_path / "seed" / "digest").read_text().strip()]
    assert (digest == old) == (point != "capture.made")
    assert captured(path, tmp_path / "seed", replace=True).digest != old
    assert list(tmp_path.glob(".seed*")) == []


def refused_code(path: Path, out: Path) -> str:
    with pytest.raises(PodctlError) as caught:
        captured(path, out)
    return caught.value.code


def test_what_is_no_seed_is_never_replaced(server: Server, tmp_path: Path) -> None:
    path = project(tmp_path, server.database(SHOP), whole=["users"])
    (tmp_path / "seed").mkdir()
    (tmp_path / "seed" / "precious.txt").write_text("x")
    with pytest.raises(PodctlError) as caught:
        captured(path, tmp_path / "seed", replace=True)
    assert caught.value.code == "capture-target" and (tmp_path / "seed" / "precious.txt").exists()


def command(path: Path, out: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "podctl", "data", "capture", str(path), "-o", str(out), "--no-template", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def test_a_password_reaches_the_server_and_pg_dump_and_nothing_else(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.database(SHOP)
    ask(server.url, "DROP ROLE IF EXISTS guarded")
    ask(server.url, r"CREATE ROLE guarded LOGIN SUPERUSER PASSWORD 'hunter2:\x'")
    (hba,) = ask(server.url, "SHOW hba_file")[0]
    rules = Path(hba).read_text()
    Path(hba).write_text("local all guarded scram-sha-256\n" + rules)
    try:
        ask(server.url, "SELECT pg_reload_conf()")
        source = {"password_env": "SHOP_SECRET"}
        path = project(tmp_path, server.of(urlsplit(url).path[1:], "guarded"), whole=["users"], source=source)
        monkeypatch.setenv("SHOP_SECRET", "hunter2")
        waiting_for(lambda: refused(path, tmp_path / "seed").code == "capture-unreachable")
        assert "hunter2" not in told(refused(path, tmp_path / "seed"))
        monkeypatch.setenv("SHOP_SECRET", "hunter2:\\x")
        captured(path, tmp_path / "seed")
    finally:
        Path(hba).write_text(rules)
        ask(server.url, "SELECT pg_reload_conf()")
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files and not any(b"hunter2" in file.read_bytes() for file in files)


def test_a_server_newer_than_every_pg_dump_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = dump_programs()
    old = DumpPrograms(ours.directory, ours.major - 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PodctlError) as caught:
        able(old, ours.major)
    assert caught.value.code == "capture-newer-server" and f"postgresql-client-{ours.major}" in told(caught.value)
    monkeypatch.setenv("PATH", str(ours.directory))
    assert able(old, ours.major) == ours.directory.resolve()


def test_extensions_that_the_copy_can_do_without(server: Server, tmp_path: Path) -> None:
    url = server.database("CREATE EXTENSION citext; CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    path = project(tmp_path, url, whole=["t"])
    seed = captured(path, tmp_path / "seed")
    assert "citext" in seed.extensions and "citext" in (tmp_path / "seed/before.sql").read_text()
    path = project(tmp_path, url, whole=["t"], leave_out_extensions=["citext"])
    seed = captured(path, tmp_path / "seed", replace=True)
    assert seed.extensions == {} and "citext" not in (tmp_path / "seed/before.sql").read_text()
    assert seed.not_mirrored == {"EXTENSION citext": "leave_out_extensions names it"}


def test_mistakes_of_the_file_itself_are_found_before_anything_is_read(tmp_path: Path) -> None:
    url = "postgresql://u@127.0.0.1:9/x"
    rows = [{"path": "order", "table": "orders", "column": "id", "match": "("}]
    error = refused(project(tmp_path, url, ONE, rows=rows), tmp_path / "seed")
    assert error.code == "spec-invalid" and "not a regular expression" in told(error)
    error = refused(project(tmp_path, url, whole=["*"], masking="no.yaml", unmasked="why"), tmp_path / "seed")
    assert error.code == "spec-invalid" and "masking and unmasked are both given" in told(error)
    done = command(project(tmp_path, url, whole=["*"], masking="no.yaml"), tmp_path / "seed")
    assert "no such file" in done.communicate(timeout=60)[1] and done.returncode == 2
    done = command(project(tmp_path, url, whole=["*"], masking=None, unmasked=" "), tmp_path / "seed")
    assert "nothing says how the rows are masked" in done.communicate(timeout=60)[1] and done.returncode == 2


class Built:
    """A trial that builds a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def build(self, seed: Path) -> Path:
        assert (seed / "seed.json").is_file()
        self.place.mkdir()
        return self.place

    def remove(self) -> None:
        self.place.rmdir()


class Leaking(Unmasked):
    """Masks that let something through."""

    def attest(self, seed: Path, also: Any, facts: Any) -> None:
        raise MaskingProblem("1 raw values are in what was to be masked", code="masking-leak")


def test_what_was_built_of_a_seed_with_raw_values_goes_with_it(server: Server, tmp_path: Path) -> None:
    path = project(tmp_path, server.database(SHOP), whole=["users"])
    for masking, code in ((Leaking("x"), "masking-leak"), (Unmasked("x"), "")):
        with opened([path], dump_programs()) as (source,):
            order = Order(source, source.plan(), tmp_path / "seed", masking, Built(tmp_path / "built"))
            if code:
                with pytest.raises(PodctlError) as caught:
                    write_seeds([order], replace=False)
                assert caught.value.code == code
            else:
                write_seeds([order], replace=False)
        assert (tmp_path / "built").exists() == (tmp_path / "seed").exists() == (not code)
