"""Files to frozen values: one file, or a scenario with everything it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from podctl.errors import SpecError
from podctl.spec.bundle import Bundle
from podctl.spec.cases import read_cases
from podctl.spec.checks import check, check_across, check_strata
from podctl.spec.checks_approvals import check_recommended
from podctl.spec.checks_boundary import extra_of
from podctl.spec.components import expanded
from podctl.spec.models import Agent, Boundary, Model, Quarantine, Scenario, Tickets, Topology
from podctl.spec.problems import Problem, SpecMistakes, printable
from podctl.spec.report import absolute
from podctl.spec.shape import KINDS, of_the_whole, validate
from podctl.spec.source import Document, read
from podctl.spec.suite import Case, Suite
from podctl.spec.volume import Volume

ROLES: dict[str, type[Model]] = {
    "topology": Topology,
    "tickets": Tickets,
    "agent": Agent,
    "boundary": Boundary,
    "quarantine": Quarantine,
}

M = TypeVar("M", bound=Model)


def load_model(path: Path, model: type[M], absent: tuple[str, ...] = ()) -> M:
    """One file, checked as far as it can be alone; its paths are absolute.

    ``absent``: keys whose files need not be there. Raises `SpecError`: `SpecMistakes` lists every mistake of the file.
    """
    value, problems = _value(read_spec(path, model), model, absent)
    if value is None or problems:
        raise SpecMistakes(problems)
    return value


def read_spec(path: Path, model: type[Model], within: Path | None = None) -> Document:
    """A file with the components that it uses. Raises `SpecError`, also for a component that is not ``within`` that directory."""
    return expanded(read(path), model, _may_open(within))


def _may_open(within: Path | None) -> Callable[[Path], None]:
    return _anywhere if within is None else lambda target: _refuse_outside([target], within)


def _anywhere(path: Path) -> None:
    """Whoever runs podctl may read what their own files name."""


def load_suite(path: Path) -> tuple[Suite, tuple[Case, ...]]:
    """A suite with all its cases, reviewed or not. Raises `SpecError`: `SpecMistakes` lists every mistake of every case."""
    document = read(path)
    suite, problems = _value(document, Suite)
    cases, found = read_cases(document, suite, _anywhere)
    if suite is None or problems or found:
        raise SpecMistakes(_ordered([*problems, *found], document))
    return suite, cases


def load_volume(path: Path, population: Mapping[str, int]) -> Volume:
    """A Volume file against the strata of a run's population (stratum -> tickets). Raises `SpecError`, as `load_model` does."""
    document = read(path)
    value, problems = _value(document, Volume)
    problems += check_strata(document, population)
    if value is None or problems:
        raise SpecMistakes(_ordered(problems, document))
    return value


def load_bundle(path: Path, overrides: Mapping[str, Path] | None = None, within: Path | None = None) -> Bundle:
    """A scenario and the files it names, checked against one another.

    ``overrides`` (``agent``, ``tickets``, ``boundary``, ``topology`` -> file) stand in for what the scenario names.
    ``within`` is for specs of people who may not read this machine's files: a path that leads out of it, links followed,
    is refused, and the file not opened. Raises `SpecError`: `SpecMistakes` lists every mistake of every file.
    """
    overrides = overrides or {}
    if within is not None:
        _refuse_outside([path, *overrides.values()], within)
    for role in overrides:
        if role not in ROLES:
            raise SpecError(
                f"nothing to replace by the name {printable(role)}", code="spec-override", hint=f"one of {', '.join(ROLES)}"
            )
    document = read_spec(path, Scenario, within)
    scenario, problems = _value(document, Scenario, tuple(overrides))
    replaced = {role: absolute(given, Path.cwd()) for role, given in overrides.items()}
    documents: dict[str, Document] = {}
    values: dict[str, Model | None] = {}
    cases: tuple[Case, ...] | None = None
    for role, model in ROLES.items():
        target = replaced.get(role) or _named(document, role)
        if target is None:
            continue
        if within is not None:
            _refuse_outside([target], within)
        try:
            found_kind = read(target).root.text("kind", "")
            is_suite = role == "tickets" and found_kind == "Suite"
            documents[role] = read_spec(target, Suite if is_suite else model, within)
        except SpecMistakes as error:
            problems += error.problems
        except SpecError as error:
            if role in replaced:
                raise
            written = document.root.get(role)
            problems.append(document.problem((written or document.root).at, error.what, error.hint))
        else:
            extra = documents[role].root.text("cedar", "") if role == "boundary" else ""
            if within is not None and extra and "\0" not in extra:
                # It is read to be checked, and its mistakes are shown with the lines they stand in.
                _refuse_outside([absolute(extra, target.parent)], within)
            values[role], found = _value(documents[role], Suite if is_suite else model)
            problems += found
            if is_suite:
                cases, found = read_cases(documents[role], cast("Suite | None", values[role]), _may_open(within))
                problems += found
    problems += check_across(document, documents.get("topology"), documents.get("boundary"), documents.get("agent"))
    if boundary := cast("Boundary | None", values.get("boundary")):
        problems += check_recommended(document, boundary)
    if within is not None:
        _refuse_outside([*paths_in(scenario), *paths_in(tuple(values.values()))], within)
    if problems or scenario is None:
        raise SpecMistakes(_ordered(problems, document))
    return Bundle(
        path=document.path,
        scenario=scenario.model_copy(update=replaced),
        topology=cast(Topology, values["topology"]),
        tickets=cast("Tickets | Suite", values["tickets"]),
        agent=cast(Agent, values["agent"]),
        boundary=cast(Boundary, values["boundary"]),
        quarantine=cast("Quarantine | None", values.get("quarantine")),
        extra=extra_of(cast(Boundary, values["boundary"])),
        cases=cases,
        components=tuple(dict.fromkeys(used.path for one in (document, *documents.values()) for used in one.used.values())),
    )


def _value(document: Document, model: type[M], replaced: tuple[str, ...] = ()) -> tuple[M | None, list[Problem]]:
    """The value with absolute paths, and all problems of the file in the order of its lines."""
    if document.broken:
        return None, sorted(document.problems, key=lambda problem: problem.at)
    value, problems = validate(document, model)
    if document.root.entries is not None and document.root.text("kind", model.__name__) == model.__name__:
        taken = {problem.at for problem in problems}
        problems += [problem for problem in check(document, model, replaced) if problem.at not in taken]
        if value is None and not problems:
            problems = of_the_whole(document, model)
    problems.sort(key=lambda problem: problem.at)
    return (None if value is None else _absolute(value, document.path.parent)), problems


def _named(document: Document, role: str) -> Path | None:
    """The file a scenario names for a role, when it is text that leads to one."""
    written = document.root.text(role, "")
    if not written:
        return None
    target = absolute(written, document.path.parent)
    try:
        return target if target.is_file() else None
    except OSError:
        return None


def _ordered(problems: list[Problem], first: Document) -> list[Problem]:
    """The scenario's problems first, then each file's, by line."""
    unique = list(dict.fromkeys(problems))
    files = list(dict.fromkeys([first.file, *(problem.file for problem in unique)]))
    return sorted(unique, key=lambda problem: (files.index(problem.file), problem.at))


def _absolute(value: M, base: Path) -> M:
    return cast(M, _with_base(value, base))


def _with_base(value: Any, base: Path) -> Any:
    """The same value with every path in it absolute."""
    if isinstance(value, Path):
        return absolute(value, base)
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        changed = {name: new for name, old in fields.items() if (new := _with_base(old, base)) is not old}
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, dict):
        changed = {key: new for key, old in value.items() if (new := _with_base(old, base)) is not old}
        return {**value, **changed} if changed else value
    if isinstance(value, tuple):
        items = tuple(_with_base(item, base) for item in value)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def paths_in(value: Any) -> Iterator[Path]:
    """Every path in a spec."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, BaseModel):
        yield from paths_in(tuple(getattr(value, name) for name in type(value).model_fields))
    elif isinstance(value, dict):
        yield from paths_in(tuple(value.values()))
    elif isinstance(value, tuple):
        for item in value:
            yield from paths_in(item)


def _refuse_outside(paths: Iterable[Path], root: Path) -> None:
    top = root.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(top):
            raise SpecError(
                f"{printable(path.name)} lies outside of what this run may read",
                code="spec-outside",
                unchanged="it was not opened",
                hint="name files of the scenario's own directory tree, without links that lead out of it",
            )


def load_any(path: Path) -> Bundle | Model:
    """A file of any kind, checked; a scenario with all it refers to, a suite with its cases. Raises `SpecError`."""
    document = read(path)
    kind = document.root.get("kind")
    written = str(kind.value) if kind is not None else ""
    model = KINDS.get(written, Scenario)
    if model is Suite:
        return load_suite(path)[0]
    return load_bundle(path) if model is Scenario else load_model(path, model)
