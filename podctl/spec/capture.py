"""What a capture takes of a live database, as users write it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from podctl.spec.base import Bytes, Model, Name, Seconds
from podctl.spec.history import History
from podctl.spec.tickets import Sample

#: ``table`` of public or ``schema.table``; ``*`` and ``?`` where a pattern is taken.
TableName = Annotated[str, Field(min_length=1, max_length=200)]
Count = Annotated[int, Field(ge=1, le=100_000_000)]


class CaptureSource(Model):
    """Where the database is. A password is never written here: ``password_env``, ``~/.pgpass`` or a service file have it."""

    url: str = Field(
        description="postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:///FILE, without a password"
    )
    password_env: str | None = Field(None, description="environment variable that holds the password")
    lock_timeout: Seconds = Field(5.0, description="how long to wait for a lock that somebody else holds")
    statement_timeout: Seconds = Field(600.0, description="the longest that one query may take")
    encoding: str | None = Field(None, description="what a SQL_ASCII database really holds, e.g. latin-1")


class NamedRows(Model):
    """How a ticket names rows: the value at ``path``, or what ``match`` finds in it, is in ``column`` of ``table``."""

    path: str = Field(description="dotted path into a ticket; through a list, into each of its entries")
    table: TableName
    column: str
    match: str | None = Field(None, description="a regular expression; its first group, or all of it, is a value")


class CaptureTickets(Model):
    file: Path = Field(description="a Tickets file")
    sample: Sample = Sample()
    rows: tuple[NamedRows, ...] = ()
    references: bool = Field(True, description="rows that reference resolutions change are taken too")
    unmasked: str = Field("", description="why the tickets need no masking; it stands in the seed")


class Children(Model):
    """Rows of ``table`` that refer to a taken row of ``of``; none are taken without being declared."""

    table: TableName
    of: TableName
    columns: tuple[str, ...] = Field((), description="the referring columns, where several references lead to the same table")
    cap: Count = Field(100, description="rows taken for each row of `of`")


class DeclaredEdge(Model):
    """A reference that the database does not know of; with ``when``, one only of rows that have these values."""

    table: TableName
    columns: tuple[str, ...] = Field(min_length=1)
    of: TableName
    to: tuple[str, ...] = Field(min_length=1)
    when: dict[str, str] = Field(default_factory=dict, description="column -> value, as text: polymorphic references")


class Parents(Model):
    """Parents that a row cannot do without are always taken; others up to ``depth`` such steps away from the tickets."""

    depth: Annotated[int, Field(ge=0, le=100)] = 1
    follow: dict[str, Literal["always", "never"]] = Field(
        default_factory=dict, description="table.column of a reference that may be empty -> whatever its depth"
    )


class Budget(Model):
    """More rows than this are not taken: the capture stops, and says by which references they came."""

    rows: Count = 1_000_000
    tables: dict[TableName, Count] = Field(default_factory=dict)


class Capture(Model):
    """What to take of one live database for the tickets at hand."""

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Capture"]
    name: Name = Field(description="the database's name in the masking policy")
    source: CaptureSource
    tickets: CaptureTickets | None = None
    parents: Parents = Parents()
    children: tuple[Children, ...] = ()
    edges: tuple[DeclaredEdge, ...] = ()
    whole: tuple[TableName, ...] = Field((), description="tables, or patterns, taken with all their rows")
    empty: tuple[TableName, ...] = Field((), description="tables, or patterns, of which no row is taken")
    leave_out: tuple[TableName, ...] = Field((), description="tables, or patterns, that the copy does not have at all")
    leave_out_extensions: tuple[str, ...] = Field((), description="extensions that the copy does without")
    budget: Budget = Budget()
    value_bytes: Bytes = Field(64 * 2**20, description="a row larger than this stops the capture")
    history: History | None = Field(None, description="what rows were when tickets were opened, and how people resolved them")
    masking: Path | None = Field(None, description="a Masking file; required unless `unmasked` says why none is needed")
    unmasked: str = Field("", description="why nothing in this database has to be masked; it stands in the seed")
