"""What a boundary says of a write to one row, and what rights a role needs that does what it recommends."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from podctl.boundary.policies import UNLISTED, Decision
from podctl.spec.boundary import LEVELS, WRITES, Boundary, MayWrite, Recommended, TableRule
from podctl.spec.boundary_rules import Rule


def shown(table: str) -> str:
    """A table as it is shown: without the schema where that is public."""
    return table.removeprefix("public.")


def rules_for(rules: Iterable[Rule], verb: str, database: str, table: str) -> list[Rule]:
    """Those of a table that have a say on ``verb``: what shuts the table alone, where something does."""
    about = [one for one in rules if one.kind == "table" and one.owner == database and shown(one.object) == shown(table)]
    shut = [one for one in about if one.verbs == WRITES]
    return shut if shut and verb != "read" else [one for one in about if verb in one.verbs]


def strictest(rules: Iterable[Rule]) -> Rule | None:
    return max(rules, key=lambda rule: LEVELS.index(rule.level), default=None)


def decide_row(
    rules: Iterable[Rule], verb: MayWrite, database: str, table: str, columns: Collection[str]
) -> tuple[Decision, tuple[str, ...]]:
    """Of a write to one row that sets ``columns`` (none: a delete): what the strictest of them is, and which those are."""
    about = rules_for(rules, verb, database, table)
    found = {
        column: strictest(one for one in about if one.columns is None or column in one.columns) for column in columns or ("",)
    }
    levels = {column: "human-only" if rule is None else rule.level for column, rule in found.items()}
    level = max(levels.values(), key=LEVELS.index)
    decisive = tuple(column for column, its in levels.items() if its == level)
    rule = next((found[column] for column in decisive if found[column] is not None), None)
    named = UNLISTED if rule is None else rule.name
    return Decision(level == "ai-writable", level, named, ", ".join(filter(None, decisive))), tuple(filter(None, decisive))


def approvable(boundary: Boundary, database: str) -> dict[str, TableRule]:
    """Table -> the rights of whoever does what is approved there: what is recommended, with what the agent may do beside it in one write.

    Of a table it reads what the boundary names of it. Tables of which nothing is recommended are left out.
    """
    tables = boundary.databases.get(database, {})
    shut = {shown(table) for table, rule in tables.items() if not isinstance(rule, TableRule)}
    found = {}
    for table, rule in boundary.rights(database).items():
        proposed = rule.recommend or Recommended()
        insert = _both(rule.insert, proposed.insert) if proposed.insert else False
        update = _both(rule.update, proposed.update) if proposed.update else False
        if shown(table) not in shut and (insert or update or proposed.delete):
            read = _both(_both(rule.read, insert), update)
            found[table] = TableRule(read=read, insert=insert, update=update, delete=proposed.delete)
    return found


def _both(one: bool | tuple[str, ...], other: bool | tuple[str, ...]) -> bool | tuple[str, ...]:
    """Columns of either; True is all of them."""
    if one is True or other is True:
        return True
    return tuple(dict.fromkeys([*(one or ()), *(other or ())])) or False
