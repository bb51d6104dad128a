"""Whether a rule can mask a column: its type, its length, whether it may be null and must be unique."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from podctl.masking.problems import MaskingProblem
from podctl.masking.values import INJECTIVE, LENGTHS
from podctl.spec.masking import ColumnRule, Masking


@dataclass(frozen=True)
class Column:
    """A column in the order of the rows.

    ``type`` is what ``format_type`` says, of a domain the type beneath it; ``unique``: alone under a unique index.
    """

    name: str
    type: str
    nullable: bool = True
    unique: bool = False

    @property
    def element(self) -> str:
        """The type without length, brackets and schema: ``character varying(20)[]`` -> ``character varying``."""
        return re.sub(r"\([0-9, ]*\)|\[\]", "", self.type).rpartition(".")[2].strip()

    @property
    def is_array(self) -> bool:
        return self.type.endswith("[]")

    @property
    def length(self) -> int | None:
        """Characters that a value may have; None without a bound."""
        match = re.search(r"^(?:character|char|varchar|bpchar).*?\(([0-9]+)\)", self.type)
        return int(match[1]) if match else 1 if self.element == "character" else None

    @property
    def most(self) -> int | None:
        """The greatest number of an integer type."""
        return {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": 2**63 - 1}.get(self.element)


_TEXT = frozenset(("text", "character varying", "character", "citext", "name", "bpchar", "varchar", "char"))
_WHOLE = frozenset(("smallint", "integer", "bigint"))
_NUMBERS = _WHOLE | {"numeric", "real", "double precision"}
_DATES = frozenset(("date", "timestamp without time zone", "timestamp with time zone", "timestamp", "timestamptz"))

#: Mask -> types that it can give values of. ``keep``, ``erase`` and ``constant`` go with every type.
_TYPES: dict[str, frozenset[str]] = {
    "id": _TEXT | _WHOLE | {"numeric", "uuid"},
    "phone": _TEXT | {"bigint", "numeric"},
    "card": _TEXT | {"numeric"},
    "ip": _TEXT | {"inet"},
    "date": _DATES,
    "number": _NUMBERS,
    "json": frozenset(("json", "jsonb")),
    "token": _TEXT | {"bytea"},
}
_ANY = frozenset(("keep", "erase", "constant"))


def check_table(rules: Mapping[str, ColumnRule], database: str, table: str, columns: Sequence[Column]) -> None:
    """Raises `MaskingProblem` with everything that stands against masking these columns by these rules."""
    there = {column.name: column for column in columns}
    where = f"{database}.{table}"
    _refuse(
        [f"{where}.{name} ({column.type})" for name, column in there.items() if name not in rules],
        "no rule says how to mask",
        "podctl data classify proposes rules; keep lets a column through as it is",
    )
    _refuse(
        [f"{where}.{name}" for name in rules if name not in there],
        "the masking names columns that are not there:",
        "mend their names, or remove them",
    )
    _refuse(
        [f"{where}.{name}" for name, rule in rules.items() if _proposed(rule)],
        "nobody has confirmed the rules of",
        "look at each, and remove its line proposed",
    )
    wrong = [f"{where}.{name}: {why}" for name, rule in rules.items() if (why := why_not(rule, there[name], there))]
    if wrong:
        raise MaskingProblem(
            f"{len(wrong)} of the rules of {where} cannot be kept",
            code="masking-impossible",
            cause="\n".join(wrong),
            unchanged="nothing was masked",
        )


def check_joins(policy: Masking, joins: Iterable[tuple[str, str, Sequence[str], str, Sequence[str]]]) -> None:
    """Columns that reference others must be masked as those are, or no row would find the other.

    ``joins``: (database, table, its columns, referenced table, its columns). Raises `MaskingProblem` naming every pair.
    """
    wrong = []
    for database, table, names, other, others in joins:
        ours, theirs = policy.rules(database, table), policy.rules(database, other)
        for name, referenced in zip(names, others, strict=True):
            left, right = ours.get(name), theirs.get(referenced)
            if left is None or right is None or left.mask == "erase" or left.model_dump() == right.model_dump():
                continue
            wrong.append(f"{database}: {table}.{name} is {left.mask}, {other}.{referenced} is {right.mask}")
    if wrong:
        raise MaskingProblem(
            "columns that belong together are masked differently",
            code="masking-joins",
            cause="\n".join(dict.fromkeys(wrong)),
            hint="give both the same rule",
            unchanged="nothing was masked",
        )


def _refuse(names: list[str], what: str, hint: str) -> None:
    if names:
        raise MaskingProblem(
            f"{what} {', '.join(names)}", code="masking-unclassified", hint=hint, unchanged="nothing was masked"
        )


def _proposed(rule: ColumnRule) -> bool:
    return rule.proposed is not None or any(map(_proposed, rule.paths.values()))


def why_not(rule: ColumnRule, column: Column, columns: Mapping[str, Column]) -> str:
    """Why a rule cannot mask a column; nothing when it can."""
    if rule.mask == "keep":
        return ""
    if not column.nullable and rule.mask == "erase":
        return "erase makes null, and the column may not be null: use constant"
    if column.unique and (rule.mask not in INJECTIVE | {"erase"} or column.is_array):
        return f"the column is unique, and {rule.mask} gives different values the same mask: id keeps them apart"
    if rule.mask not in _ANY and column.element not in _TYPES.get(rule.mask, _TEXT):
        return f"{rule.mask} gives no value of type {column.type}: use erase, constant or keep" + (
            ", or json with paths" if column.element in ("json", "jsonb") else ""
        )
    for inner in (rule, *rule.paths.values()):
        if inner.mask == "date" and inner.subject != "*" and inner.subject not in columns:
            return f"there is no column {inner.subject} for its subject"
        if inner is not rule and inner.mask == "json":
            return "json within json: write the longer paths in one rule"
    length = len(rule.value or "") if rule.mask == "constant" else LENGTHS.get(rule.mask, 0)
    if rule.mask == "ip" and column.element == "inet":
        return ""
    if column.length is not None and length > column.length:
        return f"{rule.mask} needs {length} characters, {column.type} has {column.length}: use erase or constant"
    return ""
