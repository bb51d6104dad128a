"""What podctl and the gateway process tell one another: configuration, attempt passes, totals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from podctl.boundary.policies import Policy, from_json, to_json
from podctl.errors import PodctlError
from podctl.evidence import codec
from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.records import Record, Tokens
from podctl.evidence.toollists import ToolList, with_list
from podctl.evidence.tried import Tried, tried_of, with_tried
from podctl.evidence.usage import ModelUse, merged, use_of
from podctl.evidence.uses import with_uses
from podctl.honey.search import said
from podctl.signing import PublicKey
from podctl.spec.approvals import Approvals
from podctl.spec.boundary import Boundary
from podctl.spec.models import ToolRoute, ToolServer, Upstream

#: ``http``, ``mcp`` and ``raw`` lead to services, ``tcp`` to a database: what an agent may do there its role says.
DoorKind = Literal["gateway", "http", "mcp", "raw", "tcp"]
#: The door to a service, by its protocol.
DOOR_KINDS: Mapping[str, DoorKind] = {"http": "http", "mcp": "mcp", "tcp": "raw"}
#: An address and a port, or the path of a Unix socket.
Target = tuple[str, int] | str
LimitName = Literal["tokens", "dollars", "spans", "run_dollars", "output"]

OPENAI_URL = "https://api.openai.com/v1"
ANTHROPIC_URL = "https://api.anthropic.com"


class GatewayError(PodctlError):
    """The gateway refused what podctl asked of it."""


class GatewayLost(PodctlError):
    """The gateway process is gone; nothing can be asked of it any more."""


@dataclass(frozen=True)
class GatewayConfig:
    """One run's gateway. ``keys`` are the providers' real keys, by ``openai`` and ``anthropic``.

    Times are seconds, sizes bytes. ``default_output`` is the output reserved for a call that does not say
    how long its answer may be. ``drain`` is how long a model call still under way when its attempt closes may
    take to finish, so that its cost becomes known.
    """

    upstream: Upstream = Upstream()
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    run_dollars: Decimal | None = None
    linger: bool = False
    default_output: int = 4096
    call_timeout: float = 600.0
    connect_timeout: float = 10.0
    retries: int = 2
    retry_base: float = 0.5
    retry_cap: float = 20.0
    request_cap: int = 16 * 2**20
    response_cap: int = 64 * 2**20
    drain: float = 0.5

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "upstream": self.upstream.model_dump(mode="json"),
            "keys": dict(self.keys),
            "run_dollars": _text(self.run_dollars),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> GatewayConfig:
        upstream = Upstream.model_validate(value["upstream"])
        return GatewayConfig(**{**value, "upstream": upstream, "run_dollars": _decimal(value["run_dollars"])})


def provider_keys(upstream: Upstream, environment: Mapping[str, str]) -> dict[str, str]:
    """The real keys that the scenario names, from podctl's own environment; providers without one are absent."""
    names = {"openai": upstream.openai_key_env, "anthropic": upstream.anthropic_key_env}
    return {provider: environment[name] for provider, name in names.items() if environment.get(name)}


@dataclass(frozen=True)
class Approving:
    """Who answers what an attempt proposes.

    ``seed`` is what rules draw by, ``ticket`` what they may ask about it, ``boundary`` the digest of the boundary. ``people``: name -> key of
    who may answer; ``barred``: key ids that may not, and why. ``nobody`` says why no person can be asked, and is empty where people are.
    """

    spec: Approvals
    seed: str
    ticket: Mapping[str, Any]
    boundary: str
    people: Mapping[str, PublicKey] = field(default_factory=dict)
    barred: Mapping[str, str] = field(default_factory=dict)
    nobody: str = ""

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "spec": self.spec.model_dump(mode="json"),
            "ticket": dict(self.ticket),
            "people": {name: key.raw.hex() for name, key in self.people.items()},
            "barred": dict(self.barred),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Approving:
        people = {name: PublicKey(bytes.fromhex(raw)) for name, raw in value["people"].items()}
        return Approving(**{**value, "spec": Approvals.model_validate(value["spec"]), "people": people})


@dataclass(frozen=True)
class AttemptPass:
    """What one attempt may do through the doors of its pod.

    ``evidence`` is the gateway's own stream of the attempt. A limit of ``None`` is no limit, 0 allows nothing.
    ``spans`` bounds spans, log records and decisions together. ``services`` are the services the agent may
    call, empty for all; databases are held by their grants. ``policies`` are the boundary's, None where none decides on
    what services are asked. ``servers`` are the MCP servers, ``routing`` what the agent's file says of their tools. ``agent`` is its name, to policies; ``who`` is put on every record
    (`podctl.evidence.identity.who`). ``honeytokens``, place -> value, are looked for
    in what the agent sends. ``variant`` is what a campaign does to the attempt, of which the gateway does what it knows by its key.
    ``approvals`` None: nobody answers what it proposes. ``tables`` is what the boundary says of databases, by which proposals of rows are judged (None: no row is open to any),
    ``places`` where those that something is recommended of are written once it is approved: database -> how to connect, with a password.
    """

    attempt: str
    pod: str
    key: str = field(repr=False)
    evidence: Path
    tokens: int | None = None
    dollars: Decimal | None = None
    spans: int | None = None
    evidence_bytes: int = 256 * 2**20
    services: tuple[str, ...] = ()
    policies: tuple[Policy, ...] | None = None
    agent: str = ""
    who: Mapping[str, str] = field(default_factory=dict)
    honeytokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    variant: Mapping[str, Any] = field(default_factory=dict, repr=False)
    servers: Mapping[str, ToolServer] = field(default_factory=dict)
    routing: Mapping[str, ToolRoute] = field(default_factory=dict)
    approvals: Approving | None = None
    tables: Boundary | None = None
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "evidence": str(self.evidence),
            "dollars": _text(self.dollars),
            "services": list(self.services),
            "policies": None if self.policies is None else to_json(self.policies),
            "who": dict(self.who),
            "honeytokens": dict(self.honeytokens),
            "variant": dict(self.variant),
            "servers": {name: server.model_dump(mode="json") for name, server in self.servers.items()},
            "routing": {name: route.model_dump(mode="json") for name, route in self.routing.items()},
            "approvals": None if self.approvals is None else self.approvals.to_json(),
            "tables": None if self.tables is None else self.tables.model_dump(mode="json"),
            "places": dict(self.places),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> AttemptPass:
        return AttemptPass(
            **{
                **value,
                "evidence": Path(value["evidence"]),
                "dollars": _decimal(value["dollars"]),
                "services": tuple(value["services"]),
                "policies": None if value["policies"] is None else from_json(value["policies"]),
                "servers": {name: ToolServer.model_validate(told) for name, told in value["servers"].items()},
                "routing": {name: ToolRoute.model_validate(told) for name, told in value["routing"].items()},
                "approvals": None if value["approvals"] is None else Approving.from_json(value["approvals"]),
                "tables": None if value["tables"] is None else Boundary.model_validate(value["tables"]),
            }
        )


@dataclass(frozen=True)
class Totals:
    """What one attempt came to at the gateway.

    ``dollars`` and ``tokens_known`` say unknown when some call's usage never arrived; ``dollars_upper`` and
    ``tokens_upper`` count such a call at its reservation. ``tokens`` sums the calls whose usage is known.
    """

    tokens: Tokens = Tokens()
    tokens_known: bool = True
    tokens_upper: int = 0
    dollars: Decimal | None = Decimal(0)
    dollars_upper: Decimal = Decimal(0)
    model_calls: int = 0
    http_calls: int = 0
    spans: int = 0
    decisions: int = 0
    refused: int = 0
    boundary_attempts: int = 0
    provider_failures: int = 0
    simulated: bool = False
    confidence: float | None = None
    limits_hit: tuple[str, ...] = ()
    models: tuple[ModelUse, ...] = ()
    uses: Mapping[str, int] = field(default_factory=dict)
    honeytokens: tuple[str, ...] = ()
    tried: tuple[Tried, ...] = ()
    tool_lists: tuple[ToolList, ...] = ()
    approvals: ApprovalCounts | None = None
    faults: Mapping[str, int] = field(default_factory=dict)  # of a chaos campaign, by kind
    fault_s: float = 0.0  # seconds that they took

    def to_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "tokens": self.tokens.to_json(),
            "dollars": _text(self.dollars),
            "dollars_upper": str(self.dollars_upper),
            "limits_hit": list(self.limits_hit),
            "models": [codec.to_json(use) for use in self.models],
            "uses": dict(self.uses),
            "faults": dict(self.faults),
            "honeytokens": list(self.honeytokens),
            "tried": [codec.to_json(one) for one in self.tried],
            "tool_lists": [codec.to_json(one) for one in self.tool_lists],
            "approvals": None if self.approvals is None else codec.to_json(self.approvals),
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Totals:
        return Totals(
            **{
                **value,
                "tokens": Tokens.from_json(value["tokens"]),
                "dollars": _decimal(value["dollars"]),
                "dollars_upper": Decimal(value["dollars_upper"]),
                "limits_hit": tuple(value["limits_hit"]),
                "models": tuple(codec.from_json(ModelUse, use) for use in value["models"]),
                "tried": tuple(codec.from_json(Tried, one) for one in value["tried"]),
                "tool_lists": tuple(codec.from_json(ToolList, one) for one in value["tool_lists"]),
                "honeytokens": tuple(value["honeytokens"]),
                "approvals": None if value["approvals"] is None else codec.from_json(ApprovalCounts, value["approvals"]),
            }
        )

    def spent(self, tokens: Tokens | None, dollars: Decimal | None, reserved_tokens: int, reserved: Decimal) -> Totals:
        """These totals with one settled call more."""
        return replace(
            self,
            tokens=self.tokens + (tokens or Tokens()),
            tokens_known=self.tokens_known and tokens is not None,
            tokens_upper=self.tokens_upper + (reserved_tokens if tokens is None else tokens.total),
            dollars=None if dollars is None or self.dollars is None else self.dollars + dollars,
            dollars_upper=self.dollars_upper + (reserved if dollars is None else dollars),
        )

    def used(self, use: ModelUse) -> Totals:
        """These totals with what one settled call used of its model."""
        return replace(self, models=merged((*self.models, use)))


@dataclass(frozen=True)
class RunTotals:
    """Every attempt of the run so far, closed and open; the same meanings as in `Totals`."""

    dollars: Decimal | None = Decimal(0)
    dollars_upper: Decimal = Decimal(0)
    tokens: Tokens = Tokens()
    model_calls: int = 0
    provider_failures: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "dollars": _text(self.dollars),
            "dollars_upper": str(self.dollars_upper),
            "tokens": self.tokens.to_json(),
            "model_calls": self.model_calls,
            "provider_failures": self.provider_failures,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> RunTotals:
        return RunTotals(
            dollars=_decimal(value["dollars"]),
            dollars_upper=Decimal(value["dollars_upper"]),
            tokens=Tokens.from_json(value["tokens"]),
            model_calls=value["model_calls"],
            provider_failures=value["provider_failures"],
        )


def totals_of(records: Iterable[Record]) -> Totals:
    """An attempt's totals from its evidence, for when the gateway died before it could say them.

    A model call that was started and never finished counts as unknown, at its reservation.
    """
    started: dict[str, Mapping[str, Any]] = {}
    finished: dict[str, Mapping[str, Any]] = {}
    counts: dict[str, Any] = dict.fromkeys(("http_calls", "spans", "decisions", "refused", "boundary_attempts"), 0)
    counted = {
        "http.call": "http_calls",
        "span": "spans",
        "decision": "decisions",
        "gateway.refused": "refused",
        "boundary.attempt": "boundary_attempts",
    }
    confidence = None
    uses: dict[str, int] = {}
    let_out: list[str] = []
    faults: dict[str, int] = {}
    fault_ms = 0.0
    tried: tuple[Tried, ...] = ()
    tool_lists: tuple[ToolList, ...] = ()
    approvals = ApprovalCounts()
    for record in records:
        approvals = approvals.with_record(record.kind, record.data)
        uses = with_uses(uses, record.kind, record.data)
        if record.kind == "model.call":
            (started if record.data.get("status") == "started" else finished)[record.data["call_id"]] = record.data
        elif record.kind == "honeytoken":
            let_out.append(said(record.data))
        elif record.kind == "fault":
            faults[record.data["kind"]] = faults.get(record.data["kind"], 0) + 1
            fault_ms += record.data.get("ms", 0.0)
        elif record.kind == "tools.listed":
            tool_lists = with_list(tool_lists, record.data)
        elif record.kind in counted:
            counts[counted[record.kind]] += 1
            if record.kind == "decision":
                confidence = declared_confidence(record.data["decision"], confidence)
            elif record.kind == "boundary.attempt":
                tried = with_tried(tried, tried_of(record.data))
    totals = Totals(confidence=confidence, model_calls=len(started), uses=uses, honeytokens=tuple(let_out), tried=tried)
    totals = replace(
        totals,
        **counts,
        tool_lists=tool_lists,
        approvals=approvals if approvals.proposed else None,
        faults=faults,
        fault_s=fault_ms / 1000,
    )
    for call_id, start in started.items():
        end = finished.get(call_id, {})
        tokens, dollars = None if end.get("tokens") is None else Tokens.from_json(end["tokens"]), _decimal(end.get("dollars"))
        reserved = start["reserved"]
        totals = totals.spent(tokens, dollars, reserved["tokens"], Decimal(reserved["dollars"]))
        totals = totals.used(use_of(end or start, tokens, dollars))
        totals = replace(
            totals,
            simulated=totals.simulated or bool(start.get("simulated")),
            provider_failures=totals.provider_failures + bool(end.get("provider_failure")),
        )
    return totals


def declared_confidence(decision: Any, before: float | None) -> float | None:
    """The confidence a decision declares when it is a number from 0 to 1; else what was declared before."""
    value = decision.get("confidence") if isinstance(decision, dict) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    return before


def _decimal(value: Any) -> Decimal | None:
    return None if value is None else Decimal(value)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)
