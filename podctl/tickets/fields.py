"""Dotted paths into a row: a key written with its dots wins over nesting."""

from __future__ import annotations

import copy
from typing import Any

#: What `find` gives when a path leads nowhere; None is a value.
ABSENT: Any = object()


def find(row: dict[str, Any], path: str) -> Any:
    """The value at ``a.b.c``, or `ABSENT`."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return ABSENT
        value = value[part]
    return value


def without(row: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """A copy of the row that has nothing at any of the paths, in lists' entries neither."""
    rest = copy.deepcopy(row)
    for path in paths:
        rest.pop(path, None)
        _remove(rest, path.split("."))
    return rest


def leads_somewhere(row: Any, parts: list[str]) -> bool:
    """Whether `without` would remove something; ``parts`` is the path split at its dots."""
    if isinstance(row, list):
        return any(leads_somewhere(entry, parts) for entry in row)
    if not isinstance(row, dict):
        return False
    if ".".join(parts) in row:
        return True
    return len(parts) > 1 and parts[0] in row and leads_somewhere(row[parts[0]], parts[1:])


def _remove(value: Any, parts: list[str]) -> None:
    if isinstance(value, list):
        for entry in value:
            _remove(entry, parts)
    elif isinstance(value, dict):
        value.pop(".".join(parts), None)
        if len(parts) > 1 and parts[0] in value:
            _remove(value[parts[0]], parts[1:])
