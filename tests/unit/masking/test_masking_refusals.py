"""What stops a masking before anything is read, and what stops it on the way; never with a value in the message."""

from __future__ import annotations

from typing import Any

import pytest
from masking import KEY, masker, masking

from podctl.masking.columns import check_joins
from podctl.masking.problems import MaskingProblem
from podctl.masking.table import Column, table_masker

SECRET = "zq-secret-value"


def refused(rules: dict[str, Any], *columns: Column) -> str:
    with pytest.raises(MaskingProblem) as caught:
        table_masker(masking(rules), KEY, "shop", "people", columns)
    return caught.value.render()


@pytest.mark.parametrize(
    "kind", ["text", "citext", "bytea", "text[]", "jsonb", "xml", "hstore", "integer", "mood", "tsvector", "int4range", "money"]
)
def test_a_column_of_any_type_without_a_rule_stops_it(kind: str) -> None:
    """A list of types that are known to be sensitive would let every other type through."""
    said = refused({"id": "keep"}, Column("id", "integer"), Column("handle", kind))
    assert f"no rule says how to mask shop.people.handle ({kind})" in said


def test_every_unclassified_column_is_listed() -> None:
    said = refused({}, Column("id", "integer"), Column("email", "text"))
    assert "shop.people.id" in said and "shop.people.email" in said


def test_a_rule_for_a_column_that_is_not_there_stops_it() -> None:
    """A renamed column would be unclassified; a rule for the old name is no rule for it."""
    assert "shop.people.e_mail" in refused({"id": "keep", "e_mail": "email"}, Column("id", "integer"))


def test_a_rule_that_nobody_confirmed_stops_it() -> None:
    rules = {"id": "keep", "doc": {"mask": "json", "paths": {"a": {"mask": "email", "proposed": "looks like one"}}}}
    assert "nobody has confirmed the rules of shop.people.doc" in refused(
        rules, Column("id", "integer"), Column("doc", "jsonb")
    )


@pytest.mark.parametrize(
    ("rule", "column", "why"),
    [
        ("email", Column("x", "integer"), "gives no value of type integer"),
        ("email", Column("x", "bytea"), "gives no value of type bytea"),
        ("email", Column("x", "tsvector"), "gives no value of type tsvector"),
        ("text", Column("x", "jsonb"), "or json with paths"),
        ("id", Column("x", "mood"), "gives no value of type mood"),
        ("number", Column("x", "text"), "gives no value of type text"),
        ("email", Column("x", "character varying(20)"), "email needs 25 characters, character varying(20) has 20"),
        ({"mask": "constant", "value": "unknown"}, Column("x", "character(2)"), "constant needs 7 characters"),
        ("erase", Column("x", "text", nullable=False), "may not be null"),
        ("name", Column("x", "text", unique=True), "gives different values the same mask"),
        ("phone", Column("x", "text", unique=True), "id keeps them apart"),
        ({"mask": "constant", "value": "a"}, Column("x", "text", unique=True), "gives different values the same mask"),
        ({"mask": "date", "subject": "who"}, Column("x", "date"), "there is no column who"),
        ({"mask": "json", "paths": {"a": {"mask": "date", "subject": "who"}}}, Column("x", "jsonb"), "there is no column who"),
    ],
)
def test_a_rule_that_a_column_cannot_keep_stops_it(rule: Any, column: Column, why: str) -> None:
    assert why in refused({"x": rule}, column)


def test_columns_that_join_must_have_one_rule() -> None:
    databases = {"shop": {"people": {"id": "id"}, "orders": {"person": "keep", "buyer": "id", "gone": "erase"}}}
    policy = masking(databases=databases)
    check_joins(
        policy, [("shop", "orders", ["buyer"], "people", ["id"]), ("shop", "public.orders", ["gone"], "people", ["id"])]
    )
    with pytest.raises(MaskingProblem, match="masked differently") as caught:
        check_joins(policy, [("shop", "orders", ["buyer", "person"], "people", ["id", "id"])])
    assert caught.value.cause == "shop: orders.person is keep, people.id is id"


@pytest.mark.parametrize(
    ("rule", "kind", "rows"),
    [
        ("email", "text", f"{SECRET}\tmore\n"),
        ("email", "text", f"{SECRET}"),
        ("email", "text", f"{SECRET}\\\n"),
        ("email", "text[]", f"{{{SECRET}\n"),
        ({"mask": "json", "paths": {"a": "keep"}}, "jsonb", f'{{"{SECRET}": \n'),
        ({"mask": "json", "paths": {"a": "keep"}}, "jsonb", "[" * 100_000 + SECRET + "\n"),
        ("id", "character(5)", "100000\n"),
        ({"mask": "date", "subject": "*"}, "date", f"{SECRET}\n"),
    ],
)
def test_what_cannot_be_masked_on_the_way_is_said_without_the_value(rule: Any, kind: str, rows: str) -> None:
    mask = table_masker(masking({"x": rule}), KEY, "shop", "people", [Column("x", kind, nullable=False)])
    with pytest.raises(MaskingProblem) as caught:
        mask(rows.encode())
    shown: BaseException | None = caught.value
    while shown is not None:
        assert SECRET not in repr(shown) and "100000" not in repr(shown)
        shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
    assert "shop.people" in caught.value.render()


def test_bytes_that_are_not_utf8_stop_it() -> None:
    with pytest.raises(MaskingProblem, match="not what its column's type says"):
        masker({"x": "email"})(b"\xff\xfe\n")
