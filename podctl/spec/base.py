"""What every kind of spec is made of: durations, sizes, amounts, names, and the frozen model."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

API_VERSION = "podctl/v1"

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h)$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"^(\d+)(Ki|Mi|Gi|k|M|G)?$")
_AMOUNT = re.compile(r"^-?\d{1,18}(?:\.\d{1,18})?(?:[eE][-+]?\d{1,2})?$", re.ASCII)
_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9}


def parse_duration(value: object) -> object:
    """Seconds from ``"250ms"``, ``"90s"``, ``"5m"``, ``"1h"`` or a bare number of seconds."""
    if isinstance(value, str):
        match = _DURATION.match(value.strip())
        if match is None:
            raise ValueError("expected a duration such as 250ms, 90s, 5m or 1h")
        return float(match[1]) * _SECONDS[match[2]]
    return value


def parse_size(value: object) -> object:
    """Bytes from ``"512Mi"``, ``"1Gi"``, ``"10M"`` or a bare number of bytes."""
    if isinstance(value, str):
        match = _SIZE.match(value.strip())
        if match is None:
            raise ValueError("expected a size such as 64Ki, 512Mi or 1Gi")
        return int(match[1]) * _BYTES[match[2] or ""]
    return value


def parse_decimal(value: object) -> object:
    """An exact amount from a YAML number or from text such as ``"0.25"``."""
    # YAML gives floats; going through repr keeps 0.1 from becoming 0.1000000000000000055.
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Decimal(repr(value))
    if isinstance(value, str):
        if _AMOUNT.match(value.strip()) is None:
            raise ValueError("expected an amount such as 5 or 0.25")
        return Decimal(value.strip())
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, le=7 * 86400)]
Bytes = Annotated[int, BeforeValidator(parse_size), Field(gt=0)]
Dollars = Annotated[Decimal, BeforeValidator(parse_decimal), Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(ge=0, le=1)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    #: Fields younger than the digests of stored runs: at their default a resolved spec does not have them.
    YOUNGER: ClassVar[frozenset[str]] = frozenset()
