"""Of a statement that PostgreSQL refused: which rule of the boundary says so."""

from __future__ import annotations

import re
from collections.abc import Iterable

from podctl.boundary.policies import UNLISTED
from podctl.spec.boundary import WRITES, Level
from podctl.spec.boundary_rules import Rule

_TABLE = re.compile(r"(?:table|view) (?P<name>.{1,130})", re.DOTALL)
_VERB = re.compile(r"(?:WITH\b.*?\)\s*)?(INSERT|UPDATE|DELETE)\b", re.IGNORECASE | re.DOTALL)


def refused(rules: Iterable[Rule], database: str, target: str, statement: str) -> tuple[str, Level]:
    """The rule's name and its level; the grants decided, this only says whose they are. ``target`` is what the server named."""
    found = _TABLE.fullmatch(target)
    verb = _VERB.match(statement.lstrip())
    if found is None:
        return UNLISTED, "human-only"
    # The server tells no schema.
    about = [
        rule
        for rule in rules
        if rule.kind == "table" and rule.owner == database and f".{rule.object}".endswith(f".{found['name']}")
    ]
    told = [rule for rule in about if (schema := _schema(rule)) and schema in statement]
    about = told or [rule for rule in about if not _schema(rule)] or about
    shut = next((rule for rule in about if rule.level == "human-only"), None)
    if shut is not None:
        return shut.name, "human-only"
    doing = verb[1].lower() if verb else "read"
    proposed = next((rule for rule in about if rule.level == "recommend" and doing in rule.verbs and doing in WRITES), None)
    return (proposed.name, "recommend") if proposed is not None else (UNLISTED, "human-only")


def _schema(rule: Rule) -> str:
    schema = rule.object.rpartition(".")[0]
    return "" if schema == "public" else schema
