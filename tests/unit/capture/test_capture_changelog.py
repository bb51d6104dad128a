"""Lines of wal2json, by its documentation and source; and a file that ends too early."""

from __future__ import annotations

from pathlib import Path

import pytest
from audited import SHOP, audited, wal2json
from capturing import Server, ask, planned, project

from podctl.capture.changelog import read_wal2json
from podctl.capture.problems import CaptureProblem
from podctl.errors import SpecError

HEAD = '"xid":7,"timestamp":"2026-03-01 10:00:00.5+02"'
AT = 1_772_352_000_500_000


def test_both_versions_say_the_same() -> None:
    first = (
        f'{{{HEAD},"change":[{{"kind":"insert","schema":"s","table":"t","columnnames":["a","b"],"columnvalues":[1.50,null]}},'
        '{"kind":"delete","schema":"s","table":"t","oldkeys":{"keynames":["a"],"keyvalues":[true]}},{"kind":"message"}]}'
    )
    second = [
        '{"action":"B"}',
        f'{{"action":"I",{HEAD},"schema":"s","table":"t","columns":[{{"name":"a","value":1.50}},{{"name":"b","value":null}}]}}',
        f'{{"action":"D",{HEAD},"schema":"s","table":"t","identity":[{{"name":"a","value":true}}]}}',
    ]
    one = [(line.at, line.xid, line.op, line.table, line.old, line.new) for line in read_wal2json([first])]
    assert one == [(AT, 7, "i", "t", None, {"a": "1.50", "b": None}), (AT, 7, "d", "t", {"a": "t"}, None)]
    assert [(line.at, line.xid, line.op, line.table, line.old, line.new) for line in read_wal2json(second)] == one


def test_large_values_that_stayed_are_the_old_rows() -> None:
    text = (
        f'{{"action":"U",{HEAD},"schema":"s","table":"t","columns":[{{"name":"a","value":2}}],'
        '"identity":[{"name":"a","value":1},{"name":"long","value":"x"}]}'
    )
    (line,) = read_wal2json([text])
    assert line.old == {"a": "1", "long": "x"} and line.new == {"a": "2", "long": "x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"action":"I","schema":"s","table":"t","xid":1,"columns":[]}', "line 2 has no timestamp: wal2json writes it with include-timestamp"),
        ('{"action":"I","schema":"s","table":"t","timestamp":"2026-01-01 00:00:00+00"}', "line 2 has no xid"),
        ('{"action":"I","xid":1,"timestamp":"2026-01-01 00:00:00","table":"t"}', "line 2: its timestamp has no time zone"),
        ('{"op":"c","before":null}', "line 2 is not of wal2json"),
        ('{"action":', "line 2 is not JSON"),
        ("[]", "line 2 is not of wal2json"),
    ],
)  # fmt: skip
def test_what_is_no_such_line_is_told(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        list(read_wal2json(["", text]))


def test_a_file_that_ends_before_the_capture_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.database(SHOP + audited("audit-trigger"))
    ask(url, "INSERT INTO customers (name) VALUES ('a')")
    (opened,) = ask(url, "SELECT clock_timestamp()::text")[0]
    ask(url, "UPDATE customers SET name = 'b'")
    wal2json(url, tmp_path / "changes.jsonl", 2)
    history = {"source": {"kind": "change-log", "file": "changes.jsonl", "format": "wal2json"}, "opened": "opened"}
    path = project(tmp_path, url, [{"id": "t", "opened": opened}], whole=["customers"], history=history)
    past = planned(path).past
    assert past is not None and len(past.tickets["t"].then) == 1
    ask(url, "INSERT INTO customers (name) VALUES ('later')")
    with pytest.raises(CaptureProblem, match="ends before the capture: 1 rows of customers were written later"):
        planned(path)
    (tmp_path / "changes.jsonl").unlink()
    with pytest.raises(SpecError, match=r"cannot read .*changes\.jsonl"):
        planned(path)
    server.drop(url)
