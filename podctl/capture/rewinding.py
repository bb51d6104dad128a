"""What each ticket was opened on and what its resolution changed, of the rows that a capture takes.

The seed holds rows as they are today. For each ticket come with it the rows that were others when it was opened: rows made since are to
go, rows removed since are to come, so that a pod begins with what the ticket was opened on.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from podctl.capture.engine import Engine
from podctl.capture.masked import Masker
from podctl.capture.moments import moments
from podctl.capture.named import by_paths
from podctl.capture.past import ABSENT, Past, Row, RowKey
from podctl.capture.problems import CaptureProblem
from podctl.capture.resolutions import Moments, NetChange, Outcome, resolutions
from podctl.capture.rules import Rules
from podctl.capture.schema import Edge, Table
from podctl.capture.worklist import Rowid, Subset, subset
from podctl.masking.copytext import NULL, escape, unescape
from podctl.spec.capture import Capture
from podctl.spec.history import History
from podctl.tickets.types import Ticket

_BATCH = 10_000
Texts = tuple[str, ...]
#: Rows of a table by what they hold in some columns: table, columns, values.
Wanted = tuple[str, tuple[str, ...], Texts]


@dataclass
class Rewound:
    """``problem``: why nobody knows what it was opened on. ``then``: row -> what it was, of the rows that were others."""

    moments: Moments
    resolution: Outcome | None = None
    problem: Outcome | None = None
    then: dict[RowKey, Row | None] = field(default_factory=dict)


class Rewinding:
    """One capture's history. Raises `SpecError`, `CaptureProblem`."""

    def __init__(
        self, spec: Capture, engine: Engine, rules: Rules, everybody: Sequence[Ticket], drawn: Sequence[Ticket]
    ) -> None:
        assert spec.history is not None and spec.tickets is not None
        self._history: History = spec.history
        self._engine, self._rules = engine, rules
        self._named = {one.table.removeprefix("public.") for one in spec.tickets.rows}
        self._source = engine.history(spec.history)
        known, unreadable = moments(everybody, spec.history)
        wanted = {ticket.id for ticket in drawn}
        mine = [one for one in known if one.ticket in wanted]
        self.tickets = {one.ticket: Rewound(one) for one in mine}
        for ticket in drawn:
            if ticket.id in unreadable:
                missing = Moments(ticket.id, 0, None)
                self.tickets[ticket.id] = Rewound(missing, problem=Outcome("unknown", "time", detail=unreadable[ticket.id]))
        tables = [table for name, table in sorted(rules.tables.items()) if name not in rules.empty and table.stored]
        kept = self._source.read(tables, min((one.opened for one in mine), default=engine.now()), spec.history.changes)
        now = max([engine.now(), *(record.at for record in kept.records)])
        self.past = Past({table.shown: table for table in tables}, kept, now, self._ignored)
        self.notes = [*kept.notes, *self._keyless()]
        self._today: dict[RowKey, tuple[Rowid, Row]] = {}
        self._keys: dict[Rowid, RowKey] = {}
        self._indexes: dict[tuple[str, tuple[str, ...]], dict[Texts, set[RowKey]]] = {}
        self._found: dict[Wanted, tuple[Rowid, ...]] = {}
        self._relevant: set[RowKey] = set()
        self._read_today()
        self.past.find_gaps({row: today for row, (_, today) in self._today.items()})
        named = self._own_rows(everybody, spec)
        if spec.history.resolution is not None:
            outcomes = resolutions(self.past, known, named, spec.history.resolution)
            for one in self.tickets.values():
                one.resolution = outcomes.get(one.moments.ticket, one.problem)
        self.own = {row for ticket in self.tickets for row in named.get(ticket, ())} | {
            change.row for one in self.tickets.values() if one.resolution for change in one.resolution.changes
        }
        #: What resolutions leave of rows.
        self._written: dict[RowKey, list[Row]] = defaultdict(list)
        for change in (change for one in self.tickets.values() if one.resolution for change in one.resolution.changes):
            if change.new is not None:
                self._written[change.row].append(change.new)
        self.masked: dict[tuple[str, Row], tuple[str | None, ...]] = {}

    def _ignored(self, table: str, column: str) -> bool:
        return any(fnmatchcase(f"{table}.{column}", pattern.removeprefix("public.")) for pattern in self._history.ignore)

    def _keyless(self) -> list[str]:
        return [f"{table} has no key, so its rows stay as they are today" for table in sorted(self.past.keyless)]

    # ---- rows -------------------------------------------------------------------------

    def _table(self, name: str) -> Table:
        return self.past.tables[name]

    def _picked(self, table: str, row: Row, columns: Sequence[str]) -> Texts | None:
        """What the row holds in the columns; None when it is null, or unknown, in one of them."""
        stored = [column.name for column in self._table(table).stored]
        if not set(columns) <= set(stored):
            return None
        values = [row[stored.index(name)] for name in columns]
        return tuple(str(value) for value in values) if not {None, ABSENT} & set(values) else None

    def _read_today(self) -> None:
        by_table: dict[str, list[RowKey]] = defaultdict(list)
        for row in self.past.rows.keys() | self.past.before.keys():
            if ABSENT in row[1]:
                raise CaptureProblem(
                    f"the history of {row[0]} has rows without their key ({', '.join(self._table(row[0]).key)})",
                    code="history-columns",
                    unchanged="nothing was made",
                    hint="a key that is not recorded tells no rows apart; leave_out: the table, or capture without history:",
                )
            by_table[row[0]].append(row)
        for table, rows in by_table.items():
            self._rows_with(table, self._table(table).key, [tuple(map(str, row[1])) for row in rows])

    def _rows_with(self, table: str, columns: tuple[str, ...], values: Iterable[Texts]) -> None:
        """Find rows of today that hold these values, and remember them."""
        new = [one for one in dict.fromkeys(values) if (table, columns, one) not in self._found]
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            places: dict[int, list[Rowid]] = defaultdict(list)
            for position, rowid in self._engine.rows.named(table, columns, batch):
                places[position].append(rowid)
            unseen = {rowid for rowids in places.values() for rowid in rowids if rowid not in self._keys}
            if self._table(table).key:
                for rowid, row in self._source.current(table, sorted(unseen)).items():
                    self._keys[rowid] = self.past.key(table, row)
                    self._today[self._keys[rowid]] = (rowid, row)
            for position, value in enumerate(batch):
                self._found[table, columns, value] = tuple(places.get(position, ()))

    def _once(self, table: str, columns: tuple[str, ...]) -> Mapping[Texts, set[RowKey]]:
        """Rows of the history by what they ever held in the columns."""
        index = self._indexes.get((table, columns))
        if index is None:
            index = self._indexes[table, columns] = defaultdict(set)
            for row, changes in self.past.rows.items():
                if row[0] == table:
                    for image in _images(changes):
                        if (value := self._picked(table, image, columns)) is not None:
                            index[value].add(row)
        return index

    def _rows_ever_with(self, table: str, columns: tuple[str, ...], values: Iterable[Texts]) -> Iterator[tuple[Texts, RowKey]]:
        wanted = list(dict.fromkeys(values))
        self._rows_with(table, columns, wanted)
        once = self._once(table, columns)
        for value in wanted:
            today = {self._keys[rowid] for rowid in self._found[table, columns, value] if rowid in self._keys}
            for row in today | once.get(value, set()):
                yield value, row

    def _images(self, row: RowKey) -> list[Row]:
        """Everything that the row is known to have been."""
        today = [self._today[row][1]] if row in self._today else []
        return [*today, *_images(self.past.rows.get(row, ()))]

    def _own_rows(self, tickets: Sequence[Ticket], spec: Capture) -> dict[str, set[RowKey]]:
        """Ticket -> the rows it names, and their declared children."""
        own: dict[str, set[RowKey]] = defaultdict(set)
        fresh = self._named_rows(tickets, spec)
        while fresh:
            for row, names in fresh.items():
                for name in names:
                    own[name].add(row)
            following: dict[RowKey, set[str]] = defaultdict(set)
            for edge, _ in self._rules.children:
                if edge.child in self.past.tables:
                    for row, names in self._children(edge, fresh):
                        following[row] |= {name for name in names if row not in own[name]}
            fresh = {row: names for row, names in following.items() if names}
        return own

    def _named_rows(self, tickets: Sequence[Ticket], spec: Capture) -> dict[RowKey, set[str]]:
        found: dict[RowKey, set[str]] = defaultdict(set)
        for naming in by_paths(tickets, spec.tickets.rows if spec.tickets else ()):
            table = naming.table.removeprefix("public.")
            if table not in self.past.tables:
                continue
            column = self._table(table).column(naming.columns[0])
            by_value: dict[Texts, list[str]] = defaultdict(list)
            for (value,), names in naming.values.items():
                by_value[(_canonical(value, column.type if column else ""),)] += names
            for values, row in self._rows_ever_with(table, naming.columns, by_value):
                found[row].update(by_value[values])
        return found

    def _children(self, edge: Edge, rows: Mapping[RowKey, set[str]]) -> Iterator[tuple[RowKey, set[str]]]:
        """Rows that ever referred to one of these, and whose they are by that."""
        parents: dict[Texts, set[str]] = defaultdict(set)
        for row, names in rows.items():
            for image in self._images(row) if row[0] == edge.parent else ():
                if (value := self._picked(edge.parent, image, edge.to)) is not None:
                    parents[value] |= names
        for value, row in self._rows_ever_with(edge.child, edge.columns, parents):
            if any(self._holds(edge, image) for image in self._images(row)):
                yield row, parents[value]

    def _holds(self, edge: Edge, image: Row) -> bool:
        """Whether a polymorphic reference is one of this row."""
        return all(self._picked(edge.child, image, (column,)) == (value,) for column, value in edge.when)

    # ---- which rows are taken ---------------------------------------------------------

    def subset(self, named: Mapping[str, Iterable[Rowid]]) -> Subset:
        """What is taken of today's rows: what the tickets need today, and what they needed when they were opened.

        Raises `CaptureProblem` when the budget does not suffice.
        """
        extra: dict[str, set[Rowid]] = defaultdict(set, {table: set(rows) for table, rows in named.items()})
        # Of a table that is taken whole, rows that were removed since belong to it as well.
        gone = {row for row in self.past.rows if row[0] in self._rules.whole and row not in self._today}
        for row in self.own:
            if row in self._today:
                extra[row[0]].add(self._today[row][0])
            elif row in self.past.rows:
                gone.add(row)
        while True:
            found = subset(self._rules, self._engine.rows, extra)
            taken = {table: found.has(table) for table in self.past.tables}
            self._relevant = gone | {row for row in self.past.rows if row in self._today and taken[row[0]](self._today[row][0])}
            before = (sum(map(len, extra.values())), len(gone))
            for edge, value, needed in self._references():
                rowids = self._found[edge.parent, edge.to, value]
                if not needed:
                    continue
                extra[edge.parent].update(one for one in rowids if not taken[edge.parent](one))
                gone |= {row for row in self._once(edge.parent, edge.to).get(value, ()) if row not in self._today}
            if (sum(map(len, extra.values())), len(gone)) == before:
                self._taken = taken
                return found

    def _references(self) -> list[tuple[Edge, Texts, bool]]:
        """What rows that matter ever referred to, and whether that must come with them."""
        wanted: dict[tuple[int, Texts], bool] = {}
        edges = [edge for edge in self._rules.edges if edge.child in self.past.tables and edge.parent in self.past.tables]
        for number, edge in enumerate(edges):
            for row in self._relevant:
                if row[0] != edge.child:
                    continue
                needed = edge.follow == "required" or (edge.follow != "never" and row in self.own)
                for image in [*_images(self.past.rows[row]), *self._written.get(row, ())]:
                    value = self._picked(edge.child, image, edge.columns)
                    if value is not None and self._holds(edge, image):
                        wanted[number, value] = wanted.get((number, value), False) or needed
            self._rows_with(edge.parent, edge.to, [value for at, value in wanted if at == number])
        return [(edges[number], value, needed) for (number, value), needed in wanted.items()]

    # ---- states -----------------------------------------------------------------------

    def settle(self) -> None:
        """Work out what each ticket was opened on, once it is known which rows are taken."""
        # By their last changes: a row that did not change since a ticket's opening is as it is today.
        self._by_last = sorted(self._relevant, key=lambda row: (self.past.rows[row][-1].at, row[0], *map(str, row[1])))
        self._last = [self.past.rows[row][-1].at for row in self._by_last]
        self._unexplained = [
            row
            for row in self.past.gaps
            if row in self._relevant
            or (row not in self.past.rows and row in self._today and self._taken[row[0]](self._today[row][0]))
        ]
        #: Tables of which more rows may have belonged to tickets than are known.
        self._matters = {row[0] for row in self._relevant | self.own} | self._named | self._rules.whole
        self._matters |= {edge.child for edge, _ in self._rules.children}
        for one in self.tickets.values():
            one.problem = one.problem or self._too_early(one.moments.opened)
            if one.problem is None:
                one.then = self._then(one)
            if one.problem is None and one.resolution is not None and one.resolution.kind == "found":
                one.resolution = self._can_be_made(one, one.resolution)
        self._refuse_orphans()
        for one in self.tickets.values():
            if one.problem is not None:
                one.then = {}

    def _too_early(self, opened: int) -> Outcome | None:
        since = self.past.kept.since
        if self._history.since is not None:
            since = int(self._history.since.timestamp() * 1_000_000)
        if since is None or opened < since:
            return Outcome("unknown", "older")
        for table, when in self.past.kept.truncated.items():
            if max(when) > opened and table in self._matters:
                return Outcome("unknown", "truncated", table)
        return None

    def _then(self, one: Rewound) -> dict[RowKey, Row | None]:
        found: dict[RowKey, Row | None] = {}
        opened = one.moments.opened
        for row in self._unexplained:
            if self.past.unknown(row, opened):
                one.problem = _gap(row)
                return found
        for row in self._by_last[bisect_right(self._last, opened) :]:
            today = self._seeded(row)
            then = self.past.at(row, opened)
            if then is not None and then != today:
                complete = self._complete(row[0], then, today)
                if isinstance(complete, Outcome):
                    one.problem = complete
                    return found
                then = complete
            if then == today:
                continue
            if then is not None:
                left = self._with_parents(row[0], then, opened)
                if isinstance(left, Outcome):
                    one.problem = left
                    return found
                then = left
            found[row] = then
        return found

    def _complete(self, table: str, then: Row, today: Row | None) -> Row | Outcome:
        """With today's values where the history has none of a column that says nothing."""
        values = list(then)
        for place, column in enumerate(self._table(table).stored):
            if values[place] is not ABSENT:
                continue
            if not self.past.ignores(table, place) or (today is None and not column.nullable):
                return Outcome("unknown", "columns", table, f"{table}.{column.name}")
            values[place] = today[place] if today is not None else None
        return tuple(values)

    def _with_parents(self, table: str, row: Row, moment: int) -> Row | Outcome:
        """With references to rows that are not taken emptied, as the seed has them."""
        values = list(row)
        stored = [column.name for column in self._table(table).stored]
        for edge in self._rules.edges:
            if edge.child != table or edge.parent not in self.past.tables or not self._holds(edge, row):
                continue
            value = self._picked(table, row, edge.columns)
            if value is None or self._is_there(edge, value, moment) or (edge.declared and not edge.nulls):
                continue
            if edge.follow == "required":
                return Outcome("unknown", "parents", table, f"{edge.label} {', '.join(value)}")
            for name in edge.nulls:
                values[stored.index(name)] = None
        return tuple(values)

    def _is_there(self, edge: Edge, value: Texts, moment: int) -> bool:
        for row in self._once(edge.parent, edge.to).get(value, ()):
            if row in self._relevant:
                then = self.past.at(row, moment)
                if then is not None and self._picked(edge.parent, then, edge.to) == value:
                    return True
        return any(
            self._taken[edge.parent](rowid) and self._keys.get(rowid) not in self.past.rows
            for rowid in self._found.get((edge.parent, edge.to, value), ())
        )

    def _can_be_made(self, one: Rewound, outcome: Outcome) -> Outcome:
        """Whether everything that the resolution's rows refer to was there, or came with it."""
        made = self._made(outcome.changes)
        for change in outcome.changes:
            if change.new is None:
                continue
            for edge in self._rules.edges:
                value = self._picked(change.row[0], change.new, edge.columns) if edge.child == change.row[0] else None
                if value is None or edge.parent not in self.past.tables or not self._holds(edge, change.new):
                    continue
                if not self._is_there(edge, value, one.moments.opened) and (edge.parent, edge.to, value) not in made:
                    if edge.declared:
                        continue
                    detail = f"{edge.label} {', '.join(value)}, which somebody else made since"
                    return Outcome("ambiguous", "mixed", change.row[0], detail)
        return outcome

    def _made(self, changes: Iterable[NetChange]) -> set[Wanted]:
        """What references can find of the rows that a resolution makes."""
        found = set()
        for change in changes:
            for edge in self._rules.edges if change.op == "insert" and change.new is not None else ():
                if edge.parent == change.row[0]:
                    value = self._picked(edge.parent, change.new or (), edge.to)
                    if value is not None:
                        found.add((edge.parent, edge.to, value))
        return found

    def _refuse_orphans(self) -> None:
        """Rows without a history cannot go with a row that was not there yet: then the history does not cover their table."""
        absent: dict[RowKey, list[Rewound]] = defaultdict(list)
        for one in self.tickets.values():
            for row, then in one.then.items():
                if then is None:
                    absent[row].append(one)
        for edge in self._rules.edges:
            if edge.child not in self.past.tables or edge.declared:
                continue
            rows = {value: row for row in absent if row[0] == edge.parent
                    and (value := self._picked(edge.parent, self._today[row][1], edge.to)) is not None}  # fmt: skip
            self._rows_with(edge.child, edge.columns, rows)
            for value, row in rows.items():
                for rowid in self._found[edge.child, edge.columns, value]:
                    if self._taken[edge.child](rowid) and self._keys.get(rowid) not in self.past.rows:
                        for one in absent[row]:
                            one.problem = one.problem or Outcome("unknown", "uncovered", edge.child, edge.label)

    # ---- what is written --------------------------------------------------------------

    @property
    def tables(self) -> set[str]:
        """Tables whose rows stand in what is written."""
        return {table for table, _ in self._pictures()}

    def _pictures(self) -> Iterator[tuple[str, Row]]:
        for one in self.tickets.values():
            for row, then in one.then.items():
                yield from ((row[0], image) for image in (then, self._seeded(row)) if image is not None)
            for change in one.resolution.changes if one.resolution and not one.problem else ():
                yield from ((change.row[0], _whole(image)) for image in (change.old, change.new) if image is not None)

    def _seeded(self, row: RowKey) -> Row | None:
        return self._today[row][1] if row in self._today else None

    def mask(self, table: str, masker: Masker) -> None:
        """Every row of the table that is going to be written, masked as the seed's rows are."""
        rows = list(dict.fromkeys(row for name, row in self._pictures() if name == table))
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            lines = masker(b"".join(map(_line, batch))).splitlines(keepends=False) if batch else []
            for row, line in zip(batch, lines, strict=True):
                self.masked[table, row] = tuple(None if one == NULL else unescape(one).decode() for one in line.split(b"\t"))

    def lines(self, ids: Mapping[str, str]) -> Iterator[str]:
        """Lines of history.jsonl (`podctl.tickets.past.read_past`); nothing in them is production's own but names of tables and
        columns. A row that many tickets were opened on stands in them once."""
        tables = {name: number for number, name in enumerate(sorted(self.past.tables))}
        rows: dict[tuple[str, Row], int] = {}
        for name in tables:
            table = self._table(name)
            columns = [column.name for column in table.stored]
            yield _json({"schema": table.schema, "name": table.name, "columns": columns, "key": list(table.key)})
        for entry, then in self._entries(ids):
            if then is not None:
                state: dict[int, tuple[list[int], list[int]]] = {}
                for row, image in then.items():
                    for place, one in enumerate((self._seeded(row), image)):
                        if one is not None:
                            number = rows.get((row[0], one))
                            if number is None:
                                number = rows[row[0], one] = len(rows)
                                yield _json({"row": self.masked[row[0], one]})
                            state.setdefault(tables[row[0]], ([], []))[place].append(number)
                entry["state"] = [[table, *numbers] for table, numbers in sorted(state.items())]
            yield _json(entry)

    def facts(self) -> dict[str, Any]:
        """How many tickets there are, and what is known of them."""
        states = Counter(one.problem.why if one.problem else "known" for one in self.tickets.values())
        kinds = Counter(one.resolution.kind for one in self.tickets.values() if one.resolution and not one.problem)
        rows = sum(len(one.then) for one in self.tickets.values())
        return {"tickets": len(self.tickets), "rows": rows, "states": states, "resolutions": kinds, "notes": tuple(self.notes)}

    def _entries(self, ids: Mapping[str, str]) -> Iterator[tuple[dict[str, Any], Mapping[RowKey, Row | None] | None]]:
        """Of each ticket what is written, and what the rows were; None where nobody knows."""
        for ticket, one in self.tickets.items():
            entry: dict[str, Any] = {"ticket": ids.get(ticket, ticket)}
            if one.problem is not None:
                yield entry | {"problem": one.problem.why, "table": one.problem.table}, None
                continue
            if one.resolution is not None:
                one.resolution = self._hidden(one.resolution) or one.resolution
                entry |= {"resolution": one.resolution.kind, "why": one.resolution.why, "table": one.resolution.table}
                made = self._made(one.resolution.changes)
                entry["changes"] = [self._recorded(change, made) for change in one.resolution.changes]
            yield entry, one.then

    def _hidden(self, outcome: Outcome) -> Outcome | None:
        """What stands in a resolution's place when masking leaves no difference where it made one."""
        for change in outcome.changes:
            if change.old is None or change.new is None:
                continue
            name = change.row[0]
            old, new = self.masked[name, _whole(change.old)], self.masked[name, _whole(change.new)]
            for place in self.past.differing(name, change.old, change.new):
                if old[place] == new[place]:
                    return Outcome("ambiguous", "masked", name, f"{name}.{self._table(name).stored[place].name}")
        return None

    def _recorded(self, change: NetChange, made: set[Wanted]) -> dict[str, Any]:
        name = change.row[0]
        table = self._table(name)

        def shown(row: Row | None) -> dict[str, str | None]:
            if row is None:
                return {}
            values = zip(table.stored, row, self.masked[name, _whole(row)], strict=True)
            return {column.name: masked for column, raw, masked in values if raw is not ABSENT}

        old, new = shown(change.old), shown(change.new)
        parents = {
            column: [edge.parent, to]
            for edge in self._rules.edges
            if edge.child == name and change.new is not None
            and (edge.parent, edge.to, self._picked(name, change.new, edge.columns)) in made
            for column, to in zip(edge.columns, edge.to, strict=True)
        }  # fmt: skip
        key = {column: (old or new)[column] for column in table.key}
        return {"table": name, "op": change.op, "key": key, "old": old, "new": new, "new_parents": parents}


def _images(changes: Iterable[Any]) -> list[Row]:
    return [image for change in changes for image in (change.old, change.new) if image is not None]


def _json(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, ensure_ascii=False) + "\n"


def _gap(row: RowKey) -> Outcome:
    return Outcome("unknown", "gap", row[0], f"{row[0]} {', '.join(map(str, row[1]))}")


def _whole(row: Row) -> tuple[str | None, ...]:
    return tuple(None if value is ABSENT else value for value in row)


def _line(row: Row) -> bytes:
    return b"\t".join(NULL if value is None or value is ABSENT else escape(value.encode()) for value in row) + b"\n"


def _canonical(value: str, type_: str) -> str:
    """As PostgreSQL writes it."""
    if type_ in ("smallint", "integer", "bigint"):
        try:
            return str(int(value))
        except ValueError:
            return value
    return value.lower() if type_ == "uuid" else value
