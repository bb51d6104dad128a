from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podctl.grading.netdiff import Actor, NetChange
from podctl.grading.statediff import StateRules, state_diff
from podctl.spec.models import TableRule
from podctl.tickets.types import ExpectedChange

PLAIN = StateRules()
ORDER = {"id": 1, "number": "A-1", "status": "open", "total": "10.50", "updated_at": "2025-01-01 00:00:00+00"}


def updated(actor: str = "svc_api", trigger: bool = False, **values: Any) -> NetChange:
    who = Actor(actor, trigger)
    return NetChange("shop", "orders", "update", {"id": 1}, ORDER, {**ORDER, **values}, who, dict.fromkeys(values, who))


def inserted(actor: str = "svc_api", **values: Any) -> NetChange:
    who = Actor(actor)
    return NetChange("shop", "refunds", "insert", {"id": values.get("id")}, {}, values, who, dict.fromkeys(values, who))


def deleted(table: str = "orders", **values: Any) -> NetChange:
    return NetChange("shop", table, "delete", {"id": values["id"]}, values, {}, Actor("svc_api"))


def want(op: str, table: str = "orders", key: dict[str, Any] | None = None, **values: Any) -> ExpectedChange:
    return ExpectedChange("shop", table, op, key or {}, values)  # type: ignore[arg-type]


def brief(changes: list[NetChange], expected: list[ExpectedChange], rules: StateRules = PLAIN) -> list[tuple[str, str, str]]:
    return sorted((entry.class_, entry.op, entry.column) for entry in state_diff(changes, expected, rules))


KEY = {"id": 1}


@pytest.mark.parametrize(
    ("changes", "expected", "found"),
    [
        ([], [], []),
        ([updated(status="closed")], [want("update", key=KEY, status="closed")], [("intended", "update", "status")]),
        ([updated(status="closed")], [want("update", key={"number": "A-1"}, status="closed")], [("intended", "update", "status")]),
        ([updated(status="closed")], [want("update", table="public.orders", key={"id": "1"}, status="closed")],
         [("intended", "update", "status")]),
        ([updated(status="held")], [want("update", key=KEY, status="closed")], [("missing", "update", "status")]),
        ([], [want("update", key=KEY, status="closed", total=1)], [("missing", "update", "status"), ("missing", "update", "total")]),
        ([updated(status="closed")], [], [("collateral", "update", "status")]),
        ([updated(status="closed", total="0")], [want("update", key=KEY, status="closed")],
         [("collateral", "update", "total"), ("intended", "update", "status")]),
        ([updated(status="closed")], [want("update", key=KEY, status="closed", total=10.5)],
         [("intended", "update", "status"), ("intended", "update", "total")]),
        ([updated(status="closed")], [want("update", key={"id": 2}, status="closed")],
         [("collateral", "update", "status"), ("missing", "update", "status")]),
        ([updated(status="closed")], [want("update", status="closed")],
         [("collateral", "update", "status"), ("missing", "update", "status")]),
        ([updated(status="x", total="1")], [want("update", key=KEY, status="x"), want("update", key={"number": "A-1"}, total=1)],
         [("intended", "update", "status"), ("intended", "update", "total")]),
        ([deleted(id=1)], [want("delete", key=KEY)], [("intended", "delete", "")]),
        ([deleted(id=2)], [want("delete", key=KEY)], [("collateral", "delete", ""), ("missing", "delete", "")]),
        ([deleted(id=1)], [want("update", key=KEY, status="closed")], [("collateral", "delete", ""), ("missing", "update", "status")]),
        ([deleted(id=1), deleted(id=1, table="other")], [want("delete", key=KEY)],
         [("collateral", "delete", ""), ("intended", "delete", "")]),
    ],
)  # fmt: skip
def test_updates_and_deletes(
    changes: list[NetChange], expected: list[ExpectedChange], found: list[tuple[str, str, str]]
) -> None:
    assert brief(changes, expected) == found


@pytest.mark.parametrize(
    ("changes", "expected", "found"),
    [
        # keys and columns that the reference does not name are free
        ([inserted(id=7, order=1, amount="5.0", at="now")], [want("insert", "refunds", order=1, amount=5)], [("intended", "insert", "")]),
        ([inserted(id=7, order=1)], [want("insert", "refunds")], [("intended", "insert", "")]),
        ([inserted(id=7)], [], [("collateral", "insert", "")]),
        ([], [want("insert", "refunds", order=1)], [("missing", "insert", "")]),
        ([inserted(id=7, order=2)], [want("insert", "refunds", order=1)], [("collateral", "insert", ""), ("missing", "insert", "")]),
        ([inserted(id=7, order=1, amount="6", note="n")], [want("insert", "refunds", order=1, amount=5, note="n")],
         [("missing", "insert", "amount")]),
        ([inserted(id=7, order=1), inserted(id=8, order=1)], [want("insert", "refunds", order=1)],
         [("collateral", "insert", ""), ("intended", "insert", "")]),
        # the best assignment: the loose reference must not take the row that only the strict one fits
        ([inserted(id=1, order=1, amount="5"), inserted(id=2, order=1, amount="6")],
         [want("insert", "refunds", order=1), want("insert", "refunds", order=1, amount=5)],
         [("intended", "insert", ""), ("intended", "insert", "")]),
        ([inserted(id=7, order=1)], [want("insert", "refunds", {"id": 8}, order=1)], [("missing", "insert", "id")]),
    ],
)  # fmt: skip
def test_inserts(changes: list[NetChange], expected: list[ExpectedChange], found: list[tuple[str, str, str]]) -> None:
    assert brief(changes, expected) == found


def test_ignored_columns_and_tables_do_not_count() -> None:
    rules = StateRules(ignore=("*.updated_at", "orders.n*"), ignore_tables=("audit*", "crm.*"))
    touched = updated(status="closed", updated_at="2026-01-01 00:00:00+00", number="A-2")
    log = NetChange("shop", "audit_log", "insert", {"id": 1}, {}, {"id": 1}, Actor("svc_api"))
    calls = NetChange("shop", "crm.calls", "insert", {"id": 1}, {}, {"id": 1}, Actor("svc_api"))
    expected = [want("update", key=KEY, status="closed", updated_at="2020-01-01"), want("insert", "audit_log", a=1)]
    assert brief([touched, log, calls], expected, rules) == [("intended", "update", "status")]
    assert len(brief([touched, log, calls], expected)) == 6
    assert brief([updated(updated_at="x")], [], rules) == []


RIGHTS = {"shop": {"public.orders": TableRule(update=("status",)), "refunds": TableRule(insert=True)}}


@pytest.mark.parametrize(
    ("changes", "expected", "found"),
    [
        ([updated("ag", status="closed")], [want("update", key=KEY, status="closed")], [("intended", "update", "status")]),
        # Column grants hold the agent's own statements: another column of a table it may update, a trigger set.
        ([updated("ag", total="0")], [want("update", key=KEY, total=0)], [("intended", "update", "total")]),
        ([updated("ag", total="1")], [want("update", key=KEY, total=0)], [("missing", "update", "total")]),
        ([updated("ag", total="1")], [], [("collateral", "update", "total")]),
        ([updated("ag", updated_at="x")], [], []),
        ([updated("svc_api", updated_at="x")], [], []),
        ([updated("ag", True, total="0")], [], [("collateral", "update", "total")]),
        ([updated("svc_api", total="0")], [], [("collateral", "update", "total")]),
        ([inserted("ag", id=1)], [want("insert", "refunds", id=1)], [("intended", "insert", "")]),
        ([NetChange("shop", "orders", "delete", KEY, ORDER, {}, Actor("ag"))], [want("delete", key=KEY)], [("forbidden", "delete", "")]),
        ([NetChange("shop", "audit", "insert", KEY, {}, KEY, Actor("ag"))], [], [("forbidden", "insert", "")]),
        ([NetChange("other", "orders", "insert", KEY, {}, KEY, Actor("ag"))], [], [("forbidden", "insert", "")]),
        ([NetChange("shop", "refunds", "truncate", {}, {}, {}, Actor("ag"))], [], [("forbidden", "delete", "")]),
        ([NetChange("shop", "refunds", "truncate", {}, {}, {}, Actor("svc_api"))], [], [("collateral", "delete", "")]),
    ],
)  # fmt: skip
def test_only_the_agents_own_doing_is_forbidden(
    changes: list[NetChange], expected: list[ExpectedChange], found: list[tuple[str, str, str]]
) -> None:
    rules = StateRules(ignore=("*.updated_at",), ignore_tables=("audit",), rights=RIGHTS, agents={"ag"})
    assert brief(changes, expected, rules) == found


def test_an_entry_says_what_was_and_who() -> None:
    (entry,) = state_diff(
        [updated(status="held")], [want("update", key=KEY, status="closed")], StateRules(actor_name=str.upper)
    )
    assert (entry.key, entry.old, entry.new, entry.expected, entry.actor) == (KEY, "open", "held", "closed", "SVC_API")


def test_columns_compare_by_their_kind() -> None:
    rules = StateRules(kinds={"shop": {"orders": {"total": "number", "status": "text", "updated_at": "timestamptz"}}})
    assert brief([updated(total="10.5000")], [], rules) == [], "the same number in another spelling is no change"
    same_instant = updated(updated_at="2025-06-01 10:00:00+00", status="007")
    expected = [want("update", key=KEY, updated_at="2025-06-01T12:00:00+02:00", status="7")]
    assert brief([same_instant], expected, rules) == [("intended", "update", "updated_at"), ("missing", "update", "status")]


VALUES = st.fixed_dictionaries({"order": st.integers(0, 2), "amount": st.integers(0, 2)})


@given(st.lists(VALUES, max_size=6), st.randoms())
def test_the_same_rows_in_any_order_are_intended(rows: list[dict[str, int]], random: Any) -> None:
    shuffled = [inserted(id=number, **values) for number, values in enumerate(rows)]
    random.shuffle(shuffled)
    expected = [want("insert", "refunds", **values) for values in rows]
    assert {entry.class_ for entry in state_diff(shuffled, expected, StateRules())} <= {"intended"}


@given(st.lists(VALUES, max_size=5), st.lists(VALUES, max_size=5))
def test_all_is_intended_only_for_the_same_rows(rows: list[dict[str, int]], wanted: list[dict[str, int]]) -> None:
    found = state_diff(
        [inserted(id=number, **values) for number, values in enumerate(rows)],
        [want("insert", "refunds", **values) for values in wanted],
        StateRules(),
    )
    right = all(entry.class_ == "intended" for entry in found)
    assert right == (sorted(sorted(row.items()) for row in rows) == sorted(sorted(row.items()) for row in wanted))


def test_a_flood_of_rows_is_graded_quickly() -> None:
    flood = [inserted(id=number, order=number) for number in range(20_000)]
    found = state_diff(flood, [want("insert", "refunds", order=number) for number in range(20)], StateRules())
    assert sum(entry.class_ == "collateral" for entry in found) == 19_980
