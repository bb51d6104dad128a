"""Rows of a table or a query, by SQLAlchemy: read-only, as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import bindparam, column, create_engine, event, literal_column, select, table, text
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.types import NullType

from podctl.errors import EnvironmentProblem, SpecError
from podctl.spec.problems import printable
from podctl.spec.tickets import Sql
from podctl.tickets.plain import Unfit, plain_value
from podctl.tickets.pull.client import PullFailed
from podctl.tickets.pull.reader import Page, Place

_PAGE = 200
#: dialect -> the statement that makes a session read-only, before anything else runs in it.
_READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "sqlite": "PRAGMA query_only = ON",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


class SqlReader:
    """One statement, and so one moment, of the database. With `updated`, from the value last seen."""

    def __init__(self, spec: Sql, environment: Mapping[str, str], overlap: float, base: Path) -> None:
        """``base``: the directory that a relative path of an SQLite file starts from."""
        self.key = spec.key
        self.resumable = False
        self.incremental = spec.updated is not None
        self._spec = spec
        self._overlap = overlap
        self._url = _url(spec, environment, base)

    async def pages(self, place: Place | None, mark: Place | None) -> AsyncIterator[Page]:
        # A statement cannot be gone on with: what was kept of a broken one is read again.
        since = None if mark is None else mark.get("since")
        highest = since
        with self._connected() as connection:
            for rows, is_last in self._read(connection, since):
                if self._spec.updated is not None:
                    highest = _later(highest, rows, self._spec.updated)
                yield Page(rows, None if is_last else {}, {"since": highest})

    def _read(self, connection: Connection, since: Any) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        result = connection.execute(self._statement(since))
        names = list(result.keys())
        if len(set(names)) != len(names):
            raise SpecError("two columns of the query have the same name", code="pull-sql", hint="name them with AS")
        missing = [name for name in (self.key, self._spec.updated) if name is not None and name not in names]
        if missing:
            raise SpecError(
                f"the query has no column {printable(missing[0], 60)}",
                code="pull-sql",
                hint=f"it has {printable(', '.join(names), 400)}",
            )
        ahead: list[dict[str, Any]] = []
        for row in result.mappings():
            if len(ahead) == _PAGE:
                yield ahead, False
                ahead = []
            ahead.append(_plain(dict(row)))
        yield ahead, True

    def _statement(self, since: Any) -> Any:
        spec = self._spec
        if spec.table is not None:
            schema, _, name = spec.table.rpartition(".")
            source: Any = table(name, schema=schema or None)
        else:
            # In parentheses: a second statement, or a part that is no SELECT, is no query any more.
            query = (spec.query or "").strip().rstrip(";").replace(":", "\\:")
            source = text(f"({query}\n) AS podctl_tickets")
        statement: Any = select(literal_column("*")).select_from(source)
        if spec.updated is not None:
            statement = statement.order_by(column(spec.updated))
            if since is not None:
                # Without a type of its own: the database takes it as what the column is.
                begin = bindparam("since", _earlier(since, self._overlap), type_=NullType())
                statement = statement.where(column(spec.updated) >= begin)
        return statement

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        engine = self._engine()
        try:
            with engine.connect() as connection:
                yield connection.execution_options(stream_results=True, yield_per=_PAGE)
        except DBAPIError as error:
            said = printable(" ".join(str(error.orig).split()), 300)
            raise PullFailed("the database refuses", code="pull-sql", cause=said, hint=self._hint(said)) from None
        except SQLAlchemyError as error:
            raise PullFailed("the database cannot be read", code="pull-sql", cause=printable(str(error), 300)) from None
        finally:
            engine.dispose()

    def _engine(self) -> Engine:
        dialect = self._url.get_backend_name()
        statement = _READ_ONLY.get(dialect)
        if statement is None and self._spec.read_only == "session":
            raise SpecError(
                f"podctl does not know how to make a session of {dialect} read-only",
                code="pull-sql",
                unchanged="nothing was asked",
                hint="use an account that may only read, and say so: read_only: account",
            )
        try:
            engine = create_engine(self._url)
        except (NoSuchModuleError, ModuleNotFoundError) as error:
            raise EnvironmentProblem(
                f"there is no driver for {printable(self._url.drivername)}",
                code="pull-sql",
                cause=printable(str(error)),
                hint="pip install it; SQLAlchemy's list of dialects has its name",
            ) from error
        if statement is not None:

            @event.listens_for(engine, "connect")
            def _only_read(connection: Any, _: Any) -> None:
                # In a transaction of its own: what a session may do holds from the next one.
                cursor = connection.cursor()
                cursor.execute(statement)
                cursor.close()
                connection.commit()

        return engine

    def _hint(self, said: str) -> str:
        if "password" in said.lower() or "authentication" in said.lower():
            variable = self._spec.password_env
            return (
                f"check what ${variable} holds" if variable else "name an environment variable with the password: password_env"
            )
        return ""


def _url(spec: Sql, environment: Mapping[str, str], base: Path) -> URL:
    try:
        url = make_url(spec.url)
    except (ArgumentError, ValueError) as error:
        raise SpecError(
            "the url is not as SQLAlchemy has it", code="pull-sql", hint="such as postgresql://USER@HOST/DATABASE"
        ) from error
    if url.password is not None or "password" in url.query:
        raise SpecError(
            "a password stands in the url of the database",
            code="pull-sql",
            unchanged="nothing was asked",
            hint="name an environment variable that has it: password_env",
        )
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        # A database that is not there is a mistake, and none is made.
        path = quote(str((base / str(url.database)).resolve()))
        url = url.set(database=f"file:{path}").update_query_dict({"mode": "ro", "uri": "true"})
    if spec.password_env is not None:
        password = environment.get(spec.password_env, "")
        if not password:
            raise SpecError(
                f"there is no password: {spec.password_env} is not set",
                code="pull-token",
                unchanged="nothing was asked",
                hint=f"export {spec.password_env}=…, which podctl keeps to itself",
            )
        url = url.set(password=password)
    return url


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    try:
        return {name: plain_value(value, name) for name, value in row.items()}
    except Unfit as error:
        raise SpecError(str(error), code="pull-sql", hint="name the other columns in a query") from error


def _earlier(since: Any, overlap: float) -> Any:
    """Rows whose transaction ended late may be older than others seen: times begin earlier. Written as the column has them."""
    if not isinstance(since, str):
        return since
    try:
        moment = datetime.fromisoformat(since) - timedelta(seconds=overlap)
    except (ValueError, OverflowError):
        return since
    return moment.isoformat(sep="T" if "T" in since else " ")


def _later(highest: Any, rows: list[dict[str, Any]], name: str) -> Any:
    """Rows come in the order of this column; its last value, as JSON has it, is the highest."""
    return next((row[name] for row in reversed(rows) if row[name] is not None), highest)
