"""Paths into a row: ``a.b.c``, ``labels[].name`` through a list, ``labels[0]``. A key written with its dots wins over nesting."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any

from podctl.spec.problems import printable

#: What `find` gives when a path leads nowhere; None is a value.
ABSENT: Any = object()

_INDEX = re.compile(r"\[(-?\d{0,6})\]")
#: Rows, and paths in them, that are looked at to say what somebody may have meant.
_LOOKED_AT = 200
_PATHS = 2_000
_PATH_DEPTH = 6


def find(row: dict[str, Any], path: str) -> Any:
    """The value at the path, or `ABSENT`; a null on the way is a null. Through ``[]`` it is the list of what is there."""
    if path in row:
        return row[path]
    return _follow(row, path.split("."))


def _follow(value: Any, parts: list[str]) -> Any:
    for position, part in enumerate(parts):
        if value is None:
            return None
        name, *indices = _INDEX.split(part) if "[" in part else [part]
        if not isinstance(value, dict) or name not in value:
            return ABSENT
        value = value[name]
        # re.split gives what stands between two indices too, which is nothing.
        for index in indices[::2]:
            if value is None:
                return None
            if not isinstance(value, list):
                return ABSENT
            if index == "":
                rest = parts[position + 1 :]
                through = [_follow(entry, rest) if rest else entry for entry in value]
                found = [entry for entry in through if entry is not ABSENT and entry is not None]
                return found if found or not value else ABSENT
            if not -len(value) <= int(index) < len(value):
                return None
            value = value[int(index)]
    return value


def without(row: dict[str, Any], paths: list[str]) -> dict[str, Any]:
    """The row with nothing at any of the paths, in lists' entries neither; what no path leads into is shared with it."""
    rest = row
    for path in paths:
        rest = {name: value for name, value in rest.items() if name != path} if path in rest else rest
        rest = _pruned(rest, plain_parts(path))
    return rest


def plain_parts(path: str) -> list[str]:
    """The path split at its dots, without what says how to go through lists."""
    return _INDEX.sub("", path).split(".")


def leads_somewhere(row: Any, parts: list[str]) -> bool:
    """Whether `without` would remove something; ``parts`` is the path split at its dots."""
    if isinstance(row, list):
        return any(leads_somewhere(entry, parts) for entry in row)
    if not isinstance(row, dict):
        return False
    if ".".join(parts) in row:
        return True
    return len(parts) > 1 and parts[0] in row and leads_somewhere(row[parts[0]], parts[1:])


def meant(path: str, rows: Iterable[dict[str, Any]]) -> str:
    """What somebody who wrote ``path`` may have meant, or what there is."""
    known: dict[str, None] = {}
    columns: dict[str, None] = {}
    for _, row in zip(range(_LOOKED_AT), rows, strict=False):
        columns.update(dict.fromkeys(row))
        for found in _paths(row, "", 0):
            if len(known) >= _PATHS:
                break
            known.setdefault(found)
    names = list(known)
    near = difflib.get_close_matches(path[:80], names, n=1)
    if not near and "." not in path:
        near = [name for name in names if name.rpartition(".")[2] == path][:1]
    return printable(f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(list(columns)[:12])}")


def _paths(value: Any, prefix: str, depth: int) -> Iterator[str]:
    if isinstance(value, dict) and depth < _PATH_DEPTH:
        for name, entry in value.items():
            path = f"{prefix}.{name}" if prefix else name
            yield path
            yield from _paths(entry, path, depth + 1)
    elif isinstance(value, list) and prefix:
        yield f"{prefix}[]"
        for entry in value[:3]:
            yield from _paths(entry, f"{prefix}[]", depth + 1)


def _pruned(value: Any, parts: list[str]) -> Any:
    """The same value where the path leads nowhere, else a copy of what lies along it."""
    if isinstance(value, list):
        entries = [_pruned(entry, parts) for entry in value]
        return entries if any(new is not old for new, old in zip(entries, value, strict=True)) else value
    if not isinstance(value, dict):
        return value
    path = ".".join(parts)
    if path in value:
        value = {name: entry for name, entry in value.items() if name != path}
    if len(parts) > 1 and parts[0] in value:
        inner = _pruned(value[parts[0]], parts[1:])
        value = {**value, parts[0]: inner} if inner is not value[parts[0]] else value
    return value
