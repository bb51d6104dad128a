from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.data.catalog import Catalog, Column, Table
from podctl.data.changes import CaptureProblem, ChangeAssembler, typed
from podctl.data.pgoutput import (
    UNCHANGED,
    Begin,
    Delete,
    Insert,
    LogicalMessage,
    PgoutputError,
    Relation,
    Truncate,
    Update,
    decode,
)


def text(value: str) -> bytes:
    return value.encode() + b"\0"


def row(values: list[Any]) -> bytes:
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif value is UNCHANGED:
            out += b"u"
        else:
            out += b"t" + struct.pack(">I", len(value.encode())) + value.encode()
    return out


def begin(xid: int = 7) -> bytes:
    return b"B" + struct.pack(">QqI", 1, 0, xid)


def commit() -> bytes:
    return b"C" + struct.pack(">BQQq", 0, 1, 2, 0)


def relation(oid: int, name: str, columns: list[tuple[str, int]]) -> bytes:
    body = b"".join(b"\1" + text(column) + struct.pack(">Ii", type_oid, -1) for column, type_oid in columns)
    return b"R" + struct.pack(">I", oid) + text("public") + text(name) + b"f" + struct.pack(">H", len(columns)) + body


def message(table: int, user: str = "ag", statement: str = "sql", depth: int = 1) -> bytes:
    content = json.dumps({"user": user, "pid": 1, "table": table, "depth": depth, "statement": statement}).encode()
    return b"M" + struct.pack(">BQ", 1, 5) + text("podctl") + struct.pack(">I", len(content)) + content


def insert(oid: int, values: list[Any]) -> bytes:
    return b"I" + struct.pack(">I", oid) + b"N" + row(values)


def update(oid: int, old: list[Any], new: list[Any]) -> bytes:
    return b"U" + struct.pack(">I", oid) + b"O" + row(old) + b"N" + row(new)


EXAMPLES = [
    begin(),
    commit(),
    b"O" + struct.pack(">Q", 3) + text("elsewhere"),
    b"Y" + struct.pack(">I", 3) + text("public") + text("mood"),
    relation(9, "t", [("id", 23), ("note", 25)]),
    message(9),
    insert(9, ["1", None]),
    update(9, ["1", "long"], ["1", UNCHANGED]),
    b"D" + struct.pack(">I", 9) + b"K" + row(["1"]),
    b"T" + struct.pack(">IBII", 2, 3, 9, 10),
]


def test_every_message_is_decoded() -> None:
    decoded = [decode(example) for example in EXAMPLES]
    assert decoded[0] == Begin(1, 946_684_800_000_000_000, 7)
    assert isinstance(decoded[4], Relation)
    assert [column.name for column in decoded[4].columns] == ["id", "note"]
    assert isinstance(decoded[5], LogicalMessage)
    assert decoded[5].transactional
    assert decoded[6] == Insert(9, ("1", None))
    assert decoded[7] == Update(9, ("1", "long"), ("1", UNCHANGED))
    assert decoded[8] == Delete(9, ("1",))
    assert decoded[9] == Truncate((9, 10), cascade=True, restart_identity=True)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_cut_message_is_a_clean_error(example: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, len(example) - 1))
    with pytest.raises(PgoutputError):
        decode(example[:length])


@given(st.sampled_from(EXAMPLES), st.binary(min_size=1, max_size=4))
def test_bytes_too_many_are_a_clean_error(example: bytes, tail: bytes) -> None:
    with pytest.raises(PgoutputError):
        decode(example + tail)


@given(st.sampled_from(b"BCORYIUDTM"), st.binary(max_size=80))
def test_any_bytes_decode_or_are_a_clean_error(tag: int, body: bytes) -> None:
    try:
        decode(bytes([tag]) + body)
    except PgoutputError:
        pass


def catalog(*columns: Column) -> Catalog:
    return Catalog(
        {9: Table("public", "t", "r", columns, 9), 10: Table("crm", "audit", "r", (Column("id", "integer", True),), 10)}
    )


KEYED = catalog(Column("id", "integer", True), Column("note", "text"))


def run(assembler: ChangeAssembler, *stream: bytes) -> list[dict[str, Any]]:
    return [change for data in stream for change in assembler.feed(data)]


def test_an_unchanged_toasted_value_comes_from_the_old_row() -> None:
    changes = run(
        ChangeAssembler(KEYED, "shop"), begin(), EXAMPLES[4], update(9, ["1", "long"], ["2", UNCHANGED]), message(9), commit()
    )
    assert changes == [
        {
            "database": "shop", "table": "t", "op": "update", "key": {"id": 1}, "old": {"id": 1, "note": "long"},
            "new": {"id": 2, "note": "long"}, "user": "ag", "xid": 7, "committed": 946_684_800_000_000_000, "statement": "sql",
        }
    ]  # fmt: skip


def test_rows_go_to_the_statement_of_their_own_table() -> None:
    # A trigger on t writes crm.audit: its message comes first, although t's row is before it.
    audit = (
        b"R"
        + struct.pack(">I", 10)
        + text("crm")
        + text("audit")
        + b"f"
        + struct.pack(">H", 1)
        + b"\1"
        + text("id")
        + struct.pack(">Ii", 23, -1)
    )
    changes = run(
        ChangeAssembler(KEYED, "shop"), begin(), EXAMPLES[4], audit,
        insert(9, ["1", None]), insert(10, ["5"]), message(10, statement="outer", depth=2), message(9, statement="outer"),
        insert(9, ["2", None]), message(9, statement="second"), commit(),
    )  # fmt: skip
    assert [(change["table"], change["statement"], change.get("trigger", False)) for change in changes] == [
        ("t", "outer", False),
        ("crm.audit", "outer", True),
        ("t", "second", False),
    ]


def test_a_table_without_a_key_is_found_by_its_whole_row() -> None:
    keyless = catalog(Column("id", "integer"), Column("note", "text"))
    (change,) = run(ChangeAssembler(keyless, "shop"), begin(), EXAMPLES[4], insert(9, ["1", None]), commit())
    assert change["key"] == {"id": 1, "note": None}


def test_rows_beyond_the_limit_are_counted() -> None:
    assembler = ChangeAssembler(KEYED, "shop", max_rows=2)
    changes = run(assembler, begin(), EXAMPLES[4], *(insert(9, [str(n), None]) for n in range(5)), message(9), commit())
    assert (len(changes), assembler.dropped) == (2, 3)
    heavy = ChangeAssembler(KEYED, "shop", max_bytes=100)
    assert run(heavy, begin(), EXAMPLES[4], insert(9, ["1", "x" * 200]), message(9), commit()) == []
    assert heavy.dropped == 1


@pytest.mark.parametrize(
    "stream",
    [[insert(9, ["1", None])], [begin(), insert(9, ["1", None])], [begin(), EXAMPLES[4], insert(9, ["1"])],
     [begin(), EXAMPLES[4], insert(9, ["x", None])]],
)  # fmt: skip
def test_a_stream_that_makes_no_sense_is_a_clean_error(stream: list[bytes]) -> None:
    with pytest.raises(CaptureProblem):
        run(ChangeAssembler(KEYED, "shop"), *stream)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [("9007199254740993", "integer", 9007199254740993), ("1.50", "number", "1.50"), ("NaN", "number", "NaN"), ("t", "bool", True),
     ("f", "bool", False), ('{"a": [1, 2.5, null]}', "json", {"a": [1, 2.5, None]}), ("1e999", "json", "1e999"),
     ("[" * 100_000, "json", "[" * 100_000), ("007", "text", "007"), (None, "integer", None)],
)  # fmt: skip
def test_values_keep_their_type_and_exactness(value: str | None, kind: Any, expected: Any) -> None:
    found = typed(value, kind)
    assert (found, type(found)) == (expected, type(expected))
