from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.grading.netdiff import Actor, NetChange, net_changes

Row = dict[str, Any]


def change(
    op: str, old: Row, new: Row, *, keyed: bool = True, user: str = "ag", table: str = "t", trigger: bool = False
) -> dict[str, Any]:
    finder = old or new
    key = {"id": finder["id"]} if keyed and finder else dict(finder)
    data = {"database": "shop", "table": table, "op": op, "key": key, "old": old, "new": new, "user": user}
    return {**data, "trigger": True} if trigger else data


def row(number: int, value: Any = "a", other: Any = 0) -> Row:
    return {"id": number, "value": value, "other": other}


def brief(found: list[NetChange]) -> list[tuple[str, Any, dict[str, Any]]]:
    return [(net.op, net.key.get("id"), net.new) for net in found]


def test_a_row_comes_to_one_change() -> None:
    assert brief(net_changes([change("insert", {}, row(1)), change("update", row(1), row(1, "b"))])) == [
        ("insert", 1, row(1, "b"))
    ]
    assert net_changes([change("insert", {}, row(1)), change("delete", row(1), {})]) == []
    assert net_changes([change("update", row(1), row(1, "b")), change("update", row(1, "b"), row(1))]) == []
    assert brief(net_changes([change("delete", row(1), {}), change("insert", {}, row(1, "b"))])) == [("update", 1, row(1, "b"))]
    assert net_changes([change("delete", row(1), {}), change("insert", {}, row(1))]) == []
    (deleted,) = net_changes([change("update", row(1), row(1, "b")), change("delete", row(1, "b"), {})])
    assert (deleted.op, deleted.old) == ("delete", row(1))


def test_a_changed_key_is_a_row_gone_and_a_row_come() -> None:
    assert brief(net_changes([change("update", row(1), row(2))])) == [("delete", 1, {}), ("insert", 2, row(2))]


def test_each_column_knows_who_changed_it_last() -> None:
    (net,) = net_changes(
        [
            change("update", row(1), row(1, "b", 1), user="ag"),
            change("update", row(1, "b", 1), row(1, "c", 1), user="svc_api", trigger=True),
        ]
    )
    assert net.changed_columns() == ["value", "other"]
    assert (net.actors["value"], net.actors["other"], net.actor) == (
        Actor("svc_api", True),
        Actor("ag"),
        Actor("svc_api", True),
    )


def test_keys_of_different_types_are_different_rows() -> None:
    assert len(net_changes([change("insert", {}, row(key)) for key in (1, "1", True, None)])) == 4  # type: ignore[arg-type]


def test_a_truncated_table_lost_rows_that_nobody_knows() -> None:
    found = net_changes(
        [
            change("update", row(1), row(1, "b")),
            change("insert", {}, row(2)),
            {"database": "shop", "table": "t", "op": "truncate", "key": {}, "old": {}, "new": {}, "user": "svc_api"},
            change("insert", {}, row(3)),
        ]
    )
    assert [(net.op, net.key) for net in found] == [("truncate", {}), ("delete", {"id": 1}), ("insert", {"id": 3})]


def test_tables_and_databases_are_apart() -> None:
    one, other = change("insert", {}, row(1)), {**change("delete", row(1), {}), "database": "crm"}
    assert [net.database for net in net_changes([one, other])] == ["shop", "crm"]


def test_rows_without_a_key_are_counted() -> None:
    pair = {"a": 1}
    twice = [change("insert", {}, pair, keyed=False), change("insert", {}, pair, keyed=False)]
    assert len(net_changes(twice)) == 2
    assert len(net_changes([*twice, change("delete", pair, {}, keyed=False)])) == 1
    swap = [change("update", {"a": 1}, {"a": 2}, keyed=False), change("update", {"a": 2}, {"a": 1}, keyed=False)]
    assert net_changes(swap) == []
    (net,) = net_changes([change("update", {"a": 1}, {"a": 2}, keyed=False)])
    assert (net.op, net.key, net.new) == ("update", {"a": 1}, {"a": 2})


START = {number: row(number) for number in range(3)}
OPERATION = st.tuples(
    st.sampled_from(["insert", "update", "delete", "rekey"]), st.integers(0, 4), st.sampled_from("abc"), st.integers(0, 4)
)


@given(st.lists(OPERATION, max_size=25))
def test_the_net_effect_is_the_difference_of_before_and_after(operations: list[tuple[str, int, str, int]]) -> None:
    table, changes = dict(START), []
    for op, number, value, target in operations:
        if op == "insert" and number not in table:
            table[number] = row(number, value)
            changes.append(change("insert", {}, table[number]))
        elif op == "update" and number in table:
            old, table[number] = table[number], row(number, value)
            changes.append(change("update", old, table[number]))
        elif op == "delete" and number in table:
            changes.append(change("delete", table.pop(number), {}))
        elif op == "rekey" and number in table and target not in table:
            old = table.pop(number)
            table[target] = row(target, value)
            changes.append(change("update", old, table[target]))
    expected = {
        number: (START.get(number), table.get(number))
        for number in START.keys() | table.keys()
        if START.get(number) != table.get(number)
    }
    found = net_changes(changes)
    assert {net.key["id"]: (net.old or None, net.new or None) for net in found} == expected
    assert len(found) == len(expected)
    for net in found:
        assert net.op == ("insert" if not net.old else "delete" if not net.new else "update")


@given(st.lists(st.tuples(st.sampled_from(["insert", "update", "delete"]), st.integers(0, 3), st.integers(0, 3)), max_size=25))
def test_without_a_key_the_net_effect_is_the_difference_of_multisets(operations: list[tuple[str, int, int]]) -> None:
    before = Counter({0: 2, 1: 1})
    after, changes = Counter(before), []
    for op, value, target in operations:
        if op == "insert":
            after[value] += 1
            changes.append(change("insert", {}, {"a": value}, keyed=False))
        elif after[value]:
            after[value] -= 1
            after[target] += op == "update"
            changes.append(change(op, {"a": value}, {"a": target} if op == "update" else {}, keyed=False))
    found = net_changes(changes)
    gone = Counter(net.old["a"] for net in found if net.old)
    come = Counter(net.new["a"] for net in found if net.new)
    assert gone == before - after
    assert come == after - before


@pytest.mark.parametrize("length", [5000])
def test_long_sequences_take_linear_time(length: int) -> None:
    changes = [change("update", row(0, step), row(0, step + 1)) for step in range(length)]
    changes += [change("insert", {}, {"a": step}, keyed=False, table="loose") for step in range(length)]
    assert len(net_changes(changes)) == length + 1
