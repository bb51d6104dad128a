"""The strata's names: a row's values, or what they are grouped into over all rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from podctl.spec.tickets import Dimension, First
from podctl.tickets.mapping import Reading, edges_text

#: The stratum of every ticket when none is asked for, and of one whose value is empty.
ONE_STRATUM = "all"
NO_STRATUM = "(none)"

Namer = Callable[[dict[str, Any]], str]


@dataclass(frozen=True)
class Grouping:
    """One dimension in effect: its name in a row's words, how it groups, for people, and the groups that were declared."""

    name: str
    how: str
    namer: Namer
    groups: tuple[str, ...] = ()


def groupings(
    spec: str | tuple[str | Dimension, ...] | Dimension | None, rows: Sequence[dict[str, Any]], reading: Reading
) -> list[Grouping]:
    """The dimensions of a stratum; what depends on the whole source (quantiles, the newest time) is taken from ``rows``.

    Rows that cannot be read are passed over here; their namer raises ValueError.
    """
    if spec is None:
        return []
    parts = (spec,) if isinstance(spec, str | Dimension) else spec
    return [_grouping(part if isinstance(part, Dimension) else Dimension(field=part), rows, reading) for part in parts]


def stratum_of(row: dict[str, Any], dimensions: Sequence[Grouping]) -> str:
    """Raises ValueError when a field is missing or cannot be read."""
    return " / ".join(dimension.namer(row) for dimension in dimensions) or ONE_STRATUM


def _grouping(part: Dimension, rows: Sequence[dict[str, Any]], reading: Reading) -> Grouping:
    field, name = part.field, _name(part.field)
    if part.values is not None:
        groups = {value: group for group, values in part.values.items() for value in values}
        return Grouping(
            name,
            f"groups of values, {', '.join([*part.values, *([part.otherwise] if part.otherwise else [])])}",
            _valued(field, groups, part.otherwise, reading),
            tuple(part.values),
        )
    if part.length is not None:
        names = edges_text([str(edge) for edge in part.length])
        edges = list(part.length)
        return Grouping(
            name,
            f"length in characters, {', '.join(names)}",
            lambda row: names[bisect_right(edges, len(reading.text(row, field, "stratum")))],
            tuple(names),
        )
    if part.bins is not None:
        names = edges_text([f"{edge:g}" for edge in part.bins])
        number = _between(lambda row: reading.number(row, field, "stratum"), part.bins, names)
        return Grouping(name, ", ".join(names), number, tuple(names))
    if part.quantiles is not None:
        return _quantiles(part.quantiles, field, name, rows, reading)
    if part.age is not None:
        return _ages(part, name, rows, reading)
    return Grouping(name, "its values", _valued(field, {}, None, reading))


def _name(field: str | First) -> str:
    return field if isinstance(field, str) else field.first[0]


def _valued(field: str | First, groups: dict[str, str], otherwise: str | None, reading: Reading) -> Namer:
    def name(row: dict[str, Any]) -> str:
        text = reading.text(row, field, "stratum", between="+").strip()
        if text in groups:
            return groups[text]
        return (otherwise if otherwise is not None else text) or NO_STRATUM

    return name


def _between(value: Callable[[dict[str, Any]], float | None], edges: Sequence[float], names: Sequence[str]) -> Namer:
    def name(row: dict[str, Any]) -> str:
        found = value(row)
        return NO_STRATUM if found is None else names[bisect_right(edges, found)]

    return name


def _quantiles(count: int, field: str | First, name: str, rows: Sequence[dict[str, Any]], reading: Reading) -> Grouping:
    """Cut between observed values: as many values as the i-th part are at or below the i-th edge; ties stay together."""

    def number(row: dict[str, Any]) -> float | None:
        return reading.number(row, field, "stratum")

    values = sorted(value for value in _readable(number, rows) if value is not None)
    edges = [values[-(-index * len(values) // count) - 1] for index in range(1, count)] if values else []
    names = [f"part {index} of {count}" for index in range(1, count + 1)]

    def part(row: dict[str, Any]) -> str:
        found = number(row)
        return NO_STRATUM if found is None else names[sum(found > edge for edge in edges)]

    return Grouping(name, f"{count} parts of about equal size, up to {', '.join(f'{edge:g}' for edge in edges)}", part)


def _ages(part: Dimension, name: str, rows: Sequence[dict[str, Any]], reading: Reading) -> Grouping:
    def time(row: dict[str, Any]) -> datetime | None:
        return reading.time(row, part.field, "stratum")

    if part.at == "newest":
        end = max((moment for moment in _readable(time, rows) if moment is not None), default=None)
    else:
        end = datetime.fromisoformat(part.at)
        end = end if end.tzinfo is not None else end.replace(tzinfo=reading.zone)

    def age(row: dict[str, Any]) -> float | None:
        begun = time(row)
        return None if begun is None or end is None else (end - begun).total_seconds()

    edges = part.age or ()
    names = edges_text([_duration(edge) for edge in edges])
    at = end.isoformat(timespec="minutes") if end is not None else "nothing"
    return Grouping(name, f"age at {at}: {', '.join(names)}", _between(age, edges, names), tuple(names))


def _readable(read: Callable[[dict[str, Any]], Any], rows: Sequence[dict[str, Any]]) -> list[Any]:
    found = []
    for row in rows:
        try:
            found.append(read(row))
        except ValueError:
            continue  # its own row says so
    return found


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds / 3600:g}h"
