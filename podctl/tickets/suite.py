"""The reviewed cases of a suite, or the tickets of a source, whichever a scenario names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from podctl.errors import SpecError
from podctl.spec.bundle import Bundle
from podctl.spec.problems import printable
from podctl.spec.suite import Case, FrozenRows, Suite
from podctl.spec.tickets import Tickets
from podctl.tickets.references import parse_reference
from podctl.tickets.sources import load_tickets
from podctl.tickets.states import DatabaseState, TableState
from podctl.tickets.types import Reference, Ticket

_ROW = ("database", "table", "op", "key", "old", "new")


def tickets_of(bundle: Bundle) -> list[Ticket]:
    """Every ticket of the source; or of a suite, in the order of names, each accepted case, whose stratum is its origin.

    Raises `SpecError`, also for a suite of which nothing was accepted.
    """
    if isinstance(bundle.tickets, Tickets):
        return load_tickets(bundle.tickets)
    return suite_tickets(bundle.tickets, bundle.cases or ())


def suite_tickets(suite: Suite, cases: tuple[Case, ...]) -> list[Ticket]:
    """As `tickets_of`."""
    accepted = [case for case in cases if case.review.status == "accepted"]
    if not accepted:
        waiting = sum(case.review.status == "proposed" for case in cases)
        raise SpecError(
            f"suite {suite.name} has no accepted case",
            code="suite-empty",
            cause=f"{waiting} are proposed, and nothing that nobody reviewed is run" if waiting else "it has no cases",
            unchanged="nothing was made",
            hint="podctl learn review SUITE, and podctl learn accept" if waiting else "podctl learn RUN proposes some",
        )
    return [case_ticket(case) for case in accepted]


def case_ticket(case: Case) -> Ticket:
    """Raises `SpecError` for a reference that is none."""
    ticket = case.ticket
    try:
        reference = _reference(case.reference)
    except ValueError as error:
        raise SpecError(
            f"case {case.name}: {printable(str(error))}", code="case-reference", hint="docs/scenarios.md has references"
        ) from None
    states = {database: _state(tables) for database, tables in case.state.items()}
    return Ticket(ticket.id, ticket.text, case.origin.kind, dict(ticket.fields), reference, states)


def _state(tables: Mapping[str, FrozenRows]) -> DatabaseState:
    found = []
    for shown, rows in tables.items():
        schema, _, name = shown.rpartition(".")
        found.append(TableState(schema or "public", name, rows.columns, rows.key, rows.gone, rows.rows, frozen=True))
    return tuple(found)


def _reference(value: Mapping[str, Any] | None) -> Reference | None:
    """As a source's, and ``recorded``: row changes that somebody made and a person confirmed. Raises ValueError."""
    if value is None:
        return None
    others = {name: said for name, said in value.items() if name != "recorded"}
    if "recorded" not in value:
        return parse_reference(others)
    if "changes" in others or "sql" in others:
        raise ValueError("the reference has recorded changes and others: keep one of them")
    parsed = parse_reference(others) if others else Reference()
    return replace(parsed or Reference(), recorded=tuple(_recorded(value["recorded"])))


def _recorded(changes: Any) -> list[Mapping[str, Any]]:
    if not isinstance(changes, list):
        raise ValueError("the reference.recorded: expected a list")
    found: list[Mapping[str, Any]] = []
    for index, change in enumerate(changes):
        if not isinstance(change, dict) or set(change) - {"new_parents"} != set(_ROW):
            raise ValueError(f"the reference.recorded[{index}]: expected {', '.join(_ROW)}")
        mappings = all(isinstance(change[name], dict) for name in ("key", "old", "new"))
        if change["op"] not in ("insert", "update", "delete") or not mappings:
            raise ValueError(f"the reference.recorded[{index}]: expected a row change")
        found.append({"new_parents": {}, **change, "user": "people"})
    return found


def written_reference(reference: Reference | None) -> dict[str, Any] | None:
    """As a case has it; what `case_ticket` reads."""
    if reference is None:
        return None
    value: dict[str, Any] = {}
    if reference.changes is not None:
        value["changes"] = [{name: said for name, said in asdict(one).items() if said != {}} for one in reference.changes]
    if reference.recorded is not None:
        value["recorded"] = [
            {name: one[name] for name in (*_ROW, "new_parents") if one.get(name) is not None} for one in reference.recorded
        ]
    if reference.sql:
        value["sql"] = dict(reference.sql)
    if reference.output:
        value["output"] = dict(reference.output)
    return value or None


def rows_of(state: DatabaseState) -> dict[str, FrozenRows]:
    """A state as a case has it."""
    return {
        one.shown: FrozenRows(key=one.key, columns=one.columns, gone=one.gone, rows=one.rows)
        for one in state
        if one.gone or one.rows
    }
