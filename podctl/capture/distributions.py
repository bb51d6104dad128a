"""How near the rows that were taken are to all rows of their table, column by column, by samples of both. PURE.

What is kept are distances between 0 and 1 and shares, never a value or a label.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from podctl.capture.schema import Edge, Table
from podctl.data.captured import CapturedColumn, CapturedLikeness

#: What is looked at of a column: its values as numbers, as moments or as words, or whether there is one.
Look = Literal["numbers", "moments", "words", "nulls"]
#: Rows, each the text of its columns; numbers and moments as text of a number.
Sample = Sequence[Sequence[str | None]]
#: Rows of a sample, about.
SAMPLE = 5_000
#: Different values up to which a column counts as categories.
CATEGORIES = 20

_NUMBERS = frozenset(("smallint", "integer", "bigint", "numeric", "real", "double precision"))
_MOMENTS = frozenset(("date", "timestamp without time zone", "timestamp with time zone"))


def looks(table: Table, edges: Sequence[Edge], known: Mapping[str, bool]) -> dict[str, Look]:
    """``known``: column -> whether its values may be looked at, or only whether there are any; columns that are not in it are masked
    so that not even that is left. Keys and references say which row it is, not how rows are."""
    names = {*table.key, *(column for edge in edges if edge.child == table.shown for column in edge.columns)}
    found: dict[str, Look] = {}
    for column in table.stored:
        kind = column.type.split("(")[0]
        if column.name not in known:
            continue
        if not known[column.name] or column.unique or column.name in names or kind.endswith("[]"):
            if column.nullable:
                found[column.name] = "nulls"
        else:
            found[column.name] = "numbers" if kind in _NUMBERS else "moments" if kind in _MOMENTS else "words"
    return found


def likeness(columns: Mapping[str, Look], there: Sample, here: Sample) -> CapturedLikeness:
    """Of two samples of rows, each the columns in their order."""
    found = {}
    for place, (name, look) in enumerate(columns.items()):
        compared = _column(look, [row[place] for row in there], [row[place] for row in here])
        if compared is not None:
            found[name] = compared
    return CapturedLikeness(there=len(there), here=len(here), columns=found)


def _column(look: Look, there: Sequence[str | None], here: Sequence[str | None]) -> CapturedColumn | None:
    """None for a column that says nothing: without nulls, of many different words."""
    if not there or not here:
        return None
    values_there, values_here = ([value for value in values if value is not None] for values in (there, here))
    nulls = [1 - len(values_there) / len(there), 1 - len(values_here) / len(here)]
    apart, by = _apart(look, values_there, values_here)
    if apart is None and not any(nulls):
        return None
    return CapturedColumn(
        nulls_there=round(nulls[0], 4), nulls_here=round(nulls[1], 4), apart=None if apart is None else round(apart, 4), by=by
    )


def _apart(look: Look, there: Sequence[str], here: Sequence[str]) -> tuple[float | None, Literal["", "order", "shares"]]:
    if look == "nulls" or not there or not here:
        return None, ""
    if len(set(there)) <= CATEGORIES:
        return _shares(there, here), "shares"
    if look == "words":
        return None, ""
    return _order([float(value) for value in there], [float(value) for value in here]), "order"


def _shares(there: Sequence[str], here: Sequence[str]) -> float:
    """The total variation distance: the share of rows that would have to be of another category."""
    left, right = Counter(there), Counter(here)
    return sum(abs(left[name] / len(there) - right[name] / len(here)) for name in left | right) / 2


def _order(there: Sequence[float], here: Sequence[float]) -> float | None:
    """Kolmogorov and Smirnov's distance: the largest difference between the shares of rows up to a value."""
    left, right = (np.sort([value for value in values if not math.isnan(value)]) for values in (there, here))
    if not len(left) or not len(right):
        return None
    both = np.concatenate([left, right])
    shares = [np.searchsorted(one, both, side="right") / len(one) for one in (left, right)]
    return float(np.abs(shares[0] - shares[1]).max())
