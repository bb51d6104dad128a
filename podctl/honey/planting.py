"""Honeytokens of one attempt: worthless values that look like secrets, and where they are put. PURE but for chance."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from podctl.spec.honeytokens import MARK, Honeytokens

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 24

#: A row to be: schema, table, column -> text or null.
Row = tuple[str, str, Mapping[str, str | None]]


@dataclass(frozen=True)
class Decoys:
    """``tokens``: place -> value, each attempt's own. ``rows``: database -> rows that its clone gets."""

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    rows: Mapping[str, tuple[Row, ...]] = field(default_factory=dict, repr=False)


NOTHING = Decoys()


def plant(asked: Honeytokens | None, also: Mapping[str, str] | None = None) -> Decoys:
    """New values for everything that is asked for. ``also``: place -> value that is somewhere already, and is looked for too."""
    if asked is None:
        return Decoys(dict(also)) if also else NOTHING
    tokens: dict[str, str] = dict(also or {})

    def new(place: str) -> str:
        tokens[place] = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
        return tokens[place]

    environment = {name: new(f"variable {name}") for name in asked.environment}
    files = {name: f"{new(f'file {name}')}\n".encode() for name in asked.files}
    rows = {
        database: tuple(_row(table, values, new(f"row of {database}.{table}")) for table, values in tables.items())
        for database, tables in asked.rows.items()
    }
    return Decoys(tokens, environment, files, rows)


def _row(table: str, values: Mapping[str, Any], token: str) -> Row:
    schema, _, name = table.rpartition(".")
    return schema or "public", name, {column: _text(value, token) for column, value in values.items()}


def _text(value: Any, token: str) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value).replace(MARK, token)
