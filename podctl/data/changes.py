"""From decoded messages to ``row.change`` data: who changed which row from what to what."""

from __future__ import annotations

import json
import math
import secrets
from dataclasses import dataclass
from typing import Any

import psycopg

from podctl.data import pgoutput
from podctl.data.catalog import Catalog, Kind, kind_of, shown_name
from podctl.data.connect import Connection, first_line
from podctl.data.lockdown import MESSAGE_PREFIX, PUBLICATION
from podctl.errors import EnvironmentProblem

#: Rows and bytes of one reading that are decoded; what is beyond is counted only.
MAX_ROWS = 50_000
MAX_BYTES = 64 * 2**20
_END_PREFIX = "podctl-end"


class CaptureProblem(EnvironmentProblem):
    """Row changes or statements could not be read back whole."""


@dataclass
class _Pending:
    relation: int
    record: dict[str, Any]


class ChangeAssembler:
    """Fed with messages in stream order, gives ``row.change`` data a transaction at a time.

    Columns that the database computes from others are left out: the others say the same.
    A change carries ``text`` where a value's exact text is not `as_text` of it: ``old`` and ``new``, by column.
    A change carries ``trigger: true`` when a trigger or a foreign key's action made it, not the statement itself.
    ``database`` is the name shown; ``dropped`` counts rows beyond `MAX_ROWS` and `MAX_BYTES`.
    """

    def __init__(self, catalog: Catalog, database: str, *, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES) -> None:
        self._catalog = catalog
        self._database = database
        self._left = max_rows
        self._bytes_left = max_bytes
        self._relations: dict[int, pgoutput.Relation] = {}
        self._begin: pgoutput.Begin | None = None
        self._rows: list[_Pending] = []
        self._unclaimed = 0  # rows from here on still wait for their statement's message
        self._user = ""
        self._statement = ""
        self.dropped = 0
        self.end_marks: set[str] = set()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The transaction's changes when ``data`` ends one, else nothing. Raises `CaptureProblem`."""
        if data[:1] in (b"I", b"U", b"D"):
            self._bytes_left -= len(data)
            if self._bytes_left < 0 or self._left <= 0:
                self.dropped += 1
                return []
            self._left -= 1
        try:
            return self._take(pgoutput.decode(data))
        except (pgoutput.PgoutputError, KeyError, ValueError) as error:
            raise CaptureProblem(
                "the stream of row changes could not be decoded",
                code="capture-decode",
                cause=f"{type(error).__name__}: {error}",
            ) from error

    def _take(self, message: pgoutput.Message) -> list[dict[str, Any]]:
        match message:
            case pgoutput.Begin():
                self._begin, self._rows, self._unclaimed, self._user, self._statement = message, [], 0, "", ""
            case pgoutput.Relation():
                self._relations[message.oid] = message
            case pgoutput.Insert():
                self._add(message.relation, "insert", None, message.new)
            case pgoutput.Update():
                self._add(message.relation, "update", message.old, message.new)
            case pgoutput.Delete():
                self._add(message.relation, "delete", message.old, None)
            case pgoutput.Truncate():
                for relation in message.relations:
                    self._add(relation, "truncate", None, None)
            case pgoutput.LogicalMessage():
                self._message(message)
            case pgoutput.Commit():
                return self._finish()
        return []

    def _add(self, oid: int, op: str, old: pgoutput.Row | None, new: pgoutput.Row | None) -> None:
        if self._begin is None:
            raise pgoutput.PgoutputError("a row outside a transaction")
        relation = self._relations[oid]
        table = self._catalog.tables.get(self._catalog.root(oid))
        old_values, old_texts = self._values(relation, old, None)
        new_values, new_texts = self._values(relation, new, old)
        finder = old_values or new_values
        key_columns = table.primary_key if table else ()
        self._rows.append(
            _Pending(
                self._catalog.root(oid),
                {
                    "database": self._database,
                    "table": table.shown if table else shown_name(relation.schema, relation.name),
                    "op": op,
                    "key": {name: finder[name] for name in key_columns if name in finder} or dict(finder),
                    "old": old_values,
                    "new": new_values,
                    "user": "",
                    "xid": self._begin.xid,
                    "committed": self._begin.committed_ns,
                    "statement": "",
                }
                | ({"text": {"old": old_texts, "new": new_texts}} if old_texts or new_texts else {}),
            )
        )

    def _values(
        self, relation: pgoutput.Relation, row: pgoutput.Row | None, old: pgoutput.Row | None
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """The values, and the texts of those that do not say their text."""
        if row is None:
            return {}, {}
        if len(row) != len(relation.columns):
            raise pgoutput.PgoutputError(f"{relation.name} has {len(relation.columns)} columns, the row {len(row)}")
        table = self._catalog.tables.get(relation.oid)
        kinds: dict[str, Kind] = {column.name: column.kind for column in table.columns} if table else {}
        computed = {column.name for column in table.columns if column.computed and not column.key} if table else set()
        values: dict[str, Any] = {}
        texts = {}
        for index, (column, value) in enumerate(zip(relation.columns, row, strict=True)):
            if column.name in computed:
                continue
            if isinstance(value, pgoutput.Unchanged):
                value = old[index] if old is not None else value
            if isinstance(value, pgoutput.Unchanged):
                continue
            values[column.name] = typed(value, kinds.get(column.name) or kind_of(column.type_oid, {}))
            if value is not None and as_text(values[column.name]) != value:
                texts[column.name] = value
        return values, texts

    def _message(self, message: pgoutput.LogicalMessage) -> None:
        if message.prefix == _END_PREFIX:
            self.end_marks.add(message.content.decode("ascii"))
            return
        if message.prefix != MESSAGE_PREFIX:
            return
        said = json.loads(message.content)
        self._user, self._statement = said["user"], said["statement"]
        # A trigger's message comes before the message of the statement that fired it: take only rows of its own table.
        table = self._catalog.root(said["table"])
        complete = True
        for pending in self._rows[self._unclaimed :]:
            if pending.record["user"]:
                continue
            if pending.relation != table:
                complete = False
                continue
            pending.record["user"] = self._user
            pending.record["statement"] = self._statement
            if said["depth"] > 1:
                pending.record["trigger"] = True
        if complete:
            self._unclaimed = len(self._rows)

    def _finish(self) -> list[dict[str, Any]]:
        # One transaction is one session, hence one user, even for rows whose own message is missing.
        for pending in self._rows:
            if not pending.record["user"]:
                pending.record["user"], pending.record["statement"] = self._user, self._statement
        self._mark_cascades()
        finished, self._rows, self._begin = self._rows, [], None
        return [pending.record for pending in finished]

    def _mark_cascades(self) -> None:
        # A foreign key's action fires the statement's own triggers, so its depth does not give it away; but it
        # follows, within one statement, a change of the row it refers to.
        changed: set[tuple[int, str, str]] = set()
        for pending in self._rows:
            record = pending.record
            if record["op"] not in ("update", "delete"):
                continue
            for number, cascade in enumerate(self._catalog.cascades):
                if self._catalog.root(cascade.child) == pending.relation:
                    refers_to = _picked(record["old"], cascade.child_columns)
                    if (number, refers_to, record["statement"]) in changed:
                        record["trigger"] = True
            for number, cascade in enumerate(self._catalog.cascades):
                if self._catalog.root(cascade.parent) == pending.relation:
                    changed.add((number, _picked(record["old"], cascade.parent_columns), record["statement"]))


def _picked(row: dict[str, Any], columns: tuple[str, ...]) -> str:
    return json.dumps([row.get(column) for column in columns])


def typed(value: str | None, kind: Kind) -> Any:
    """A column's text as JSON data: int, bool, None, parsed json; exact text for everything else."""
    if value is None:
        return None
    if kind == "integer":
        return int(value)
    if kind == "bool":
        return value == "t"
    if kind == "json":
        try:
            return json.loads(value, parse_float=_float)
        except (ValueError, RecursionError):
            return value
    return value


def as_text(value: Any) -> str | None:
    """The text that `typed` read, as far as the value tells: not of JSON that is no object and no list, or written otherwise."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "t" if value else "f"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _float(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


async def read_changes(connection: Connection, slot: str, assembler: ChangeAssembler) -> list[dict[str, Any]]:
    """Every row change committed before this call and not read yet, in commit order. Raises `CaptureProblem`."""
    mark = secrets.token_hex(8)
    changes: list[dict[str, Any]] = []
    try:
        # Commits are not flushed by themselves (synchronous_commit=off) and decoding stops at what is flushed:
        # this commit flushes all before it, and its mark proves that the reading got that far.
        await connection.execute("SELECT pg_logical_emit_message(true, %s, %s::text)", (_END_PREFIX, mark))
        async with connection.cursor() as cursor:
            rows = cursor.stream(
                "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL,"
                " 'proto_version', '1', 'publication_names', %s, 'messages', 'true')",
                (slot, PUBLICATION),
                binary=True,
            )
            async for (data,) in rows:
                changes += assembler.feed(data)
    except psycopg.Error as error:
        raise CaptureProblem("row changes could not be read", code="capture-failed", cause=first_line(error)) from error
    if mark not in assembler.end_marks:
        raise CaptureProblem("row changes are incomplete", code="capture-incomplete", cause="the end mark did not come back")
    return changes
