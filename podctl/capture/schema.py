"""Tables and references of a source, whatever its engine. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Follow = Literal["required", "depth", "always", "never"]


@dataclass(frozen=True)
class Column:
    """``type`` as PostgreSQL writes it, of a domain the type beneath it; ``computed``: nobody may give its values."""

    name: str
    type: str
    nullable: bool = True
    computed: bool = False
    unique: bool = False


@dataclass(frozen=True)
class Table:
    """``rows`` is the engine's estimate, None when it has none; ``bytes`` the size on disk without indexes.

    ``key``: columns that tell rows apart, empty when there are none; ``id`` is the engine's own (PostgreSQL: the oid).
    """

    schema: str
    name: str
    shown: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rows: int | None = None
    bytes: int = 0
    id: int = 0

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def stored(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.computed)


@dataclass(frozen=True)
class Edge:
    """A reference: rows of ``child`` name by ``columns`` a row of ``parent`` by its columns ``to``.

    ``name`` is the constraint's, empty for a declared one. ``nulls``: the columns that are emptied when the parent is not
    taken; empty when that cannot be, and then the parent is ``required``. ``child_id``, ``parent_id``: the relations that the
    constraint is between, which may be partitions of the tables. ``operators``: schema-qualified equality, one a column.
    ``trusted``: the source promises that each parent exists; ``checked``: the copy will be asked to.
    """

    child: str
    columns: tuple[str, ...]
    parent: str
    to: tuple[str, ...]
    name: str = ""
    follow: Follow = "depth"
    nulls: tuple[str, ...] = ()
    when: tuple[tuple[str, str], ...] = ()
    child_id: int = 0
    parent_id: int = 0
    constraint_id: int = 0
    operators: tuple[str, ...] = ()
    indexed: bool = False  # the child's columns lead an index
    to_indexed: bool = True
    trusted: bool = True
    checked: bool = True

    @property
    def label(self) -> str:
        """``orders.user_id``."""
        columns = self.columns[0] if len(self.columns) == 1 else f"({', '.join(self.columns)})"
        only = "".join(f" when {column} = {value}" for column, value in self.when)
        return f"{self.child}.{columns}{only}"

    @property
    def declared(self) -> bool:
        return not self.name


@dataclass(frozen=True)
class Schema:
    tables: Mapping[str, Table]
    edges: tuple[Edge, ...] = ()
    #: What the copy goes without, as the engine names it, and why.
    not_mirrored: Mapping[str, str] = field(default_factory=dict)

    def of_child(self, table: str) -> Iterable[Edge]:
        return (edge for edge in self.edges if edge.child == table)
