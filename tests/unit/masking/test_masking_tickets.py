"""Tickets masked beside their databases: every field by a rule, references by the rules of their tables."""

from __future__ import annotations

from typing import Any

import pytest
from masking import KEY, masked, masker, masking

from podctl.masking.problems import MaskingProblem
from podctl.masking.table import Watch
from podctl.tickets.masked import mask_tickets
from podctl.tickets.types import ExpectedChange, Reference, Ticket

TABLE = {"id": "id", "email": "email", "name": "name", "born": {"mask": "date", "subject": "id"}, "tier": "keep"}
RULES = {
    "fields": {
        "requester.name": "name",
        "requester.mail": "email",
        "number": "id",
        "comments.*.author": "name",
        "comments.*.body": "text",
        "opened": {"mask": "date", "subject": "number"},
        "priority": "keep",
        "extra": {"mask": "json", "paths": {"*": "text"}},
    }
}
FIELDS: dict[str, Any] = {
    "requester": {"name": "Zoeline Quartermaine", "mail": "ZOE@corp-raw.example"},
    "number": 4711,
    "comments": [{"author": "Bartosz Yilmazer", "body": "told Zoeline, see zoe@corp-raw.example"}],
    "opened": "2024-02-01T10:11:12",
    "priority": 2,
    "extra": {"zoe@corp-raw.example": "from bartosz yilmazer"},
}
TICKET = Ticket(
    "T-1",
    "Zoeline Quartermaine wrote to Yilmazer",
    "IT / zoe@corp-raw.example",
    FIELDS,
    Reference(
        changes=(ExpectedChange("shop", "people", "update", {"id": 4711}, {"email": "zoe@corp-raw.example", "tier": "gold"}),),
        output={"answer": "mail zoe@corp-raw.example", "n": 3},
    ),
)


def policy(**tickets: Any) -> Any:
    return masking(TABLE, tickets={**RULES, **tickets})


def test_everything_of_a_ticket_is_masked_and_joins_with_the_database() -> None:
    (ticket,) = mask_tickets([TICKET], policy(), KEY)
    email, name, number = (
        masked("email", "zoe@corp-raw.example")[0],
        masked("name", "Zoeline Quartermaine")[0],
        int(masked("id", "4711")[0]),
    )
    other = masked("name", "Bartosz Yilmazer")[0]
    assert ticket.id == "T-1" and ticket.stratum == f"IT / {email}"
    assert ticket.text == f"{name} wrote to {other.split()[1]}"
    assert ticket.fields["requester"] == {"name": name, "mail": email} and ticket.fields["number"] == number
    assert ticket.fields["comments"] == [{"author": other, "body": f"told {name.split()[0]}, see {email}"}]
    assert ticket.fields["extra"] == {email: f"from {other.lower()}"}
    assert (
        ticket.fields["priority"] == 2
        and ticket.fields["opened"].endswith("T10:11:12")
        and ticket.fields["opened"] != "2024-02-01T10:11:12"
    )
    assert ticket.reference is not None and ticket.reference.changes is not None
    (change,) = ticket.reference.changes
    assert (change.key, change.values) == ({"id": number}, {"email": email, "tier": "gold"})
    assert ticket.reference.output == {"answer": f"mail {email}", "n": 3}
    shown = repr(ticket).lower()
    assert not any(word in shown for word in ("zoe", "quartermaine", "bartosz", "yilmazer", "corp-raw", "4711"))


def test_names_that_a_capture_learned_and_those_of_other_tickets_are_found() -> None:
    watch = Watch()
    watch.knowledge.wanted = True
    masker({"name": "name"}, watch=watch)(b"Saoirse Przybylski\n")
    first = Ticket("1", "saoirse przybylski and Bartosz Yilmazer", "all", {})
    second = Ticket("2", "", "all", {"requester": {"name": "Bartosz Yilmazer"}})
    one, _ = mask_tickets([first, second], policy(), KEY, watch)
    assert one.text == f"{masked('name', 'saoirse przybylski')[0]} and {masked('name', 'Bartosz Yilmazer')[0]}"


def test_a_field_without_a_rule_stops_it_and_is_named() -> None:
    tickets = [
        TICKET,
        Ticket("T-2", "", "all", {"requester": {"phone": "+1 415 867 5309"}, "zoe@corp-raw.example": 1, "plain": None}),
    ]
    with pytest.raises(MaskingProblem) as caught:
        mask_tickets(tickets, policy(), KEY)
    assert caught.value.what == "no rule says how to mask fields of tickets: requester.phone, *"


@pytest.mark.parametrize(
    ("ticket", "rules", "said"),
    [
        (TICKET, None, "says nothing of tickets"),
        (TICKET, {"fields": {**RULES["fields"], "priority": {"mask": "keep", "proposed": "x"}}}, "nobody has confirmed"),
        (Ticket("1", "", "all", {}, Reference(sql={"shop": "update people"})), RULES, "is SQL"),
        (
            Ticket("1", "", "all", {}, Reference(changes=(ExpectedChange("shop", "people", "update", {"id": 1}, {"x": 1}),))),
            RULES,
            "shop.people.x",
        ),
        (
            Ticket(
                "1", "", "all", {}, Reference(changes=(ExpectedChange("shop", "people", "insert", {}, {"born": "2000-01-01"}),))
            ),
            RULES,
            "which is not known beside it",
        ),
    ],
)
def test_what_cannot_be_masked_stops_it(ticket: Ticket, rules: Any, said: str) -> None:
    with pytest.raises(MaskingProblem, match=said):
        mask_tickets([ticket], masking(TABLE, tickets=rules), KEY)


def test_ids_are_masked_where_asked_and_empty_values_stay() -> None:
    ticket = Ticket("INC0012345", "", "", {"requester": {"name": "", "mail": None}, "comments": []})
    (result,) = mask_tickets([ticket], policy(id="id", text="keep"), KEY)
    assert result.id == masked("id", "INC0012345")[0] and result.fields == ticket.fields and result.text == ""


def test_a_column_with_dots_in_its_name_has_a_rule_by_that_name() -> None:
    (ticket,) = mask_tickets([Ticket("1", "", "all", {"requester.name": "Zoeline Quartermaine"})], policy(), KEY)
    assert ticket.fields == {"requester.name": masked("name", "Zoeline Quartermaine")[0]}
