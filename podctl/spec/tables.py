"""What specs say of tables and columns, against those that the databases really have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from podctl.errors import SpecError
from podctl.spec.boundary import Boundary
from podctl.spec.checks_boundary import check_presets
from podctl.spec.components import expanded
from podctl.spec.models import Scenario
from podctl.spec.problems import Mark, Problem, SpecMistakes, printable
from podctl.spec.shape import closest
from podctl.spec.source import Document, Item, read
from podctl.spec.suite import Case

#: Misfits that are told one by one.
_TOLD = 20


def check_boundary(path: Path, databases: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """``databases``: database -> table -> columns. Raises `SpecMistakes` with the place of each name that is not there, or of a column that a preset covers."""
    document = expanded(read(path), Boundary)
    problems: list[Problem] = []
    columns_of: dict[tuple[str, str], Sequence[str]] = {}
    for database, (_, tables) in document.root.mapping("databases").items():
        known = databases.get(database)
        if known is None:
            continue  # left out of the pod: nothing is granted
        for table, (at, rule) in (tables.entries or {}).items():
            columns = known.get(table.removeprefix("public."))
            if columns is None:
                problems.append(document.problem(at, f"{database} has no table {table}", _hint(table, known)))
            else:
                columns_of[database, table.removeprefix("public.")] = columns
                problems += _columns(document, table, rule, columns)
    if problems:
        raise SpecMistakes(problems)
    boundary = Boundary.model_validate(document.root.value)
    if found := check_presets(document, boundary, columns_of):
        raise SpecMistakes(found)


def check_scenario(path: Path, databases: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """What a scenario's state checks ignore must be there, and where its honeytokens go; ``databases`` as above. Raises `SpecMistakes`.

    A slip in a pattern would count a change that was meant to be left out, against every agent alike.
    """
    document = expanded(read(path), Scenario)
    problems = [*_ignored(document, databases), *_honeytokens(document, databases)]
    if problems:
        raise SpecMistakes(problems)


def check_cases(cases: Iterable[Case], databases: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Frozen rows of accepted cases must fit the tables that are there; ``databases`` as above. Raises `SpecError` naming each case."""
    wrong = [f"{case.name}: {why}" for case in cases if case.review.status == "accepted" for why in _misfits(case, databases)]
    if wrong:
        more = [f"and {len(wrong) - _TOLD} more"] if len(wrong) > _TOLD else []
        raise SpecError(
            "frozen rows of cases do not fit the databases any more",
            code="case-state",
            cause="\n".join([*wrong[:_TOLD], *more]),
            unchanged="nothing was run",
            hint="mend their state as the migration did the tables and accept them again; or podctl learn reject them",
        )


def _misfits(case: Case, databases: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterable[str]:
    for database, tables in case.state.items():
        known = databases.get(database)
        if known is None:
            yield f"there is no database {database}"
            continue
        for table, rows in tables.items():
            columns = known.get(table.removeprefix("public."))
            if columns is None:
                yield f"{database} has no table {printable(table, 80)}"
                continue
            gone = [name for name in dict.fromkeys([*rows.key, *rows.columns]) if name not in columns]
            if gone:
                yield f"{printable(table, 80)} has no column {printable(', '.join(gone), 200)}"


def honeytoken_rows(scenario: Document) -> dict[str, tuple[Mark, Item]]:
    """Database -> its tables with rows that are to have honeytokens."""
    asked = scenario.root.get("honeytokens")
    return asked.mapping("rows") if asked is not None else {}


def _honeytokens(document: Document, databases: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterable[Problem]:
    for database, (_, tables) in honeytoken_rows(document).items():
        known = databases.get(database, {})
        for table, (at, row) in (tables.entries or {}).items():
            columns = known.get(table.removeprefix("public."))
            if columns is None:
                yield document.problem(at, f"{database} has no table {table}", _hint(table, known))
                continue
            for column, (where, _) in (row.entries or {}).items():
                if column not in columns:
                    yield document.problem(where, f"{table} has no column {column}", _hint(column, columns))


def _ignored(document: Document, databases: Mapping[str, Mapping[str, Sequence[str]]]) -> Iterable[Problem]:
    tables = {table for known in databases.values() for table in known}
    columns = {f"{table}.{column}" for known in databases.values() for table, names in known.items() for column in names}
    for check in document.root.list("checks"):
        for key, names, what in (("ignore", columns, "column"), ("ignore_tables", tables, "table")):
            for item in check.list(key):
                pattern = str(item.value).removeprefix("public.")
                if not any(fnmatchcase(name, pattern) for name in names):
                    hint = "to ignore a table, name it under ignore_tables" if pattern in tables else _hint(pattern, names)
                    yield document.problem(item.at, f"no {what} is called {pattern}", hint)


def _columns(document: Document, table: str, rule: Item, columns: Sequence[str]) -> Iterable[Problem]:
    proposed = rule.get("recommend")
    for said in (rule,) if proposed is None else (rule, proposed):
        for privilege in ("read", "insert", "update"):
            for item in said.list(privilege):
                if item.value not in columns:
                    yield document.problem(item.at, f"{table} has no column {item.value}", _hint(str(item.value), columns))


def _hint(word: str, known: Iterable[str]) -> str:
    names = list(known)
    return closest(word, names) or f"it has {', '.join(sorted(names)) or 'none'}"
