"""Captures of SQLite and MariaDB become PostgreSQL, by the same rules."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import mariadb_server
import pytest
import sqlalchemy as sa
from capturing import Server, ask, captured, planned, project

from podctl.errors import PodctlError

SHOP = """
CREATE TABLE teams (code varchar(10) PRIMARY KEY, lead integer);
CREATE TABLE users (id integer PRIMARY KEY, email varchar(60) NOT NULL UNIQUE, team varchar(10) NOT NULL REFERENCES teams(code),
    boss integer REFERENCES users(id), active boolean DEFAULT 1, born date, seen datetime DEFAULT CURRENT_TIMESTAMP, score decimal(8,2));
CREATE TABLE orders (tenant integer NOT NULL, no integer NOT NULL, user_id integer NOT NULL REFERENCES users(id), note text, PRIMARY KEY (tenant, no));
CREATE TABLE items (tenant integer, no integer, what varchar(40), raw blob, FOREIGN KEY (tenant, no) REFERENCES orders(tenant, no));
CREATE INDEX items_order ON items (tenant, no);
INSERT INTO teams VALUES ('a', 1), ('b', 2), ('c', 3);
"""


def fill(execute: object) -> None:
    run = execute
    assert callable(run)
    for n in range(1, 41):
        boss = "NULL" if n == 1 else str(n - 1)
        run(
            f"INSERT INTO users VALUES ({n}, 'u{n}@x.example', '{'abc'[n % 3]}', {boss}, {n % 2}, '1980-01-{n % 28 + 1:02}', '2024-01-01 10:00:00', {n}.5)"
        )
        run(f"INSERT INTO orders VALUES (1, {n}, {n}, 'tab\there, back\\\\slash, \u00e9')")
        for piece in range(3):
            run(f"INSERT INTO items (tenant, no, what, raw) VALUES (1, {n}, 'piece {piece}', X'00FF0A')")


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    file = tmp_path / "odd name?.db"
    with sqlite3.connect(file) as session:
        session.executescript(SHOP)
        fill(session.execute)
    session.close()
    return f"sqlite:///{str(file).replace('?', '%3F')}"


@pytest.fixture(scope="module")
def maria() -> Iterator[str]:
    if reason := mariadb_server.why_not():
        pytest.skip(reason)
    with mariadb_server.serving() as url:
        engine = sa.create_engine(url.format(database=""))
        with engine.begin() as session:
            session.exec_driver_sql("CREATE DATABASE shop CHARACTER SET utf8mb4")
        engine = sa.create_engine(url.format(database="shop"))
        with engine.begin() as session:
            # Without a key MariaDB cannot tell rows apart; SQLite has one of its own.
            script = SHOP.replace("raw blob,", "raw blob, id integer PRIMARY KEY AUTO_INCREMENT,")
            for statement in filter(str.strip, script.split(";")):
                session.exec_driver_sql(statement)
            fill(lambda text: session.exec_driver_sql(text))
        engine.dispose()
        yield url.format(database="shop")


def check(server: Server, url: str, tmp_path: Path) -> None:
    rows = [{"path": "order", "table": "orders", "column": "no"}]
    children = [{"table": "items", "of": "orders", "cap": 2}]
    edges = [{"table": "teams", "columns": ["lead"], "of": "users", "to": ["id"]}]
    tickets = [{"id": "1", "order": [5, "6", 999, "x"]}]
    path = project(tmp_path, url, tickets, rows=rows, children=children, edges=edges, parents={"depth": 1})
    (unmatched,) = planned(path).unmatched
    assert unmatched.values == 2
    seed = captured(path, tmp_path / "seed")
    assert captured(path, tmp_path / "seed", replace=True).digest == seed.digest
    copy = server.loaded(tmp_path / "seed")
    # The users of both orders, their bosses, the leads of their teams; nothing that is two such references away.
    assert ask(copy, "SELECT array_agg(id ORDER BY id) FROM users") == [([1, 3, 4, 5, 6],)]
    assert ask(copy, "SELECT tenant, no, note FROM orders ORDER BY no") == [
        (1, 5, "tab\there, back\\\\slash, é" if url.startswith("sqlite") else "tab\there, back\\slash, é"),
        (1, 6, "tab\there, back\\\\slash, é" if url.startswith("sqlite") else "tab\there, back\\slash, é"),
    ]
    assert ask(copy, "SELECT no, count(*), bool_and(raw = '\\x00ff0a') FROM items GROUP BY no ORDER BY no") == [
        (5, 2, True),
        (6, 2, True),
    ]
    assert ask(copy, "SELECT id FROM users WHERE boss IS NULL ORDER BY id")[0] == (1,)
    assert ask(copy, "SELECT born::text, seen::text, score::text FROM users WHERE id = 5") == [("1980-01-06", "2024-01-01 10:00:00", "5.50" if not url.startswith("sqlite") else "5.5")]  # fmt: skip
    # A reference holds here, and new rows get keys beyond those that came.
    assert ask(copy, "INSERT INTO users (email, team) VALUES ('new', 'a') RETURNING id") == [(7,)]
    assert ask(copy, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(4,)]


def test_a_sqlite_file(server: Server, sqlite: str, tmp_path: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    check(server, sqlite, tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.name in before}
    assert after == before  # the file was read, nothing beside it was made


def test_a_mariadb_server(server: Server, maria: str, tmp_path: Path) -> None:
    check(server, maria, tmp_path)


def test_values_that_are_not_of_their_column(sqlite: str, tmp_path: Path) -> None:
    file = tmp_path / "odd name?.db"
    for statement, column, why in (
        ("UPDATE users SET score = 'many' WHERE id = 3", "users.score", "no number"),
        ("UPDATE users SET score = 1, born = 'yesterday' WHERE id = 3", "users.born", "no date"),
        ("UPDATE users SET born = NULL, active = 'maybe' WHERE id = 3", "users.active", "neither true nor false"),
        ("UPDATE users SET active = 1, email = 'a' || char(0) || 'b' WHERE id = 3", "users.email", "NUL"),
    ):
        with sqlite3.connect(file) as session:
            session.execute(statement)
        session.close()
        with pytest.raises(PodctlError) as caught:
            captured(project(tmp_path, sqlite, whole=["users", "teams"]), tmp_path / "seed")
        assert caught.value.code == "capture-value" and f"{column} holds what is not" in caught.value.what, (
            caught.value.render()
        )
        assert why in caught.value.cause and "row 3" in caught.value.what
        assert not (tmp_path / "seed").exists()
    with sqlite3.connect(file) as session:
        session.execute("UPDATE users SET email = CAST(X'636166e9' AS TEXT) WHERE id = 3")
    session.close()
    with pytest.raises(PodctlError) as caught:
        captured(project(tmp_path, sqlite, whole=["users", "teams"]), tmp_path / "seed")
    assert caught.value.code == "capture-encoding"


def test_references_that_sqlite_never_checked(server: Server, sqlite: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "odd name?.db") as session:
        session.execute("UPDATE users SET boss = 999 WHERE id = 2")
    session.close()
    seed = captured(project(tmp_path, sqlite, whole=["users", "teams"]), tmp_path / "seed")
    assert seed.dangling == {"users.boss": 1}
    assert ask(server.loaded(tmp_path / "seed"), "SELECT boss FROM users WHERE id = 2") == [(None,)]
    with sqlite3.connect(tmp_path / "odd name?.db") as session:
        session.execute("UPDATE users SET team = 'zz' WHERE id = 2")
    session.close()
    with pytest.raises(PodctlError) as caught:
        captured(project(tmp_path, sqlite, whole=["users"]), tmp_path / "other")
    assert caught.value.code == "capture-source-broken"


def test_sources_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "not.db").write_text("this is no database at all, whatever its name says" * 40)
    for url, code in (
        (f"sqlite:///{tmp_path}/missing.db", "capture-unreachable"),
        (f"sqlite:///{tmp_path}/not.db", "capture-failed"),
        ("mysql://u:hunter2@localhost/x", "capture-secret"),
    ):
        with pytest.raises(PodctlError) as caught:
            planned(project(tmp_path, url, whole=["*"]))
        assert caught.value.code == code and "hunter2" not in caught.value.render()


def test_rows_that_cannot_be_told_apart_are_taken_whole_or_not_at_all(maria: str, server: Server, tmp_path: Path) -> None:
    engine = sa.create_engine(maria)
    with engine.begin() as session:
        session.exec_driver_sql("CREATE TABLE visits (user_id integer, at datetime)")
        session.exec_driver_sql("INSERT INTO visits VALUES (1, '2024-01-01'), (1, '2024-01-01')")
    engine.dispose()
    rows = [{"path": "v", "table": "visits", "column": "user_id"}]
    with pytest.raises(PodctlError) as caught:
        planned(project(tmp_path, maria, [{"id": "1", "v": 1}], rows=rows))
    assert caught.value.code == "capture-no-key" and "visits has no key" in caught.value.what
    captured(project(tmp_path, maria, whole=["visits"]), tmp_path / "seed")
    assert ask(server.loaded(tmp_path / "seed"), "SELECT count(*) FROM visits") == [(2,)]
