"""The store's database: opened fast when up to date, made or migrated when not, its errors put in words."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, ProgrammingError

from podctl.clock import SystemClock
from podctl.evidence.store_problems import (
    HEAD,
    REVISIONS,
    StoreProblem,
    damaged,
    foreign,
    in_words,
    locked,
    of_unknown_revision,
    unusable,
)

_MIGRATION_LOCK = 0x706F6463  # "podc": PostgreSQL's advisory lock while migrating
_SMALLEST = 512  # SQLite's smallest page


class Database:
    """Read and write transactions on an up-to-date store."""

    def __init__(self, engine: Engine, name: str, wait_s: float) -> None:
        self._reader = engine
        # A SQLite transaction that starts by reading and then writes fails at once when another wrote in between;
        # one that starts as a writer waits for its turn.
        self._writer = engine.execution_options(begin="BEGIN IMMEDIATE")
        self._name = name
        self._wait_s = wait_s

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Raises `StoreProblem`."""
        with self._worded(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Raises `StoreProblem`, and `sqlalchemy.exc.IntegrityError` for a row that is there already."""
        with self._worded(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        self._reader.dispose()

    @contextmanager
    def _worded(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            raise in_words(error.orig or error, self._name, self._wait_s) from error


def open_sqlite(path: Path, wait_s: float) -> Database:
    """Raises `StoreProblem` when the file is damaged, locked for longer than ``wait_s``, or of a newer podctl."""
    if not path.exists():
        _create(path, wait_s)
    elif path.is_file():
        _refuse_torn(path)
    database = Database(_sqlite_engine(path, wait_s), str(path), wait_s)
    try:
        if _needs_migration(database, str(path)):
            with _file_lock(path, wait_s):
                _migrate(database, str(path))
    except BaseException:
        database.close()
        raise
    return database


def open_url(url: str, wait_s: float) -> Database:
    """A store shared through PostgreSQL. Raises `StoreProblem`."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreProblem(
            "the store's URL is not valid", code="store-url", hint="write postgresql://USER@HOST/DATABASE"
        ) from error
    if parsed.get_backend_name() != "postgresql":
        cause = f"{parsed.get_backend_name()} is not supported"
        raise StoreProblem("the store's URL is not of PostgreSQL", code="store-url", cause=cause)
    name = parsed.render_as_string(hide_password=True)
    options = {"connect_timeout": max(2, int(wait_s)), "options": f"-c lock_timeout={int(wait_s * 1000)}"}
    engine = create_engine(parsed.set(drivername="postgresql+psycopg"), connect_args=options)
    database = Database(engine, name, wait_s)
    try:
        if _needs_migration(database, name):
            _migrate(database, name)
    except BaseException:
        database.close()
        raise
    return database


def _refuse_torn(path: Path) -> None:
    """What SQLite itself would not see: it takes a tiny file for a new database, and fills half a page up with zeros."""
    size = path.stat().st_size
    if size < _SMALLEST:
        raise damaged(str(path), f"the file has only {size} bytes")
    if not path.with_name(f"{path.name}-wal").exists():  # with one, a half-written page is made whole from it
        try:
            with open(path, "rb") as file:
                page = int.from_bytes(file.read(18)[16:18], "big")
        except OSError:
            return  # opening it will say so
        if page >= _SMALLEST and size % page:
            raise damaged(str(path), f"the file ends within a page, after {size} bytes")


def _sqlite_engine(path: Path, wait_s: float) -> Engine:
    # SQLAlchemy begins and ends transactions itself (isolation_level None): the driver would leave DDL outside them.
    engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": wait_s, "isolation_level": None})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(wait_s * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")  # what was paid for must survive a power cut

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _create(path: Path, wait_s: float) -> None:
    """Made whole under another name and then renamed: a kill leaves no half-made store."""
    with _file_lock(path, wait_s):
        if path.exists():
            return
        draft = path.with_name(f"{path.name}.new")
        for left in (draft, draft.with_name(f"{draft.name}-wal"), draft.with_name(f"{draft.name}-shm")):
            left.unlink(missing_ok=True)
        database = Database(_sqlite_engine(draft, wait_s), str(path), wait_s)
        with database.writing() as connection:
            _upgrade(connection)
        database.close()
        with sqlite3.connect(draft) as connection_:
            connection_.execute("PRAGMA journal_mode = WAL")
        connection_.close()
        draft.replace(path)


@contextmanager
def _file_lock(path: Path, wait_s: float) -> Iterator[None]:
    """One process at a time makes or migrates a store; released by the system when the process dies."""
    deadline = time.monotonic() + wait_s
    try:
        descriptor = os.open(path.with_name("store.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unusable(str(path), error) from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise locked(str(path), wait_s) from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


def _needs_migration(database: Database, name: str) -> bool:
    with database.reading() as connection:
        revision = _revision(connection, name)
    return revision != HEAD


def _revision(connection: Connection, name: str) -> str | None:
    """The store's revision, None for a PostgreSQL database that has no tables yet, or a store before the first."""
    try:
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except ProgrammingError:
        return None  # PostgreSQL: no such table
    except DBAPIError as error:
        if "no such table" in str(error.orig):
            raise foreign(name) from error
        raise
    if revision is None or revision in REVISIONS:
        return revision
    raise of_unknown_revision(name, str(revision))


def _migrate(database: Database, name: str) -> None:
    with database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            made = connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL")).scalar()
            if not made:
                _upgrade(connection)
                return
        if _revision(connection, name) != HEAD:  # another process may have been first
            _upgrade(connection)


def _upgrade(connection: Connection) -> None:
    # Imported here: Alembic takes longer to import than opening a store does.
    from alembic import command
    from alembic.config import Config

    from podctl.evidence.audit_log import begin_log

    config = Config()
    location = str(Path(__file__).with_name("migrations"))
    config.set_main_option("script_location", location.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    begin_log(connection, SystemClock())
