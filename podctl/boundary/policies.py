"""A boundary's rules as Cedar policies, and the decision that they come to.

``forbid`` wins over ``permit``, so that of several rules the strictest decides, and what no rule permits is refused. A policy that
fails to evaluate is left out by Cedar, which would open what it forbids: with any error nothing is allowed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from podctl.boundary.targets import Asked
from podctl.spec.boundary import LEVELS, MAX_SEGMENTS, METHODS, Boundary, Level, Route, parse_route
from podctl.spec.boundary_rules import Rule, rules_of
from podctl.spec.cedar import Extra

if TYPE_CHECKING:
    import cedarpy

#: What a decision names when no rule covers a call.
UNLISTED = "unlisted"
FAILED = "a policy failed"


@dataclass(frozen=True)
class Policy:
    """``id`` is the rule's name. ``on`` is the service or tool server it is about, ``methods`` of which requests; empty for every one.

    ``segments`` must stand in what is asked for at their places, None for anything: a request without them need not be put to it.
    """

    id: str
    level: Level
    on: str
    text: str
    methods: tuple[str, ...] = ()
    segments: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class Decision:
    """``policy`` is the name of the rule that decided, `UNLISTED`, or `FAILED`."""

    allowed: bool
    level: Level
    policy: str
    detail: str = ""


def policies_of(boundary: Boundary, extra: Iterable[Extra] = ()) -> tuple[Policy, ...]:
    """What the gateway decides by: routes and tools, then the user's own forbid policies."""
    compiled = [policy for rule in rules_of(boundary) if rule.kind in ("route", "tool") for policy in _compiled(rule)]
    return (*compiled, *(Policy(one.id, "human-only", "", one.text) for one in extra))


def to_json(policies: Iterable[Policy]) -> list[dict[str, Any]]:
    return [asdict(policy) for policy in policies]


def from_json(value: Iterable[Mapping[str, Any]]) -> tuple[Policy, ...]:
    return tuple(Policy(**{**one, "methods": tuple(one["methods"]), "segments": tuple(one["segments"])}) for one in value)


def _compiled(rule: Rule) -> Iterable[Policy]:
    effect = "permit" if rule.level in ("read", "ai-writable") else "forbid"
    head = f"@id({json.dumps(rule.name)})\n@level({json.dumps(rule.level)})\n{effect}"
    if rule.kind == "tool":
        scope = f"resource == Tool::{json.dumps(f'{rule.owner}.{rule.object}')}"
        if rule.object == "*":
            scope = f"resource in Server::{json.dumps(rule.owner)}"
        named = () if rule.object == "*" else (rule.object,)
        text = f'{head} (principal, action == Action::"use", {scope});'
        yield Policy(rule.name, rule.level, rule.owner, text, segments=named)
        return
    assert rule.route is not None
    service = f"resource == Service::{json.dumps(rule.owner)}"
    conditions = _exactly(rule.route) if effect == "permit" else _loosely(rule.route)
    when = f"\nwhen {{ {' && '.join(conditions)} }}" if conditions else ""
    text = f'{head} (principal, action == Action::"call", {service}){when};'
    yield Policy(rule.name, rule.level, rule.owner, text, rule.route.methods, rule.route.segments)
    if rule.whole and rule.level != "read":
        text = f'{head} (principal, action == Action::"connect", {service});'
        yield Policy(rule.name, rule.level, rule.owner, text)


def _exactly(route: Route) -> list[str]:
    texts = [f"context.s{i} == {json.dumps(text)}" for i, text in enumerate(route.segments) if text is not None]
    slash = [] if route.rest else [f"context.slash == {json.dumps(route.slash)}"]
    return [*_length(route), *texts, *slash, *_methods(route)]


def _loosely(route: Route) -> list[str]:
    """What is forbidden is so however it is written: in another case, with a slash or a format's ending behind it."""
    last = -1 if route.rest else len(route.segments) - 1
    texts = []
    for i, text in enumerate(route.segments):
        if text is not None:
            folded = text.casefold()
            same = f"context.f{i} == {json.dumps(folded)}"
            texts.append(f"({same} || context.f{i} like {json.dumps(folded + '.*')})" if i == last else same)
    return [*_length(route), *texts, *_methods(route)]


def _length(route: Route) -> list[str]:
    """Comes first: a segment that is not there cannot be looked at."""
    if route.rest and not route.segments:
        return []
    return [f"context.n {'>=' if route.rest else '=='} {len(route.segments)}"]


def _methods(route: Route) -> list[str]:
    if len(route.methods) == 1:
        return [f'context.method == "{route.methods[0]}"']
    return [f"[{', '.join(map(json.dumps, route.methods))}].contains(context.method)"] if route.methods else []


#: More policies than so many times those given are not held, however well they would be apart: they are parsed before the first call.
_COPIES = 8


class Shelf:
    """Policies of one service and method, parsed, and apart by what a segment must be: fewer are to be looked at in each decision.

    Which ones a call is put to is a first choice; each policy says all of its conditions all the same.
    """

    def __init__(self, policies: Sequence[Policy], parse: Callable[[str], cedarpy.PolicySet]) -> None:
        sizes = {at: _sizes(policies, at) for at in range(max((len(one.segments) for one in policies), default=0))}
        held = {at: max(counts) for at, counts in sizes.items() if sum(counts) <= _COPIES * len(policies)}
        #: Nothing is apart by a segment that no policy has.
        self._at = min(held, key=lambda at: held[at], default=MAX_SEGMENTS)
        chosen = {
            key: [one for one in policies if _key(one, self._at) in (key, None)]
            for key in {None, *(_key(one, self._at) for one in policies)}
        }
        self._sets = {key: parse("\n".join(one.text for one in found)) for key, found in chosen.items()}

    def of(self, segments: Sequence[str]) -> cedarpy.PolicySet:
        key = _folded(segments[self._at]) if self._at < len(segments) else None
        return self._sets.get(key) or self._sets[None]


def _sizes(policies: Sequence[Policy], at: int) -> list[int]:
    """How many policies there would be together, were they apart by the segment there."""
    apart = Counter(_key(one, at) for one in policies)
    everywhere = apart.pop(None, 0)
    return [everywhere, *(count + everywhere for count in apart.values())]


def _key(policy: Policy, at: int) -> str | None:
    text = policy.segments[at] if at < len(policy.segments) else None
    return None if text is None else _folded(text)


def _folded(segment: str) -> str:
    """The same for all that a rule takes for one: another case, a format's ending behind it."""
    return segment.casefold().partition(".")[0]


class Decider:
    """Policies parsed once; decisions are pure, and may be asked for from anywhere.

    Raises ValueError when the policies are no Cedar.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        import cedarpy  # a tenth of a second, which commands that only name a `Policy` need not wait for

        self._authorized = cedarpy.is_authorized
        self._entities = cedarpy.Entities.from_json_str
        policies = tuple(policies)
        self._levels: dict[str, Level] = {}
        for policy in policies:
            self._levels[policy.id] = max(policy.level, self._levels.get(policy.id, "read"), key=LEVELS.index)
        #: By service and method.
        self._shelves = {
            (on, method): Shelf([one for one in policies if _concerns(one, on, method)], cedarpy.PolicySet.from_str)
            for on in {policy.on for policy in policies if policy.on}
            for method in ("", *METHODS)
        }
        #: Services of which something is forbidden: only such policies look at how a path could be read otherwise.
        everywhere = any(not policy.on for policy in policies)
        self._loose = {
            on for on, _ in self._shelves if everywhere or any(p.on == on and p.level in LEVELS[2:] for p in policies)
        }
        self._none = self._entities("[]")

    def call(self, agent: str, service: str, asked: Asked) -> Decision:
        """An HTTP request to a service."""
        context: dict[str, Any] = {"method": asked.method, "n": len(asked.segments), "slash": asked.slash}
        context |= {f"s{i}": segment for i, segment in enumerate(asked.segments[:MAX_SEGMENTS])}
        if service in self._loose:
            context |= {f"f{i}": segment for i, segment in enumerate(asked.folded[:MAX_SEGMENTS])}
            context["path"] = "/" + "/".join(asked.folded)
        policies = self._policies(service, asked.method, asked.folded)
        return self._decide(agent, "call", policies, {"type": "Service", "id": service}, context)

    def connect(self, agent: str, service: str) -> Decision:
        """A connection to a service whose protocol podctl does not read: all of it or nothing."""
        return self._decide(agent, "connect", self._policies(service), {"type": "Service", "id": service}, {})

    def use(self, agent: str, server: str, tool: str) -> Decision:
        """A call of a tool of an MCP server."""
        resource = {"type": "Tool", "id": f"{server}.{tool}"}
        known = json.dumps([{"uid": resource, "attrs": {}, "parents": [{"type": "Server", "id": server}]}])
        return self._decide(agent, "use", self._policies(server, "", (tool,)), resource, {}, self._entities(known))

    def _policies(self, on: str, method: str = "", segments: Sequence[str] = ()) -> cedarpy.PolicySet | None:
        shelf = self._shelves.get((on, method)) or self._shelves.get((on, ""))
        return shelf.of(segments) if shelf else None

    def _decide(
        self,
        agent: str,
        action: str,
        policies: cedarpy.PolicySet | None,
        resource: dict[str, str],
        context: dict[str, Any],
        entities: cedarpy.Entities | None = None,
    ) -> Decision:
        if policies is None:
            return Decision(False, "human-only", UNLISTED)
        request = {
            "principal": {"type": "Agent", "id": agent},
            "action": {"type": "Action", "id": action},
            "resource": resource,
            "context": context,
        }
        try:
            result = self._authorized(request, policies, entities or self._none)
            errors, allowed = result.diagnostics.errors, result.allowed
        except Exception as error:
            return Decision(False, "human-only", FAILED, str(error)[:300])
        if errors:
            return Decision(False, "human-only", FAILED, str(errors[0])[:300])
        decided = [name for name in result.diagnostics.id_annotations_by_reason.values() if name in self._levels]
        if not decided:
            return Decision(False, "human-only", UNLISTED)
        strictest = max(decided, key=lambda name: LEVELS.index(self._levels[name]))
        return Decision(allowed, self._levels[strictest], strictest)


def is_written(rule: str, asked: Asked) -> bool:
    """Whether the route's rule of this name says this very path. What it shuts is so in another case and with an ending, too: that is
    no path that anybody has listed."""
    methods, _, path = rule.split(" ", 2)
    route = parse_route(f"{methods} {path}")
    said, there = route.segments, asked.segments
    long_enough = len(there) >= len(said) if route.rest else (len(there), asked.slash) == (len(said), route.slash)
    return long_enough and all(text in (None, segment) for text, segment in zip(said, there, strict=False))


def _concerns(policy: Policy, on: str, method: str) -> bool:
    return policy.on in ("", on) and (not policy.methods or method in policy.methods)
