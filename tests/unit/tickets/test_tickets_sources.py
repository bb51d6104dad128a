"""Tickets from CSV, JSON and JSON Lines; what an agent must not see; mistakes with their rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from podctl.errors import SpecError
from podctl.spec.models import Tickets
from podctl.tickets.references import parse_reference
from podctl.tickets.sources import load_tickets
from podctl.tickets.types import ExpectedChange, Reference, Ticket

UPDATE = {"database": "db", "table": "orders", "op": "update", "key": {"id": 1}, "values": {"status": "done"}}


def load(path: Path, content: str | bytes | None = None, **spec: Any) -> list[Ticket]:
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return load_tickets(Tickets(apiVersion="podctl/v1", kind="Tickets", name="t", source=path, **spec))


def refused(path: Path, content: str | bytes | None = None, **spec: Any) -> str:
    with pytest.raises(SpecError) as caught:
        load(path, content, **spec)
    return caught.value.render()


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    rows = [{"id": "a", "body": 'one,\n"two"', "queue": "x"}, {"id": "b", "body": "", "queue": ""}]
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "body", "queue"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "t.json").write_text(json.dumps(rows))
    (tmp_path / "u.json").write_text(json.dumps({"total": 2, "items": rows}))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\r\n\n" for row in rows))
    expected = [Ticket("a", rows[0]["body"], "x", rows[0]), Ticket("b", "", "(none)", rows[1])]
    for name in ("t.csv", "t.json", "u.json", "t.jsonl"):
        assert load(tmp_path / name, fields={"text": "body", "stratum": "queue"}) == expected


def test_an_export_that_repeats_columns_for_lists(tmp_path: Path) -> None:
    """As Jira writes CSV: a column `Labels` for each label that some issue has."""
    content = "Issue key,Labels,Summary,Labels,Labels\nS-1,bug,one,,urgent\nS-2,,two,,\n"
    assert "two columns have the name 'Labels'" in refused(tmp_path / "t.csv", content)
    assert "repeated: list" in refused(tmp_path / "t.csv")
    fields = {"id": "Issue key", "text": "Summary", "stratum": "Labels[]"}
    first, second = load(tmp_path / "t.csv", repeated="list", fields=fields)
    assert first.fields == {"Labels": ["bug", "urgent"], "Issue key": "S-1", "Summary": "one"}
    assert (first.stratum, second.stratum) == ("bug+urgent", "(none)")


def test_zendesks_export_has_an_object_a_line(tmp_path: Path) -> None:
    assert [ticket.id for ticket in load(tmp_path / "t.ndjson", '{"id": 1}\n{"id": 2}\n')] == ["1", "2"]


def test_paths_lead_into_rows_and_strata_are_joined(tmp_path: Path) -> None:
    row = {"meta": {"id": 7, "kind": {"name": "refund"}}, "meta.tier": "gold", "msg": {"text": "hi"}}
    fields = {"id": "meta.id", "text": "msg.text", "stratum": ("meta.kind.name", "meta.tier")}
    assert load(tmp_path / "t.json", json.dumps([row]), fields=fields) == [Ticket("7", "hi", "refund / gold", row)]


def test_the_agent_sees_neither_reference_nor_hidden_columns(tmp_path: Path) -> None:
    row = {
        "id": 1,
        "answer": {"reference": {"output": {"x": "SECRET"}}, "when": 1},
        "label": "SECRET",
        "notes": [{"by": "a", "inner": "SECRET"}, {"by": "b"}],
        "a.b": "SECRET",
        "a": {"b": "SECRET", "c": 2},
        "deep": {"x.y": "SECRET", "x": {"y": "SECRET"}},
    }
    hide = ("label", "notes.inner", "a.b", "deep.x.y")
    ticket = load(tmp_path / "t.json", json.dumps([row]), fields={"reference": "answer.reference"}, hide=hide)[0]
    assert ticket.fields == {
        "id": 1,
        "answer": {"when": 1},
        "notes": [{"by": "a"}, {"by": "b"}],
        "a": {"c": 2},
        "deep": {"x": {}},
    }
    assert ticket.reference == Reference(output={"x": "SECRET"})


def test_a_slip_in_hide_or_reference_is_refused(tmp_path: Path) -> None:
    content = json.dumps([{"id": 1, "label": 2}])
    assert "hide names 'lable', which no row has" in refused(tmp_path / "t.json", content, hide=("lable",))
    assert "did you mean 'label'?" in refused(tmp_path / "t.json", hide=("lable",))
    assert "reference names 'lables'" in refused(tmp_path / "t.json", fields={"reference": "lables"})


def test_references_in_csv_are_json(tmp_path: Path) -> None:
    cells = [json.dumps({"changes": [UPDATE]}), json.dumps({"changes": []}), ""]
    with (tmp_path / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["id", "ref"], *([number, cell] for number, cell in enumerate(cells))])
    tickets = load(tmp_path / "t.csv", fields={"reference": "ref"})
    change = ExpectedChange("db", "orders", "update", {"id": 1}, {"status": "done"})
    assert [ticket.reference for ticket in tickets] == [Reference(changes=(change,)), Reference(changes=()), None]
    assert all(list(ticket.fields) == ["id"] for ticket in tickets)


@pytest.mark.parametrize(
    ("reference", "fragment"),
    [
        ("{", "is not JSON"),
        ('{"output": {"a": NaN}}', "NaN is not a number"),
        ("[]", "expected an object, found a list"),
        ({}, "says nothing"),
        ({"change": []}, "unknown key 'change'"),
        ({"changes": None}, "expected a list, found null"),
        ({"changes": [1]}, "changes[0]: expected an object, found a number"),
        ({"changes": [UPDATE, {**UPDATE, "op": "upsert"}]}, "changes[1].op: expected insert, update or delete"),
        ({"changes": [{**UPDATE, "colums": {}}]}, "unknown key 'colums'"),
        ({"changes": [{k: v for k, v in UPDATE.items() if k != "table"}]}, "table is missing"),
        ({"changes": [{**UPDATE, "table": ""}]}, "changes[0].table: expected text, found empty text"),
        ({"changes": [{**UPDATE, "key": {}}]}, "update needs key"),
        ({"changes": [{**UPDATE, "values": {}}]}, "update needs values"),
        ({"changes": [{**UPDATE, "op": "insert", "values": {}}]}, "insert needs values"),
        ({"changes": [{**UPDATE, "op": "delete"}]}, "delete has no values"),
        ({"changes": [{**UPDATE, "key": 3}]}, "changes[0].key: expected an object"),
        ({"sql": {"db": 1}}, "sql.db: expected text"),
        ({"sql": {"db": "x"}, "changes": []}, "keep one of them"),
        ({"output": []}, "output: expected an object"),
        (True, "expected an object, found a boolean"),
    ],
)
def test_a_wrong_reference_is_refused_with_its_row(reference: Any, fragment: str, tmp_path: Path) -> None:
    rows = [{"id": 1, "ref": None}, {"id": 2, "ref": reference}]
    text = refused(tmp_path / "t.jsonl", "\n\n".join(map(json.dumps, rows)), fields={"reference": "ref"})
    assert "t.jsonl:row 2 (line 3): " in text
    assert fragment in text


def test_right_references() -> None:
    insert = {k: v for k, v in UPDATE.items() if k != "key"} | {"op": "insert"}
    keyed = UPDATE | {"op": "insert"}
    delete = {k: v for k, v in UPDATE.items() if k != "values"} | {"op": "delete"}
    parsed = parse_reference({"changes": [insert, keyed, delete]})
    assert parsed is not None and parsed.changes is not None
    assert [(change.op, change.key, change.values) for change in parsed.changes] == [
        ("insert", {}, {"status": "done"}),
        ("insert", {"id": 1}, {"status": "done"}),
        ("delete", {"id": 1}, {}),
    ]
    assert parse_reference({"sql": {"db": "DELETE"}, "output": {"a": 1}}) == Reference(None, {"db": "DELETE"}, {"a": 1})


BAD = [
    ("t.csv", "", "the file is empty"),
    ("t.csv", "id,text\n", "no tickets in it"),
    ("t.csv", "id,text,id\n1,2,3\n", "two columns have the name 'id'"),
    ("t.csv", "id,\n1,2\n", "column 2 has no name"),
    ("t.csv", "id,text\n1,a\n2,b,c\n", "row 2 (line 3): expected 2 columns as in the header, found 3"),
    ("t.csv", 'id,text\n1,"a\nb"\n2\n', "row 2 (line 4): expected 2 columns"),
    ("t.csv", 'id,text\n1,"a" b\n', "row 1 (line 2): not valid CSV"),
    ("t.csv", 'id,text\n1,"a\n', "row 1 (line 2): not valid CSV"),
    ("t.csv", "id;text\n1;a\n", "the id, 'id', is missing"),
    ("t.csv", "ID,text\n1,a\n", "the columns are ID, text"),
    ("t.csv", "id,text\n1,a\0\n", "NUL"),
    ("t.csv", b"id,text\n1,caf\xe9\n", "t.csv:2: expected UTF-8 text, found the byte 0xe9"),
    ("t.csv", "id\n1\n2\n1\n", "row 3 (line 4): the id '1' was given before, in row 1"),
    ("t.csv", "id,x\n,1\n", "row 1 (line 2): the id, 'id', is empty"),
    ("t.csv", f"id\n{'x' * 201}\n", "longer than 200"),
    ("t.csv", 'id\n"a\nb"\n', "unprintable"),
    ("t.json", " ", "the file is empty"),
    ("t.json", "[]", "no tickets in it"),
    ("t.json", '[{"id": 1},\n {"id": 2},]', "t.json:2:"),
    ("t.json", '{"a": 1}', "an object with 0 lists"),
    ("t.json", '{"a": [], "b": []}', "an object with 2 lists"),
    ("t.json", "3", "expected a list of objects"),
    ("t.json", '[{"id": 1}, 2]', "row 2: expected an object"),
    ("t.json", '[{"id": NaN}]', "NaN"),
    ("t.json", '[{"id": 1, "x": -Infinity}]', "-Infinity"),
    ("t.json", '[{"id": 1, "x": 1e999}]', "too large"),
    ("t.json", '[{"id": 1, "x": ' + "9" * 5000 + "}]", "beyond 64 bits"),
    ("t.json", '[{"id": 1, "id": 2}]', "the key 'id' is given twice"),
    ("t.json", '[{"id": 1, "x": "\\u0000"}]', "NUL"),
    ("t.json", "[" * 100_000, "nested more than 64 deep"),
    ("t.json", '[{"id": 1, "x": ' + "[" * 70 + "]" * 70 + "}]", "nested more than 64 deep"),
    ("t.json", '[{"id": null}]', "is empty"),
    ("t.json", '[{"id": [1]}]', "expected text or a number, found a list"),
    ("t.json", '[{"id": "\\ud800"}]', "unprintable"),
    ("t.jsonl", "\n\n", "no tickets in it"),
    ("t.jsonl", '{"id": 1}\n{"id": 1e}\n', "row 2 (line 2): not valid JSON"),
    ("t.jsonl", '{"id": 1}\n\n"x"\n', "row 2 (line 3): expected an object"),
    ("t.txt", "id\n1\n", "expected a .csv, .json, .jsonl, .ndjson or .parquet file"),
    ("t.csv", None, "no such file"),
]


@pytest.mark.parametrize(("name", "content", "fragment"), BAD)
def test_a_bad_source_is_refused(name: str, content: str | bytes | None, fragment: str, tmp_path: Path) -> None:
    text = refused(tmp_path / name, content)
    assert fragment in text
    assert f"{name}" in text


def test_bad_rows_are_listed_together(tmp_path: Path) -> None:
    text = refused(tmp_path / "t.csv", "id\n" + "a\n" * 30)
    assert "29 rows are wrong" in text
    assert text.count("was given before") == 20
    assert "and 9 more" in text


def test_rows_can_be_numbered(tmp_path: Path) -> None:
    assert [ticket.id for ticket in load(tmp_path / "t.csv", "x\na\n\nb\n", id_from="row")] == ["1", "2"]


def test_large_fields_are_fine(tmp_path: Path) -> None:
    ticket = load(tmp_path / "t.csv", f"id,text\n1,{'x' * 300_000}\n", fields={"text": "text"})[0]
    assert len(ticket.text) == 300_000


def test_a_missing_text_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    content = '[{"id": 1, "text": null}]'
    assert load(tmp_path / "t.json", content, fields={"text": "text"})[0].text == ""
    assert "the text, 'txt', is missing; did you mean 'text'?" in refused(tmp_path / "t.json", fields={"text": "txt"})


@given(
    st.sampled_from(["t.csv", "t.json", "t.jsonl"]),
    st.binary(max_size=60)
    | st.lists(
        st.sampled_from(["id", "ref", ",", "\n", '"', "{", "}", "[", "]", ":", "1", "x", '"id"', "null", "\\", "\r"])
    ).map(lambda parts: "".join(parts).encode()),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_tickets_or_a_spec_error(tmp_path: Path, name: str, content: bytes) -> None:
    for before in (b"", b"id,ref\n", b'[{"id": 1, "ref": '):
        try:
            tickets = load(tmp_path / name, before + content, fields={"reference": "ref", "stratum": "id"})
        except SpecError as error:
            assert error.render()
        else:
            assert tickets and all("ref" not in ticket.fields for ticket in tickets)
