"""PURE: row changes of an attempt that a chaos campaign disturbed in its database, as they are graded.

What a rival wrote is nobody's fault and no part of the answer; a column that a migration renamed is still the column that the
reference means. Evidence keeps what really happened.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Change = Mapping[str, Any]


def as_before(
    changes: Iterable[Change], renamed: Mapping[tuple[str, str], str], added: Iterable[tuple[str, str]]
) -> list[dict[str, Any]]:
    """With columns called as they were, and without columns that were not there. Keys are (table, column)."""
    dropped = set(added)
    found = []
    for change in changes:
        table = change["table"]
        one = dict(change)
        for part in ("key", "old", "new"):
            row = change.get(part) or {}
            one[part] = {renamed.get((table, name), name): value for name, value in row.items() if (table, name) not in dropped}
        found.append(one)
    return found


def without_rival(changes: Sequence[Change], rival: str, mark: str) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """What all others changed, as if the rival's values had never been; and which of the rival's writes somebody overwrote.

    A row that still has the rival's value in a column has, for the grade, what it had before. The rival's write was lost where somebody wrote what
    stood there before it, or something made from that: it was read before, and written back after. A value of one's own in its place is no such thing.
    ``mark``: what the rival wrote itself ends so; what a trigger changed besides is nobody's loss.
    """
    before: dict[
        tuple[str, str, str, str], tuple[Any, Any]
    ] = {}  # database, table, key, column -> what it was, what the rival made of it
    kept: list[dict[str, Any]] = []
    lost: dict[str, None] = {}
    for change in changes:
        place = (change["database"], change["table"], json.dumps(change["key"], sort_keys=True, default=str))
        old, new = dict(change.get("old") or {}), dict(change.get("new") or {})
        if change.get("user") == rival:
            before |= {(*place, name): (old.get(name), value) for name, value in new.items() if old.get(name) != value}
            continue
        for name in old:
            if (*place, name) in before:
                was, written = before[*place, name]
                ours = isinstance(written, str) and written.endswith(mark)
                if ours and old[name] == written and name in new and _made_from(new[name], was, written):
                    lost[f"{change['table']}.{name}, which somebody else had changed meanwhile, was overwritten"] = None
        for row in (old, new):
            for name, value in row.items():
                was, written = before.get((*place, name), (None, None))
                if (*place, name) in before and value == written:
                    row[name] = was
        kept.append({**change, "old": old, "new": new})
    return kept, tuple(lost)


def _made_from(value: Any, was: Any, written: str) -> bool:
    """Made from what stood there before, and not from what the rival made of it."""
    if not isinstance(value, str) or written in value:
        return False
    return value == was or (isinstance(was, str) and bool(was.strip()) and was in value)
