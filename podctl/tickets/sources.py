"""A source file's rows to tickets, keeping the reference and hidden columns from what the agent sees."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.models import Tickets
from podctl.spec.problems import printable
from podctl.tickets.fields import ABSENT, find, leads_somewhere, without
from podctl.tickets.references import kind, parse_reference
from podctl.tickets.rows import Row, problem, read_rows
from podctl.tickets.types import Ticket

MAX_SHOWN = 20
MAX_ID = 200
#: The stratum of every ticket when none is asked for, and of one whose value is empty.
ONE_STRATUM = "all"
NO_STRATUM = "(none)"


def load_tickets(spec: Tickets) -> list[Ticket]:
    """Every ticket of the source, in its order.

    ``fields`` is the row without the reference and the hidden columns. An empty text is ``""``; several
    stratum paths are joined by `` / ``. Raises `SpecError` naming the rows at fault, 20 at most.
    """
    path = spec.source
    rows = read_rows(path)
    _hidden_exist(spec, rows)
    tickets: list[Ticket] = []
    mistakes: list[str] = []
    seen: dict[str, int] = {}
    for row in rows:
        try:
            ticket = _ticket(spec, row)
            if ticket.id in seen:
                raise ValueError(f"the id {printable(ticket.id, 60)!r} was given before, in row {seen[ticket.id]}")
            seen[ticket.id] = row.number
            tickets.append(ticket)
        except ValueError as error:
            place = f"row {row.number} (line {row.line})" if row.line else f"row {row.number}"
            mistakes.append(problem(path, place, str(error)).what)
    if mistakes:
        raise _all(mistakes, path)
    return tickets


def _all(mistakes: list[str], path: Path) -> SpecError:
    if len(mistakes) == 1:
        return SpecError(mistakes[0], code="tickets-invalid")
    listed = mistakes[:MAX_SHOWN] + ([f"and {len(mistakes) - MAX_SHOWN} more"] if len(mistakes) > MAX_SHOWN else [])
    what = problem(path, "", f"{len(mistakes)} rows are wrong").what
    return SpecError(what, code="tickets-invalid", cause="\n".join(listed))


def _hidden_exist(spec: Tickets, rows: list[Row]) -> None:
    """A slip in ``hide`` or ``reference`` would show the agent what it must not see."""
    named = [("hide", path) for path in spec.hide]
    if spec.fields.reference is not None:
        named.append(("reference", spec.fields.reference))
    for role, path in named:
        if not any(leads_somewhere(row.values, path.split(".")) for row in rows):
            hint = _near(path, rows[0].values)
            raise problem(spec.source, "", f"{role} names {printable(path, 60)!r}, which no row has", hint)


def _ticket(spec: Tickets, row: Row) -> Ticket:
    fields = spec.fields
    hidden = list(spec.hide)
    reference = None
    if fields.reference is not None:
        hidden.append(fields.reference)
        found = find(row.values, fields.reference)
        reference = None if found is ABSENT else parse_reference(found)
    identity = str(row.number) if spec.id_from == "row" else _id(row.values, fields.id)
    text = "" if fields.text is None else _plain(row.values, fields.text, "text")
    return Ticket(identity, text, _stratum(row.values, fields.stratum), without(row.values, hidden), reference)


def _id(row: dict[str, Any], path: str) -> str:
    text = _plain(row, path, "id").strip()
    if not text:
        raise ValueError(f"the id, {path!r}, is empty")
    if len(text) > MAX_ID or not text.isprintable():
        raise ValueError(f"the id {printable(text, 60)!r} is longer than {MAX_ID} characters or has unprintable ones")
    return text


def _stratum(row: dict[str, Any], paths: str | tuple[str, ...] | None) -> str:
    if paths is None or paths == ():
        return ONE_STRATUM
    names = (paths,) if isinstance(paths, str) else paths
    return " / ".join(_plain(row, path, "stratum").strip() or NO_STRATUM for path in names)


def _plain(row: dict[str, Any], path: str, role: str) -> str:
    """The value as text; null is empty. Raises ValueError when there is none or it is a list or object."""
    value = find(row, path)
    if value is ABSENT:
        near = _near(path, row)
        raise ValueError(f"the {role}, {path!r}, is missing" + (f"; {near}" if near else ""))
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        raise ValueError(f"the {role}, {path!r}: expected text or a number, found {kind(value)}")
    return json.dumps(value)


def _near(path: str, row: dict[str, Any]) -> str:
    found = difflib.get_close_matches(path[:80], list(row)[:1000], n=1)
    names = ", ".join(list(row)[:12])
    return printable(f"did you mean {found[0]!r}?" if found else f"the columns are {names}")
