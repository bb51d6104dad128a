"""The boundary as users write it: what an agent may write, what it may only recommend, what only people do.

What is not listed only people do. Positions and what files mean beyond their shape are `spec.checks_boundary`'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from podctl.spec.base import Model, Name

#: From the most to the least that an agent may do by itself. Of several rules that cover a call the last here decides.
Level = Literal["read", "ai-writable", "recommend", "human-only"]
LEVELS: tuple[Level, ...] = ("read", "ai-writable", "recommend", "human-only")
Day = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]

#: Requests that ask and change nothing (RFC 9110, 9.2.1); HEAD is judged as GET.
READING = ("GET",)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
READING_VERBS = ("get", "list", "watch")
#: Segments of a path that a template may have; of a request's path, likewise.
MAX_SEGMENTS = 32
_NAMED = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,=:@-]+")
_TOOL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}")
_KIND = re.compile(r"[a-z][a-z0-9-]*(/[a-z]+)?(\.[a-z0-9][a-z0-9.-]*)?")

MayWrite = Literal["insert", "update", "delete"]
WRITES: tuple[MayWrite, ...] = ("insert", "update", "delete")


class Recommended(Model):
    """What the agent may propose of one table, and a person decides."""

    insert: bool | tuple[str, ...] = False
    update: bool | tuple[str, ...] = False
    delete: bool = False


class TableRule(Model):
    """What the agent's database role may do with one table. Unlisted tables: nothing."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"recommend"})

    read: bool | tuple[str, ...] = Field(True, description="true: every column; or a list of columns")
    insert: bool | tuple[str, ...] = False
    update: bool | tuple[str, ...] = False
    delete: bool = False
    recommend: Recommended | None = Field(None, description="what the agent may propose; nothing of it is granted")


class Exemption(Model):
    """Something that a preset covers and that is listed all the same: which, why, and until when."""

    preset: Name
    of: Annotated[str, Field(min_length=1, max_length=300)] = Field(
        description="the rule's name, such as `shop-db.payments` or `POST payments-api /refunds`"
    )
    reason: Annotated[str, Field(min_length=1, max_length=500)]
    expires: Day | None = Field(None, description="the last day, such as 2026-03-31")


class Boundary(Model):
    """What the agent may do by itself, what it may only propose, and what only people do. Unlisted means human-only."""

    YOUNGER: ClassVar[frozenset[str]] = frozenset({"services", "tools", "infrastructure", "cedar", "exceptions"})

    apiVersion: Literal["podctl/v1"]
    kind: Literal["Boundary"]
    name: Name
    databases: dict[Name, dict[str, TableRule | Literal["human-only"]]] = Field(
        default_factory=dict, description="database -> table (schema.table or table in public) -> rule"
    )
    services: dict[Name, Level | dict[str, Level]] = Field(
        default_factory=dict,
        description="service -> `METHOD,METHOD /path/{name}` -> level; or one level for the whole service",
    )
    tools: dict[Name, Level | dict[str, Level]] = Field(default_factory=dict, description="MCP server -> tool -> level")
    infrastructure: dict[str, Level | dict[str, Level]] = Field(
        default_factory=dict, description="Kubernetes resource, such as deployments.apps -> `verb,verb` -> level"
    )
    cedar: Path | None = Field(None, description="more forbid policies, in Cedar")
    exceptions: tuple[Exemption, ...] = Field((), description="what a preset covers and is listed all the same, and why")

    @model_validator(mode="after")
    def _written_as_rules(self) -> Boundary:
        for service in self.services.values():
            for written in service if isinstance(service, dict) else ():
                parse_route(written)
        for server in self.tools.values():
            for tool in server if isinstance(server, dict) else ():
                parse_tool(tool)
        for kind, verbs in self.infrastructure.items():
            parse_kind(kind)
            for written in verbs if isinstance(verbs, dict) else ():
                parse_verbs(written)
        return self

    def rights(self, database: str) -> dict[str, TableRule]:
        """Table -> what the agent's role gets there; tables that only people write are left out."""
        return {table: rule for table, rule in self.databases.get(database, {}).items() if isinstance(rule, TableRule)}

    def all_rights(self) -> dict[str, dict[str, TableRule]]:
        return {database: self.rights(database) for database in self.databases}


@dataclass(frozen=True)
class Route:
    """``segments`` are literal text, or None for one that may be anything; with ``rest`` any further ones may follow.

    ``methods`` is empty for every method. ``slash``: the path ends with one.
    """

    methods: tuple[str, ...]
    segments: tuple[str | None, ...]
    rest: bool = False
    slash: bool = False

    @property
    def reads(self) -> bool:
        return bool(self.methods) and set(self.methods) <= set(READING)


#: Every call of a service: what a level for the whole service is about.
WHOLE = Route((), (), rest=True)


def parse_route(written: str) -> Route:
    """``POST /orders/{id}/cancel`` or ``PUT,PATCH /orders/**`` or ``* /``. Raises ValueError, saying what was expected."""
    methods, _, path = written.partition(" ")
    names = () if methods == "*" else tuple(methods.split(","))
    unknown = [name for name in names if name not in METHODS]
    if unknown or not path:
        example = f"`GET {written}`" if written.startswith("/") else "`POST /orders/{id}/cancel`"
        raise ValueError(f"expected a method of {', '.join(METHODS)}, or *, then one space and a path, such as {example}")
    path = path.strip()
    if not path.startswith("/"):
        raise ValueError("expected a path that starts with /")
    rest = path.endswith("/**")
    path = path[: -len("**")] if rest else path
    slash = path.endswith("/") and path != "/" and not rest
    parts = [] if path == "/" else path.strip("/").split("/")
    if path.startswith("//") or path.endswith("//") or len(parts) > MAX_SEGMENTS:
        raise ValueError(f"expected at most {MAX_SEGMENTS} segments, none of them empty")
    segments: list[str | None] = []
    for part in parts:
        if _NAMED.fullmatch(part):
            segments.append(None)
        elif _LITERAL.fullmatch(part) and part not in (".", ".."):
            segments.append(part)
        else:
            raise ValueError(
                "expected whole segments: plain text, {name} for one that may be anything, ** at the end for all that follow"
            )
    return Route(names, tuple(segments), rest, slash)


def parse_tool(written: str) -> str:
    """Raises ValueError."""
    if written != "*" and not _TOOL.fullmatch(written):
        raise ValueError("expected a tool's name, or * for every tool of the server")
    return written


def parse_kind(written: str) -> tuple[str, str]:
    """``deployments.apps`` -> (``apps``, ``deployments``), ``pods/exec`` -> (``""``, ``pods/exec``). Raises ValueError."""
    if not _KIND.fullmatch(written):
        raise ValueError("expected a resource in the plural, lower-case, its group behind a dot, such as deployments.apps")
    resource, _, group = written.partition(".")
    return group, resource


def parse_verbs(written: str) -> tuple[str, ...]:
    """Raises ValueError."""
    verbs = tuple(written.split(","))
    if set(verbs) - set(VERBS):
        raise ValueError(f"expected verbs of {', '.join(VERBS)}, with commas between")
    return verbs


def routes_of(rules: Level | Mapping[str, Level]) -> Iterator[tuple[str, Route, Level]]:
    """How each rule of one service is written (empty for the whole service), the route, the level."""
    if isinstance(rules, str):
        # Reading a whole service is asking it; it has no route that says which methods.
        yield "", Route(READING, (), rest=True) if rules == "read" else WHOLE, rules
    else:
        for written, level in rules.items():
            yield written, parse_route(written), level
