"""Moments as documents have them, RFC 3339 in UTC to the second, and ages as people read them. PURE."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

#: A document may be so many seconds younger than this machine's clock says it is.
SKEW_S = 300


def _is_one(text: str) -> str:
    seconds_of(text)
    return text


def seconds_of(text: str) -> float:
    """Seconds since the epoch. Raises ValueError."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


Moment = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"), AfterValidator(_is_one)]


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def age_text(seconds: float) -> str:
    """``12 min``, ``5 h``, ``3 days``: in full units, down; a length below a minute is ``0 min``."""
    for unit, name in ((86400, "day"), (3600, "h"), (60, "min")):
        if seconds >= unit or unit == 60:
            count = int(seconds // unit)
            return f"{count} {name}{'s' if name == 'day' and count != 1 else ''}"
    raise AssertionError
