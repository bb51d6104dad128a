"""What databases were when a ticket was opened, by what differs from how they are filled. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Values as PostgreSQL writes them as text; None is null.
Values = tuple[str | None, ...]


@dataclass(frozen=True)
class TableState:
    """``gone``: keys of the template's rows that are not there, or otherwise; ``rows``: what is there in their place, or besides.

    A row that was another is in both. ``rows`` are values of ``columns``, ``gone`` of ``key``.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    gone: tuple[Values, ...] = ()
    rows: tuple[Values, ...] = ()
    planted: bool = False  # honeytokens and attacks, which the ticket knows nothing of
    frozen: bool = False  # of a case: rows that are to go may be gone already
    appended: tuple[tuple[Values, tuple[str, str]], ...] = ()  # key -> text before and behind what the one column has

    @property
    def shown(self) -> str:
        return self.name if self.schema == "public" else f"{self.schema}.{self.name}"


#: A database's state at one moment, by what differs from its template.
DatabaseState = tuple[TableState, ...]


def with_rows(
    states: Mapping[str, DatabaseState], rows: Mapping[str, Iterable[tuple[str, str, Mapping[str, str | None]]]]
) -> dict[str, DatabaseState]:
    """``states`` with more rows in their databases; ``rows``: database -> schema, table, column -> value."""
    added = {
        database: tuple(
            TableState(schema, table, tuple(values), (), (), (tuple(values.values()),), planted=True)
            for schema, table, values in more
        )
        for database, more in rows.items()
    }
    return {name: states.get(name, ()) + added.get(name, ()) for name in {**states, **added}}
