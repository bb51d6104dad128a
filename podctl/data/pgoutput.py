"""PURE: decoder of pgoutput, protocol version 1 (PostgreSQL documentation, "Logical Replication Message Formats")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

#: Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01.
_EPOCH_US: Final = 946_684_800_000_000


class PgoutputError(ValueError):
    """The bytes are not a message of the protocol."""


class Unchanged:
    """A large value stored out of line that an update left alone: it is not in the stream."""

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged()
Value = str | None | Unchanged
Row = tuple[Value, ...]


@dataclass(frozen=True)
class Begin:
    final_lsn: int
    committed_ns: int  # since the Unix epoch
    xid: int


@dataclass(frozen=True)
class Commit:
    commit_lsn: int
    end_lsn: int
    committed_ns: int


@dataclass(frozen=True)
class Origin:
    lsn: int
    name: str


@dataclass(frozen=True)
class RelationColumn:
    name: str
    type_oid: int
    key: bool


@dataclass(frozen=True)
class Relation:
    oid: int
    schema: str
    name: str
    replica_identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True)
class Type:
    oid: int
    schema: str
    name: str


@dataclass(frozen=True)
class Insert:
    relation: int
    new: Row


@dataclass(frozen=True)
class Update:
    """``old`` is None unless the table's replica identity puts it into the stream."""

    relation: int
    old: Row | None
    new: Row


@dataclass(frozen=True)
class Delete:
    relation: int
    old: Row


@dataclass(frozen=True)
class Truncate:
    relations: tuple[int, ...]
    cascade: bool
    restart_identity: bool


@dataclass(frozen=True)
class LogicalMessage:
    transactional: bool
    lsn: int
    prefix: str
    content: bytes


Message = Begin | Commit | Origin | Relation | Type | Insert | Update | Delete | Truncate | LogicalMessage


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise PgoutputError(f"message of {len(self._data)} bytes ends early at byte {self._at}")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def number(self, layout: str) -> int:
        value: int = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        return value

    def byte(self) -> int:
        return self.take(1)[0]

    def int16(self) -> int:
        return self.number(">H")

    def int32(self) -> int:
        return self.number(">I")

    def int64(self) -> int:
        return self.number(">Q")

    def time_ns(self) -> int:
        return (self.number(">q") + _EPOCH_US) * 1000

    def string(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise PgoutputError(f"a name at byte {self._at} is not terminated")
        text = self.take(end - self._at)
        self.take(1)
        return _decode(text)

    def row(self) -> Row:
        return tuple(self._value() for _ in range(self.int16()))

    def _value(self) -> Value:
        kind = self.take(1)
        if kind == b"n":
            return None
        if kind == b"u":
            return UNCHANGED
        if kind == b"t":
            return _decode(self.take(self.int32()))
        raise PgoutputError(f"unknown kind of value {kind!r}")

    def finish(self) -> None:
        if self._at != len(self._data):
            raise PgoutputError(f"{len(self._data) - self._at} bytes too many")


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PgoutputError(f"text is not UTF-8: {error.reason}") from error


def decode(data: bytes) -> Message:
    """One message. Raises `PgoutputError` for anything that is not exactly one."""
    reader = _Reader(data)
    tag = reader.take(1)
    parse = _PARSERS.get(tag)
    if parse is None:
        raise PgoutputError(f"unknown message {tag!r}")
    message = parse(reader)
    reader.finish()
    return message


def _begin(reader: _Reader) -> Message:
    return Begin(final_lsn=reader.int64(), committed_ns=reader.time_ns(), xid=reader.int32())


def _commit(reader: _Reader) -> Message:
    reader.byte()  # flags, unused in the protocol
    return Commit(commit_lsn=reader.int64(), end_lsn=reader.int64(), committed_ns=reader.time_ns())


def _origin(reader: _Reader) -> Message:
    return Origin(lsn=reader.int64(), name=reader.string())


def _relation(reader: _Reader) -> Message:
    oid, schema, name = reader.int32(), reader.string(), reader.string()
    identity = chr(reader.byte())
    columns = []
    for _ in range(reader.int16()):
        key = bool(reader.byte() & 1)
        column, type_oid = reader.string(), reader.int32()
        reader.int32()  # type modifier
        columns.append(RelationColumn(column, type_oid, key))
    # The protocol sends an empty namespace for pg_catalog.
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns))


def _type(reader: _Reader) -> Message:
    return Type(oid=reader.int32(), schema=reader.string(), name=reader.string())


def _insert(reader: _Reader) -> Message:
    relation = reader.int32()
    _expect(reader, b"N")
    return Insert(relation, reader.row())


def _update(reader: _Reader) -> Message:
    relation = reader.int32()
    old = None
    kind = reader.take(1)
    if kind in (b"K", b"O"):
        old = reader.row()
        kind = reader.take(1)
    if kind != b"N":
        raise PgoutputError(f"expected a new row, found {kind!r}")
    return Update(relation, old, reader.row())


def _delete(reader: _Reader) -> Message:
    relation = reader.int32()
    kind = reader.take(1)
    if kind not in (b"K", b"O"):
        raise PgoutputError(f"expected an old row, found {kind!r}")
    return Delete(relation, reader.row())


def _truncate(reader: _Reader) -> Message:
    count, options = reader.int32(), reader.byte()
    # Read one by one: a forged count runs out of bytes, not of memory.
    relations = tuple(reader.int32() for _ in range(count))
    return Truncate(relations, cascade=bool(options & 1), restart_identity=bool(options & 2))


def _message(reader: _Reader) -> Message:
    flags, lsn, prefix = reader.byte(), reader.int64(), reader.string()
    return LogicalMessage(bool(flags & 1), lsn, prefix, reader.take(reader.int32()))


def _expect(reader: _Reader, kind: bytes) -> None:
    found = reader.take(1)
    if found != kind:
        raise PgoutputError(f"expected {kind!r}, found {found!r}")


_PARSERS = {
    b"B": _begin,
    b"C": _commit,
    b"O": _origin,
    b"R": _relation,
    b"Y": _type,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _message,
}
