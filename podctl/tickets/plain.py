"""Values of databases and column files as JSON has them."""

from __future__ import annotations

import math
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

MAX_DEPTH = 64


class Unfit(Exception):
    """A value that no ticket can have, in words."""


def plain_value(value: Any, column: str, depth: int = 0) -> Any:
    """Times are ISO 8601, exact numbers text, not-a-number null. Raises `Unfit` for bytes, NUL and deep nesting."""
    if isinstance(value, str):
        if "\0" in value:
            raise Unfit(f"the column {column!r} has text with a NUL character")
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal | uuid.UUID):
        return str(value)
    if depth >= MAX_DEPTH:
        raise Unfit(f"the column {column!r} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        return {str(key): plain_value(entry, column, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_value(entry, column, depth + 1) for entry in value]
    if isinstance(value, bytes | bytearray | memoryview):
        raise Unfit(f"the column {column!r} holds bytes, which a ticket cannot have; leave it out")
    return str(value)
