"""PURE: what a sequence of row changes comes to, row by row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Actor(NamedTuple):
    """``user`` is the session's database role; ``trigger``: its statement set off a trigger or cascade that did it."""

    user: str
    trigger: bool = False


@dataclass(frozen=True)
class NetChange:
    """The difference between a row before the first change and after the last.

    ``old`` and ``new`` are whole rows. ``actors`` says who last changed each column, ``actor`` who last touched the row.
    A ``truncate`` stands for deleted rows that nobody knows; its key and rows are empty.
    """

    database: str
    table: str
    op: Literal["insert", "update", "delete", "truncate"]
    key: dict[str, Any]
    old: dict[str, Any]
    new: dict[str, Any]
    actor: Actor
    actors: Mapping[str, Actor] = field(default_factory=dict)

    def changed_columns(self) -> list[str]:
        return [column for column in self.new if column not in self.old or self.old[column] != self.new[column]]


@dataclass
class _Row:
    """``original`` is the row before everything, ``current`` the row now; None: there is none."""

    original: dict[str, Any] | None
    current: dict[str, Any] | None
    actor: Actor = Actor("")
    actors: dict[str, Actor] = field(default_factory=dict)

    def become(self, values: dict[str, Any] | None, actor: Actor) -> None:
        before = self.current or {}
        for column, value in (values or {}).items():
            if column not in before or before[column] != value:
                self.actors[column] = actor
        self.current, self.actor = values, actor


def net_changes(changes: Iterable[Mapping[str, Any]]) -> list[NetChange]:
    """Net effects of ``row.change`` data in commit order.

    A row is its primary key's: one whose key changes is a delete and an insert. In a table without a key (``key``
    is the whole row) rows are a multiset, and an update follows its row.
    """
    tables: dict[tuple[str, str], _Table] = {}
    for change in changes:
        table = tables.setdefault((change["database"], change["table"]), _Table())
        table.apply(change)
    return [net for (database, name), table in tables.items() for net in table.net(database, name)]


def _frozen(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, default=str)


class _Table:
    def __init__(self) -> None:
        self._keyed: dict[str, _Row] = {}
        self._key_columns: tuple[str, ...] = ()
        self._loose: list[_Row] = []
        self._by_current: dict[str, list[_Row]] = {}  # of the loose ones
        self._truncated: Actor | None = None

    def apply(self, change: Mapping[str, Any]) -> None:
        actor = Actor(change["user"], bool(change.get("trigger", False)))
        old, new, key = change["old"] or None, change["new"] or None, change["key"]
        if change["op"] == "truncate":
            self._truncate(actor)
        elif key == (old or new):
            self._apply_loose(old, new, actor)
        else:
            self._key_columns = tuple(key)
            self._apply_keyed(old, new, actor)

    def _truncate(self, actor: Actor) -> None:
        self._truncated = actor
        for row in [*self._keyed.values(), *self._loose]:
            row.become(None, actor)
        self._by_current.clear()

    def _key(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {column: row.get(column) for column in self._key_columns}

    def _apply_keyed(self, old: dict[str, Any] | None, new: dict[str, Any] | None, actor: Actor) -> None:
        before = _frozen(self._key(old)) if old is not None else None
        after = _frozen(self._key(new)) if new is not None else None
        if before is not None and before != after:
            self._keyed.setdefault(before, _Row(old, old)).become(None, actor)
        if after is not None:
            unseen = _Row(old, old) if before == after else _Row(None, None)
            self._keyed.setdefault(after, unseen).become(new, actor)

    def _apply_loose(self, old: dict[str, Any] | None, new: dict[str, Any] | None, actor: Actor) -> None:
        waiting = self._by_current.get(_frozen(old), []) if old is not None else []
        if waiting:
            row = waiting.pop()
        else:
            row = _Row(old, old)
            self._loose.append(row)
        row.become(new, actor)
        if new is not None:
            self._by_current.setdefault(_frozen(new), []).append(row)

    def net(self, database: str, table: str) -> list[NetChange]:
        found: list[NetChange] = []
        if self._truncated is not None:
            found.append(NetChange(database, table, "truncate", {}, {}, {}, self._truncated))
        for row in self._keyed.values():
            found += self._change(database, table, row, self._key(row.original or row.current or {}))
        for row in _without_common(self._loose):
            found += self._change(database, table, row, row.original or row.current or {})
        return found

    @staticmethod
    def _change(database: str, table: str, row: _Row, key: dict[str, Any]) -> list[NetChange]:
        old, new = row.original, row.current
        if old == new:
            return []
        op: Literal["insert", "update", "delete"] = "insert" if old is None else "delete" if new is None else "update"
        return [NetChange(database, table, op, key, old or {}, new or {}, row.actor, row.actors)]


def _without_common(rows: list[_Row]) -> list[_Row]:
    """The rows of a table without a key, less what is there before and after: equal rows cannot be told apart."""
    before = Counter(_frozen(row.original) for row in rows if row.original is not None)
    after = Counter(_frozen(row.current) for row in rows if row.current is not None)
    common = before & after
    gone, come = common.copy(), common.copy()
    left: list[_Row] = []
    # A row that ends as it began uses up the common part first, so that fewer real updates are torn apart.
    for row in sorted(rows, key=lambda row: row.original != row.current):
        original = None if row.original is None or _use(gone, row.original) else row.original
        current = None if row.current is None or _use(come, row.current) else row.current
        left.append(_Row(original, current, row.actor, row.actors))
    return left


def _use(common: Counter[str], values: Mapping[str, Any]) -> bool:
    frozen = _frozen(values)
    if common[frozen] <= 0:
        return False
    common[frozen] -= 1
    return True
