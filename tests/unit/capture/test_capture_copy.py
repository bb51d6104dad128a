"""Lines of COPY, and a session that is of use whatever becomes of them."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest
from capturing import Server, ask

from podctl.capture.postgres_copy import copied_out

MANY = b"COPY (SELECT g, repeat('x', 200) FROM generate_series(1, 200000) g) TO STDOUT"


def test_lines_come_whole_and_in_order_and_none_of_an_empty_table(server: Server) -> None:
    with psycopg.connect(server.url) as session:
        lines = list(copied_out(session, MANY))
        assert len(lines) == 200_000 and lines[0] == b"1\t" + b"x" * 200 + b"\n" and lines[-1].startswith(b"200000\t")
        assert list(copied_out(session, b"COPY (SELECT 1 WHERE false) TO STDOUT")) == []
        assert len(next(copied_out(session, b"COPY (SELECT repeat('y', 30000000)) TO STDOUT"))) == 30_000_001


def test_who_stops_reading_and_who_fails_can_ask_again(server: Server) -> None:
    with psycopg.connect(server.url, autocommit=True) as session:
        for failing in (
            b"COPY nowhere TO STDOUT",
            b"COPY (SELECT 1 / (90000 - g) FROM generate_series(1, 100000) g) TO STDOUT",
        ):
            with pytest.raises((psycopg.errors.UndefinedTable, psycopg.errors.DivisionByZero)):
                list(copied_out(session, failing))
        with closing(copied_out(session, MANY)) as lines:
            assert next(lines)
        assert session.execute("SELECT 7").fetchone() == (7,)
        session.execute("SET statement_timeout = 300")
        with pytest.raises(psycopg.errors.QueryCanceled):
            list(copied_out(session, b"COPY (SELECT pg_sleep(0.1) FROM generate_series(1, 50)) TO STDOUT"))


def test_a_server_that_ends_is_an_error_and_no_end_of_lines(server: Server) -> None:
    with psycopg.connect(server.url) as session:
        lines = copied_out(session, MANY)
        next(lines)
        ask(server.url, f"SELECT pg_terminate_backend({session.info.backend_pid}, 5000)")
        with pytest.raises(psycopg.OperationalError):
            list(lines)
