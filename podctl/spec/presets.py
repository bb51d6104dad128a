"""What an agent never writes by itself, whatever it is for, unless an exception in the boundary says why.

Each preset is a file of names. A name covers a table, its schema, a column, service, route or tool when its words stand there next to one another, in
any of the usual ways to write them and in plural or singular: ``access grant`` covers ``access_grants`` and ``AccessGrant``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from podctl.spec.boundary_rules import Rule

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@dataclass(frozen=True)
class Preset:
    """``names`` and ``exempt`` as words; ``kinds`` are Kubernetes resources as a boundary writes them."""

    name: str
    title: str
    why: str
    names: tuple[tuple[str, ...], ...]
    exempt: tuple[tuple[str, ...], ...]
    kinds: frozenset[str]


@dataclass(frozen=True)
class Covered:
    """A preset that covers a rule, and the name in it that does."""

    preset: Preset
    by: str


@cache
def presets() -> tuple[Preset, ...]:
    found = sorted((entry for entry in files("podctl.spec").joinpath("_presets").iterdir()), key=lambda entry: entry.name)
    return tuple(_preset(entry.name.removesuffix(".yaml"), yaml.safe_load(entry.read_text())) for entry in found)


def _preset(name: str, written: dict[str, Any]) -> Preset:
    names, exempt = (tuple(words(text) for text in written[key]) for key in ("names", "except"))
    return Preset(name, written["title"], written["why"], names, exempt, frozenset(written["kinds"]))


def words(name: str) -> tuple[str, ...]:
    """``accessGrants`` and ``ACCESS_GRANTS`` -> (``access``, ``grant``)."""
    return tuple(_singular(word.lower()) for word in _WORDS.findall(name))


def _singular(word: str) -> str:
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def covering(rule: Rule, columns: Iterable[str] = ()) -> list[Covered]:
    """The presets that cover what a rule lets an agent write; ``columns`` are those of its table where it names none."""
    if rule.level != "ai-writable" or rule.verbs == ("read",):
        return []
    if rule.kind == "infrastructure":
        return [Covered(preset, rule.object) for preset in presets() if rule.object in preset.kinds]
    return [found for preset in presets() if (found := _named(preset, _parts(rule, columns)))]


def _parts(rule: Rule, columns: Iterable[str]) -> list[str]:
    """Names within which words may stand next to one another."""
    if rule.kind == "table":
        own = rule.columns if rule.columns is not None else tuple(columns)
        schema, _, table = rule.object.rpartition(".")
        return [table, *own, *([schema] if schema else [])]
    if rule.kind == "tool":
        return [rule.object, rule.owner]
    assert rule.route is not None
    return [rule.owner, *(segment for segment in rule.route.segments if segment)]


def _named(preset: Preset, parts: Iterable[str]) -> Covered | None:
    for part in parts:
        said = words(part)
        for name in preset.names:
            if _within(name, said) and not any(_within(one, said) and _within(name, one) for one in preset.exempt):
                return Covered(preset, part)
    return None


def _within(name: tuple[str, ...], said: tuple[str, ...]) -> bool:
    return any(said[i : i + len(name)] == name for i in range(len(said) - len(name) + 1))
