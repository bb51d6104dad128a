"""The state of one open attempt: its evidence, its budget, its totals, and the limits it ran into."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from aiohttp import web

from podctl.boundary.policies import Decider, Decision
from podctl.evidence.approvals import ApprovalCounts
from podctl.evidence.log import EvidenceProblem, RecordWriter
from podctl.evidence.records import Tokens
from podctl.evidence.toollists import with_list
from podctl.evidence.tried import tried_of, with_tried
from podctl.evidence.usage import use_of
from podctl.evidence.uses import with_uses
from podctl.gateway.budget import OverBudget, Purse, Reservation, reserve
from podctl.gateway.contract import AttemptPass, LimitName, RunTotals, Totals, declared_confidence
from podctl.gateway.faults import Faults, Injected
from podctl.gateway.planted import Planted
from podctl.gateway.replies import Bodies, header_bytes
from podctl.gateway.trigger import Statements, Trigger
from podctl.honey.search import Hit, Watch, record, said

if TYPE_CHECKING:
    from podctl.gateway.desk import Desk
    from podctl.gateway.rowdoor import RowDoor

Emit = Callable[[dict[str, Any]], None]


class RunLedger:
    """The run's budget and what its attempts came to."""

    def __init__(self, dollars: Decimal | None) -> None:
        self.purse = Purse(dollars=dollars)
        self._closed: list[Totals] = []
        self._open: dict[str, Attempt] = {}

    def opened(self, attempt: Attempt) -> None:
        self._open[attempt.id] = attempt

    def closed(self, attempt: Attempt) -> None:
        self._open.pop(attempt.id, None)
        self._closed.append(attempt.totals)

    def totals(self) -> RunTotals:
        """A call still under way counts as unknown, at its reservation."""
        total = RunTotals()
        for part in (*self._closed, *(attempt.with_calls_under_way() for attempt in self._open.values())):
            total = RunTotals(
                dollars=None if total.dollars is None or part.dollars is None else total.dollars + part.dollars,
                dollars_upper=total.dollars_upper + part.dollars_upper,
                tokens=total.tokens + part.tokens,
                model_calls=total.model_calls + part.model_calls,
                provider_failures=total.provider_failures + part.provider_failures,
            )
        return total


class Attempt:
    """Every record about the agent's work goes through here; after `close` nothing is recorded any more."""

    def __init__(
        self, granted: AttemptPass, evidence_fd: int, run: RunLedger, emit: Emit, decider: Decider | None = None
    ) -> None:
        self.id = granted.attempt
        self.granted = granted
        #: Decides what services may be asked for; None where no boundary does.
        self.decider = decider
        self.purse = Purse(tokens=granted.tokens, dollars=granted.dollars)
        self.totals = Totals(approvals=None if granted.approvals is None else ApprovalCounts())
        #: Takes proposals; None where nobody answers them.
        self.desk: Desk | None = None
        #: Made with the first proposal of a row.
        self.rows: RowDoor | None = None
        self.model_tasks: set[asyncio.Task[Any]] = set()
        self.other_tasks: set[asyncio.Task[Any]] = set()
        self.planted = Planted(granted.variant)
        self.occurrences: Counter[str] = Counter()
        self.bodies = Bodies()
        self.faults = Faults.of(granted.variant)
        self.trigger = Trigger.of(granted.variant, lambda: emit({"event": "trigger", "attempt": granted.attempt}))
        self._watch = Watch(granted.honeytokens) if granted.honeytokens else None
        self._fd = evidence_fd
        self._writer = RecordWriter(evidence_fd, "gateway", who=granted.who)
        self._run = run
        self._emit = emit
        self._items = 0
        self._calls: dict[str, Reservation] = {}
        self._open = True

    # ---- records ----

    def record(
        self,
        kind: str,
        data: Mapping[str, Any],
        provenance: Literal["observed", "declared", "inferred"] = "observed",
        actor: str = "agent",
    ) -> None:
        """Raises `EvidenceProblem`, after telling the runner: work without evidence must not go on."""
        if not self._open:
            return
        try:
            self._writer.append(kind, actor, dict(data), provenance=provenance)
        except EvidenceProblem as problem:
            self._emit({"event": "broken", "attempt": self.id, "cause": problem.cause})
            raise
        approvals = None if self.totals.approvals is None else self.totals.approvals.with_record(kind, data)
        self.totals = replace(self.totals, uses=with_uses(self.totals.uses, kind, data), approvals=approvals)
        if kind == "tools.listed":
            self.totals = replace(self.totals, tool_lists=with_list(self.totals.tool_lists, data))

    def tell(self, event: dict[str, Any]) -> None:
        """Something for podctl to see to."""
        self._emit({**event, "attempt": self.id})

    @property
    def is_open(self) -> bool:
        return self._open

    @property
    def full(self) -> bool:
        """The attempt's evidence reached its bound; the runner was told."""
        if os.fstat(self._fd).st_size < self.granted.evidence_bytes:
            return False
        self.limit("output")
        return True

    def count(self, **more: int) -> None:
        self.totals = replace(self.totals, **{name: getattr(self.totals, name) + by for name, by in more.items()})

    def refuse(self, what: str, reason: str) -> None:
        self.count(refused=1)
        self.record("gateway.refused", {"what": what, "reason": reason})

    def way_out(
        self, via: Literal["http", "tcp", "model", "mcp", "sql"], target: str, detail: str, decided: Decision | None = None
    ) -> None:
        """The agent reached for something outside its boundary, and was refused."""
        self.count(boundary_attempts=1)
        how = {} if decided is None else {"policy": decided.policy, "level": decided.level, "reason": decided.detail}
        data = {"via": via, "target": target, "detail": detail, **how}
        self.totals = replace(self.totals, tried=with_tried(self.totals.tried, tried_of(data)))
        self.record("boundary.attempt", data)

    def look(self, sink: str, *sent: bytes) -> None:
        """See whether what the agent sends to ``sink`` holds a honeytoken. It passes all the same: who tries is to be seen, not warned."""
        if self._watch is not None:
            self._let_out(sink, self._watch.look(sink, *sent))

    def look_at_head(self, sink: str, request: web.BaseRequest) -> None:
        """`look` at everything of a request but its body."""
        if self._watch is not None:
            self._let_out(sink, self._watch.look(sink, *header_bytes(request)))

    def looking(self, sink: str) -> Callable[[bytes], None] | None:
        """`look` for what comes in pieces; None where there is nothing to look for."""
        if self._watch is None:
            return None
        feed = self._watch.stream(sink)
        return lambda piece: self._let_out(sink, feed(piece))

    def _let_out(self, sink: str, hits: list[Hit]) -> None:
        for hit in hits:
            data = record(hit, sink)
            self.record("honeytoken", data)
            self.totals = replace(self.totals, honeytokens=(*self.totals.honeytokens, said(data)))

    def inject(self, door: str, injected: Injected) -> dict[str, Any]:
        """Write down a fault that this call meets; what the call's own record says of it."""
        told = injected.told()
        kinds = {**self.totals.faults, injected.kind: self.totals.faults.get(injected.kind, 0) + 1}
        self.totals = replace(self.totals, faults=kinds, fault_s=self.totals.fault_s + injected.seconds)
        self.record("fault", {**told, "door": door}, actor="podctl")
        return told

    def holding(self) -> Callable[[bytes], Awaitable[None]] | None:
        """Holds what is sent to a database as long as the trigger says; None where nothing does."""
        trigger = self.trigger
        if trigger is None:
            return None
        statements = Statements()

        async def hold(data: bytes) -> None:
            for _ in range(statements.feed(data)):
                await trigger.before_call()

        return hold

    def limit(self, name: LimitName) -> None:
        if name not in self.totals.limits_hit:
            self.totals = replace(self.totals, limits_hit=(*self.totals.limits_hit, name))
            self._emit({"event": "limit", "attempt": self.id, "limit": name})

    # ---- model calls ----

    def reserve(self, tokens: int, dollars: Decimal) -> Reservation:
        """Raises `OverBudget`, after telling the runner."""
        try:
            return reserve(self.purse, self._run.purse, tokens, dollars)
        except OverBudget as over:
            self.limit(over.limit)
            raise

    def call_started(self, call_id: str, reservation: Reservation, data: Mapping[str, Any], simulated: bool) -> None:
        self._calls[call_id] = reservation
        self.count(model_calls=1)
        self.totals = replace(self.totals, simulated=self.totals.simulated or simulated)
        reserved = {"tokens": reservation.tokens, "dollars": str(reservation.dollars)}
        self.record("model.call", {**data, "status": "started", "reserved": reserved})

    def call_finished(self, call_id: str, tokens: Tokens | None, dollars: Decimal | None, data: Mapping[str, Any]) -> None:
        """Settles the call, then records it; ``None`` is unknown and counts at the reservation."""
        reservation = self._calls.pop(call_id)
        reservation.settle(None if tokens is None else tokens.total, dollars)
        spent = self.totals.spent(tokens, dollars, reservation.tokens, reservation.dollars)
        self.totals = spent.used(use_of(data, tokens, dollars))
        self.count(provider_failures=int(bool(data.get("provider_failure"))))
        costs = {
            "tokens": None if tokens is None else tokens.to_json(),
            "dollars": None if dollars is None else str(dollars),
            "reserved": {"tokens": reservation.tokens, "dollars": str(reservation.dollars)},
        }
        self.record("model.call", {**data, **costs})

    def with_calls_under_way(self) -> Totals:
        totals = self.totals
        for reservation in self._calls.values():
            totals = totals.spent(None, None, reservation.tokens, reservation.dollars)
        return totals

    # ---- telemetry ----

    def take_items(self, offered: int) -> int:
        """How many of the offered spans, log records or decisions fit under the attempt's limit."""
        limit = self.granted.spans
        taken = offered if limit is None else min(offered, max(0, limit - self._items))
        self._items += taken
        if taken < offered:
            self.limit("spans")
        return taken

    def decision(self, decision: Mapping[str, Any]) -> None:
        self.count(decisions=1)
        self.totals = replace(self.totals, confidence=declared_confidence(decision, self.totals.confidence))
        self.record("decision", {"decision": dict(decision)}, "declared")

    def close(self) -> None:
        self._open = False
        self._writer.close()
