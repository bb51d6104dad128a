"""What rows were at each moment, out of the changes that production kept of them. PURE.

Moments are microseconds since the epoch, in UTC. A row is its table's and its key's; one whose key changes is another row.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from podctl.capture.schema import Table


class Absent(enum.Enum):
    """The value of a column that the history does not have."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
Value = str | None | Absent
#: Of each stored column of its table, in their order.
Row = tuple[Value, ...]
#: Table and key.
RowKey = tuple[str, tuple[Value, ...]]
#: Whether a column of a table says nothing.
Ignored = Callable[[str, str], bool]


@dataclass(frozen=True, slots=True)
class Change:
    """``old`` to ``new``; None: there was, or is, no row. ``transaction`` is empty where nobody knows it."""

    order: int
    at: int
    row: RowKey
    old: Row | None
    new: Row | None
    actor: str = ""
    transaction: str = ""


@dataclass(frozen=True)
class Record:
    """A change as the source has it, before rows are told apart by their keys."""

    order: int
    at: int
    table: str
    old: Row | None
    new: Row | None
    actor: str = ""
    transaction: str = ""


@dataclass
class Kept:
    """What a source has kept: records in the order in which they were made, and from when on it has all of them.

    Records before ``first`` (an order) tell only whether something is missing between them and those that follow.
    ``truncated``: table -> moments at which all its rows went, unrecorded. ``notes``: what the source has and nothing is made of.
    """

    records: list[Record] = field(default_factory=list)
    since: int | None = None
    first: int = 0
    truncated: dict[str, list[int]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Gap:
    """Between the two moments nobody knows what the row was."""

    start: int
    end: int


class Past:
    """The changes of rows of tables with keys, each row's in their order."""

    def __init__(self, tables: Mapping[str, Table], kept: Kept, now: int, ignored: Ignored) -> None:
        self.tables, self.kept, self.now, self._ignored = tables, kept, now, ignored
        every = [change for record in _timed(kept.records) for change in self._changes(record)]
        self.changes = [change for change in every if change.order >= kept.first]
        #: The last change of a row before those.
        self.before = {change.row: change for change in every if change.order < kept.first}
        self.rows: dict[RowKey, list[Change]] = defaultdict(list)
        for change in self.changes:
            self.rows[change.row].append(change)
        self.gaps: dict[RowKey, list[Gap]] = {}
        self.keyless = {record.table for record in kept.records if not tables[record.table].key}

    def key(self, table: str, row: Row) -> RowKey:
        stored = [column.name for column in self.tables[table].stored]
        return table, tuple(row[stored.index(name)] for name in self.tables[table].key)

    def _changes(self, record: Record) -> Iterable[Change]:
        if not self.tables[record.table].key:
            return
        before = self.key(record.table, record.old) if record.old is not None else None
        after = self.key(record.table, record.new) if record.new is not None else None
        said = (record.actor, record.transaction)
        if before is not None and before == after:
            yield Change(record.order, record.at, before, record.old, record.new, *said)
            return
        if before is not None:
            yield Change(record.order, record.at, before, record.old, None, *said)
        if after is not None:
            yield Change(record.order, record.at, after, None, record.new, *said)

    def find_gaps(self, current: Mapping[RowKey, Row]) -> None:
        """Where one change does not begin with what the one before it left, or the row of today is not what the last one left."""
        for row in self.rows.keys() | self.before.keys():
            earlier = [self.before[row]] if row in self.before else []
            changes, gaps = [*earlier, *self.rows.get(row, ())], []
            for one, after in pairwise(changes):
                if not self._same(row[0], one.new, after.old):
                    gaps.append(Gap(one.at, after.at))
            if not self._same(row[0], changes[-1].new, current.get(row)):
                gaps.append(Gap(changes[-1].at, self.now))
            if gaps:
                self.gaps[row] = gaps

    def differing(self, table: str, one: Row, other: Row) -> list[int]:
        """Positions of columns that say something and are not the same; what is absent differs from nothing."""
        columns = self.tables[table].stored
        return [
            place
            for place, (left, right) in enumerate(zip(one, other, strict=True))
            if left != right and left is not ABSENT and right is not ABSENT and not self._ignored(table, columns[place].name)
        ]

    def ignores(self, table: str, place: int) -> bool:
        return self._ignored(table, self.tables[table].stored[place].name)

    def _same(self, table: str, one: Row | None, other: Row | None) -> bool:
        if one is None or other is None:
            return one is other
        return not self.differing(table, one, other)

    def at(self, row: RowKey, moment: int) -> Row | None:
        """What the row was; None: it was not there. Of a row without changes since, what the last change left."""
        changes = self.rows[row]
        following = bisect_right(changes, moment, key=lambda change: change.at)
        return changes[following].old if following < len(changes) else changes[-1].new

    def unknown(self, row: RowKey, moment: int) -> bool:
        return any(gap.start <= moment < gap.end for gap in self.gaps.get(row, ()))


def _timed(records: Sequence[Record]) -> list[Record]:
    """The records with the moments at which they can have been made.

    Triggers write down when a transaction began, or when a statement did. A change is not older than one that was written down
    before it, and a transaction is seen as a whole, when its last change is there.
    """
    latest, ends = 0, dict[str, int]()
    moments = []
    for record in records:
        latest = max(latest, record.at)
        moments.append(latest)
        if record.transaction:
            ends[record.transaction] = latest
    return [
        Record(one.order, ends.get(one.transaction, moment), one.table, one.old, one.new, one.actor, one.transaction)
        for one, moment in zip(records, moments, strict=True)
    ]
