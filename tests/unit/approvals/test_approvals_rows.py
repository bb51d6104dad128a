"""Proposals to write a row: read strictly, judged as `podctl boundary explain` says, answered by rules about columns."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from podctl.approvals.answering import answer
from podctl.approvals.rows import KNOWN, RowAsked, Unfit, as_text, mark, marked, parse_row, typed
from podctl.boundary.explaining import Boundaries
from podctl.boundary.rows import approvable, decide_row
from podctl.evidence.rowproposals import column_lines, write_line
from podctl.spec.approvals import Approvals
from podctl.spec.boundary import Boundary, TableRule
from podctl.spec.boundary_rules import rules_of

GOOD: dict[str, Any] = {
    "database": "shop-db",
    "table": "orders",
    "operation": "update",
    "key": {"id": 7},
    "values": {"status": "paid"},
    "reason": "r",
}


def test_a_proposal_is_read_as_it_is_written() -> None:
    assert parse_row(json.dumps(GOOD).encode()) == RowAsked("shop-db", "orders", "update", {"id": 7}, {"status": "paid"}, "r")
    assert str(parse_row(json.dumps(GOOD).encode())) == "UPDATE orders (status)"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"sql": "DROP TABLE orders"}, "one JSON object of"),
        ({"operation": "UPDATE"}, "operation is one of"),
        ({"operation": "truncate"}, "operation is one of"),
        ({"operation": "insert"}, "insert has no key"),
        ({"operation": "delete"}, "delete has no values"),
        ({"key": None}, "key is an object"),
        ({"key": {}}, "update needs one"),
        ({"key": {"id": None}}, "nothing else finds one row"),
        ({"key": {"id": {"gt": 1}}}, "nothing else finds one row"),
        ({"values": ["status"]}, "values is an object"),
        ({"values": {"a" * 64: 1}}, "1 to 63 bytes"),
        ({"values": {"": 1}}, "1 to 63 bytes"),
        ({"values": {"a\0": 1}}, "1 to 63 bytes"),
        ({"values": {f"c{n}": 1 for n in range(201)}}, "at most 200 columns"),
        ({"table": ""}, "has to be there"),
        ({"table": 3}, "has to be there"),
        ({"table": "crm."}, "1 to 63 bytes"),
        ({"reason": "x" * 2001}, "at most 2,000"),
    ],
)
def test_what_is_no_proposal_of_a_row_is_refused(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(Unfit, match=why):
        parse_row(json.dumps(GOOD | changed).encode())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"database": "d", "database": "e"}', "has the key 'database' twice"),
        ('{"database": "d", "values": {"a": 12345678901234567890.12}}', "more digits than every reader"),
        ('{"database": "d", "values": {"a": {"b": [0.1000000000000000055]}}}', "more digits than every reader"),
        ('{"database": "d", "values": {"a": NaN}}', "JSON does not have"),
        ('{"database": "d", "values": {"a": 1e999}}', "a number out of range"),
        ('[{"database": "d"}]', "one JSON object of"),
        ("{", "is not JSON"),
        (
            '{"database": "\\ud800", "table": "t", "operation": "delete", "key": {"a": 1}, "reason": "r"}',
            "half of a surrogate pair",
        ),
    ],
)
def test_what_readers_differ_in_is_refused(text: str, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        parse_row(text.encode())


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(KNOWN)) | st.text(max_size=5), JSONS | st.just(GOOD["key"])), st.booleans())
def test_whatever_comes_is_read_or_refused(changed: dict[str, Any], whole: bool) -> None:
    value = GOOD | changed if whole else changed
    try:
        asked = parse_row(json.dumps(value).encode())
    except Unfit as why:
        assert str(why)
        return
    assert set(value) <= KNOWN and all(isinstance(one, str) for one in (asked.database, asked.table, asked.reason))
    for column, given_value in asked.values.items():
        for kind in ("bool", "integer", "number", "json", "text"):
            try:
                text = as_text(given_value, kind, column)  # type: ignore[arg-type]
            except Unfit:
                continue
            assert text is None if given_value is None else isinstance(text, str)
            if kind == "json" and text is not None:
                assert json.loads(text) == given_value


def test_a_value_is_text_for_its_column_and_typed_for_rules() -> None:
    assert [as_text(True, "bool", "c"), as_text(12, "integer", "c"), as_text(12.5, "number", "c")] == ["true", "12", "12.5"]
    assert [as_text("x", "json", "c"), as_text(None, "json", "c"), as_text("12", "integer", "c")] == ['"x"', None, "12"]
    for value, kind in (
        (True, "integer"),
        (1, "bool"),
        (1, "text"),
        ({}, "text"),
        ([], "integer"),
        ("a\0", "text"),
    ):
        with pytest.raises(Unfit):
            as_text(value, kind, "c")  # type: ignore[arg-type]
    assert [typed("12", "integer"), typed("false", "bool"), typed('{"a":1}', "json"), typed("12.50", "number")] == [
        12,
        False,
        {"a": 1},
        "12.50",
    ]


def boundary(tables: dict[str, Any]) -> Boundary:
    return Boundary.model_validate({"apiVersion": "podctl/v1", "kind": "Boundary", "name": "b", "databases": {"db": tables}})


COLUMNS = ("a", "b", "c", "d")
ALLOWED = st.booleans() | st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True)
PROPOSED = st.fixed_dictionaries({}, optional={"insert": ALLOWED, "update": ALLOWED, "delete": st.booleans()})
RULES = st.fixed_dictionaries(
    {}, optional={"insert": ALLOWED, "update": ALLOWED, "delete": st.booleans(), "recommend": PROPOSED}
)


@settings(max_examples=200, deadline=None)
@given(
    tables=st.dictionaries(st.sampled_from(["t", "public.t", "crm.t"]), RULES | st.just("human-only"), min_size=1),
    verb=st.sampled_from(["insert", "update", "delete"]),
    table=st.sampled_from(["t", "public.t", "crm.t", "other"]),
    columns=st.lists(st.sampled_from(COLUMNS), min_size=1, unique=True),
)
def test_a_row_is_judged_as_explain_says_and_done_with_rights_for_it(
    tables: dict[str, Any], verb: Any, table: str, columns: list[str]
) -> None:
    value = boundary(tables)
    touched = [] if verb == "delete" else columns
    decided, decisive = decide_row(rules_of(value), verb, "db", table, touched)
    asked = Boundaries(value)
    levels = {asked.explain(f"{verb} db.{table}" + (f".{one}" if one else "")).level for one in touched or [""]}
    if "human-only" in levels:
        assert decided.level == "human-only" and not decided.allowed
    else:
        assert decided.level == ("recommend" if "recommend" in levels else "ai-writable")
        assert decided.allowed == (levels == {"ai-writable"})
    assert set(decisive) <= set(touched)
    rights = approvable(value, "db")
    about = [rule for name, rule in rights.items() if name.removeprefix("public.") == table.removeprefix("public.")]
    granted = [getattr(rule, verb) for rule in about]
    may = bool(touched) and all(any(one is True or (one and column in one) for one in granted) for column in touched)
    if decided.level == "recommend":
        assert any(granted) if verb == "delete" else may
    for rule in about:
        for column in COLUMNS:
            for its in ("insert", "update"):
                allowed = getattr(rule, its)
                if allowed is True or (allowed and column in allowed):
                    assert asked.explain(f"{its} db.{table}.{column}").level in ("recommend", "ai-writable")
        if rule.delete:
            assert asked.explain(f"delete db.{table}").level == "recommend"


def test_who_writes_reads_what_the_boundary_names_and_no_table_of_which_nothing_is_recommended() -> None:
    value = boundary(
        {
            "orders": {"read": ["id"], "update": ["note"], "recommend": {"update": ["status"], "delete": True}},
            "open": {"update": True},
            "read": {"read": True},
            "shut": "human-only",
        }
    )
    assert approvable(value, "db") == {
        "orders": TableRule(read=("id", "note", "status"), update=("note", "status"), delete=True)
    }
    assert approvable(value, "elsewhere") == {}


def answered(of: str, how: str, parts: tuple[str, ...], **when: Any) -> str:
    spec = Approvals.model_validate({"rules": [{"of": of, "answer": how, "when": when}]})
    values = {"key": {"id": 7}, "values": {"amount": "12.50", "status": "paid"}, "row": {"status": "open"}}
    return answer(spec, "UPDATE db.orders", values, "1", parts).by


def test_rules_are_about_a_table_or_some_of_its_columns() -> None:
    both = ("UPDATE db.orders.status", "UPDATE db.orders.amount")
    assert answered("UPDATE db.orders", "approve", both) == answered("UPDATE db.*", "approve", both) == "rule 1"
    assert answered("UPDATE db.orders.status", "approve", both[:1]) == "rule 1"
    assert answered("UPDATE db.orders.status", "approve", both) == "nobody", "of what is not named nothing is said"
    assert answered("UPDATE db.orders.status", "deny", both) == "rule 1", "one that denies denies the whole"
    assert answered("UPDATE db.orders.note", "deny", both) == "nobody" == answered("UPDATE db.orders.s", "approve", both)
    assert answered("UPDATE db.orders", "approve", both, **{"values.amount": {"at_most": 20}, "key.id": 7}) == "rule 1"
    assert answered("UPDATE db.orders", "approve", both, **{"values.amount": {"at_most": 12}}) == "nobody"
    assert answered("UPDATE db.orders", "approve", both, **{"row.status": "paid"}) == "nobody"


def test_a_statement_says_what_it_comes_of() -> None:
    assert marked(mark("a" * 32, "rule 12") + " UPDATE t") == {"proposal": "a" * 32, "by": "rule 12"}
    assert marked("UPDATE t /* podctl: proposal " + "a" * 32 + ", approved by x */") == {}


def test_a_write_in_words_is_what_it_is() -> None:
    told = {"operation": "update", "table": "orders", "key": {"id": "7"}, "version": "1 (0,1) 7"}
    told |= {
        "values": {"status": "it's \\ → 'x'", "note": None, "same": "s"},
        "row": {"status": "open", "id": "7", "note": "n", "same": "s"},
    }
    assert write_line("db", told) == "UPDATE db.orders id='7'"
    assert column_lines(told) == {"status": r"'open' → 'it\'s \\ → \'x\''", "note": "'n' → NULL"}, (
        "nothing in a value ends its quotes"
    )
    assert list(column_lines(told, whole=True)) == ["status", "note", "id", "same"]
    assert column_lines({"operation": "insert", "values": {"a": "1"}}) == {"a": "+ '1'"}
    assert column_lines({"operation": "delete", "row": {"a": None}}) == {"a": "- NULL"}
