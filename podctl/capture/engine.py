"""What capturing needs of a source, whatever database it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from podctl.capture.distributions import Look, Sample
from podctl.capture.past import Kept, Row
from podctl.capture.rules import Rules
from podctl.capture.schema import Edge, Schema, Table
from podctl.capture.worklist import Rowid, Source
from podctl.spec.history import History


@dataclass(frozen=True)
class Facts:
    """``encoding`` is the database's own; ``extensions``: name -> version."""

    engine: str
    version: str
    encoding: str
    database: str
    locale: str = ""
    extensions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """Scripts for PostgreSQL to run before and after the rows; ``not_mirrored``: what they leave out -> why."""

    before: str
    after: str
    not_mirrored: Mapping[str, str] = field(default_factory=dict)


class Rows(Source, Protocol):
    """A source's rows; each method may raise `CaptureProblem`."""

    def named(self, table: str, columns: Sequence[str], values: Sequence[Sequence[str]]) -> Sequence[tuple[int, Rowid]]:
        """(position in ``values``, row) of every row that has these values, given as text."""
        ...

    def count(self, table: str) -> int: ...

    def chunks(
        self, table: str, rows: Sequence[Rowid] | None, nulled: Sequence[tuple[Edge, Sequence[Rowid]]], largest: int
    ) -> Iterator[tuple[bytes, int]]:
        """Some whole lines of COPY text in UTF-8 at a time, and how many; all rows when ``rows`` is None.

        References in ``nulled`` are empty in their rows. Raises `CaptureProblem` for a row of more than ``largest`` bytes.
        """
        ...


class PastRows(Protocol):
    """What a source has kept of its rows' past; each method may raise `CaptureProblem`."""

    def read(self, tables: Sequence[Table], since: int, limit: int) -> Kept:
        """Every change of these tables since the moment, in the order in which they were made."""
        ...

    def current(self, table: str, rows: Sequence[Rowid]) -> Mapping[Rowid, Row]:
        """Rows of today in the form that the history has them."""
        ...


@dataclass(frozen=True)
class Moment:
    """When a snapshot was taken. Sources with the same ``clock`` and ``state`` have theirs of one and the same moment.

    ``clock`` names what counts transactions for all of them (a PostgreSQL cluster), empty where nothing does; ``unix`` in seconds.
    """

    clock: str
    state: str
    unix: float


class Engine(Protocol):
    """A connected source: ``begin`` its snapshot, ``read`` what it consists of, and close it."""

    def begin(self) -> Moment:
        """Take a snapshot, anew when there is one. Raises `CaptureProblem`."""
        ...

    def read(self) -> None:
        """Read the schema as the snapshot has it; before that there is none of what follows. Raises `CaptureProblem`."""
        ...

    @property
    def schema(self) -> Schema: ...

    @property
    def facts(self) -> Facts: ...

    @property
    def rows(self) -> Rows: ...

    def secure(self, rules: Rules) -> None:
        """See that everything may be read and stays as it is while it is. Raises `CaptureProblem`."""
        ...

    def definition(self, rules: Rules, directory: Path, without_extensions: Sequence[str]) -> Definition:
        """``directory`` is for files on the way. Raises `CaptureProblem`."""
        ...

    def samples(self, table: str, columns: Mapping[str, Look], rows: Sequence[Rowid]) -> tuple[Sample, Sample] | None:
        """Some rows of the whole table and some of ``rows``, as `distributions.likeness` wants them; None where that costs too much."""
        ...

    def now(self) -> int:
        """The moment of the snapshot, in microseconds since the epoch."""
        ...

    def history(self, spec: History) -> PastRows:
        """Raises `SpecError` for a history that is not there, `CaptureProblem` for one that may not be read."""
        ...

    def refuse_changed(self, rules: Rules) -> None:
        """Raises `CaptureProblem` when the source has another schema than at the beginning."""
        ...

    def close(self) -> None: ...
