"""What a statement needs of tables and columns, by parsing it; PostgreSQL's own checks decide, and this only proposes.

Where a statement leaves doubt, more is said to be needed, never less.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp

#: Of one column: everything of its table.
EVERY = "*"
_VERBLESS = (exp.Transaction, exp.Commit, exp.Rollback, exp.Set)


class NotUnderstood(Exception):
    """A statement that cannot be parsed, or is of a kind whose needs are not known."""


@dataclass
class Needs:
    """(table, verb) -> columns; `EVERY` among them for all of them, nothing for a verb without columns."""

    columns: dict[tuple[str, str], set[str]] = field(default_factory=dict)

    def add(self, table: str, verb: str, *columns: str) -> None:
        self.columns.setdefault((table, verb), set()).update(columns)


def needs_of(statement: str) -> Needs:
    """Raises `NotUnderstood`."""
    # It would tell the terminal what it could not parse.
    logging.getLogger("sqlglot").setLevel(logging.CRITICAL)
    try:
        trees = sqlglot.parse(statement, dialect="postgres")
    except Exception as error:  # hostile text: whatever goes wrong in a parser, RecursionError too
        raise NotUnderstood(type(error).__name__) from error
    needs = Needs()
    for tree in trees:
        if tree is None or isinstance(tree, _VERBLESS):
            continue
        if not isinstance(tree, exp.Query | exp.Insert | exp.Update | exp.Delete):
            raise NotUnderstood(type(tree).__name__)
        if tree.find(exp.Command) or tree.find(exp.Merge):
            raise NotUnderstood("a part of it")
        for name in tree.find_all(exp.Identifier):
            if not name.quoted:
                name.set("this", _folded(name.name))
        _read(tree, needs)
        for writing in tree.find_all(exp.Insert, exp.Update, exp.Delete):
            _written(writing, needs)
    return needs


def _folded(name: str) -> str:
    """As PostgreSQL does in UTF-8: letters beyond ASCII stay."""
    return "".join(character.lower() if character.isascii() else character for character in name)


def _name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}" if table.db and table.db != "public" else table.name


def _read(tree: exp.Expr, needs: Needs) -> None:
    own = {common.alias for common in tree.find_all(exp.CTE)}
    tables = [table for table in tree.find_all(exp.Table) if table.name and not (table.name in own and not table.db)]
    called: dict[str, set[str]] = {common: set() for common in own}
    called |= {sub.alias: set() for sub in tree.find_all(exp.Subquery) if sub.alias}
    for table in tables:
        called.setdefault(table.alias_or_name, set()).add(_name(table))
    names = list(dict.fromkeys(map(_name, tables)))
    written = set(_targets(tree))
    for table in tables:
        if table not in written:
            needs.add(_name(table), "read")
    for column in _columns_read(tree):
        if column.table:
            if column.table not in called and column.table != "excluded":
                raise NotUnderstood(f"{column.table} is no table of it")
            for name in called.get(column.table, ()):
                needs.add(name, "read", EVERY if isinstance(column.this, exp.Star) else column.name)
        elif called.get(column.name):
            for name in called[column.name]:
                needs.add(name, "read", EVERY)  # a whole row
        elif len(names) == 1:
            needs.add(names[0], "read", column.name)
        else:
            for name in names:
                needs.add(name, "read", EVERY)
    stars = any(not isinstance(star.parent, exp.Count | exp.Column) for star in tree.find_all(exp.Star))
    # Columns that both sides have are not said of which.
    shared = any(join.args.get("using") or join.args.get("method") for join in tree.find_all(exp.Join))
    for name in names if stars or shared else ():
        needs.add(name, "read", EVERY)
    for name in names if tree.find(exp.Lock) else ():
        needs.add(name, "lock")


def _targets(tree: exp.Expr) -> Iterator[exp.Table]:
    for writing in tree.find_all(exp.Insert, exp.Update, exp.Delete):
        target = writing.this.this if isinstance(writing.this, exp.Schema) else writing.this
        if isinstance(target, exp.Table):
            yield target


def _columns_read(tree: exp.Expr) -> Iterator[exp.Column]:
    """Every column but those that are only assigned to."""
    assigned = {
        id(one.this)
        for writing in tree.find_all(exp.Update, exp.OnConflict)
        for one in writing.expressions
        if isinstance(one, exp.EQ)
    }
    yield from (column for column in tree.find_all(exp.Column) if id(column) not in assigned)


def _written(tree: exp.Expr, needs: Needs) -> None:
    target = next(_targets(tree), None)
    if target is None:
        raise NotUnderstood("what it writes")
    table = _name(target)
    if isinstance(tree, exp.Delete):
        needs.add(table, "delete")
    elif isinstance(tree, exp.Update):
        needs.add(table, "update", *_assigned(tree))
    else:
        listed = [one.name for one in tree.this.expressions] if isinstance(tree.this, exp.Schema) else []
        needs.add(table, "insert", *(listed or [EVERY]))
        conflict = tree.args.get("conflict")
        if conflict is not None:
            needs.add(table, "read", *([key.name for key in conflict.args.get("conflict_keys") or ()] or [EVERY]))
            if assigned := _assigned(conflict):
                needs.add(table, "update", *assigned)


def _assigned(tree: exp.Expr) -> list[str]:
    found = []
    for one in tree.expressions:
        if not isinstance(one, exp.EQ):
            raise NotUnderstood("what it assigns")
        target = one.this
        names = [part.name for part in target.expressions] if isinstance(target, exp.Tuple) else [target.name]
        if not all(names):
            raise NotUnderstood("what it assigns")
        found += names
    return found
