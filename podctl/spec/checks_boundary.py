"""What a boundary must mean beyond its shape: each mistake at its place, and what to type."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date

from pydantic import ValidationError

from podctl.errors import SpecError
from podctl.spec.boundary import Boundary, Exemption, Route, parse_kind, parse_route, parse_tool, parse_verbs
from podctl.spec.boundary_rules import Rule, rules_of
from podctl.spec.cedar import Extra, read_extra
from podctl.spec.presets import Covered, covering, presets
from podctl.spec.problems import Mark, Problem, printable, shown
from podctl.spec.shape import closest
from podctl.spec.source import Document, Item, contents


def check_boundary_file(document: Document) -> list[Problem]:
    """The mistakes of a boundary by itself; what databases and topologies really have is checked against them later."""
    problems = [*_written(document)]
    boundary = None if problems else _value(document)
    if boundary is None:
        return problems
    rules = rules_of(boundary)
    problems += _levels(document, rules)
    problems += _never(document, rules)
    problems += _tables_twice(document)
    problems += _granted_and_recommended(document, rules)
    problems += _exceptions(document, boundary, rules)
    problems += check_presets(document, boundary)
    return problems + _extra(document, boundary, rules)


def check_presets(
    document: Document, boundary: Boundary, columns: Mapping[tuple[str, str], Iterable[str]] | None = None
) -> list[Problem]:
    """Rules that a preset covers and no exception names. ``columns``: (database, table) -> its columns, once they are known."""
    problems = []
    for rule in rules_of(boundary):
        for covered in covering(rule, (columns or {}).get((rule.owner, rule.object.removeprefix("public.")), ())):
            if not any(excepts(one, covered, rule) for one in boundary.exceptions):
                problems.append(document.problem(place(document, rule), *_covered(rule, covered)))
    return problems


def _covered(rule: Rule, covered: Covered) -> tuple[str, str]:
    preset = covered.preset
    message = (
        f"{preset.title} are never ai-writable without a reason: `{rule.name}` covers `{covered.by}` (preset {preset.name})"
    )
    example = f"- {{preset: {preset.name}, of: {json.dumps(rule.name)}, reason: why}}"
    return message, f"make it recommend or human-only, or add to exceptions:\n  {example}"


def excepts(exemption: Exemption, covered: Covered, rule: Rule) -> bool:
    """Whether it has not ended, and is about this preset and this rule."""
    return exemption.preset == covered.preset.name and named_by(exemption, rule) and not ended(exemption)


def named_by(exemption: Exemption, rule: Rule) -> bool:
    """By its whole name, or without the verb."""
    return exemption.of in (rule.name, rule.name.partition(" ")[2], f"{rule.owner}.{rule.object}")


def ended(exemption: Exemption) -> bool:
    try:
        return exemption.expires is not None and date.fromisoformat(exemption.expires) < date.today()
    except ValueError:
        return True


def extra_of(boundary: Boundary) -> tuple[Extra, ...]:
    """The policies of a boundary's Cedar file, which was checked when the boundary was loaded. Raises `SpecError`."""
    if boundary.cedar is None:
        return ()
    text = contents(boundary.cedar).decode("utf-8", "replace")
    policies, mistakes = read_extra(text, boundary.cedar.name, frozenset(rule.name for rule in rules_of(boundary)))
    if mistakes:
        raise SpecError(
            f"{printable(shown(boundary.cedar))} changed while it was read", code="boundary-cedar", cause=mistakes[0][1]
        )
    return tuple(policies)


def place(document: Document, rule: Rule) -> Mark:
    """Where a rule stands: its last key."""
    item, at = document.root, document.root.at
    for key in rule.where:
        entry = (item.entries or {}).get(key)
        if entry is None:
            break
        at, item = entry
    return at


# ---- one mistake after another ----


def _value(document: Document) -> Boundary | None:
    try:
        return Boundary.model_validate_json(json.dumps(document.root.value), strict=True)
    except ValidationError:
        return None  # the shape's own mistakes are told already


def _written(document: Document) -> Iterable[Problem]:
    root = document.root
    nested: tuple[tuple[str, Callable[[str], object]], ...] = (
        ("services", parse_route),
        ("tools", parse_tool),
        ("infrastructure", parse_verbs),
    )
    for part, parse in nested:
        for name, (at, rules) in root.mapping(part).items():
            if part == "infrastructure":
                yield from _parsed(document, name, at, parse_kind)
            for written, (mark, _) in (rules.entries or {}).items():
                yield from _parsed(document, written, mark, parse)


def _parsed(document: Document, written: str, at: Mark, parse: Callable[[str], object]) -> Iterable[Problem]:
    try:
        parse(written)
    except ValueError as error:
        yield document.problem(
            at, f"{str(error)[:1].upper()}{str(error)[1:]}; found `{printable(written, 80)}`".replace("Expected", "expected", 1)
        )


def _levels(document: Document, rules: Iterable[Rule]) -> Iterable[Problem]:
    for rule in rules:
        if rule.level != "read":
            continue
        writes = rule.kind == "infrastructure" and not set(rule.verbs) <= {"get", "list", "watch"}
        if writes or (rule.kind == "route" and rule.route is not None and not rule.route.reads):
            hint = "read is for GET and HEAD" if rule.kind == "route" else "read is for get, list and watch"
            yield document.problem(
                place(document, rule),
                f"`{printable(rule.name, 80)}` can write, and is said to read",
                f"{hint}; write ai-writable, recommend or human-only",
            )


def _never(document: Document, rules: list[Rule]) -> Iterable[Problem]:
    """Where the strictest rule decides, a rule that another covers whole says something that is not so."""
    for rule in rules:
        if rule.route is None or rule.level == "human-only":
            continue
        for other in rules:
            strict = ("recommend", "human-only") if rule.level != "recommend" else ("human-only",)
            if other.route is None or other.owner != rule.owner or other.level not in strict:
                continue
            if _covers(other.route, rule.route):
                line = place(document, other).line
                yield document.problem(
                    place(document, rule),
                    f"`{printable(rule.name, 80)}` has no effect: `{printable(other.name, 80)}` at line {line} makes all of it {other.level}",
                    "the strictest rule decides; what no rule lists is human-only by itself",
                )
                break


def _tables_twice(document: Document) -> Iterable[Problem]:
    """Grants add up: of two rules for one table the laxer would decide."""
    for database, (_, tables) in document.root.mapping("databases").items():
        lines: dict[str, int] = {}
        for table, (at, _) in (tables.entries or {}).items():
            name = table.removeprefix("public.")
            if name in lines:
                what = f"{printable(database)}.{printable(name, 80)} stands at line {lines[name]} already: `public` is the schema of tables without one"
                yield document.problem(at, what, "make one rule of the two")
            lines[name] = at.line


def _granted_and_recommended(document: Document, rules: Iterable[Rule]) -> Iterable[Problem]:
    """What is granted nobody is asked about: PostgreSQL has no rule that takes a part of a grant back."""
    granted = {
        (rule.owner, rule.object, rule.verbs): rule for rule in rules if rule.kind == "table" and rule.level == "ai-writable"
    }
    for rule in rules:
        other = granted.get((rule.owner, rule.object, rule.verbs))
        if rule.kind != "table" or rule.level != "recommend" or other is None:
            continue
        mine, its = rule.columns, other.columns
        both = [column for column in mine if its is None or column in its] if mine is not None else list(its or ())
        if both or (mine is None and its is None):
            of = f" of {', '.join(printable(column, 40) for column in both)}" if both else ""
            what = f"`{printable(rule.name, 80)}`{of} is recommended, and at line {place(document, other).line} the agent may do it by itself"
            hint = "leave it out of one of the two" + (
                ": list columns, as true is every one" if rule.verbs != ("delete",) else ""
            )
            yield document.problem(place(document, rule), what, hint)


def _covers(wide: Route, narrow: Route) -> bool:
    if wide.methods and not (narrow.methods and set(narrow.methods) <= set(wide.methods)):
        return False
    if narrow.rest and not wide.rest:
        return False
    if len(narrow.segments) < len(wide.segments) or (not wide.rest and len(narrow.segments) != len(wide.segments)):
        return False
    return all(w is None or w == n for w, n in zip(wide.segments, narrow.segments, strict=False))


def _exceptions(document: Document, boundary: Boundary, rules: list[Rule]) -> Iterable[Problem]:
    known = [preset.name for preset in presets()]
    for exemption, item in zip(boundary.exceptions, document.root.list("exceptions"), strict=True):
        named = _entry(item, "preset")
        if exemption.preset not in known:
            yield document.problem(
                named.at,
                f"there is no preset {printable(exemption.preset, 40)}",
                closest(exemption.preset, known) or f"one of {', '.join(known)}",
            )
            continue
        if not any(named_by(exemption, rule) for rule in rules):
            yield document.problem(
                _entry(item, "of").at,
                f"no rule is called {printable(exemption.of, 80)}",
                closest(exemption.of, [rule.name for rule in rules]),
            )
        if exemption.expires is not None and ended(exemption):
            try:
                what = f"this exception ended on {date.fromisoformat(exemption.expires)}"
            except ValueError:
                what = f"there is no day {exemption.expires}"
            yield document.problem(_entry(item, "expires").at, what, "remove it, or let who answers for it set a later day")


def _entry(item: Item, key: str) -> Item:
    return item.get(key) or item


def _extra(document: Document, boundary: Boundary, rules: list[Rule]) -> list[Problem]:
    item = document.root.get("cedar")
    if boundary.cedar is None or item is None:
        return []
    path = document.path.parent / boundary.cedar
    name = printable(shown(path))
    try:
        text = contents(path).decode("utf-8")
    except SpecError as error:
        return [document.problem(item.at, error.what, "paths are relative to the file they stand in")]
    except UnicodeDecodeError:
        return [document.problem(item.at, f"{name} is not UTF-8")]
    lines = text.split("\n")
    _, mistakes = read_extra(text, path.name, frozenset(rule.name for rule in rules))
    return [Problem(name, at, message, "", lines[at.line - 1]) for at, message in mistakes]
