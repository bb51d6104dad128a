"""Which rule decides a given write, and what one boundary opens that another does not."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from podctl.boundary.policies import UNLISTED, Decider, Decision, policies_of
from podctl.boundary.rows import rules_for, shown, strictest
from podctl.boundary.targets import Ambiguous, read_target
from podctl.spec.boundary import METHODS, VERBS, WRITES, Boundary, Level
from podctl.spec.boundary_rules import Rule, rules_of
from podctl.spec.cedar import Extra

#: From what only people do to what an agent does by itself; reading and writing never stand for one another.
OPENNESS: dict[Level, int] = {"human-only": 0, "recommend": 1, "read": 2, "ai-writable": 2}
#: A name that no boundary has: what stands for every text where a rule does not say which.
ANY = "any-other"
_COMBINATIONS = 256
#: Parts of a table's or column's name: in quotes as SQL has them, or as they are.
_PART = r'"(?:[^"]|"")+"|[^".]+'
_PARTS = re.compile(rf"(?:{_PART})(?:\.(?:{_PART}))*")
_PLAIN = re.compile(r"[^\W\d][\w$-]*")


class NotUnderstood(ValueError):
    """What was asked about is not written as a write; the text says how to write it."""


@dataclass(frozen=True)
class Answer:
    """``rule`` decides, and is the empty string where none covers what was asked; ``detail`` says more."""

    level: Level
    rule: str = ""
    detail: str = ""


class Boundaries:
    """One boundary with its own Cedar policies, asked as the gateway and the database would ask it."""

    def __init__(self, boundary: Boundary, extra: Iterable[Extra] = ()) -> None:
        self.rules = rules_of(boundary)
        self._boundary = boundary
        self._decider = Decider(policies_of(boundary, extra))

    def explain(self, asked: str) -> Answer:
        """Raises `NotUnderstood`."""
        words = asked.split()
        if len(words) > 1 and (row := self._row(words[0].lower(), asked.split(maxsplit=1)[1].strip())) is not None:
            return row
        if len(words) == 3:
            return self.call(words[0], words[1], words[2])
        if len(words) != 2:
            raise NotUnderstood(HOW)
        verb, named = words[0].lower(), words[1]
        owner, _, rest = named.partition(".")
        if verb == "call" and rest:
            return self.use(owner, rest)
        if verb == "connect":
            return self.connect(named)
        if verb in VERBS:
            return self.act(verb, named)
        raise NotUnderstood(HOW)

    def _row(self, verb: str, named: str) -> Answer | None:
        """Of ``DATABASE.TABLE.COLUMN``; None where it is none of them. Raises `NotUnderstood`."""
        owner, dot, rest = named.partition(".")
        here = owner in self._boundary.databases
        if not dot or " " in owner or not (verb in ("read", "insert") or (verb in WRITES and here)):
            return None
        if '"' not in rest:
            return self.write(verb, owner, rest)
        if not _PARTS.fullmatch(rest):
            raise NotUnderstood(HOW)
        parts = [part[1:-1].replace('""', '"') if part[0] == '"' else part for part in re.findall(_PART, rest)]
        whole, table = shown(".".join(parts)), shown(".".join(parts[:-1]))
        tables = self._tables(owner)
        return (
            self.row(verb, owner, table, parts[-1]) if table in tables and whole not in tables else self.row(verb, owner, whole)
        )

    def call(self, method: str, service: str, target: str) -> Answer:
        try:
            decided = self._decider.call("", service, read_target(method, target))
        except Ambiguous as why:
            return Answer("human-only", "", f"a service could read this in more than one way: {why}")
        return _told(decided)

    def use(self, server: str, tool: str) -> Answer:
        return _told(self._decider.use("", server, tool))

    def connect(self, service: str) -> Answer:
        """A connection to a service by another protocol than HTTP."""
        return _told(self._decider.connect("", service))

    def act(self, verb: str, kind: str) -> Answer:
        return _strictest(
            rule for rule in self.rules if rule.kind == "infrastructure" and rule.object == kind and verb in rule.verbs
        )

    def write(self, verb: str, database: str, named: str) -> Answer:
        """``named`` is a table, or a table and a column; without a column, every column."""
        tables = self._tables(database)
        named = shown(named)
        table, _, column = named.rpartition(".")
        return (
            self.row(verb, database, table, column)
            if table in tables and named not in tables
            else self.row(verb, database, named)
        )

    def _tables(self, database: str) -> set[str]:
        return {shown(rule.object) for rule in self.rules if rule.kind == "table" and rule.owner == database}

    def row(self, verb: str, database: str, table: str, column: str = "") -> Answer:
        """The same of names that are apart already, whatever characters they have."""
        rules = rules_for(self.rules, verb, database, table)
        if any(rule.verbs == WRITES for rule in rules):
            return _strictest(rules)
        if column:
            return _strictest(rule for rule in rules if rule.columns is None or column in rule.columns)
        whole = [rule for rule in rules if rule.columns is None]
        if whole or not rules:
            return _strictest(whole)
        listed = "; ".join(f"{rule.level}: {', '.join(rule.columns or ())}" for rule in rules)
        return Answer("human-only", "", f"of this table only some columns are listed: {listed}")


HOW = (
    "write one of: 'UPDATE DATABASE.TABLE.COLUMN' (or READ, INSERT, DELETE; names that have a dot or a quote in \"quotes\"), 'POST SERVICE /PATH', 'CONNECT SERVICE' (not by HTTP), 'CALL SERVER.TOOL', "
    "'patch RESOURCE.GROUP'"
)


def _told(decided: Decision) -> Answer:
    return Answer(decided.level, "" if decided.policy == UNLISTED else decided.policy, decided.detail)


def _strictest(rules: Iterable[Rule]) -> Answer:
    found = strictest(rules)
    return Answer("human-only") if found is None else Answer(found.level, found.name)


# ---- what differs ----


@dataclass(frozen=True)
class Difference:
    """``asked`` as `Boundaries.explain` takes it, with the answers of the two."""

    asked: str
    before: Answer
    after: Answer

    @property
    def opens(self) -> bool:
        return OPENNESS[self.after.level] > OPENNESS[self.before.level]


def differences(before: Boundaries, after: Boundaries) -> list[Difference]:
    """What is decided otherwise, asked of everything that either names and of one thing more that neither does.

    A segment that a rule leaves open is tried as any text and as each text that other rules have at its place.
    """
    found = []
    for asked, ask in dict(_questions([*before.rules, *after.rules])).items():
        then, now = ask(before), ask(after)
        if OPENNESS[then.level] != OPENNESS[now.level]:
            found.append(Difference(asked, then, now))
    return found


def _questions(rules: list[Rule]) -> Iterator[tuple[str, Callable[[Boundaries], Answer]]]:
    """Each as it is written for `Boundaries.explain`, and how to ask it: a table's name may be any text."""
    for rule in rules:
        if rule.kind == "table":
            verbs = ("read", *WRITES) if rule.verbs == WRITES else rule.verbs
            columns = {
                c: None for one in rules if (one.owner, one.object) == (rule.owner, rule.object) for c in one.columns or ()
            }
            for verb in verbs:
                for column in ("",) if verb == "delete" else (*columns, ANY.replace("-", "_")):
                    written = ".".join(
                        [rule.owner, *map(_quoted, rule.object.split(".")), *([_quoted(column)] if column else [])]
                    )
                    yield (
                        f"{verb} {written}",
                        partial(Boundaries.row, verb=verb, database=rule.owner, table=rule.object, column=column),
                    )
        elif rule.kind == "tool":
            for tool in (rule.object, ANY) if rule.object != "*" else (ANY,):
                yield f"call {rule.owner}.{tool}", partial(Boundaries.use, server=rule.owner, tool=tool)
        elif rule.kind == "infrastructure":
            for verb in rule.verbs:
                yield f"{verb} {rule.object}", partial(Boundaries.act, verb=verb, kind=rule.object)
        else:
            yield f"connect {rule.owner}", partial(Boundaries.connect, service=rule.owner)
            for method, path in _requests(rule, [one for one in rules if one.kind == "route" and one.owner == rule.owner]):
                yield f"{method} {rule.owner} {path}", partial(Boundaries.call, method=method, service=rule.owner, target=path)


def _quoted(name: str) -> str:
    """As `Boundaries.explain` reads it: in quotes where a character of it would be read otherwise."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def partly_tried(before: Boundaries, after: Boundaries) -> list[str]:
    """Rules with so many texts at the places of their names that `differences` did not try all of them together."""
    rules = [*before.rules, *after.rules]
    routes = [rule for rule in rules if rule.kind == "route"]
    return list(
        dict.fromkeys(
            rule.name
            for rule in routes
            if math.prod(map(len, _choices(rule, [one for one in routes if one.owner == rule.owner]))) > _COMBINATIONS
        )
    )


def _choices(rule: Rule, others: list[Rule]) -> list[list[str]]:
    """Of each segment, the texts to try there."""
    assert rule.route is not None
    at_place: dict[int, dict[str, None]] = {}
    for other in others:
        assert other.route is not None
        for i, text in enumerate(other.route.segments):
            if text is not None:
                at_place.setdefault(i, {})[text] = None
    return [[text] if text is not None else [ANY, *at_place.get(i, {})] for i, text in enumerate(rule.route.segments)]


def _requests(rule: Rule, others: list[Rule]) -> Iterator[tuple[str, str]]:
    """Method and path."""
    assert rule.route is not None
    endings = ["", f"/{ANY}", f"/{ANY}/{ANY}"] if rule.route.rest else ["/" if rule.route.slash else ""]
    for segments in itertools.islice(itertools.product(*_choices(rule, others)), _COMBINATIONS):
        for ending in endings:
            for method in rule.route.methods or METHODS:
                yield method, ("/" + "/".join(segments) + ending).replace("//", "/")
