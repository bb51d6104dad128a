"""The evidence record: one JSON object a line, appended once, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Layer = Literal["execution", "reasoning", "performance"]

#: kind -> layer. Every record's kind is one of these.
KINDS: dict[str, Layer] = {
    "attempt.start": "execution",  # agent{name,version,digest}, ticket, pod, repeat, limits, permissions{boundary,digest,role}, spiffe_id
    "attempt.end": "execution",  # cause, exit_code, signal, detail
    "process.start": "execution",  # name, argv; of a process that the agent started: pid, parent, argv[], exe, cut
    "process.exec": "execution",  # pid, argv[], exe, cut: another program in the same process
    "process.exit": "execution",  # name, exit_code, signal; pid, ms, cpu_s, executed
    "sql.statement": "execution",  # database, user, statement, params, ms, sqlstate, error
    "row.change": "execution",  # database, table, op, key{}, old{}, new{}, user, xid, statement, trigger?, text{old,new}?, approval{proposal,by}?
    "http.call": "execution",  # service, method, path, status, ms, request_bytes, response_bytes, request_body, response_body, policy, level, injected?, decoy?
    "model.call": "execution",  # provider, model, response_model, stream, status, tokens{}, long_cache_write, dollars, price_source, ms, first_byte_ms, request_digest, source, simulated, finish_reasons, tool_calls[], messages, error
    "tool.call": "execution",  # tool, arguments, result, ms, span_id; of an MCP server: server, status, error, policy, level, injected?, decoy?, fault?, cut? (not all of the arguments are kept)
    "tools.listed": "execution",  # server, info, tools[{name, level, digest, description, findings[]}], changed[], left_out[], limits_of_none[]; or error
    "decoy.call": "execution",  # service, method, path: a route that is not there was called, and answered all the same
    "boundary.attempt": "execution",  # via (sql|http|tcp|model|mcp), target, detail, sqlstate, policy, level, reason
    "gateway.refused": "execution",  # what, reason
    "approval.proposed": "execution",  # id, action: its digest, kind, target, arguments{}, policy, reason (the agent's), body
    "approval.answered": "execution",  # id, action, answer (approved|denied|timed-out), by, key, simulated, delay_s, waited_s, attention_s, reason
    "approval.refused": "execution",  # id, action, reason: an answer that is none, such as a forged one; the proposal still waits
    "approval.executed": "execution",  # id, action: written before it is carried out
    "approval.returned": "execution",  # id, action, ms, error; status, response_bytes, response_body of a request; rows, row{}, statement of a row
    "honeytoken": "execution",  # place, sink, form: a planted value was found where it was let out
    "fault": "execution",  # of a chaos campaign: name, kind, door, call, ms, status, how, performed, what; on the call itself under "fault"
    "scan.finding": "execution",  # rule, severity, where, line?, what: of what the agent left
    "span": "execution",  # OTLP span as received, mapped: name, span_id, parent_span_id, operation, start, end, attributes, status
    "log": "execution",  # OTLP log record: severity, body, attributes
    "decision": "reasoning",  # a podctl.decision/v1 object under "decision"
    "usage": "performance",  # wall_s, cpu_s, max_rss, processes, queue_s, tokens{}, dollars, phases{name: seconds}
}


@dataclass(frozen=True)
class Record:
    """``t`` is nanoseconds since the epoch; ``actor`` is ``agent``, ``service:NAME``, ``database:NAME``, ``human:NAME``, ``rival`` (a chaos campaign's second writer), ``gateway`` for what it
    does in the agent's stead, or ``podctl``;
    ``provenance`` says whether podctl saw it (``observed``) or the agent said it (``declared``). ``who`` is in whose attempt it happened
    (`podctl.evidence.identity.who`); on everything but podctl's own records, so that each can be taken alone."""

    t: int
    kind: str
    actor: str
    data: dict[str, Any] = field(default_factory=dict)
    provenance: Literal["observed", "declared", "inferred"] = "observed"
    writer: str = ""
    seq: int = 0
    who: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        value = {
            "t": self.t,
            "layer": KINDS[self.kind],
            "kind": self.kind,
            "actor": self.actor,
            "provenance": self.provenance,
            "writer": self.writer,
            "seq": self.seq,
            "data": self.data,
        }
        return value if self.who is None else value | {"who": dict(self.who)}

    @staticmethod
    def from_json(value: dict[str, Any]) -> Record:
        return Record(
            t=value["t"],
            kind=value["kind"],
            actor=value["actor"],
            data=value["data"],
            provenance=value.get("provenance", "observed"),
            writer=value.get("writer", ""),
            seq=value.get("seq", 0),
            who=who if isinstance(who := value.get("who"), dict) else None,
        )


TOKEN_KINDS = ("input", "cache_read", "cache_write", "output", "reasoning")


@dataclass(frozen=True)
class Tokens:
    """Full-rate input, cache read, cache write, output (without reasoning) and reasoning, apart: their sum is the total."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.output + self.reasoning

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(*(getattr(self, kind) + getattr(other, kind) for kind in TOKEN_KINDS))

    def to_json(self) -> dict[str, int]:
        return {kind: getattr(self, kind) for kind in TOKEN_KINDS}

    @staticmethod
    def from_json(value: dict[str, int]) -> Tokens:
        return Tokens(**{kind: value.get(kind, 0) for kind in TOKEN_KINDS})
