"""Rows as they were before an attempt, what it left, and what never gets into a case."""

from __future__ import annotations

from typing import Any

import pytest
from test_learn_choosing import attempt

from podctl.evidence.records import Record
from podctl.learn.choosing import Chosen
from podctl.learn.freezing import as_done, frozen_state
from podctl.learn.proposing import Seen, case_of, cleaned, known, name_of
from podctl.spec.honeytokens import Honeytokens
from podctl.spec.models import StateCheck
from podctl.spec.suite import FrozenRows
from podctl.tickets.states import TableState
from podctl.tickets.types import Ticket


def change(
    old: dict[str, Any], new: dict[str, Any], key: dict[str, Any] | None = None, op: str = "update", **more: Any
) -> Record:
    found = {"id": (old or new).get("id")} if key is None else key
    data = {
        "database": "db",
        "table": "orders",
        "op": op,
        "key": found,
        "old": old,
        "new": new,
        "user": "agent",
        "statement": "",
    }
    return Record(0, "row.change", "agent", {**data, **more})


def test_a_row_is_frozen_as_it_was_before_its_first_change() -> None:
    records = [
        change({"id": 1, "open": True, "note": None}, {"id": 1, "open": False, "note": "a"}),
        change({"id": 1, "open": False, "note": "a"}, {"id": 1, "open": False, "note": "b"}),
        change({}, {"id": 9, "open": True, "note": None}, op="insert"),
        change({"id": 9, "open": True, "note": None}, {"id": 9, "open": True, "note": "its own"}),
        change({"id": 2, "open": False, "note": "n"}, {}, op="delete", text={"old": {"note": "n  "}, "new": {}}),
    ]
    assert frozen_state({}, records) == {
        "db": {
            "orders": FrozenRows(
                key=("id",), columns=("id", "open", "note"), gone=(("1",), ("2",)), rows=(("1", "t", None), ("2", "f", "n  "))
            )
        }
    }


def test_what_the_seed_knows_of_the_past_comes_first() -> None:
    past = TableState("public", "orders", ("note", "id"), ("id",), (("1",),), (("then", "1"),))
    later = [change({"id": 1, "note": "now"}, {"id": 1, "note": "x"}), change({"id": 2, "note": "now"}, {"id": 2, "note": "x"})]
    state = frozen_state({"db": (past,)}, later)
    assert state["db"]["orders"].rows == (("then", "1"), ("now", "2"))


def test_rows_without_a_key_and_rows_with_a_honeytoken_are_not_frozen() -> None:
    loose = {"a": 1}
    token = "aB3" * 8
    planted = Honeytokens(rows={"db": {"orders": {"id": 99, "note": "key {honeytoken}"}}})
    records = [change(loose, {"a": 2}, key=loose), change({"id": 99, "note": f"key {token}"}, {"id": 99, "note": "seen"})]
    assert frozen_state({}, records, planted) == {}
    assert token in str(frozen_state({}, records))  # it is the rule that keeps it out


def test_what_was_done_is_the_net_change_without_what_does_not_count() -> None:
    check = StateCheck(kind="state", ignore=("*.updated_at",), ignore_tables=("audit",))
    records = [
        change({"id": 1, "city": "York", "updated_at": "1"}, {"id": 1, "city": "Hull", "updated_at": "2"}),
        change({"id": 2, "city": "York", "updated_at": "1"}, {"id": 2, "city": "York", "updated_at": "2"}),
        change({"id": 3}, {}, op="delete"),
        change({}, {"id": 4}, op="insert"),
        change({"id": 4}, {}, op="delete"),
        change({}, {"id": 5}, op="insert", table="audit"),
    ]
    assert as_done(records, [check]) == [
        {
            "database": "db",
            "table": "orders",
            "op": "update",
            "key": {"id": 1},
            "old": {"id": 1, "city": "York"},
            "new": {"id": 1, "city": "Hull"},
        },
        {"database": "db", "table": "orders", "op": "delete", "key": {"id": 3}, "old": {"id": 3}, "new": {}},
    ]


@pytest.mark.parametrize(
    "record",
    [change({}, {}, op="truncate"), Record(0, "log", "podctl", {"dropped_changes": 3})],
)
def test_what_nobody_knows_whole_is_no_reference(record: Record) -> None:
    with pytest.raises(ValueError, match=r"nobody knows|more rows changed"):
        as_done([record])


SECRETS = [
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_abcdefghijklmnopqrstuvwx",
    "sk-abcdefghijklmnopqrst",
    "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    "eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_keys_whose_form_is_known_are_taken_out_of_all_that_is_written(secret: str) -> None:
    ticket = Ticket("T-1", f"use {secret} please", "q", {"deep": [{"note": f"x {secret}"}]})
    case = case_of(Chosen("T-1", "failed", "w", attempt(), "f" * 64), ticket, {}, Seen("now", "ana"))
    assert secret.split("\n")[0] not in case.model_dump_json()
    assert case.ticket.text == "use podctl-replaced please"


def test_passwords_in_urls_go_and_what_only_looks_random_stays() -> None:
    assert cleaned({"a": "postgresql://u:hunter2@db/x"}) == {"a": "postgresql://u:podctl-replaced@db/x"}
    uuid = "5d9c68c6-c50e-4d9a-9a2a-6f4b7b0c9d11"
    assert cleaned([uuid]) == [uuid]


def test_a_file_has_a_name_of_its_own_whatever_the_ticket_is_called() -> None:
    names = [name_of(ticket) for ticket in ("T-1", "../../etc/passwd", "a/b", "a-b", "", "..", "é" * 300)]
    assert names[0] == "T-1"
    assert len(set(names)) == len(names)
    assert not any("/" in name or name.startswith(".") or len(name) > 100 for name in names)


def test_a_case_is_known_by_its_ticket_and_by_how_it_failed() -> None:
    def case(ticket: str, text: str, failure: str = "f", state: Any = None) -> Any:
        chosen = Chosen(ticket, "failed", "w", attempt(), failure * 64)
        return case_of(chosen, Ticket(ticket, text, "q", {}), state or {}, Seen("now", "ana", run="r"))

    first = case("T-1", "where is order 1")
    same = known(case("T-1", "where is order 1"), [first])
    assert same is not None and (same.same, same.changed) == (True, False)
    changed = known(case("T-1", "where is order 1", state={"db": {"orders": FrozenRows(key=("id",))}}), [first])
    assert changed is not None and (changed.same, changed.changed) == (True, True)
    like = known(case("T-2", "where is order 2"), [first])
    assert like is not None and not like.same
    assert known(case("T-2", "cancel all of my subscriptions"), [first]) is None
    assert known(case("T-2", "where is order 2", "e"), [first]) is None


def test_a_state_of_very_many_rows_is_no_case() -> None:
    rows = FrozenRows(key=("id",), columns=("id",), gone=tuple((str(n),) for n in range(2001)))
    with pytest.raises(ValueError, match="2,001 rows"):
        case_of(Chosen("T", "failed", "w", attempt(), ""), Ticket("T", "", "q", {}), {"db": {"orders": rows}}, Seen("n", "b"))
