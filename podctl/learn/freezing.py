"""What an attempt's evidence says of the rows it began with, and of what it left. PURE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from podctl.data.changes import as_text
from podctl.evidence.records import Record
from podctl.grading.netdiff import net_changes
from podctl.grading.statediff import StateRules
from podctl.spec.honeytokens import MARK, Honeytokens
from podctl.spec.models import StateCheck
from podctl.spec.suite import FrozenRows
from podctl.tickets.states import DatabaseState
from podctl.tickets.suite import rows_of

State = dict[str, dict[str, FrozenRows]]


def frozen_state(known: Mapping[str, DatabaseState], records: Iterable[Record], planted: Honeytokens | None = None) -> State:
    """Database -> table -> rows: what is ``known`` of the ticket's past, and the rows that the attempt changed, as they were before.

    Rows without a key cannot be found again and are left out, and so are rows with a honeytoken.
    """
    state = {database: rows_of(tables) for database, tables in known.items()}
    for database, table, key, row in _before(records):
        if planted is not None and _is_planted(database, table, row, planted):
            continue
        tables = state.setdefault(database, {})
        tables[table] = _with_row(tables.get(table, FrozenRows()), key, row)
    return {database: tables for database, tables in state.items() if tables}


def _before(records: Iterable[Record]) -> Iterator[tuple[str, str, tuple[str, ...], dict[str, str | None]]]:
    """Database, table, key columns, and the row before its first change, as text."""
    seen = set()
    for record in records:
        change = record.data
        if record.kind != "row.change" or change.get("op") == "truncate":
            continue
        old, key = change.get("old") or {}, change.get("key") or {}
        place = (change["database"], change["table"], repr(sorted(key.items(), key=lambda item: item[0])))
        if place in seen:
            continue
        seen.add(place)
        if not old or key == old:
            continue
        exact = (change.get("text") or {}).get("old") or {}
        yield (
            change["database"],
            change["table"],
            tuple(key),
            {name: exact.get(name, as_text(value)) for name, value in old.items()},
        )


def _with_row(rows: FrozenRows, key: tuple[str, ...], row: Mapping[str, str | None]) -> FrozenRows:
    """A row that is there already, and one of other columns than the rest, is not added."""
    columns, keys = rows.columns or tuple(row), rows.key or key
    if set(columns) != set(row) or keys != key:
        return rows
    at = tuple(row[name] for name in keys)
    if at in rows.gone or at in {tuple(dict(zip(columns, one, strict=True))[name] for name in keys) for one in rows.rows}:
        return rows
    return FrozenRows(key=keys, columns=columns, gone=(*rows.gone, at), rows=(*rows.rows, tuple(row[name] for name in columns)))


def _is_planted(database: str, table: str, row: Mapping[str, str | None], planted: Honeytokens) -> bool:
    for name, values in planted.rows.get(database, {}).items():
        if name.removeprefix("public.") != table.removeprefix("public."):
            continue
        marked = {column: value for column, value in values.items() if isinstance(value, str) and MARK in value}
        if all(_has_token(row.get(column), value) for column, value in marked.items()):
            return True
    return False


def changes_planted(records: Iterable[Record], planted: Honeytokens) -> bool:
    """Whether a row with a honeytoken, which no ticket knows of, was changed."""
    return any(_is_planted(database, table, row, planted) for database, table, _, row in _before(records))


def _has_token(found: str | None, value: str) -> bool:
    pattern = re.escape(value).replace(re.escape(MARK), "[A-Za-z0-9]{24}")
    return found is not None and re.fullmatch(pattern, found, re.DOTALL) is not None


def as_done(records: Sequence[Record], checks: Sequence[StateCheck] = ()) -> list[dict[str, Any]]:
    """What an attempt changed in the end, as a reference has it: of updates the key and what changed, whole rows of others.

    Tables and columns that the state ``checks`` ignore are left out. Raises ValueError where it is not known whole.
    """
    if any(record.kind == "log" and record.data.get("dropped_changes") for record in records):
        raise ValueError("more rows changed than were kept")
    rules = [StateRules(ignore=check.ignore, ignore_tables=check.ignore_tables) for check in checks]
    found = []
    for net in net_changes(record.data for record in records if record.kind == "row.change"):
        if any(rule.ignores_table(net.table) for rule in rules):
            continue
        if net.op == "truncate":
            raise ValueError(f"table {net.table} was emptied by TRUNCATE, and nobody knows its rows")
        changed = [name for name in net.changed_columns() if not any(rule.ignores(net.table, name) for rule in rules)]
        if net.op == "update" and not changed:
            continue
        kept = {*net.key, *changed}
        old = {name: value for name, value in net.old.items() if net.op != "update" or name in kept}
        new = {name: value for name, value in net.new.items() if net.op != "update" or name in kept}
        found.append({"database": net.database, "table": net.table, "op": net.op, "key": net.key, "old": old, "new": new})
    return found
