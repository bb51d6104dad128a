from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from podctl.errors import EnvironmentProblem
from podctl.evidence.results import CheckResult
from podctl.grading.checks import MAX_DIFF, GradeContext, grade
from podctl.grading.problems import GraderProblem
from podctl.grading.sqlref import expected_changes, expected_from_changes
from podctl.spec.models import Check, CommandCheck, OutputCheck, SqlCheck, StateCheck, TableRule
from podctl.tickets.types import ExpectedChange, Reference, Ticket


class ScriptedDatabase:
    """Answers queries and references as told; a `GradedDatabase`."""

    def __init__(self, rows: list[tuple[Any, ...]] | None = None, changes: list[dict[str, Any]] | None = None) -> None:
        self.rows, self.changes = rows, changes
        self.asked: list[Any] = []

    async def query(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        self.asked.append((statement, parameters))
        if self.rows is None:
            raise EnvironmentProblem("a query failed", code="query-failed")
        return self.rows

    async def reference_changes(self, script: str) -> list[dict[str, Any]]:
        if self.changes is None:
            raise EnvironmentProblem("the reference's SQL failed", code="reference-sql", cause="syntax error")
        return self.changes

    def kinds(self) -> Mapping[str, Mapping[str, str]]:
        return {"orders": {"total": "number"}}

    def generated(self) -> Mapping[str, frozenset[str]]:
        return {"orders": frozenset({"id"})}


def ticket(reference: Reference | None = None) -> Ticket:
    return Ticket("T-1", "text", "all", {}, reference)


def update(user: str = "ag", **values: Any) -> dict[str, Any]:
    old = {"id": 1, "status": "open", "total": "10.50"}
    return {
        "database": "shop",
        "table": "orders",
        "op": "update",
        "key": {"id": 1},
        "old": old,
        "new": {**old, **values},
        "user": user,
    }


def insert(number: int, **values: Any) -> dict[str, Any]:
    new = {"id": number, **values}
    return {
        "database": "shop",
        "table": "orders",
        "op": "insert",
        "key": {"id": number},
        "old": {},
        "new": new,
        "user": "svc_api",
    }


def one(check: Check, context: GradeContext) -> CheckResult:
    (result,) = asyncio.run(grade([check], context))
    assert (result.name, result.kind) == (check.name, check.kind)
    return result


STATE = StateCheck(kind="state")
BOUNDARY = {"shop": {"orders": TableRule(update=("status",))}}


def state(changes: list[dict[str, Any]], expected: list[ExpectedChange] | None, **more: Any) -> CheckResult:
    databases = {"shop": ScriptedDatabase()}
    return one(STATE, GradeContext(ticket(), changes=changes, expected=expected, boundary=BOUNDARY, agents=frozenset({"ag"}), databases=databases, **more))  # fmt: skip


def test_the_state_check_says_what_differs() -> None:
    closed = [ExpectedChange("shop", "orders", "update", {"id": 1}, {"status": "closed"})]
    passed = state([update(status="closed", total="10.500")], closed)
    assert (passed.passed, passed.message) == (True, "1 intended")
    assert state([], []).passed
    missed = state([], closed)
    assert not missed.passed
    assert missed.message == '1 missing; orders.status {"id": 1}: update expected "closed", is null'
    wrong = state([update("svc_api", status="closed"), update("svc_api", status="closed", total="1")], closed)
    assert (wrong.passed, wrong.diff[0].class_, wrong.diff[0].actor) == (False, "collateral", "service:api")
    beside = state([update(total="1")], [])
    assert (beside.passed, beside.diff[0].class_, beside.diff[0].actor) == (False, "collateral", "agent")
    forbidden = state([update(total="1") | {"table": "payments"}], [])
    assert (forbidden.passed, forbidden.diff[0].class_, forbidden.diff[0].actor) == (False, "forbidden", "agent")


def test_changes_that_were_not_kept_fail_the_state() -> None:
    result = state([], [], changes_dropped=3)
    assert not result.passed
    assert "3 more changed rows" in result.message


def test_a_long_diff_is_cut_and_counted() -> None:
    result = state([insert(number) for number in range(MAX_DIFF + 100)], [])
    assert len(result.diff) == MAX_DIFF
    assert f"{MAX_DIFF + 100} collateral" in result.message


def test_no_reference_for_the_state_is_the_graders_failure() -> None:
    with pytest.raises(GraderProblem, match="T-1 has no reference"):
        state([], None)


@pytest.mark.parametrize(
    ("rows", "expect", "passed", "says"),
    [
        ([(True,)], True, True, "true"),
        ([(False,)], True, False, "expected true, got false"),
        ([(3,)], 3, True, "3"),
        ([("3",)], 3, True, "3"),
        ([(None,)], None, True, "null"),
        ([(1,)], True, False, "expected true, got 1"),
        ([], True, False, "returned 0 rows"),
        ([(True,), (True,)], True, False, "returned 2 rows"),
    ],
)
def test_the_sql_check(rows: list[tuple[Any, ...]], expect: Any, passed: bool, says: str) -> None:
    database = ScriptedDatabase(rows)
    check = SqlCheck(kind="sql", name="q", database="shop", query="SELECT :ticket", expect=expect)
    result = one(check, GradeContext(ticket(), databases={"shop": database}))
    assert (result.passed, says in result.message) == (passed, True)
    assert database.asked == [("SELECT :ticket", {"ticket": "T-1"})]


@pytest.mark.parametrize("databases", [{}, {"shop": ScriptedDatabase(None)}, {"shop": ScriptedDatabase([(1, 2)])}])
def test_a_query_that_does_not_work_is_the_graders_failure(databases: dict[str, Any]) -> None:
    check = SqlCheck(kind="sql", name="q", database="shop", query="SELECT 1")
    with pytest.raises(GraderProblem):
        one(check, GradeContext(ticket(), databases=databases))


RESULT = {"status": "done", "output": {"category": "billing", "amount": 12.50, "tags": ["a", {"b": None}], "1": "one"}}


@pytest.mark.parametrize(
    ("path", "rule", "passed", "says"),
    [
        ("output.category", {"equals": "billing"}, True, '"billing"'),
        ("output.category", {"equals": "Billing"}, False, 'expected "Billing", got "billing"'),
        ("output.amount", {"equals": "12.5"}, True, "12.5"),
        ("output.tags.0", {"equals": "a"}, True, "a"),
        ("output.tags.1.b", {"equals": None}, True, "null"),
        ("output.category", {}, False, "expected null"),
        ("output.1", {"equals": "one"}, True, "one"),
        ("output.tags.2", {"equals": "a"}, False, "has no output.tags.2"),
        ("output.tags.-1", {"equals": "a"}, False, "has no"),
        ("output.category.x", {"equals": "a"}, False, "has no"),
        ("output.category", {"matches": "bill.*"}, True, "billing"),
        ("output.category", {"matches": "ill"}, False, "does not match"),
        ("output.category", {"matches": "[a-z]+", "equals": "other"}, False, "expected"),
        ("output.amount", {"matches": ".*"}, False, "is not text"),
        ("output.category", {"reference": "kind"}, True, "billing"),
        ("output.category", {"reference": "deep.0"}, False, 'expected "x"'),
    ],
)
def test_the_output_check(path: str, rule: dict[str, Any], passed: bool, says: str) -> None:
    reference = Reference(output={"kind": "billing", "deep": ["x"]})
    result = one(OutputCheck(kind="output", name="o", path=path, **rule), GradeContext(ticket(reference), RESULT))
    assert (result.passed, says in result.message) == (passed, True), result.message


def test_no_result_fails_and_no_reference_is_the_graders_failure() -> None:
    by_reference = OutputCheck(kind="output", name="o", path="output.category", reference="kind")
    assert one(by_reference, GradeContext(ticket(Reference(output={"kind": "x"})))).message == "there is no result.json"
    for reference in (None, Reference()):
        with pytest.raises(GraderProblem, match="no output kind"):
            one(by_reference, GradeContext(ticket(reference), RESULT))
    with pytest.raises(GraderProblem, match="not a regular expression"):
        one(OutputCheck(kind="output", name="o", path="output.category", matches="("), GradeContext(ticket(), RESULT))


def test_a_value_cannot_keep_the_matcher_busy() -> None:
    check = OutputCheck(kind="output", name="o", path="x", matches="(a+)+b")
    started = time.monotonic()
    stuck = one(check, GradeContext(ticket(), {"x": "a" * 40}))
    assert (stuck.passed, "within" in stuck.message) == (False, True)
    assert time.monotonic() - started < 8
    assert one(check, GradeContext(ticket(), {"x": "aab"})).passed
    assert "too long" in one(check, GradeContext(ticket(), {"x": "a" * 10_001})).message


def test_the_command_check() -> None:
    check = CommandCheck(kind="command", name="c", command=("check",), directory=Path("/"))

    def run(code: int) -> CheckResult:
        async def command(asked: CommandCheck) -> tuple[int, str]:
            assert asked is check
            return code, "said\x1b[2J\n"

        return one(check, GradeContext(ticket(), run_command=command))

    assert (run(0).passed, run(1).passed) == (True, False)
    assert run(1).message == '"said\\u001b[2J"'
    with pytest.raises(GraderProblem, match="ended with 2"):
        run(2)
    with pytest.raises(GraderProblem, match="cannot be run"):
        one(check, GradeContext(ticket()))


def test_an_unforeseen_failure_is_the_graders() -> None:
    async def broken(_: CommandCheck) -> tuple[int, str]:
        raise KeyError("x")

    with pytest.raises(GraderProblem, match="check c"):
        one(
            CommandCheck(kind="command", name="c", command=("c",), directory=Path("/")),
            GradeContext(ticket(), run_command=broken),
        )


def test_a_reference_is_what_its_sql_changes() -> None:
    changes = [insert(9, status="new", total="1"), update("podctl", status="held"), update("podctl", status="closed")]
    found = asyncio.run(expected_changes(Reference(sql={"shop": "…"}), {"shop": ScriptedDatabase(changes=changes)}))
    assert found == [
        ExpectedChange("shop", "orders", "insert", {}, {"status": "new", "total": "1"}),
        ExpectedChange("shop", "orders", "update", {"id": 1}, {"status": "closed"}),
    ]


def test_a_reference_is_what_people_changed() -> None:
    def made(table: str, new: dict[str, Any], parents: dict[str, list[str]]) -> dict[str, Any]:
        head = {"database": "shop", "table": table, "op": "insert", "key": {"id": "1"}, "old": {}, "user": "people"}
        return {**head, "new": new, "new_parents": parents}

    changed = {**update("people", status="held"), "new_parents": {}}
    recorded = (
        made("orders", {"id": "7", "status": "new"}, {}),
        made("items", {"order_id": "7", "sku": "a"}, {"order_id": ["orders", "id"]}),
        made("notes", {"order": "7", "text": "b"}, {"order": ["orders", "number"]}),
        changed,
    )
    found = asyncio.run(expected_changes(Reference(recorded=recorded), {"shop": ScriptedDatabase()}))
    assert found == (
        ExpectedChange("shop", "orders", "insert", {}, {"status": "new"}),
        ExpectedChange("shop", "items", "insert", {}, {"sku": "a"}),  # the order's new id is the database's
        ExpectedChange("shop", "notes", "insert", {}, {"order": "7", "text": "b"}),
        ExpectedChange("shop", "orders", "update", {"id": 1}, {"status": "held"}),
    )
    with pytest.raises(GraderProblem, match="names database shop"):
        asyncio.run(expected_changes(Reference(recorded=recorded), {}))


def test_references_that_cannot_be_had_are_the_graders_failure() -> None:
    for databases in ({}, {"shop": ScriptedDatabase()}):
        with pytest.raises(GraderProblem):
            asyncio.run(expected_changes(Reference(sql={"shop": "…"}), databases))
    truncate = {"database": "shop", "table": "t", "op": "truncate", "key": {}, "old": {}, "new": {}, "user": "podctl"}
    with pytest.raises(GraderProblem, match="truncates t"):
        expected_from_changes([truncate], {})


def test_listed_references_are_taken_as_they_are() -> None:
    nothing = asyncio.run(expected_changes(Reference(changes=()), {}))
    assert nothing == ()
    assert asyncio.run(expected_changes(Reference(), {})) is None
    assert asyncio.run(expected_changes(None, {})) is None
