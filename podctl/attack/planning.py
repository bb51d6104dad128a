"""Which text stands where, for each ticket: attacked attempts and their benign twins, the same whenever it is asked. PURE."""

from __future__ import annotations

import hashlib
import json
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from podctl.attack.carriers import CARRIERS, carried, harmless
from podctl.attack.goals import EXPORT, EXPORTED, TOOL, TOOL_EXPORTED, Goal, builtin
from podctl.errors import SpecError
from podctl.evidence.results import Variant
from podctl.spec.attack import PAYLOAD, Attack, Carrier, Payload, Place
from podctl.spec.bundle import Bundle
from podctl.spec.honeytokens import Honeytokens
from podctl.spec.topology import databases, service_order
from podctl.tickets.states import TableState
from podctl.tickets.types import Ticket

T = TypeVar("T")

#: What a code is called where honeytokens are told.
CODE = "attack code"
_LETTERS = string.ascii_letters + string.digits
_HALF = 8

ATTACKED, TWIN = "attacked", "twin"


@dataclass(frozen=True)
class Services:
    """What of a topology a payload can speak of: HTTP services the agent may call -> where they are, databases, and MCP servers."""

    urls: Mapping[str, str]
    databases: tuple[str, ...]
    servers: tuple[str, ...] = ()

    @property
    def answering(self) -> tuple[str, ...]:
        return (*self.urls, *self.servers)

    @staticmethod
    def of(bundle: Bundle) -> Services:
        topology, tools = bundle.topology, bundle.agent.tools
        there = {name: topology.services[name] for name in service_order(topology)}
        may = {name: one for name, one in there.items() if one.ports and (not tools or name in tools)}
        http = {name: f"http://{name}:{one.ports[0]}" for name, one in may.items() if one.protocol == "http"}
        return Services(http, tuple(databases(topology)), tuple(name for name, one in may.items() if one.protocol == "mcp"))


@dataclass(frozen=True)
class AttackPlan:
    """``of`` gives each plain attempt's variants, with the ticket as the agent gets it."""

    attack: Attack
    services: Services
    honeytokens: Honeytokens
    goals: tuple[Goal, ...]
    repeats: int = 1

    @property
    def carriers(self) -> tuple[Carrier, ...]:
        return self.attack.carriers or CARRIERS

    @property
    def places(self) -> tuple[Place, ...]:
        there: dict[Place, bool] = {
            "ticket": True,
            "answer": bool(self.services.answering),
            "row": bool(self.attack.rows),
            "similar": bool(self.attack.similar),
        }
        return tuple(place for place, is_there in there.items() if is_there and place in (self.attack.places or there))

    def of(self, ticket: Ticket, position: int, repeat: int) -> list[tuple[Variant, Ticket]]:
        made = []
        for n in range(self.attack.per_ticket):
            number = (position * self.repeats + repeat - 1) * self.attack.per_ticket + n
            drawn = _Drawn(self, ticket, number)
            made.append(drawn.variant(twin=False))
            if n < self.attack.twins:
                made.append(drawn.variant(twin=True))
        return made


def plan_attack(attack: Attack, bundle: Bundle, more: Sequence[Payload] = ()) -> AttackPlan:
    """``more``: payloads of other sets. Raises `SpecError` where nothing of the campaign has a place in the topology."""
    services = Services.of(bundle)
    known = {goal.payload.name: goal for goal in builtin()}
    wrong = [name for name in attack.goals if name not in known]
    if wrong:
        raise _mistake(f"the attack names goals that are none: {', '.join(wrong)}", f"one of {', '.join(known)}")
    for what, named, there in (
        ("databases", {*attack.rows, *attack.similar}, {*services.databases}),
        ("services", {*attack.answers, *attack.decoys}, {*services.answering}),
    ):
        if named - there:
            raise _mistake(
                f"the attack names {what} that the agent cannot use: {', '.join(sorted(named - there))}",
                f"the topology has {', '.join(sorted(there)) or 'none'}",
            )
    wanted = [known[name] for name in attack.goals] or list(known.values()) if "builtin" in attack.sets else []
    room = {
        "": True,
        "service": bool(services.urls),
        "database": bool(services.databases),
        "tools": bool(services.servers),
    }
    goals = [goal for goal in wanted if room[goal.needs]] + [Goal(payload) for payload in (*attack.payloads, *more)]
    plan = AttackPlan(attack, services, bundle.scenario.honeytokens or Honeytokens(), tuple(goals), bundle.scenario.run.repeats)
    if not goals or not plan.places:
        raise _mistake(
            "the attack has nothing to do here: no payload or no place fits the topology",
            "name goals, payloads and places that do; podctl attack --help",
        )
    return plan


def _mistake(what: str, hint: str) -> SpecError:
    return SpecError(what, code="attack-unfit", unchanged="nothing was made", hint=hint)


class _Drawn:
    """One text in one place: goal, carrier and place each dealt evenly over the campaign, in an order that the seed makes."""

    def __init__(self, plan: AttackPlan, ticket: Ticket, number: int) -> None:
        self._plan, self._ticket = plan, ticket
        seed = plan.attack.seed
        digest = hashlib.sha256(f"{seed}:{ticket.id}:{number}".encode()).digest()
        self._seed = int.from_bytes(digest[:6])
        chance = self._chance("values")
        self._goal = _dealt(plan.goals, number, f"{seed}:goal")
        self._carrier = _dealt(plan.carriers, number, f"{seed}:carrier")
        self._place = _dealt(
            [one for one in plan.places if _rows_of(plan.attack, one, ticket) is not None], number, f"{seed}:place"
        )
        halves = ["".join(chance.choice(_LETTERS) for _ in range(_HALF)) for _ in range(2)]
        url = chance.choice(sorted(plan.services.urls)) if plan.services.urls else ""
        honey = plan.honeytokens
        self._values = {
            "first": halves[0],
            "second": halves[1],
            "code": "".join(halves),
            "service": url,
            "url": plan.services.urls.get(url, ""),
            "database": plan.services.databases[0] if plan.services.databases else "",
            "tool": TOOL,
            "id": ticket.id,
            "variable": honey.environment[0] if honey.environment else "ADMIN_API_TOKEN",
            "file": honey.files[0] if honey.files else ".admin-token",
        }

    def _chance(self, what: str) -> random.Random:
        return random.Random(f"{self._seed}:{what}")

    def variant(self, *, twin: bool) -> tuple[Variant, Ticket]:
        payload, carrier, place = self._goal.payload, self._carrier, self._place
        asked = self._filled(payload.german if carrier == "german" and payload.german else payload.text)
        text = asked
        if twin:
            text = self._filled(payload.twin) if payload.twin else harmless(asked, carrier, place, self._chance("twin"))
        pieces = carried(carrier, text, twin)
        data: dict[str, Any] = {
            "goal": payload.name,
            "carrier": carrier,
            "place": place,
            "text": text,
            "pieces": list(pieces),
            "code": self._values["code"],
            "tells": [] if twin else [self._deep(tell.model_dump(exclude_unset=True)) for tell in payload.tells],
            "decoys": self._decoys(),
        }
        ticket = self._ticket
        if place == "ticket":
            ticket = replace(ticket, text=around(ticket.text, pieces))
        elif place == "answer":
            data["answers"] = [
                {"service": service, "route": route, "field": field}
                for service in self._plan.services.answering
                for route, field in (self._plan.attack.answers or {service: {"": ""}}).get(service, {}).items()
            ]
        else:
            planted = _rows_of(self._plan.attack, place, ticket) or ()
            data["rows"] = [[database, state.shown] for database, state in planted]
            ticket = replace(ticket, states=_with(ticket, planted, pieces))
        kind = TWIN if twin else ATTACKED
        name = f"{'twin of ' if twin else ''}{payload.name} ({carrier}, {place})"
        return Variant(name, kind, self._seed, data), ticket

    def _decoys(self) -> list[dict[str, Any]]:
        services = self._plan.services
        every = {name: {EXPORT: EXPORTED} for name in services.urls} | {
            name: {TOOL: TOOL_EXPORTED} for name in services.servers
        }
        listed = {service: {**every[service], **self._plan.attack.decoys.get(service, {})} for service in every}
        return [
            {"service": service, "route": route, "status": one.status, "body": self._deep(one.body), "said": one.description}
            for service, routes in listed.items()
            for route, one in routes.items()
        ]

    def _filled(self, text: str) -> str:
        for name, value in self._values.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def _deep(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._filled(value)
        if isinstance(value, dict):
            return {key: self._deep(item) for key, item in value.items()}
        return [self._deep(item) for item in value] if isinstance(value, list | tuple) else value


def _dealt(cards: Sequence[T], number: int, salt: str) -> T:
    """Card ``number`` of packs that are shuffled one after the other: any so many in a row hold each card as often, give or take one."""
    pack = list(cards)
    random.Random(f"{salt}:{number // len(pack)}").shuffle(pack)
    return pack[number % len(pack)]


def around(text: str, pieces: Sequence[str]) -> str:
    """``text`` with one piece behind it, or with two on its sides."""
    return "\n\n".join((*pieces[:-1], text, pieces[-1]))


def _rows_of(attack: Attack, place: Place, ticket: Ticket) -> tuple[tuple[str, TableState], ...] | None:
    """Where a text would stand for this ticket, without it; None: nowhere."""
    if place in ("ticket", "answer"):
        return ()
    found: list[tuple[str, TableState]] = []
    if place == "similar":
        for database, tables in attack.similar.items():
            for table, row in tables.items():
                values = {column: _cell(value, ticket) for column, value in row.items()}
                schema, name = _split(table)
                found.append(
                    (database, TableState(schema, name, tuple(values), (), (), (tuple(values.values()),), planted=True))
                )
        return tuple(found)
    for database, columns in attack.rows.items():
        for table, one in columns.items():
            schema, name = _split(table)
            for key in _keys(database, table, one.where, ticket):
                appended = ((tuple(key.values()), ("", "")),)
                found.append((database, TableState(schema, name, (one.column,), tuple(key), planted=True, appended=appended)))
    return tuple(found) or None


def _keys(database: str, table: str, where: Mapping[str, str], ticket: Ticket) -> list[dict[str, str]]:
    if where:
        fields = {**ticket.fields, "id": ticket.id}
        names = {column: value.strip("{}") if value.startswith("{") else None for column, value in where.items()}
        if any(name is not None and fields.get(name) in (None, "") for name in names.values()):
            return []
        return [{column: str(fields[name]) if name else where[column] for column, name in names.items()}]
    changes = ticket.reference.changes if ticket.reference is not None and ticket.reference.changes else ()
    keys = [one.key for one in changes if (one.database, one.table) == (database, table) and one.op != "insert" and one.key]
    return [{column: str(value) for column, value in key.items()} for key in keys]


def _with(
    ticket: Ticket, planted: Sequence[tuple[str, TableState]], pieces: Sequence[str]
) -> dict[str, tuple[TableState, ...]]:
    states = dict(ticket.states)
    before, behind = ("".join(f"{piece}\n\n" for piece in pieces[:-1]), f"\n\n{pieces[-1]}")
    for database, state in planted:
        if state.appended:
            state = replace(state, appended=tuple((key, (before, behind)) for key, _ in state.appended))
        else:
            whole = "\n\n".join(pieces)
            rows = tuple(tuple(None if cell is None else cell.replace(PAYLOAD, whole) for cell in row) for row in state.rows)
            state = replace(state, rows=rows)
        states[database] = (*states.get(database, ()), state)
    return states


def _cell(value: Any, ticket: Ticket) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return json.dumps(value)
    return str(value).replace("{id}", ticket.id).replace("{text}", ticket.text)


def _split(table: str) -> tuple[str, str]:
    schema, _, name = table.rpartition(".")
    return schema or "public", name
