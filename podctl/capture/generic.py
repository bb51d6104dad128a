"""A source that SQLAlchemy knows: SQLite, MySQL, MariaDB. Rows are known by their keys; the copy is PostgreSQL all the same."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from podctl.capture.distributions import Look
from podctl.capture.engine import Definition, Facts, Moment, PastRows
from podctl.capture.generic_schema import Reflected, definition_of, schema_of
from podctl.capture.generic_values import field_of
from podctl.capture.postgres_catalog import refuse_changed
from podctl.capture.postgres_session import password_of
from podctl.capture.problems import CaptureProblem
from podctl.capture.rules import Rules
from podctl.capture.schema import Edge, Schema, Table
from podctl.capture.worklist import Rowid
from podctl.errors import SpecError
from podctl.spec.capture import CaptureSource
from podctl.spec.history import History

#: Parameters of one query; SQLite of old takes 999.
_PARAMETERS = 900
_ROWID = "rowid"


class GenericEngine:
    """Raises `SpecError`, `CaptureProblem` when the source cannot be reached or read."""

    def __init__(self, source: CaptureSource, seed: int, base: Path) -> None:
        url = _url(source, base)
        self._source, self._dialect = source, url.get_backend_name()
        try:
            self._engine = sa.create_engine(url, connect_args=_arguments(source, self._dialect), poolclass=sa.NullPool)
        except ModuleNotFoundError as error:
            raise CaptureProblem(
                f"there is no driver for {self._dialect} here", code="capture-driver", cause=str(error), hint="pip install 'podctl[mysql]'"
            ) from error  # fmt: skip
        self._seed, self._database, self._begun = seed, url.database or "", False
        with _explained("connecting"):
            self._connection = self._engine.connect()

    def begin(self) -> Moment:
        """A snapshot where the database has one, else nobody writes meanwhile (SQLite without WAL)."""
        with _explained("taking a snapshot"):
            if self._begun:
                self._connection.exec_driver_sql("ROLLBACK")
            self._start()
            self._begun = True
        return Moment("", "", time.time())

    def read(self) -> None:
        with _explained("reading what tables there are"):
            self._reflected = Reflected(sa.inspect(self._connection))
            self.schema: Schema = schema_of(self._reflected, {})
        self.facts = Facts(self._dialect, self._version(), "UTF-8", self._database)
        self.rows = GenericRows(self._connection, self.schema, self._dialect, self._seed)

    def _start(self) -> None:
        if self._dialect in ("mysql", "mariadb"):
            self._connection.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._connection.exec_driver_sql(
                f"SET SESSION innodb_lock_wait_timeout = {max(1, round(self._source.lock_timeout))}"
            )
            self._connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {max(1, round(self._source.lock_timeout))}")
            self._connection.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
        else:
            self._connection.exec_driver_sql("PRAGMA query_only = ON")
            self._connection.exec_driver_sql("BEGIN")
            self._connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")

    def _version(self) -> str:
        return ".".join(map(str, self._connection.dialect.server_version_info or ()))

    def secure(self, rules: Rules) -> None:
        for name in rules.tables:
            with _explained(f"reading {name}"):
                self._connection.execute(sa.select(sa.literal(1)).select_from(sa.table(name)).limit(1))

    def definition(self, rules: Rules, directory: Path, without_extensions: Sequence[str]) -> Definition:
        return definition_of(self._reflected, rules)

    def samples(self, table: str, columns: Mapping[str, Look], rows: Sequence[Rowid]) -> None:
        """Not read: its rows cannot be sampled without reading them all."""
        return

    def now(self) -> int:
        return 0

    def history(self, spec: History) -> PastRows:
        raise SpecError(
            "history: is of PostgreSQL sources",
            code="history-engine",
            unchanged="nothing was made",
            hint="capture without it: tickets begin with today's rows, and their references come with them",
        )

    def refuse_changed(self, rules: Rules) -> None:
        with _explained("looking whether the schema is still the same"), self._engine.connect() as another:
            now = Reflected(sa.inspect(another))
        refuse_changed(self._reflected.fingerprint(), now.fingerprint(), rules.left_out)

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


class GenericRows:
    """The worklist's `Source`; a row is its key's values, in SQLite its rowid where it has one."""

    def __init__(self, connection: sa.Connection, schema: Schema, dialect: str, seed: int) -> None:
        self._connection, self._schema, self._seed = connection, schema, seed
        self._keys: dict[str, tuple[str, ...]] = {}
        for name, table in schema.tables.items():
            self._keys[name] = (_ROWID,) if dialect == "sqlite" and self._has_rowid(name) else table.key

    def _has_rowid(self, name: str) -> bool:
        try:
            self._connection.execute(sa.select(sa.column(_ROWID)).select_from(sa.table(name)).limit(1))
        except DBAPIError:
            return False
        return True

    def named(self, table: str, columns: Sequence[str], values: Sequence[Sequence[str]]) -> Sequence[tuple[int, Rowid]]:
        target = self._table(table, "t")
        known = self._schema.tables[table]
        kinds = [column.type for name in columns if (column := known.column(name))]
        places: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, one in enumerate(values):
            places[tuple(one)].append(place)
        wanted = [converted for one in places if (converted := _converted(one, kinds)) is not None]
        given = [target.c[name] for name in columns]
        found: list[tuple[int, Rowid]] = []
        for batch in _batches(wanted, len(columns)):
            query = sa.select(*self._key(table, target), *given).where(_among(given, batch))
            for row in self._all(query, f"looking for rows of {table} that tickets name"):
                key, names = tuple(row[: -len(columns)]), tuple(_plain(value) for value in row[-len(columns) :])
                found += [(place, key) for place in places.get(names, ())]
        return found

    def parents(self, edge: Edge, rows: Sequence[Rowid] | None, limit: int) -> tuple[set[Rowid], bool]:
        child, parent, on = self._joined(edge)
        query = sa.select(*self._key(edge.parent, parent)).distinct().select_from(child.outerjoin(parent, on))
        found: set[Rowid] = set()
        dangling = False
        for row in self._each(query.where(self._given(edge, child)), edge.child, child, rows, f"following {edge.label}"):
            if row[0] is None:
                dangling = True
            else:
                found.add(tuple(row))
            if rows is None and len(found) > limit:
                break
        return found, dangling

    def children(self, edge: Edge, rows: Sequence[Rowid], cap: int) -> tuple[set[Rowid], int]:
        child, parent, on = self._joined(edge)
        keys = self._key(edge.child, child)
        query = sa.select(*keys, *self._key(edge.parent, parent)).select_from(child.join(parent, on))
        of: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
        doing = f"taking children by {edge.label}"
        for row in self._each(query.where(self._given(edge, child)), edge.parent, parent, rows, doing):
            of[tuple(row[len(keys) :])].append(tuple(row[: len(keys)]))
        found: set[Rowid] = set()
        beyond = 0
        for siblings in of.values():
            found.update(sorted(siblings, key=self._stable)[:cap])
            beyond += max(0, len(siblings) - cap)
        return found, beyond

    def _stable(self, key: tuple[Any, ...]) -> bytes:
        return hashlib.sha256(f"{self._seed}\0{key!r}".encode()).digest()

    def without_parent(
        self, edge: Edge, rows: Sequence[Rowid] | None, taken: Callable[[Rowid], bool]
    ) -> tuple[list[Rowid], int]:
        child, parent, on = self._joined(edge)
        keys = self._key(edge.child, child)
        query = sa.select(*keys, *self._key(edge.parent, parent)).select_from(child.outerjoin(parent, on))
        lost: list[Rowid] = []
        dangling = 0
        doing = f"looking for rows that {edge.label} no longer leads anywhere for"
        for row in self._each(query.where(self._given(edge, child)), edge.child, child, rows, doing):
            ours, theirs = tuple(row[: len(keys)]), tuple(row[len(keys) :])
            dangling += theirs[0] is None
            if theirs[0] is None or not taken(theirs):
                lost.append(ours)
        return lost, dangling

    def count(self, table: str) -> int:
        with _explained(f"counting the rows of {table}"):
            return int(self._connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one())

    def chunks(
        self, table: str, rows: Sequence[Rowid] | None, nulled: Sequence[tuple[Edge, Sequence[Rowid]]], largest: int
    ) -> Iterator[tuple[bytes, int]]:
        known, target = self._schema.tables[table], self._table(table, "t")
        key = self._key(table, target) if rows is not None or nulled else []
        order = [target.c[name] for name in known.key] or key or list(target.c)
        query = sa.select(*key, *(target.c[column.name] for column in known.stored)).order_by(*order)
        fields = [field_of(column.type) for column in known.stored]
        emptied = [({column.name for column in known.stored} & set(edge.nulls), set(lost)) for edge, lost in nulled]
        lines: list[bytes] = []
        size = 0
        for number, row in enumerate(self._each(query, table, target, rows, f"copying {table}"), start=1):
            line = self._line(known, fields, row, len(key), emptied, number)
            if len(line) > largest:
                raise CaptureProblem(
                    f"a row of {table} has {len(line) / 1e6:,.0f} MB, more than value_bytes allows ({largest / 1e6:,.0f} MB)",
                    code="capture-value-size",
                    unchanged="nothing was made",
                    hint="raise value_bytes",
                )
            lines.append(line)
            size += len(line)
            if size >= 1 << 18:
                yield b"".join(lines), len(lines)
                lines, size = [], 0
        if lines:
            yield b"".join(lines), len(lines)

    @staticmethod
    def _line(
        table: Table, fields: list[Callable[[Any], bytes]], row: Any, keys: int, emptied: list[tuple[set[str], set[Rowid]]], number: int
    ) -> bytes:  # fmt: skip
        gone = {name for names, lost in emptied if tuple(row[:keys]) in lost for name in names}
        parts = []
        for column, field, value in zip(table.stored, fields, row[keys:], strict=True):
            try:
                parts.append(field(None if column.name in gone else value))
            except (ValueError, TypeError, ArithmeticError) as error:
                raise CaptureProblem(
                    f"{table.shown}.{column.name} holds what is not of its type, {column.type}, in row {number}",
                    code="capture-value",
                    cause=str(error) if type(error) is ValueError else type(error).__name__,
                    unchanged="nothing was made",
                    hint="mend those rows, or the column's type",
                ) from error
        return b"\t".join(parts) + b"\n"

    # ---- parts of queries ---------------------------------------------------------

    def _table(self, name: str, alias: str) -> sa.TableValuedAlias | Any:
        columns = [column.name for column in self._schema.tables[name].columns]
        return sa.table(name, *(sa.column(one) for one in dict.fromkeys([*columns, *self._keys[name]]))).alias(alias)

    def _key(self, table: str, target: Any) -> list[Any]:
        if not self._keys[table]:
            raise CaptureProblem(
                f"{table} has no key, so its rows cannot be told apart",
                code="capture-no-key",
                unchanged="nothing was made",
                hint=f"take {table} and what it refers to whole, or leave it empty",
            )
        return [target.c[name] for name in self._keys[table]]

    def _joined(self, edge: Edge) -> tuple[Any, Any, Any]:
        child, parent = self._table(edge.child, "c"), self._table(edge.parent, "p")
        pairs = zip(edge.columns, edge.to, strict=True)
        return child, parent, sa.and_(*(child.c[column] == parent.c[to] for column, to in pairs))

    @staticmethod
    def _given(edge: Edge, child: Any) -> Any:
        return sa.and_(
            *(child.c[name].is_not(None) for name in edge.columns), *(child.c[name] == value for name, value in edge.when)
        )

    def _each(self, query: Any, table: str, target: Any, rows: Sequence[Rowid] | None, doing: str) -> Iterator[Any]:
        if rows is None:
            yield from self._all(query, doing)
            return
        key = self._key(table, target)
        for batch in _batches(cast(Sequence[tuple[Any, ...]], rows), len(key)):
            yield from self._all(query.where(_among(key, batch)), doing)

    def _all(self, query: Any, doing: str) -> Iterator[Any]:
        with _explained(doing):
            yield from self._connection.execution_options(stream_results=True, yield_per=2000).execute(query)


def _among(columns: list[Any], values: Sequence[tuple[Any, ...]]) -> Any:
    return columns[0].in_([one[0] for one in values]) if len(columns) == 1 else sa.tuple_(*columns).in_(values)


def _batches(values: Sequence[Any], width: int) -> Iterator[Sequence[Any]]:
    size = max(1, _PARAMETERS // width)
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _converted(values: Sequence[str], kinds: Sequence[str]) -> tuple[Any, ...] | None:
    """Values as the columns have them; None when one cannot be a value of its column."""
    result: list[Any] = []
    for value, kind in zip(values, kinds, strict=True):
        if kind != "bigint":
            result.append(value)
        elif value.lstrip("+-").isdecimal() and value.isascii() and len(value) < 20:
            result.append(int(value))
        else:
            return None
    return tuple(result)


def _plain(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _url(source: CaptureSource, base: Path) -> sa.URL:
    try:
        url = sa.make_url(source.url)
    except ArgumentError as error:
        raise SpecError("source.url is not understood", code="capture-url", cause=str(error)) from error
    if url.password is not None or "password" in url.query:
        raise SpecError(
            "source.url holds a password",
            code="capture-secret",
            unchanged="nothing was read",
            hint="take it out, and name the variable that holds it with password_env",
        )
    if url.get_backend_name() == "sqlite":
        file = base / (url.database or "")
        if not file.is_file():
            raise CaptureProblem(f"there is no file {file}", code="capture-unreachable", unchanged="nothing was read")
        # Opened so that not even a journal is written; a path with odd characters stays one.
        return url.set(database=file.absolute().as_uri(), query={"mode": "ro", "uri": "true"})
    driver = url.drivername if "+" in url.drivername else f"{url.drivername}+pymysql"
    return url.set(drivername=driver, password=password_of(source))


def _arguments(source: CaptureSource, dialect: str) -> dict[str, Any]:
    if dialect == "sqlite":
        return {"timeout": source.lock_timeout, "isolation_level": None}
    return {"charset": "utf8mb4", "connect_timeout": 15, "read_timeout": source.statement_timeout}


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except NoSuchModuleError as error:
        raise SpecError("source.url names no known database", code="capture-url", cause=str(error)) from error
    except SQLAlchemyError as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0][:300]
        low = cause.lower()
        code = (
            "capture-locked" if "locked" in low or "lock wait timeout" in low
            else "capture-permission" if "denied" in low
            else "capture-encoding" if "utf-8" in low or "decode" in low
            else "capture-unreachable" if doing == "connecting"
            else "capture-failed"
        )  # fmt: skip
        raise CaptureProblem(
            f"the source failed while podctl was {doing}", code=code, cause=cause, unchanged="nothing was made"
        ) from error
