"""The reference resolution in a row, parsed strictly: a slip here would grade every agent wrongly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from podctl.tickets.rows import decode
from podctl.tickets.types import ExpectedChange, Reference, Ticket

_OPS: dict[str, tuple[bool, bool]] = {"insert": (False, True), "update": (True, True), "delete": (True, False)}
_CHANGE_KEYS = ("database", "table", "op", "key", "values")


def parse_reference(value: Any) -> Reference | None:
    """A reference from an object, or from text that holds one as JSON; None or empty text is no reference.

    Raises ValueError saying what was expected.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = decode(value)
        except ValueError as error:
            raise ValueError(f"the reference is not JSON: {error}") from error
    where = "the reference"
    _object(value, where, ("changes", "sql", "output"))
    if not value:
        raise ValueError(f"{where} says nothing: expected changes, sql or output (changes: [] means that nothing may change)")
    changes = value.get("changes")
    if "changes" in value:
        if not isinstance(changes, list):
            raise ValueError(f"{where}.changes: expected a list, found {kind(changes)}")
        changes = tuple(_change(entry, f"{where}.changes[{index}]") for index, entry in enumerate(changes))
    sql = value.get("sql", {})
    _object(sql, f"{where}.sql")
    for database, script in sql.items():
        _text(script, f"{where}.sql.{database}")
    output = value.get("output", {})
    _object(output, f"{where}.output")
    if sql and changes is not None:
        raise ValueError(f"{where} has changes and sql: keep one of them")
    return Reference(changes=changes, sql=dict(sql), output=dict(output))


def unknown_databases(tickets: Iterable[Ticket], known: Iterable[str]) -> dict[str, str]:
    """Databases that references name and that are not among ``known`` -> the first ticket that names each."""
    names, found = set(known), dict[str, str]()
    for ticket in tickets:
        if ticket.reference is None:
            continue
        named = [*ticket.reference.sql, *(change.database for change in ticket.reference.changes or ())]
        for database in named:
            if database not in names:
                found.setdefault(database, ticket.id)
    return found


def _change(entry: Any, where: str) -> ExpectedChange:
    _object(entry, where, _CHANGE_KEYS)
    for name in ("database", "table", "op"):
        if name not in entry:
            raise ValueError(f"{where}: {name} is missing")
        _text(entry[name], f"{where}.{name}")
    op = entry["op"]
    if op not in _OPS:
        raise ValueError(f"{where}.op: expected insert, update or delete, found {op[:40]!r}")
    for name, needed in zip(("key", "values"), _OPS[op], strict=True):
        given = entry.get(name, {})
        _object(given, f"{where}.{name}")
        if needed and not given:
            raise ValueError(f"{where}: {op} needs {name}, columns with their values")
        if given and op == "delete" and name == "values":
            raise ValueError(f"{where}: delete has no values")
    return ExpectedChange(entry["database"], entry["table"], op, dict(entry.get("key", {})), dict(entry.get("values", {})))


def _object(value: Any, where: str, known: tuple[str, ...] = ()) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {kind(value)}")
    for key in value:
        if known and key not in known:
            raise ValueError(f"{where}: unknown key {key[:40]!r}; known here: {', '.join(known)}")


def _text(value: Any, where: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: expected text, found {kind(value)}")


def kind(value: Any) -> str:
    """What a JSON value is, in a word."""
    if value is None:
        return "null"
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "empty text" if value == "" else names[type(value)]
