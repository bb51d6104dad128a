"""One snapshot of a PostgreSQL source, read-only, with bounded waiting."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from podctl.capture.postgres_catalog import Session
from podctl.capture.problems import CaptureProblem
from podctl.data.connect import first_line
from podctl.errors import SpecError
from podctl.spec.capture import CaptureSource

CONNECT_TIMEOUT = 15
#: As `server_version` counts.
OLDEST = 130_000
_SECRETS = ("password", "sslpassword", "passfile")
#: Output functions follow these, and the copy is read under them.
_SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    # A whole table in the order that it has, whoever else reads it at the time.
    "synchronize_seqscans": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # An error is better than rows that are silently missing.
    "row_security": "off",
    "idle_in_transaction_session_timeout": "0",
}


@dataclass(frozen=True)
class Address:
    """Where the source is. The password is no part of ``conninfo``, which may be seen by others."""

    conninfo: str
    password: str | None = field(repr=False)

    @property
    def database(self) -> str:
        return str(conninfo_to_dict(self.conninfo).get("dbname") or "the source")


def address(source: CaptureSource) -> Address:
    """Raises `SpecError` for a password in the URL, and for a variable that is not set."""
    try:
        given = conninfo_to_dict(source.url)
    except psycopg.ProgrammingError as error:
        raise SpecError("source.url is not understood", code="capture-url", cause=first_line(error)) from error
    written = [name for name in _SECRETS if given.get(name)]
    if written:
        raise SpecError(
            f"source.url holds a {written[0]}",
            code="capture-secret",
            unchanged="nothing was read",
            hint="take it out, and name the variable that holds it with password_env; ~/.pgpass and service files work too",
        )
    return Address(make_conninfo("", **given), password_of(source))


def password_of(source: CaptureSource) -> str | None:
    """Raises `SpecError` when the variable that should hold it is not set."""
    if source.password_env is None:
        return None
    password = os.environ.get(source.password_env)
    if not password:
        raise SpecError(
            f"{source.password_env} is not set, and source.password_env names it",
            code="capture-secret",
            hint=f"read -rs {source.password_env}; export {source.password_env}",
        )
    return password


def open_session(source: CaptureSource, where: Address) -> Session:
    """A session that may only read. Raises `CaptureProblem`."""
    options = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    given = str(conninfo_to_dict(where.conninfo).get("options") or "")
    extra: dict[str, Any] = {"password": where.password} if where.password else {}
    try:
        session = psycopg.connect(
            where.conninfo,
            autocommit=True,
            options=f"{given} {options}".strip(),
            application_name="podctl data capture",
            connect_timeout=CONNECT_TIMEOUT,
            client_encoding="UTF8",
            **extra,
        )
    except psycopg.OperationalError as error:
        raise CaptureProblem(
            f"cannot connect to {where.database}",
            code="capture-unreachable",
            cause=first_line(error),
            unchanged="nothing was read",
            hint="check source.url; the password comes from source.password_env, ~/.pgpass or a service file",
        ) from error
    if session.info.server_version < OLDEST:
        session.close()
        raise CaptureProblem(
            f"the source is PostgreSQL {session.info.server_version // 10_000}",
            code="capture-old-server",
            cause="podctl captures PostgreSQL 13 and later",
            unchanged="nothing was read",
            hint="capture from a newer server that has the same data, such as a logical replica",
        )
    # Statements inside a snapshot are many; each is bounded.
    session.execute(f"SET lock_timeout = {int(source.lock_timeout * 1000)}".encode())
    session.execute(f"SET statement_timeout = {int(source.statement_timeout * 1000)}".encode())
    if session.info.server_version >= 140000:
        # A query of a podctl that was killed ends soon.
        session.execute("SET client_connection_check_interval = '2s'")
    return session


def begin_snapshot(session: Session) -> None:
    """Everything from here on is of one moment; nothing can be written."""
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    session.execute("SELECT 1")  # takes it


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Server errors in words; ``doing`` ends the sentence 'the source failed while …'."""
    try:
        yield
    except psycopg.Error as error:
        raise _problem(doing, error) from error


def _problem(doing: str, error: psycopg.Error) -> CaptureProblem:
    unchanged = "nothing was made"
    cause = first_line(error)
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return CaptureProblem(
            f"somebody holds a lock while podctl was {doing}",
            code="capture-locked",
            cause=cause,
            unchanged=unchanged,
            hint="wait until they are done, or raise source.lock_timeout",
        )
    if isinstance(error, psycopg.errors.QueryCanceled):
        hint = "raise source.statement_timeout, or declare fewer children and edges without an index (podctl data plan)"
        return CaptureProblem(
            f"a query took too long while podctl was {doing}",
            code="capture-timeout",
            cause=cause,
            unchanged=unchanged,
            hint=hint,
        )
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return CaptureProblem(f"the source refused {doing}", code="capture-permission", cause=cause, unchanged=unchanged)
    if isinstance(error, psycopg.errors.SerializationFailure):
        hint = "on a standby: set hot_standby_feedback = on, or max_standby_streaming_delay longer; or capture from the primary"
        return CaptureProblem(
            f"the source gave up the snapshot while podctl was {doing}",
            code="capture-snapshot-lost",
            cause=cause,
            unchanged=unchanged,
            hint=hint,
        )
    if isinstance(error, psycopg.errors.CharacterNotInRepertoire | psycopg.errors.UntranslatableCharacter):
        return CaptureProblem(
            f"the source holds text that is not what its encoding says; podctl was {doing}",
            code="capture-encoding",
            cause=cause,
            unchanged=unchanged,
            hint="mend those rows; for a SQL_ASCII database say what it holds with source.encoding",
        )
    if error.sqlstate is None or error.sqlstate.startswith(("08", "57P")):
        return CaptureProblem(
            f"the source was lost while podctl was {doing}",
            code="capture-source-lost",
            cause=cause,
            unchanged=unchanged,
            hint="capture again",
        )
    return CaptureProblem(
        f"the source failed while podctl was {doing}", code="capture-failed", cause=cause, unchanged=unchanged
    )
