"""Proposals to write one row of a database: which row, and what is to stand in it. Never SQL.

Text is an agent's, and so hostile: it is read strictly, and what could be read in two ways is none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from podctl.strictjson import NotJson, read_json

Operation = Literal["insert", "update", "delete"]
OPERATIONS: tuple[Operation, ...] = ("insert", "update", "delete")
KNOWN = frozenset({"database", "table", "operation", "key", "values", "reason"})
#: The role of a database as which the gateway writes what was approved; nobody else has its password, and it is made for an attempt.
APPROVED_ROLE = "podctl_approved"
_MARK = re.compile(r"/\* podctl: proposal (?P<proposal>[0-9a-f]{32}), approved by (?P<by>[a-z][a-z0-9 -]{0,60}) \*/")
#: Characters of a reason; bytes of a name in PostgreSQL; columns of a row that a proposal may name.
_REASON, _NAME, _COLUMNS = 2_000, 63, 200

#: A column's type as far as reading a JSON value for it goes.
Kind = Literal["bool", "integer", "number", "json", "text"]


class Unfit(Exception):
    """What is proposed cannot be read, or does not fit the table; the text says why."""


@dataclass(frozen=True)
class RowAsked:
    """``key`` finds the row, and is empty for an insert; ``values`` are what is to stand in it, none for a delete. Values are JSON's."""

    database: str
    table: str
    operation: Operation
    key: Mapping[str, Any]
    values: Mapping[str, Any]
    reason: str

    def __str__(self) -> str:
        columns = f" ({', '.join(self.values)})" if self.values else ""
        return f"{self.operation.upper()} {self.table}{columns}"


def parse_row(data: bytes) -> RowAsked:
    """Raises `Unfit`."""
    try:
        read_json(data)
        value = json.loads(data, parse_float=_exact)
    except NotJson as why:
        raise Unfit(f"a proposal is one JSON value, and this {why}") from None
    if not isinstance(value, dict) or value.keys() - KNOWN:
        raise Unfit(f"a proposal to write a row is one JSON object of {', '.join(sorted(KNOWN))}")
    for name in ("database", "table", "reason"):
        if not isinstance(value.get(name), str) or not value[name]:
            raise Unfit(f"{name} is a text, and has to be there")
    if len(value["reason"]) > _REASON:
        raise Unfit(f"reason has at most {_REASON:,} characters")
    operation = value.get("operation")
    if operation not in OPERATIONS:
        raise Unfit(f"operation is one of {', '.join(OPERATIONS)}")
    _names(value["database"], *value["table"].split("."))
    key, values = _columns(value, "key", operation != "insert"), _columns(value, "values", operation != "delete")
    if any(one is None or isinstance(one, dict | list) for one in key.values()):
        raise Unfit("a key's values are texts, numbers or booleans: nothing else finds one row")
    return RowAsked(value["database"], value["table"], operation, key, values, value["reason"])


def _columns(value: Mapping[str, Any], name: str, wanted: bool) -> dict[str, Any]:
    if not wanted:
        if name in value:
            raise Unfit(f"{value['operation']} has no {name}")
        return {}
    given = value.get(name)
    if not isinstance(given, dict) or not given:
        raise Unfit(f"{name} is an object of column: value, and {value['operation']} needs one")
    if len(given) > _COLUMNS:
        raise Unfit(f"{name} has at most {_COLUMNS} columns")
    _names(*given)
    return given


def _names(*names: str) -> None:
    for name in names:
        # A longer name PostgreSQL would cut, and find another one.
        if not name or "\0" in name or len(name.encode()) > _NAME:
            raise Unfit(f"a name of a database, table or column has 1 to {_NAME} bytes, and no NUL")


def _exact(text: str) -> float:
    number = float(text)
    if Decimal(repr(number)) != Decimal(text):
        raise Unfit(f"{text[:60]} has more digits than every reader of JSON keeps: write it as text")
    return number


def mark(proposal: str, by: str) -> str:
    """What stands before a statement that writes what was approved: evidence has the statement of each row change."""
    return f"/* podctl: proposal {proposal}, approved by {by} */"


def marked(statement: str) -> dict[str, str]:
    """``proposal`` and ``by`` of a statement of `APPROVED_ROLE`; nothing where it was kept without them."""
    found = _MARK.match(statement)
    return {} if found is None else found.groupdict()


def as_text(value: Any, kind: Kind, column: str) -> str | None:
    """A JSON value as PostgreSQL is to read it for a column of ``kind``: None is NULL. Raises `Unfit`.

    Text is what PostgreSQL reads for the type, a number is for a column of numbers, and true for one of booleans. What
    stands for a json column is the value itself: text is a JSON string there, and no JSON text.
    """
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if isinstance(value, str):
        if "\0" in value:
            raise Unfit(f"{column}: a NUL character, which PostgreSQL keeps in no value")
        return value
    if isinstance(value, bool):
        if kind != "bool":
            raise Unfit(f"{column}: true and false are for columns of booleans; write it as text")
        return "true" if value else "false"
    if isinstance(value, int | float):
        if kind not in ("integer", "number"):
            raise Unfit(f"{column}: a number is for a column of numbers; write it as text")
        return repr(value)
    raise Unfit(f"{column}: an object or a list is for a json column; write it as text, as PostgreSQL reads it")


def typed(text: str | None, kind: Kind) -> Any:
    """A column's text as rules ask about it: integers, booleans and JSON as such, everything else its text."""
    if text is None:
        return None
    if kind == "integer":
        return int(text)
    if kind == "bool":
        return text == "true"
    if kind == "json":
        try:
            return read_json(text)
        except NotJson:
            return text
    return text
