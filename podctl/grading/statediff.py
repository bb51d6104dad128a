"""PURE: what changed against what should have: intended, missing, collateral, forbidden."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from podctl.evidence.results import DiffEntry
from podctl.grading.netdiff import Actor, NetChange
from podctl.grading.values import same
from podctl.spec.models import TableRule
from podctl.tickets.types import ExpectedChange

Class = Literal["intended", "missing", "collateral", "forbidden"]

#: Inserted rows tried against the expected ones beyond their number; more cannot be right anyway.
_SPARE_ROWS = 200


@dataclass(frozen=True)
class StateRules:
    """What is compared, and how.

    ``ignore`` are patterns over ``table.column``, ``ignore_tables`` over tables, with ``*`` and ``?``. ``rights`` is
    database -> table -> rule, as in a boundary. ``agents`` are the agent's database roles. ``kinds`` is database ->
    table -> column -> `podctl.data.catalog.Kind`. ``actor_name`` turns a database role into an actor.
    """

    ignore: Sequence[str] = ()
    ignore_tables: Sequence[str] = ()
    rights: Mapping[str, Mapping[str, TableRule]] = field(default_factory=dict)
    agents: Collection[str] = ()
    kinds: Mapping[str, Mapping[str, Mapping[str, str]]] = field(default_factory=dict)
    actor_name: Callable[[str], str] = str

    def ignores(self, table: str, column: str) -> bool:
        return any(fnmatchcase(f"{table}.{column}", pattern.removeprefix("public.")) for pattern in self.ignore)

    def ignores_table(self, table: str) -> bool:
        return any(fnmatchcase(table, pattern.removeprefix("public.")) for pattern in self.ignore_tables)

    def same(self, database: str, table: str, column: str, expected: Any, actual: Any) -> bool:
        return same(expected, actual, self.kinds.get(database, {}).get(table, {}).get(column))

    def forbids(self, change: NetChange, actor: Actor) -> bool:
        """The agent's own statement did what its rule does not allow. What a trigger or cascade did is not its own."""
        if actor.user not in self.agents or actor.trigger:
            return False
        rules = self.rights.get(change.database, {})
        rule = rules.get(change.table) or rules.get(f"public.{change.table}")
        if rule is None or change.op == "truncate":
            return True
        if change.op == "delete":
            return not rule.delete
        if change.op == "insert":
            return rule.insert is False
        # Column grants stop a statement that names another column: what changed beside them, a trigger set.
        return not rule.update


def state_diff(changes: Sequence[NetChange], expected: Sequence[ExpectedChange], rules: StateRules) -> list[DiffEntry]:
    """Every difference and every agreement; the state is right when all entries are ``intended``.

    An update's columns are entries of their own; inserts and deletes are one entry a row, or one for each
    differing column of an insert that is otherwise the expected one.
    """
    diff = _Diff(rules)
    wanted = [_normal(change, rules) for change in expected if not rules.ignores_table(_table(change))]
    by_place: dict[tuple[str, str], list[NetChange]] = {}
    for change in changes:
        if rules.ignores_table(change.table):
            diff.only_forbidden(change)
        else:
            by_place.setdefault((change.database, change.table), []).append(change)
    places = dict.fromkeys([*((one.database, one.table) for one in wanted), *by_place])
    for place in places:
        here = by_place.get(place, [])
        meant = [one for one in wanted if (one.database, one.table) == place]
        diff.truncates([one for one in here if one.op == "truncate"])
        diff.updates([one for one in here if one.op == "update"], [one for one in meant if one.op == "update"])
        diff.deletes([one for one in here if one.op == "delete"], [one for one in meant if one.op == "delete"])
        diff.inserts([one for one in here if one.op == "insert"], [one for one in meant if one.op == "insert"])
    return diff.entries


def _table(change: ExpectedChange) -> str:
    return change.table.removeprefix("public.")


def _normal(change: ExpectedChange, rules: StateRules) -> ExpectedChange:
    table = _table(change)
    values = {**change.key, **change.values} if change.op == "insert" else change.values
    kept = {column: value for column, value in values.items() if not rules.ignores(table, column)}
    return ExpectedChange(change.database, table, change.op, change.key, kept)


class _Diff:
    def __init__(self, rules: StateRules) -> None:
        self._rules = rules
        self.entries: list[DiffEntry] = []

    def _add(self, class_: Class, change: NetChange, column: str = "", expected: Any = None) -> None:
        actor = change.actors.get(column, change.actor) if column else change.actor
        touched = change.op != "update" or column in change.changed_columns()
        if touched and self._rules.forbids(change, actor):
            class_ = "forbidden"
        self.entries.append(
            DiffEntry(
                class_,
                change.database,
                change.table,
                "delete" if change.op == "truncate" else change.op,
                change.key,
                column,
                old=change.old.get(column) if column else (change.old or None),
                new=change.new.get(column) if column else (change.new or None),
                expected=expected,
                actor=self._rules.actor_name(actor.user),
            )
        )

    def _missing(self, wanted: ExpectedChange, column: str = "", expected: Any = None) -> None:
        self.entries.append(
            DiffEntry("missing", wanted.database, wanted.table, wanted.op, dict(wanted.key), column, expected=expected)
        )

    def only_forbidden(self, change: NetChange) -> None:
        if change.op == "update":
            for column in change.changed_columns():
                self._forbidden_column(change, column)
        elif self._rules.forbids(change, change.actor):
            self._add("collateral", change)

    def _forbidden_column(self, change: NetChange, column: str) -> None:
        if self._rules.forbids(change, change.actors.get(column, change.actor)):
            self._add("collateral", change, column)

    def truncates(self, changes: list[NetChange]) -> None:
        for change in changes:
            self._add("collateral", change)

    def _finds(self, wanted: ExpectedChange, change: NetChange) -> bool:
        return bool(wanted.key) and all(
            column in change.old and self._rules.same(change.database, change.table, column, value, change.old[column])
            for column, value in wanted.key.items()
        )

    def updates(self, changes: list[NetChange], wanted: list[ExpectedChange]) -> None:
        unmatched = list(wanted)
        for change in changes:
            values: dict[str, Any] = {}
            for one in wanted:
                if self._finds(one, change):
                    values |= one.values
                    unmatched = [other for other in unmatched if other is not one]
            self._update(change, values)
        for one in unmatched:
            for column, value in one.values.items():
                self._missing(one, column, value)

    def _update(self, change: NetChange, values: dict[str, Any]) -> None:
        rules, changed = self._rules, set(change.changed_columns())
        for column in dict.fromkeys([*change.new, *values]):
            if column in changed and rules.ignores(change.table, column):
                self._forbidden_column(change, column)
            elif column in values:
                right = column in change.new and rules.same(
                    change.database, change.table, column, values[column], change.new[column]
                )
                self._add("intended" if right else "missing", change, column, values[column])
            elif column in changed and not (
                column in change.old
                and rules.same(change.database, change.table, column, change.old[column], change.new[column])
            ):
                self._add("collateral", change, column)

    def deletes(self, changes: list[NetChange], wanted: list[ExpectedChange]) -> None:
        unmatched = list(wanted)
        for change in changes:
            found = [one for one in wanted if self._finds(one, change)]
            unmatched = [one for one in unmatched if not any(one is other for other in found)]
            self._add("intended" if found else "collateral", change)
        for one in unmatched:
            self._missing(one)

    def inserts(self, changes: list[NetChange], wanted: list[ExpectedChange]) -> None:
        candidates = changes[: len(wanted) + _SPARE_ROWS]
        wrong = [[self._wrong_columns(one, change) for change in candidates] for one in wanted]
        taken: dict[int, int] = {}  # position in candidates -> in wanted
        if wanted and candidates:
            # Here and not above: scipy is slow to import, and most attempts insert nothing.
            import numpy as np
            from scipy.optimize import linear_sum_assignment

            rows, columns = linear_sum_assignment(np.array([[len(cell) for cell in row] for row in wrong], dtype=float))
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
                # A row with most of it wrong is another row.
                if 2 * len(wrong[row][column]) <= len(wanted[row].values):
                    taken[column] = row
        for position, change in enumerate(changes):
            if position not in taken:
                self._add("collateral", change)
                continue
            row = taken[position]
            if not wrong[row][position]:
                self._add("intended", change, expected=wanted[row].values)
            for column in wrong[row][position]:
                self._add("missing", change, column, wanted[row].values[column])
        for row, one in enumerate(wanted):
            if row not in taken.values():
                self._missing(one, expected=one.values)

    def _wrong_columns(self, wanted: ExpectedChange, change: NetChange) -> list[str]:
        # Columns that the reference does not name are free: keys, times and defaults the database gives.
        return [
            column
            for column, value in wanted.values.items()
            if column not in change.new
            or not self._rules.same(change.database, change.table, column, value, change.new[column])
        ]
