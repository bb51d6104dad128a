"""The one ticket type every source maps to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from podctl.tickets.states import DatabaseState


@dataclass(frozen=True)
class ExpectedChange:
    """One row change of a reference resolution.

    ``key`` finds the row (update, delete; in an insert it is part of the new row); ``values`` are the new values.
    An update's unlisted columns must keep their value.
    """

    database: str
    table: str
    op: Literal["insert", "update", "delete"]
    key: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """How the ticket should have been resolved.

    ``changes`` lists the row changes; an empty tuple means that nothing may change, and ``None``
    that the reference says nothing about state. ``sql`` (database -> script) is run on a fresh
    clone instead, and its changes are the reference. ``recorded`` are row changes that people made, whole rows as text:
    `podctl.tickets.past`. ``output`` is compared by output checks.
    """

    changes: tuple[ExpectedChange, ...] | None = None
    sql: dict[str, str] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    recorded: tuple[Mapping[str, Any], ...] | None = None


@dataclass(frozen=True)
class Ticket:
    """``fields`` is what the agent sees; ``reference`` it never sees. ``states``: database -> what it was opened on."""

    id: str
    text: str
    stratum: str
    fields: dict[str, Any]
    reference: Reference | None = None
    states: Mapping[str, DatabaseState] = field(default_factory=dict)
