"""``use:`` put in place: a component's content with its parameters, as values and never as text."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from podctl.errors import SpecError
from podctl.spec.base import Model
from podctl.spec.component import Component
from podctl.spec.problems import Mark, Problem, SpecMistakes, printable
from podctl.spec.shape import annotations_below, closest, describe, is_path, takes_components, validate
from podctl.spec.source import MAX_DEPTH, MAX_VALUES, Document, Item, Used, read

#: Components that use one another, and uses in all of one file.
MOST_NESTED = 8
MOST_USES = 200
_ENDINGS = (".yaml", ".yml")


class _Stop(Exception):
    """A bound was met; what it says is among the problems."""


@dataclass(frozen=True)
class _Value:
    """What a parameter stands for, and where that is written."""

    item: Item
    scope: _Scope


@dataclass(frozen=True)
class _Scope:
    """A file that is being read: ``key`` tells its uses apart ("" is the spec itself), ``values`` are its parameters (None: it has none)."""

    document: Document
    key: str = ""
    values: Mapping[str, _Value] | None = None
    within: tuple[Path, ...] = ()


def expanded(document: Document, model: type[Model], allowed: Callable[[Path], None] = lambda path: None) -> Document:
    """The file with every ``use`` replaced, each value with its own place; as it is when it uses nothing.

    ``allowed`` is asked before a component is opened, and raises what refuses it. What is wrong is in ``problems``, and then nothing else of
    the file should be judged: ``broken``.
    """
    work = _Expanding(allowed)
    try:
        root = work.item(document.root, (model,), _Scope(document), 0)
    except _Stop:
        root = document.root
    if not work.used and not work.problems:
        return document
    return replace(
        document,
        root=root,
        problems=[*document.problems, *work.problems],
        used=work.used,
        broken=bool(work.problems),
    )


@dataclass
class _Expanding:
    allowed: Callable[[Path], None]
    problems: list[Problem] = field(default_factory=list)
    used: dict[str, Used] = field(default_factory=dict)
    uses: int = 0

    def item(self, item: Item, found: Sequence[Any], scope: _Scope, depth: int) -> Item:
        """``found``: annotations of the models that may stand here."""
        if depth > MAX_DEPTH:
            self._stop(scope, item.at, f"with its components the file is nested more than {MAX_DEPTH} deep")
        name = None if scope.values is None else _parameter_of(item)
        if name is not None:
            value = self._value(name, item, scope)
            return item if value is None else self.item(value.item, found, value.scope, depth + 1)
        if item.entries is not None:
            if _is_use(item, found):
                return self._use(item, found, scope, depth)
            return self._mapping(item, item.entries, found, scope, depth)
        if item.items is not None:
            return self._list(item, item.items, found, scope, depth)
        if scope.key and isinstance(item.value, str) and is_path(found):
            written = os.path.normpath(scope.document.path.parent / item.value)
            return replace(item, value=written, at=self._mark(item.at, scope))
        return replace(item, at=self._mark(item.at, scope))

    def _mapping(
        self, item: Item, given: Mapping[str, tuple[Mark, Item]], found: Sequence[Any], scope: _Scope, depth: int
    ) -> Item:
        entries = {
            key: (self._mark(at, scope), self.item(child, annotations_below(found, key), scope, depth + 1))
            for key, (at, child) in given.items()
        }
        return self._made(item, scope, entries=entries)

    def _list(self, item: Item, given: Sequence[Item], found: Sequence[Any], scope: _Scope, depth: int) -> Item:
        items: list[Item] = []
        # A component that stands for several entries of a list is used as one of them.
        below = annotations_below(found, 0) or found
        for child in given:
            made = self.item(child, below, scope, depth + 1)
            items += made.items if _is_use(child, below) and made.items is not None else [made]
        return self._made(item, scope, items=items)

    def _made(
        self, item: Item, scope: _Scope, entries: dict[str, tuple[Mark, Item]] | None = None, items: list[Item] | None = None
    ) -> Item:
        children = [child for _, child in entries.values()] if entries is not None else items or []
        weight = 1 + sum(child.weight for child in children)
        if weight > MAX_VALUES:
            self._stop(scope, item.at, f"with its components the file comes to more than {MAX_VALUES} values")
        value: Any = (
            {key: child.value for key, (_, child) in entries.items()}
            if entries is not None
            else [child.value for child in children]
        )
        return replace(item, value=value, at=self._mark(item.at, scope), entries=entries, items=items, weight=weight)

    # ---- one use ------------------------------------------------------------------------

    def _use(self, item: Item, found: Sequence[Any], scope: _Scope, depth: int) -> Item:
        assert item.entries is not None
        named = item.entries["use"][1]
        self.uses += 1
        if self.uses > MOST_USES:
            self._stop(scope, named.at, f"more than {MOST_USES} uses of components")
        path = Path(os.path.normpath(scope.document.path.parent / str(named.value)))
        if path in (scope.document.path, *scope.within):
            chain = " -> ".join(printable(one.name, 60) for one in (*scope.within, scope.document.path, path))
            return self._refuse(item, scope, named.at, f"the components use one another in a circle: {chain}")
        if len(scope.within) >= MOST_NESTED:
            return self._refuse(item, scope, named.at, f"components use one another more than {MOST_NESTED} deep")
        document = self._read(path, named, scope)
        content = None if document is None else document.root.get("content")
        if document is None or content is None:
            return item
        key = f"{len(self.used) + 1:04d}"
        here = self._problem(scope, item.at, "")
        self.used[key] = Used(document.path, document.file, document.lines, f"{here.file}:{here.at.line}:{here.at.column}")
        values = self._values(document, item, scope, key)
        if values is None:
            return item
        within = (*scope.within, scope.document.path)
        made = self.item(content, found, _Scope(document, key, values, within), depth + 1)
        beside = {name: entry for name, entry in item.entries.items() if name not in ("use", "with")}
        if not beside:
            return made
        if made.entries is None:
            at = next(iter(beside.values()))[0]
            return self._refuse(item, scope, at, "the component is a list, and takes nothing beside `use` and `with`")
        own = self._mapping(item, beside, found, scope, depth + 1)
        assert own.entries is not None
        return self._made(item, scope, entries={**made.entries, **own.entries})

    def _read(self, path: Path, named: Item, scope: _Scope) -> Document | None:
        self.allowed(path)
        try:
            document = read(path)
        except SpecMistakes as error:
            self.problems += error.problems
            return None
        except SpecError as error:
            self.problems.append(self._problem(scope, named.at, error.what, error.hint))
            return None
        component, problems = validate(document, Component)
        self.problems += problems
        return None if component is None or problems else document

    def _values(self, document: Document, item: Item, scope: _Scope, key: str) -> dict[str, _Value] | None:
        """Each parameter's value, said or its default; None when something is wrong with them."""
        declared = document.root.mapping("parameters")
        told = item.get("with")
        if told is not None and told.entries is None:
            self._say(scope, told.at, f"expected a mapping of parameters under `with`, found {describe(told)}")
            return None
        given = item.mapping("with")
        before = len(self.problems)
        for name, (at, _) in given.items():
            if name not in declared:
                hint = closest(name, declared) or f"it has {', '.join(declared) or 'none'}"
                self._say(scope, at, f"the component {document.path.name} has no parameter `{printable(name, 60)}`", hint)
        values = {}
        for name, (at, parameter) in declared.items():
            default = parameter.get("default")
            if name in given:
                value = _Value(given[name][1], scope)
            elif default is not None:
                value = _Value(default, _Scope(document, key, {}, scope.within))
            else:
                where = f"{document.file}:{at.line}:{at.column}"
                said = printable(str(parameter.text("description", "") or ""), 200)
                self._say(scope, item.at, f"the component needs `{name}`, under `with`", f"{where}{': ' if said else ''}{said}")
                continue
            wanted = str(parameter.text("type", ""))
            real = self._real(value)
            if real is not None and not _is_of(real.item, wanted):
                declared_at = f"declared at {document.file}:{at.line}:{at.column}"
                self._say(
                    real.scope, real.item.at, f"expected {_A[wanted]} for `{name}`, found {describe(real.item)}", declared_at
                )
            values[name] = value
        return values if len(self.problems) == before else None

    def _real(self, value: _Value) -> _Value | None:
        """What a value comes to when it is an outer component's parameter."""
        name = None if value.scope.values is None else _parameter_of(value.item)
        return value if name is None else (value.scope.values or {}).get(name)

    def _value(self, name: str, item: Item, scope: _Scope) -> _Value | None:
        values = scope.values or {}
        if name not in values:
            hint = closest(name, values) or f"it has {', '.join(values) or 'none'}"
            self._say(scope, item.at, f"no parameter is called `{printable(name, 60)}`", hint)
        return values.get(name)

    # ---- problems -----------------------------------------------------------------------

    def _mark(self, at: Mark, scope: _Scope) -> Mark:
        return replace(at, file=scope.key) if scope.key and not at.file else at

    def _problem(self, scope: _Scope, at: Mark, message: str, hint: str = "") -> Problem:
        return replace(scope.document, used=self.used).problem(self._mark(at, scope), message, hint)

    def _say(self, scope: _Scope, at: Mark, message: str, hint: str = "") -> None:
        self.problems.append(self._problem(scope, at, message, hint))

    def _refuse(self, item: Item, scope: _Scope, at: Mark, message: str) -> Item:
        self._say(scope, at, message)
        return item

    def _stop(self, scope: _Scope, at: Mark, message: str) -> None:
        self._say(scope, at, message)
        raise _Stop


_A = {"text": "text", "number": "a number", "boolean": "true or false", "list": "a list", "mapping": "a mapping"}


def _is_of(item: Item, wanted: str) -> bool:
    value = item.value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    of = {"text": isinstance(value, str), "number": number, "boolean": isinstance(value, bool)}
    return (
        of.get(wanted, False)
        or (wanted == "list" and isinstance(value, list))
        or (wanted == "mapping" and isinstance(value, dict))
    )


def _parameter_of(item: Item) -> str | None:
    """The name in ``{parameter: NAME}``."""
    if item.entries is None or set(item.entries) != {"parameter"}:
        return None
    name = item.entries["parameter"][1].value
    return name if isinstance(name, str) else None


def _is_use(item: Item, found: Sequence[Any]) -> bool:
    named = item.get("use")
    text = named.value if named is not None else None
    return isinstance(text, str) and text.endswith(_ENDINGS) and takes_components(found)
