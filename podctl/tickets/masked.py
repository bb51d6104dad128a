"""Tickets masked by the same policy and key as the databases that they speak of, so that what joins there joins in them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from podctl.masking.documents import DocumentMask
from podctl.masking.keys import MaskingKey
from podctl.masking.problems import MaskingProblem
from podctl.masking.records import RecordMasks, names_in
from podctl.masking.watch import Watch
from podctl.spec.masking import Masking, TicketRules
from podctl.spec.problems import printable
from podctl.spec.tickets import TicketFields
from podctl.tickets.fields import ABSENT, find
from podctl.tickets.types import ExpectedChange, Reference, Ticket

_SHOWN = 20


def mask_tickets(tickets: Iterable[Ticket], policy: Masking, key: MaskingKey, watch: Watch | None = None) -> list[Ticket]:
    """Every ticket masked: id, text, fields by path, stratum, and the reference by the rules of the tables it changes.

    ``watch``: of the capture of those databases; names that it learned, and those in any of the tickets' fields, are
    masked in every text. Raises `MaskingProblem` for tickets without rules, fields that no rule names, and references that
    are SQL scripts.
    """
    rules = policy.tickets
    if rules is None:
        raise MaskingProblem(
            f"the masking {policy.name} says nothing of tickets",
            code="masking-tickets",
            unchanged="nothing was masked",
            hint="tickets: with the rules of their fields",
        )
    waiting = list(tickets)
    masks = RecordMasks(policy, key, watch or Watch())
    _refuse_unclassified(waiting, masks, rules)
    for ticket in waiting:  # before any text is masked: a name in one ticket may stand in another's text
        for rule, value in _fields(ticket, masks, rules).leaves(ticket.fields):
            masks.watch.learn(rule.mask, [value])
    return [_masked(ticket, masks, rules) for ticket in waiting]


def _fields(ticket: Ticket, masks: RecordMasks, rules: TicketRules) -> DocumentMask:
    return masks.document(rules.fields, "tickets", lambda path: _found(ticket, path))


def _found(ticket: Ticket, path: str) -> Any:
    found = find(ticket.fields, path)
    return None if found is ABSENT else found


def _refuse_unclassified(tickets: list[Ticket], masks: RecordMasks, rules: TicketRules) -> None:
    proposed = [path for path, rule in rules.fields.items() if rule.proposed is not None]
    missing = dict.fromkeys(path for ticket in tickets for path in _fields(ticket, masks, rules).without_rule(ticket.fields))
    for names, what, hint in (
        (list(missing), "no rule says how to mask fields of tickets:", "name each under tickets.fields; keep lets it through"),
        (proposed, "nobody has confirmed the rules of fields of tickets:", "look at each, and remove its line proposed"),
    ):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise MaskingProblem(
                f"{what} {', '.join(printable(name, 80) for name in names[:_SHOWN])}{more}",
                code="masking-unclassified",
                hint=hint,
                unchanged="nothing was masked",
            )


def _masked(ticket: Ticket, masks: RecordMasks, rules: TicketRules) -> Ticket:
    fields = _fields(ticket, masks, rules)
    beside = names_in(ticket.fields, fields)
    return replace(
        ticket,
        id=masks.ids(ticket.id) if rules.id == "id" else ticket.id,
        text=masks.text.masked(ticket.text, beside) if rules.text == "text" else ticket.text,
        stratum=masks.text.masked(ticket.stratum, beside),
        fields=fields.value(ticket.fields),
        reference=None if ticket.reference is None else _reference(ticket.reference, masks),
    )


def _reference(reference: Reference, masks: RecordMasks) -> Reference:
    if reference.sql:
        raise MaskingProblem(
            "a reference resolution is SQL, in which values cannot be told from names",
            code="masking-tickets",
            unchanged="nothing was masked",
            hint="give references as changes",
        )
    changes = reference.changes and tuple(_change(change, masks) for change in reference.changes)
    return replace(reference, changes=changes, output=_texts(reference.output, masks))


def _change(change: ExpectedChange, masks: RecordMasks) -> ExpectedChange:
    whole = {**change.key, **change.values}
    return replace(
        change,
        key=masks.row(change.database, change.table, change.key, whole),
        values=masks.row(change.database, change.table, change.values, whole),
    )


def _texts(value: Any, masks: RecordMasks) -> Any:
    """Every text in a value, as text is masked; its keys are the output's own."""
    if isinstance(value, dict):
        return {key: _texts(item, masks) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item, masks) for item in value]
    return masks.text.masked(value) if isinstance(value, str) else value


def plain(fields: TicketFields) -> TicketFields:
    """The fields of rows in which a text of several parts, and a stratum of groups, stand as what they come to."""
    text = fields.text if fields.text is None or isinstance(fields.text, str) else "ticket_text"
    stratum = fields.stratum if fields.stratum is None or isinstance(fields.stratum, str) else "ticket_stratum"
    return TicketFields(id=fields.id, text=text, stratum=stratum, reference=fields.reference)


def as_row(ticket: Ticket, fields: TicketFields) -> dict[str, Any]:
    """A row of a source from which the ticket is read again by ``fields``, which are `plain`."""
    row = copy.deepcopy(ticket.fields)
    _put(row, fields.id, ticket.id)
    if isinstance(fields.text, str):
        _put(row, fields.text, ticket.text)
    if isinstance(fields.stratum, str) and find(row, fields.stratum) is ABSENT:
        _put(row, fields.stratum, ticket.stratum)
    if fields.reference is not None and ticket.reference is not None:
        reference = ticket.reference
        value: dict[str, Any] = {"output": reference.output} if reference.output else {}
        if reference.changes is not None:
            value["changes"] = [_written(change) for change in reference.changes]
        _put(row, fields.reference, value)
    return row


def _written(change: ExpectedChange) -> dict[str, Any]:
    """Without what this kind of change does not have."""
    return {name: value for name, value in asdict(change).items() if value != {}}


def _put(row: dict[str, Any], path: str, value: Any) -> None:
    """Where `find` looks first: under the path as it is written. A number that spells the text stays one."""
    there = find(row, path)
    if str(there) != value and not (value == "" and there is None):
        row[path] = value
