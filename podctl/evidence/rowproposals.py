"""A proposal to write a row, in words. What is in it is an agent's, and a database's: make it printable before it is shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def write_line(database: object, arguments: Mapping[str, Any]) -> str:
    """``UPDATE shop-db.orders id='7'``; an insert without a key."""
    key = ", ".join(f"{name}={_value(value)}" for name, value in _mapping(arguments.get("key")).items())
    return f"{str(arguments.get('operation')).upper()} {database}.{arguments.get('table')} {key}".strip()


def column_lines(arguments: Mapping[str, Any], *, whole: bool = False) -> dict[str, str]:
    """Column -> what stands there and what would: ``'open' → 'paid'``, ``+ 'new'``, ``- 'gone'``. ``whole``: behind them what stays, too."""
    values, row = _mapping(arguments.get("values")), _mapping(arguments.get("row"))
    if arguments.get("operation") == "insert":
        return {name: f"+ {_value(value)}" for name, value in values.items()}
    if arguments.get("operation") == "delete":
        return {name: f"- {_value(value)}" for name, value in row.items()}
    becomes = {name: f"{_value(row.get(name))} → {_value(value)}" for name, value in values.items() if row.get(name) != value}
    stays = {name: f"{_value(value)} (stays)" for name, value in row.items() if name not in becomes}
    return becomes | stays if whole else becomes


def _value(value: object) -> str:
    """In quotes that nothing in it can end."""
    if value is None:
        return "NULL"
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
