"""A boundary as a list of rules, each with the name it goes by in records, in `podctl boundary explain` and in exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from podctl.spec.boundary import (
    READING_VERBS,
    VERBS,
    WRITES,
    Boundary,
    Level,
    Route,
    TableRule,
    parse_kind,
    parse_verbs,
    routes_of,
)

Kind = Literal["table", "route", "tool", "infrastructure"]


@dataclass(frozen=True)
class Rule:
    """``name`` is ``UPDATE shop-db.tickets``, ``POST orders-api /orders/{id}/cancel``, ``CALL github.open_issue`` or
    ``patch deployments.apps``. ``owner`` is the database, service, server or API group, ``object`` the table, tool or resource.

    ``columns`` are a table rule's, None for all. ``verbs`` are a table's or a resource's. ``where`` are the keys that lead to it in its file.
    """

    name: str
    kind: Kind
    level: Level
    owner: str
    object: str
    where: tuple[str, ...] = field(compare=False)
    verbs: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    route: Route | None = None
    whole: bool = False


def rules_of(boundary: Boundary) -> list[Rule]:
    """In the order of the file."""
    return [*_tables(boundary), *_routes(boundary), *_tools(boundary), *_infrastructure(boundary)]


def _tables(boundary: Boundary) -> Iterator[Rule]:
    for database, tables in boundary.databases.items():
        for table, rule in tables.items():
            where = ("databases", database, table)
            if not isinstance(rule, TableRule):
                yield Rule(f"WRITE {database}.{table}", "table", "human-only", database, table, where, WRITES)
                continue
            if rule.read:
                yield _table("read", "read", database, table, rule.read, where)
            for verb in WRITES:
                if allowed := getattr(rule, verb):
                    yield _table(verb, "ai-writable", database, table, allowed, where)
                if rule.recommend and (proposed := getattr(rule.recommend, verb)):
                    yield _table(verb, "recommend", database, table, proposed, (*where, "recommend"))


def _table(verb: str, level: Level, database: str, table: str, columns: bool | tuple[str, ...], where: tuple[str, ...]) -> Rule:
    listed = columns if isinstance(columns, tuple) else None
    return Rule(f"{verb.upper()} {database}.{table}", "table", level, database, table, (*where, verb), (verb,), listed)


def _routes(boundary: Boundary) -> Iterator[Rule]:
    for service, rules in boundary.services.items():
        for written, route, level in routes_of(rules):
            methods, _, path = (written or f"{','.join(route.methods) or '*'} /**").partition(" ")
            where = ("services", service, written) if written else ("services", service)
            yield Rule(f"{methods} {service} {path}", "route", level, service, path, where, route=route, whole=not written)


def _tools(boundary: Boundary) -> Iterator[Rule]:
    for server, rules in boundary.tools.items():
        for tool, level in ({"*": rules} if isinstance(rules, str) else rules).items():
            where = ("tools", server) if isinstance(rules, str) else ("tools", server, tool)
            yield Rule(f"CALL {server}.{tool}", "tool", level, server, tool, where)


def _infrastructure(boundary: Boundary) -> Iterator[Rule]:
    for kind, rules in boundary.infrastructure.items():
        group, _ = parse_kind(kind)
        whole = isinstance(rules, str)
        every = ",".join(READING_VERBS if rules == "read" else VERBS)
        for written, level in ({every: rules} if isinstance(rules, str) else rules).items():
            where = ("infrastructure", kind) if whole else ("infrastructure", kind, written)
            yield Rule(f"{written} {kind}", "infrastructure", level, group, kind, where, parse_verbs(written), whole=whole)
