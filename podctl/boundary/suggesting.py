"""The tightest boundary that observed runs needed, out of the one that they had: it only ever takes away.

Where a statement cannot be understood, what the boundary opens of the tables that it names is kept.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import yaml

from podctl.boundary.rows import shown
from podctl.boundary.statements import EVERY, NotUnderstood, needs_of
from podctl.boundary.targets import Ambiguous, read_target
from podctl.spec.boundary import MAX_SEGMENTS, WRITES, Boundary, TableRule
from podctl.spec.boundary_rules import rules_of
from podctl.spec.checks_boundary import named_by

_PRIVILEGE = "42501"
#: What is not the agent's to do stays as it is said.
_SHUT = ("recommend", "human-only")
#: Different texts at one place of otherwise like paths from which on the place is taken for a name.
_MANY = 3
_WORD = re.compile(r"[A-Za-z][A-Za-z_-]{0,39}|v[0-9]{1,2}")


@dataclass
class _Seen:
    """How often, in which attempts."""

    count: int = 0
    attempts: dict[str, str] = field(default_factory=dict)  # id -> ticket

    def add(self, attempt: str, ticket: str) -> None:
        self.count += 1
        self.attempts[attempt] = ticket

    def told(self, what: str) -> str:
        first, ticket = next(iter(self.attempts.items()))
        where = _many(len(self.attempts), "attempt")
        return f"{_many(self.count, what)} in {where}, such as {_visible(first)} ({_visible(ticket)})"


class Observed:
    """What agents did in runs that had ``boundary``; fed with the agent's own records."""

    def __init__(self, boundary: Boundary) -> None:
        self._boundary = boundary
        self._needs: dict[tuple[str, str, str], set[str]] = defaultdict(set)  # (database, table, verb) -> columns
        self._tables: dict[tuple[str, str], _Seen] = defaultdict(_Seen)
        self._kept: dict[tuple[str, str], str] = {}  # why a table's rule is kept as it is
        self._calls: dict[tuple[str, str, str], _Seen] = defaultdict(_Seen)  # (service, method, path as observed)
        self._rules: dict[tuple[str, str, str], str] = {}  # the path of the rule that decided, where it says more
        self._tools: dict[tuple[str, str], _Seen] = defaultdict(_Seen)  # (server, tool)
        self._refused: dict[str, _Seen] = defaultdict(_Seen)
        self._routes = {rule.name: rule for rule in rules_of(boundary) if rule.kind == "route"}
        self.attempts = 0

    def attempt(self, attempt: str, ticket: str, records: Iterable[tuple[str, str, Mapping[str, Any]]]) -> None:
        """``records``: kind, actor, data, in the order of the evidence."""
        self.attempts += 1
        for kind, actor, data in records:
            if actor != "agent":
                continue
            if kind == "sql.statement":
                self._statement(attempt, ticket, data)
            elif kind == "http.call":
                self._call(attempt, ticket, data)
            elif kind == "tool.call" and "server" in data:
                if data.get("level") in ("read", "ai-writable"):
                    self._tools[str(data["server"]), str(data.get("tool"))].add(attempt, ticket)
            elif kind == "approval.proposed" and data.get("kind") == "sql":
                self._proposed(data)
            elif kind == "boundary.attempt":
                what = f"{data.get('via')} {data.get('target')}: {' '.join(str(data.get('detail', '')).split())[:160]}"
                self._refused[what].add(attempt, ticket)

    def _statement(self, attempt: str, ticket: str, data: Mapping[str, Any]) -> None:
        if data.get("sqlstate") == _PRIVILEGE:
            return
        database, statement = str(data.get("database")), str(data.get("statement"))
        known = self._boundary.rights(database)
        try:
            needs = needs_of(statement).columns
        except NotUnderstood as why:
            for table in known:
                if _mentions(statement, table.rpartition(".")[2]):
                    self._kept[database, table] = f"a statement was not understood ({why}), so the rule is as it was"
                    self._tables[database, table].add(attempt, ticket)
            return
        written = {table.removeprefix("public."): table for table in known}
        for (table, verb), columns in needs.items():
            if table in written:
                self._needs[database, written[table], verb] |= columns or {""}
        for table in {table for table, _ in needs if table in written}:
            self._tables[database, written[table]].add(attempt, ticket)

    def _proposed(self, data: Mapping[str, Any]) -> None:
        """What is recommended stays; what was to be written beside it is needed, too."""
        database, arguments = str(data.get("target")), data.get("arguments") or {}
        for table in self._boundary.rights(database):
            if shown(table) == arguments.get("table"):
                self._needs[database, table, str(arguments.get("operation"))] |= set(arguments.get("values") or {})

    def _call(self, attempt: str, ticket: str, data: Mapping[str, Any]) -> None:
        rule = self._routes.get(str(data.get("policy")))
        refused = data["level"] not in ("read", "ai-writable") if "level" in data else data.get("status") == 403
        if refused:
            return
        service, method = str(data.get("service")), str(data.get("method"))
        try:
            asked = read_target(method, str(data.get("path")))
        except Ambiguous:
            return
        path = "/" + "/".join(asked.segments) + ("/" if asked.slash else "")
        self._calls[service, asked.method, path].add(attempt, ticket)
        if rule is not None and rule.route is not None and (not rule.route.rest or len(asked.segments) > MAX_SEGMENTS):
            self._rules[service, asked.method, path] = rule.object

    # ---- what comes of it ----

    def text(self, names: Sequence[str]) -> str:
        """The boundary as YAML with the evidence in comments; ``names`` are the runs."""
        lines = [
            f"# What {_many(self.attempts, 'attempt')} of {', '.join(names)} needed of boundary {self._boundary.name}; nothing else is listed.",
            "apiVersion: podctl/v1",
            "kind: Boundary",
            f"name: {self._boundary.name}",
        ]
        lines += self._databases() + self._services() + self._rest()
        left = rules_of(Boundary.model_validate(yaml.safe_load("\n".join(lines))))
        excepted = [one for one in self._boundary.exceptions if any(named_by(one, rule) for rule in left)]
        if excepted:
            lines += ["exceptions:", *(f"  - {json.dumps(one.model_dump(exclude_none=True))}" for one in excepted)]
        return "\n".join([*lines, *self._told_refused(), ""])

    def _databases(self) -> list[str]:
        lines = []
        for database in self._boundary.databases:
            rules = []
            for table, rule in self._boundary.databases[database].items():
                seen = self._tables.get((database, table))
                if not isinstance(rule, TableRule):
                    rules.append(f"    {json.dumps(table)}: {rule}  # as it was")
                    continue
                if seen is None and rule.recommend is None:
                    continue
                kept = self._kept.get((database, table), "")
                written = f"    {json.dumps(table)}: {_rule(rule, None if kept else self._of(database, table))}"
                if seen is None:
                    rules.append(f"{written}  # what is recommended, as it was")
                else:
                    rules += [f"    # {seen.told('statement')}{'; ' + kept if kept else ''}", written]
            lines += [f"  {database}:", *rules] if rules else []
        return ["databases:", *lines] if lines else []

    def _of(self, database: str, table: str) -> dict[str, set[str]]:
        return {verb: columns for (d, t, verb), columns in self._needs.items() if (d, t) == (database, table)}

    def _services(self) -> list[str]:
        lines = []
        shut = {
            service: [f"{_key(written)}: {level}" for written, level in rules.items() if level in _SHUT]
            for service, rules in self._boundary.services.items()
            if isinstance(rules, dict)
        }
        kept = (service for service, rules in shut.items() if rules)
        for service in dict.fromkeys([*(service for service, _, _ in self._calls), *kept]):
            rules: dict[str, _Seen] = defaultdict(_Seen)
            for (method, path), seen in self._generalised(service).items():
                rules[f"{_key(f'{method} {path}')}: {'read' if method == 'GET' else 'ai-writable'}"] = seen
            lines += [f"  {service}:"]
            for rule, seen in sorted(rules.items()):
                lines += [f"    # {seen.told('call')}", f"    {rule}"]
            lines += [f"    {rule}  # as it was" for rule in shut.get(service, ())]
        whole = [(name, level) for name, level in self._boundary.services.items() if level in _SHUT]
        lines += [f"  {name}: {level}  # as it was" for name, level in whole]
        # Connections whose protocol is not read are no calls: what a whole service had it keeps.
        silent = [
            name
            for name, level in self._boundary.services.items()
            if level == "ai-writable" and not any(service == name for service, _, _ in self._calls)
        ]
        for name in silent:
            lines += [
                "    # no call was seen; connections of a tcp service are not recorded: remove it if it is none",
                f"  {name}: ai-writable",
            ]
        return ["services:", *lines] if lines else []

    def _generalised(self, service: str) -> dict[tuple[str, str], _Seen]:
        """Paths by the rule that opened them; where that says nothing, by their shape: what looks like an id is a name."""
        found: dict[tuple[str, str], _Seen] = defaultdict(_Seen)
        loose: dict[tuple[str, int, bool], list[tuple[tuple[str, ...], _Seen]]] = defaultdict(list)
        for (one, method, path), seen in self._calls.items():
            if one != service:
                continue
            if (rule := self._rules.get((one, method, path))) is not None:
                _join(found[method, rule], seen)
            else:
                segments = tuple(path.strip("/").split("/")) if path != "/" else ()
                loose[method, len(segments), path.endswith("/") and path != "/"].append((segments, seen))
        for (method, _, slash), paths in loose.items():
            for segments, seen in zip(_named([segments for segments, _ in paths]), (seen for _, seen in paths), strict=True):
                _join(found[method, "/" + "/".join(segments) + ("/" if slash else "")], seen)
        return found

    def _rest(self) -> list[str]:
        """What no record says anything of is as it was."""
        lines = self._servers()
        if value := self._boundary.infrastructure:
            lines += ["# of infrastructure runs say nothing yet: as it was", f"infrastructure: {json.dumps(value)}"]
        return lines

    def _servers(self) -> list[str]:
        """Tools that were called, each at the level that it had, and what is shut as it was."""
        lines = []
        for server, had in self._boundary.tools.items():
            rules = had if isinstance(had, dict) else {"*": had}
            called = {tool: seen for (one, tool), seen in self._tools.items() if one == server}
            told = []
            for tool, seen in sorted(called.items()):
                level = rules.get(tool) or rules.get("*")
                told += [f"    # {seen.told('call')}", f"    {json.dumps(tool)}: {level}"]
            shut = [(tool, level) for tool, level in rules.items() if level in _SHUT]
            told += [f"    {json.dumps(tool)}: {level}  # as it was" for tool, level in shut]
            lines += [f"  {server}:", *told] if told else []
        return ["tools:", *lines] if lines else []

    def _told_refused(self) -> list[str]:
        if not self._refused:
            return []
        lines = ["", "# Refused in these runs, and not opened by this:"]
        for what, seen in sorted(self._refused.items(), key=lambda item: -item[1].count)[:50]:
            lines.append(f"#   {_visible(what)}: {seen.told('time')}")
        return lines


def _mentions(statement: str, table: str) -> bool:
    """Also within quotes, where a quote is written twice."""
    return re.search(rf"(?<!\w){re.escape(table.replace(chr(34), chr(34) * 2))}(?!\w)", statement, re.IGNORECASE) is not None


def _key(written: str) -> str:
    """A rule as YAML takes it for a key: a star or a colon would mean something else."""
    return written if re.fullmatch(r"[A-Z,]+ [A-Za-z0-9/{}_.*-]+", written) else json.dumps(written)


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _join(into: _Seen, seen: _Seen) -> None:
    into.count += seen.count
    into.attempts |= seen.attempts


def _rule(rule: TableRule, needs: Mapping[str, set[str]] | None) -> str:
    """The table's rule with no more than what is needed; all of it without ``needs``."""
    parts: dict[str, Any] = {}
    for verb in ("read", *WRITES):
        had = getattr(rule, verb)
        parts[verb] = had if needs is None else _less(had, needs.get(verb))
    if needs is not None and "lock" in needs and not parts["update"]:
        parts["update"] = rule.update  # FOR UPDATE needs a right to update
    kept = {verb: list(value) if isinstance(value, tuple) else value for verb, value in parts.items() if value}
    kept.setdefault("read", False)
    if rule.recommend is not None:
        kept["recommend"] = {verb: value for verb, value in rule.recommend.model_dump(mode="json").items() if value}
    return json.dumps(kept)


def _less(had: bool | tuple[str, ...], needed: set[str] | None) -> bool | tuple[str, ...]:
    if not had or needed is None:
        return False
    if EVERY in needed or needed == {""}:
        return had  # of count(*) any column would do
    names = needed - {""}
    return tuple(column for column in had if column in names) if isinstance(had, tuple) else tuple(sorted(names))


def _named(paths: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Paths of one length with their varying segments as names."""
    found = []
    for path in paths:
        segments = []
        for i, text in enumerate(path):
            like = {other[i] for other in paths if other[:i] == path[:i] and other[i + 1 :] == path[i + 1 :]}
            segments.append(text if _WORD.fullmatch(unquote(text)) and len(like) < _MANY else f"{{{_name_for(path, i)}}}")
        found.append(tuple(segments))
    return found


def _name_for(path: Sequence[str], at: int) -> str:
    before = path[at - 1] if at else "part"
    word = re.sub(r"[^A-Za-z]", "", before) or "part"
    return word.lower().removesuffix("s") or "part"


def _visible(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
