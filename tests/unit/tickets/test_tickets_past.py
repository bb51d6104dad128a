"""Which tickets can be worked on what captured seeds know of them."""

from __future__ import annotations

import json
from typing import Any

from podctl.tickets.past import TicketPast, read_past, with_past
from podctl.tickets.states import TableState
from podctl.tickets.types import ExpectedChange, Reference, Ticket

LINES = [
    {"schema": "public", "name": "orders", "columns": ["n", "id"], "key": ["id"]},
    {"row": ["a", "1"]},
    {"row": [None, "2"]},
]
CHANGE = {"table": "orders", "op": "delete", "key": {"id": "1"}, "old": {"id": "1"}, "new": {}, "new_parents": {}}


def known(resolution: str, why: str = "", changes: tuple[Any, ...] = ()) -> TicketPast:
    return read({"state": [[0, [0], [1]]], "resolution": resolution, "why": why, "changes": changes})


def read(entry: dict[str, Any]) -> TicketPast:
    return read_past(map(json.dumps, [*LINES, {"ticket": "t", **entry}]))["t"]


def worked(*pasts: TicketPast, reference: Reference | None = None, needed: bool = True) -> Ticket | str:
    """The ticket as an attempt gets it, or why it is left out."""
    ticket = Ticket("t", "text", "", {}, reference)
    found = with_past([ticket], {f"db{n}": {"t": past} for n, past in enumerate(pasts)}, needed)
    return found.tickets[0] if found.tickets else found.left_out["t"]


def test_a_state_and_a_reference_come_to_the_ticket() -> None:
    ticket = worked(known("found", changes=(CHANGE,)))
    assert isinstance(ticket, Ticket) and ticket.reference is not None
    assert ticket.states == {"db0": (TableState("public", "orders", ("n", "id"), ("id",), (("1",),), ((None, "2"),)),)}
    assert ticket.reference.recorded == ({**CHANGE, "database": "db0", "user": "people"},)


def test_databases_speak_together() -> None:
    both = worked(known("found", changes=(CHANGE,)), known("nothing", "no-change"))
    assert isinstance(both, Ticket) and both.reference is not None and len(both.reference.recorded or ()) == 1
    assert worked(known("found", changes=(CHANGE,)), known("ambiguous", "overlap")) == "overlap"
    assert worked(known("nothing", "no-change"), known("nothing", "no-change")) == "no-change"
    assert worked(known("found"), read({"problem": "gap"})) == "gap"


def test_a_reference_of_its_own_stays_and_one_is_not_always_needed() -> None:
    own = Reference(changes=(ExpectedChange("db0", "orders", "delete", {"id": 1}),))
    ticket = worked(known("ambiguous", "overlap"), reference=own)
    assert isinstance(ticket, Ticket) and ticket.reference == own and ticket.states
    answer = worked(known("ambiguous", "overlap"), reference=Reference(output={"a": 1}), needed=False)
    assert isinstance(answer, Ticket) and answer.reference == Reference(output={"a": 1})
    assert worked(known("")) == "no-change"


def test_what_is_left_out_is_counted_in_words() -> None:
    tickets = [Ticket(name, "", "", {}) for name in "abc"]
    found = with_past(tickets, {"db": {"a": known("found"), "b": read({"problem": "older"})}}, True)
    assert [ticket.id for ticket in found.tickets] == ["a"] and found.left_out == {"b": "older", "c": "not-there"}
    assert found.lines() == [
        "1 ticket left out: the seed was not captured for it",
        "1 ticket left out: it was opened before the history begins",
    ]
