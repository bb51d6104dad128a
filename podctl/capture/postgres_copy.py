"""Lines of ``COPY … TO STDOUT``, as fast as libpq has them: psycopg's own way waits anew for each, at twice the price."""

from __future__ import annotations

import select
from collections.abc import Generator

import psycopg
from psycopg import pq

from podctl.capture.postgres_catalog import Session


def copied_out(session: Session, query: bytes) -> Generator[bytes, None, None]:
    """One line at a time, with its end. Raises psycopg.Error; the session can be used again afterwards, also when nobody reads on."""
    connection = session.pgconn
    connection.send_query(query)
    while connection.flush():
        select.select([connection.socket], [connection.socket], [])
        connection.consume_input()
    while connection.is_busy():
        _wait(connection)
    result = connection.get_result()
    ended = result is None or result.status != pq.ExecStatus.COPY_OUT
    try:
        while not ended:
            size, line = connection.get_copy_data(1)
            if size > 0:
                yield bytes(line)
            elif size == 0:
                _wait(connection)
            else:
                ended = True
    finally:
        if not ended:
            session.cancel()
            while connection.get_copy_data(0)[0] > 0:
                pass
        failed = result if result is not None and result.status == pq.ExecStatus.FATAL_ERROR else None
        while (more := connection.get_result()) is not None:
            failed = more if more.status == pq.ExecStatus.FATAL_ERROR else failed
    if failed is not None:
        told = psycopg.errors.error_from_result(failed, "utf-8")
        # What a server did not live to say has no code, and is then of no kind.
        raise told if told.sqlstate else psycopg.OperationalError(*told.args)


def _wait(connection: pq.abc.PGconn) -> None:
    select.select([connection.socket], [], [])
    connection.consume_input()
