"""A document against a model: the frozen value, or each mistake at its place and in a user's words."""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from podctl.spec.attack import Attack
from podctl.spec.capture import Capture
from podctl.spec.chaos import Chaos
from podctl.spec.component import Component
from podctl.spec.ladder import Ladder
from podctl.spec.masking import Masking
from podctl.spec.models import Agent, Boundary, Model, Quarantine, Scenario, Tickets, Topology
from podctl.spec.prices import PriceLock, Prices
from podctl.spec.problems import Mark, Problem, printable
from podctl.spec.source import Document, Item
from podctl.spec.suite import Case, Suite
from podctl.spec.volume import Volume

KINDS: dict[str, type[Model]] = {
    "Scenario": Scenario,
    "Topology": Topology,
    "Tickets": Tickets,
    "Agent": Agent,
    "Boundary": Boundary,
    "Capture": Capture,
    "Masking": Masking,
    "Quarantine": Quarantine,
    "Volume": Volume,
    "Prices": Prices,
    "PriceLock": PriceLock,
    "Ladder": Ladder,
    "Component": Component,
    "Suite": Suite,
    "Case": Case,
    "Attack": Attack,
    "Chaos": Chaos,
}

M = TypeVar("M", bound=Model)

_PATTERNS = {
    r"^[a-z][a-z0-9-]{0,39}$": "a name (lower-case letters, digits and hyphens, a letter first, at most 40)",
    r"^[a-z_][a-z0-9_]{0,62}$": "a database's name (lower-case letters, digits and underscores, at most 63)",
    r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$": "OWNER/NAME",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of an environment variable (not what it holds)",
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$": "a day such as 2026-03-31",
    r"^[0-9a-f]{64}$": "a sha256 digest (64 of 0-9 and a-f)",
    r"^[a-z][a-z0-9_]{0,39}$": "a parameter's name (lower-case letters, digits and underscores, a letter first, at most 40)",
    r"^/": "a path that starts with /",
    r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$": "a version such as 1.4.0 (letters, digits and . _ + -)",
}
_TYPES = {
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "path_type": "a path",
    "is_instance_of": "an amount such as 5 or 0.25",
    "decimal_type": "an amount such as 5 or 0.25",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("gt", "a number above {}"),
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than": ("lt", "a number below {}"),
    "less_than_equal": ("le", "a number of at most {}"),
}
#: What YAML 1.1 read as true and false; people still write it.
_OLD_WORDS = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}


def validate(document: Document, model: type[M]) -> tuple[M | None, list[Problem]]:
    """The value, or None with the problems; the problems of the writing itself are among them."""
    header = _header(document, model)
    if header is not None:
        return None, [*document.problems, *header]
    problems = list(document.problems)
    try:
        # JSON mode is strict about text, numbers and booleans, and yet takes lists for tuples and text for paths.
        value = model.model_validate_json(json.dumps(document.root.value), strict=True)
    except ValidationError as error:
        problems += _explain(document, model, error)
        value = None
    if value is None or problems:
        known = {problem.at for problem in document.problems}
        shape = [problem for problem in problems[len(document.problems) :] if problem.at not in known]
        return None, [*document.problems, *shape]
    return value, []


def of_the_whole(document: Document, model: type[Model]) -> list[Problem]:
    """What a model says of a file whose parts are all right; it has no place but the file's beginning."""
    try:
        model.model_validate_json(json.dumps(document.root.value), strict=True)
    except ValidationError as error:
        whole = [entry for entry in error.errors(include_url=False) if not entry["loc"]]
        return [
            document.problem(document.root.at, str((entry.get("ctx") or {}).get("error") or entry["msg"])) for entry in whole
        ]
    return []


def closest(word: str, known: Iterable[str]) -> str:
    """``did you mean `x`?``, or nothing."""
    names = list(known)
    found = difflib.get_close_matches(word[:80], names, n=1, cutoff=0.6) or [
        name for name in names if name.lower() == word.lower()
    ]
    return f"did you mean `{found[0]}`?" if found else ""


def describe(item: Item) -> str:
    """What stands there, in a few words."""
    value = item.value
    if isinstance(value, str):
        return f"the text {printable(json.dumps(value, ensure_ascii=False), 60)}"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"the number {value}"


def _header(document: Document, model: type[Model]) -> list[Problem] | None:
    """Problems that make all others noise: no mapping, another kind of file."""
    root, kind = document.root, model.__name__
    if root.entries is None:
        return [document.problem(root.at, f"expected a mapping with apiVersion and kind: {kind}, found {describe(root)}")]
    found = root.get("kind")
    if found is None or found.value == kind:
        return None
    other = isinstance(found.value, str) and found.value in KINDS
    hint = (
        f"this file describes {'an' if str(found.value)[0] in 'AEIO' else 'a'} {found.value}; a file of kind {kind} is needed"
        if other
        else closest(str(found.value), [kind])
    )
    return [document.problem(found.at, f"expected kind: {kind}, found {describe(found)}", hint)]


@dataclass
class _Spot:
    """Where an error's location leads: the item, the key that opens it, and parts that lead nowhere (union branches)."""

    item: Item
    key: Mark | None
    path: tuple[str | int, ...]
    branched: bool


def _locate(root: Item, loc: tuple[str | int, ...]) -> _Spot:
    spot = _Spot(root, None, (), False)
    tagged = -1
    for part in loc:
        item = spot.item
        if isinstance(part, int) and item.items is not None and part < len(item.items):
            spot = _Spot(item.items[part], None, (*spot.path, part), spot.branched)
        elif tagged != len(spot.path) and _is_tag(item, part, spot.path):
            # Once a mapping: a command check has a key "command" too.
            tagged = len(spot.path)
        elif isinstance(part, str) and item.entries is not None and part in item.entries:
            mark, child = item.entries[part]
            spot = _Spot(child, mark, (*spot.path, part), spot.branched)
        elif part != "[key]":
            spot.branched = True
    return spot


def _is_tag(item: Item, part: str | int, path: tuple[str | int, ...]) -> bool:
    """pydantic puts the chosen tag after a tagged union's place; lists of tagged mappings are the only ones."""
    kind = item.get("kind")
    return kind is not None and kind.value == part and bool(path) and isinstance(path[-1], int)


def _explain(document: Document, model: type[Model], error: ValidationError) -> list[Problem]:
    missing: dict[Mark, list[str]] = {}
    wrong: dict[tuple[str | int, ...], list[tuple[_Spot, str, str]]] = {}
    problems: list[Problem] = []
    for entry in error.errors(include_url=False):
        loc, kind = entry["loc"], entry["type"]
        absent = kind == "missing"
        spot = _locate(document.root, loc[:-1] if absent else loc)
        context: dict[str, Any] = entry.get("ctx") or {}
        if absent or kind == "union_tag_not_found":
            missing.setdefault(spot.key or spot.item.at, []).append(str(loc[-1]) if absent else "kind")
        elif kind == "extra_forbidden":
            name, known = str(loc[-1]), _fields(model, loc[:-1])
            hint = closest(name, known) or f"known here: {', '.join(known)}"
            problems.append(document.problem(spot.key or spot.item.at, f"unknown key `{printable(name, 60)}`", hint))
        elif not loc:
            continue  # the meaning of a whole file is for podctl.spec.checks, which knows the place; else for `of_the_whole`
        elif kind == "too_short" and len(spot.item.items or spot.item.entries or ()) >= context["min_length"]:
            continue  # pydantic counts only the entries without mistakes
        elif kind == "value_error" and not (said := str(context["error"])).startswith("expected "):
            problems.append(document.problem(spot.item.at, said))
        else:
            if kind == "union_tag_invalid" and (tag := spot.item.get("kind")) is not None:
                spot = _Spot(tag, None, (*spot.path, "kind"), False)
            expected, hint = _expected(kind, context, entry["msg"], spot.item)
            if loc[-1] == "[key]" and spot.key is not None:
                message = f"expected {expected} as the key, found `{printable(str(spot.path[-1]), 60)}`"
                problems.append(document.problem(spot.key, message, hint))
            else:
                wrong.setdefault(spot.path, []).append((spot, expected, hint))
    for at, names in missing.items():
        listed = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
        problems.append(document.problem(at, f"{listed} {'is' if len(set(names)) == 1 else 'are'} missing here"))
    problems += _merged(document, wrong)
    return sorted(problems, key=lambda problem: problem.at)


def _merged(document: Document, wrong: dict[tuple[str | int, ...], list[tuple[_Spot, str, str]]]) -> list[Problem]:
    """One problem a place: the branches of a union joined by "or", or only the branch that led further down."""
    problems = []
    for path, found in wrong.items():
        deeper = any(len(other) > len(path) and other[: len(path)] == path for other in wrong)
        if deeper and all(spot.branched for spot, _, _ in found):
            continue
        item = found[0][0].item
        expected = " or ".join(dict.fromkeys(text for _, text, _ in found))
        hint = next((hint for _, _, hint in found if hint), "")
        problems.append(document.problem(item.at, f"expected {expected}, found {describe(item)}", hint))
    return problems


def _expected(kind: str, context: dict[str, Any], message: str, item: Item) -> tuple[str, str]:
    """What should stand there, and a hint."""
    value = item.value
    if kind in ("literal_error", "union_tag_invalid"):
        words = str(context.get("expected") or context.get("expected_tags"))
        found = context.get("tag", value)
        return words.replace("'", "`"), closest(str(found), re.findall(r"'([^']*)'", words)) if found is not None else ""
    if kind == "string_type":
        scalar = item.entries is None and item.items is None and value is not None
        return _TYPES[kind], "put quotes round it" if scalar else ""
    if kind == "bool_type" and isinstance(value, str) and value.lower() in _OLD_WORDS:
        return _TYPES[kind], f"did you mean `{_OLD_WORDS[value.lower()]}`?"
    if kind in ("int_type", "int_from_float", "float_type") and isinstance(value, str) and any(c.isdigit() for c in value):
        return _TYPES[kind], "write digits without quotes, prefix, separators or leading zeros"
    if kind in _TYPES:
        return _TYPES[kind], ""
    if kind in _BOUNDS:
        key, phrase = _BOUNDS[kind]
        return phrase.format(context[key]), ""
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(context["pattern"], f"text that matches {context['pattern']}"), ""
    if kind == "too_short":
        return f"a list of at least {context['min_length']}", ""
    if kind == "value_error":
        return str(context["error"]).removeprefix("expected "), ""
    return printable(message.removeprefix("Input should be ")), ""


def annotations_below(found: Iterable[Any], part: str | int) -> list[Any]:
    """What may stand under a key, or as an entry of a list, of what has one of these annotations."""
    return [child for annotation in found for child in _children(annotation, part)]


def is_path(found: Iterable[Any]) -> bool:
    """Whether text there leads to a file."""
    return any(leaf is Path for annotation in found for leaf in _leaves(annotation))


def takes_components(found: Iterable[Any]) -> bool:
    """Whether a mapping there is one that podctl knows, or one of such: not one whose keys and values are anything."""
    for leaf in (leaf for annotation in found for leaf in _leaves(annotation)):
        if _is_model(leaf):
            return True
        if get_origin(leaf) is dict and any(_is_model(one) or get_origin(one) is dict for one in _leaves(get_args(leaf)[1])):
            return True
        if get_origin(leaf) is tuple and any(_is_model(one) for one in _leaves(get_args(leaf)[0])):
            return True
    return False


def _fields(model: type[Model], loc: tuple[str | int, ...]) -> list[str]:
    """The keys known at a location, in the models' order."""
    found: list[Any] = [model]
    for part in loc:
        # What leads nowhere is the name of a union's branch.
        found = annotations_below(found, part) or found
    names = [name for annotation in found for leaf in _leaves(annotation) if _is_model(leaf) for name in leaf.model_fields]
    return list(dict.fromkeys(names))


def _leaves(annotation: Any) -> list[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _leaves(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [leaf for branch in get_args(annotation) for leaf in _leaves(branch)]
    return [annotation]


def _children(annotation: Any, part: str | int) -> list[Any]:
    children: list[Any] = []
    for leaf in _leaves(annotation):
        origin = get_origin(leaf)
        if _is_model(leaf):
            tag = leaf.model_fields.get("kind")
            if leaf.__name__ == part:
                children.append(leaf)  # pydantic puts the name of a union's branch into the place
            elif tag is not None and get_origin(tag.annotation) is Literal and part in get_args(tag.annotation):
                children.append(leaf)
            elif part in leaf.model_fields:
                children.append(leaf.model_fields[part].annotation)
        elif origin is dict:
            children.append(get_args(leaf)[1])
        elif origin is tuple and isinstance(part, int):
            children.append(get_args(leaf)[0])
    return children


def _is_model(leaf: Any) -> bool:
    return isinstance(leaf, type) and issubclass(leaf, BaseModel)
