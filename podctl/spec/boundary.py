"""A boundary against the tables that its databases really have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from podctl.spec.problems import Problem, SpecMistakes
from podctl.spec.shape import closest
from podctl.spec.source import Document, Item, read


def check_boundary(path: Path, databases: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """``databases``: database -> table -> columns. Raises `SpecMistakes` with the place of each name that is not there."""
    document = read(path)
    problems: list[Problem] = []
    for database, (_, tables) in document.root.mapping("databases").items():
        known = databases.get(database)
        if known is None:
            continue  # left out of the pod: nothing is granted
        for table, (at, rule) in (tables.entries or {}).items():
            columns = known.get(table.removeprefix("public."))
            if columns is None:
                problems.append(document.problem(at, f"{database} has no table {table}", _hint(table, known)))
            else:
                problems += _columns(document, table, rule, columns)
    if problems:
        raise SpecMistakes(problems)


def _columns(document: Document, table: str, rule: Item, columns: Sequence[str]) -> Iterable[Problem]:
    for privilege in ("read", "insert", "update"):
        for item in rule.list(privilege):
            if item.value not in columns:
                yield document.problem(item.at, f"{table} has no column {item.value}", _hint(str(item.value), columns))


def _hint(word: str, known: Iterable[str]) -> str:
    names = list(known)
    return closest(word, names) or f"it has {', '.join(sorted(names)) or 'none'}"
