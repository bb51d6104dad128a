"""Where an attempt's proposals wait for an answer, and from where what was approved is carried out: by the gateway, once.

It knows nothing of HTTP or tools: who proposes brings the action, what it may be judged by, and how it is carried out.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from podctl.approvals.actions import Action, Setting, action_digest
from podctl.approvals.answering import Answer, answer
from podctl.approvals.grants import Expected, Grant, Refused, verify
from podctl.evidence.log import EvidenceProblem
from podctl.gateway.attempts import Attempt
from podctl.gateway.contract import Approving

#: Proposals of one attempt.
MOST = 100
#: Answers to one proposal that are looked at and recorded; a forger's further ones are neither.
MOST_ANSWERS = 20
#: Seconds beyond its time in which a grant that was given in time is still taken in: podctl looks for answers now and then.
_LATE_S = 2.0


class Full(Exception):
    """The attempt proposed as often as it may, or has ended."""


@dataclass(frozen=True)
class Returned:
    """What came of an action that was carried out: for the ``record``, and for the ``agent``. ``error``: it did not come to an answer."""

    record: Mapping[str, Any]
    agent: Mapping[str, Any]
    error: str | None = None


@dataclass
class Proposal:
    """``state``: waiting, approved, executed, failed, denied or timed-out; ``returned`` and ``reason`` are for the agent. ``by``: who answered."""

    id: str
    digest: str
    state: str = "waiting"
    reason: str = ""
    by: str = ""
    returned: Mapping[str, Any] | None = None
    granted: asyncio.Future[tuple[str, str, Grant]] | None = None  # name, key id, grant
    until: float = 0.0  # when a person's time is over, in seconds since the epoch
    answers: int = 0
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def to_json(self) -> dict[str, Any]:
        told = {"id": self.id, "state": self.state, "action": self.digest, "reason": self.reason}
        return told if self.returned is None else told | {"returned": dict(self.returned)}


CarryOut = Callable[[Proposal], Awaitable[Returned]]


class Desk:
    """Of one attempt. Everything is recorded before it takes effect."""

    def __init__(self, attempt: Attempt, approving: Approving) -> None:
        self._attempt = attempt
        self._approving = approving
        self._proposals: dict[str, Proposal] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def find(self, id: str) -> Proposal | None:
        return self._proposals.get(id)

    def propose(
        self,
        action: Action,
        *,
        rule: str,
        reason: str,
        values: Mapping[str, Any],
        carry_out: CarryOut,
        body: str | None = None,
        parts: tuple[str, ...] = (),
    ) -> Proposal:
        """Take in what the boundary's ``rule`` recommends, and see to its answer.

        ``reason`` is the agent's, ``values`` what rules may ask about (`podctl.spec.approvals.Place`), ``body`` what the action's arguments have
        the digest of, as ``body_sha256``, ``parts`` what of ``rule`` it is, as `answer` takes them. ``carry_out`` is called once and at most once, after the approval; what it raises is a failure.
        Raises `Full`, `NotJson`, and `EvidenceProblem` when it could not be recorded.
        """
        if self._closed or len(self._proposals) >= MOST:
            raise Full
        digest = action_digest(action, self._setting)
        proposal = Proposal(secrets.token_hex(16), digest)
        told: dict[str, Any] = {
            "kind": action.kind,
            "target": action.target,
            "arguments": dict(action.arguments),
            "policy": rule,
        }
        told |= {"reason": reason, "body": body}
        self._record("approval.proposed", proposal, told, actor="agent")
        self._proposals[proposal.id] = proposal
        seed = f"{self._approving.seed}:{len(self._proposals)}"
        answered = answer(self._approving.spec, rule, {**values, "ticket": self._approving.ticket}, seed, parts)
        if answered.answer == "ask" and self._approving.nobody:
            answered = Answer("denied", "nobody", f"nobody can be asked: {self._approving.nobody}")
        task = asyncio.create_task(self._see_to(proposal, answered, told, carry_out))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return proposal

    def grant(self, id: str, envelope: str) -> str:
        """Take in what somebody answered; why it is none, or nothing. A proposal takes one answer; what is refused is recorded."""
        proposal = self._proposals.get(id)
        if proposal is None:
            return "there is no such proposal in this attempt"
        if proposal.granted is None or proposal.granted.done() or proposal.state != "waiting":
            return self._refuse(proposal, "it was answered before, or people were not asked")
        try:
            expected = Expected(
                id, proposal.digest, self._setting.attempt, self._setting.pod, self._approving.people, self._approving.barred
            )
            name, given = verify(envelope, expected, time.time() - _LATE_S)
        except Refused as why:
            return self._refuse(proposal, str(why))
        proposal.granted.set_result((name, self._approving.people[name].id, given))
        return ""

    async def close(self) -> None:
        """Nothing waits any more, nothing is carried out, and nothing more is taken in."""
        self._closed = True
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)

    @property
    def _setting(self) -> Setting:
        granted = self._attempt.granted
        return Setting(granted.who.get("digest", ""), self._approving.boundary, granted.pod, granted.attempt)

    async def _see_to(self, proposal: Proposal, answered: Answer, told: Mapping[str, Any], carry_out: CarryOut) -> None:
        try:
            approved = await (
                self._ask(proposal, answered, told) if answered.answer == "ask" else self._by_rule(proposal, answered)
            )
            if approved:
                await self._carry_out(proposal, carry_out)
        except asyncio.CancelledError:
            if proposal.state == "waiting":
                self._answered(proposal, "timed-out", {"by": "nobody", "reason": "the attempt ended", "simulated": False})
        except EvidenceProblem:
            pass  # podctl was told, and ends the attempt
        finally:
            proposal.done.set()

    async def _by_rule(self, proposal: Proposal, answered: Answer) -> bool:
        waited = self._approving.spec.wait == "real"
        if waited:
            await asyncio.sleep(answered.delay_s)
        how = {
            "by": answered.by,
            "simulated": answered.by != "nobody",
            "delay_s": answered.delay_s,
            "waited": waited,
            "attention_s": answered.attention_s,
            "reason": answered.reason,
        }
        self._answered(proposal, answered.answer, how)
        return answered.answer == "approved"

    async def _ask(self, proposal: Proposal, answered: Answer, told: Mapping[str, Any]) -> bool:
        began = time.monotonic()
        proposal.granted = asyncio.get_running_loop().create_future()
        proposal.until = time.time() + answered.timeout_s
        asked = {
            "id": proposal.id,
            "action": proposal.digest,
            "until": proposal.until,
            **told,
            "setting": asdict(self._setting),
        }
        who, barred = self._approving, self._approving.barred
        asked |= {"by": self._attempt.granted.who.get("id", ""), "ticket": who.ticket.get("id", "")}
        asked |= {"people": {name: key.id for name, key in who.people.items() if key.id not in barred}}
        self._attempt.tell({"event": "proposal", "proposal": asked})
        how: dict[str, Any] = {"by": answered.by, "simulated": False, "waited": True, "attention_s": answered.attention_s}
        try:
            async with asyncio.timeout(answered.timeout_s + _LATE_S):
                name, key, given = await proposal.granted
        except TimeoutError:
            how |= {"by": "nobody", "delay_s": answered.timeout_s, "attention_s": 0.0, "reason": "nobody answered in time"}
            self._answered(proposal, "timed-out", how)
            return False
        finally:
            self._attempt.tell({"event": "proposal-ended", "id": proposal.id})
        how |= {"by": name, "key": key, "delay_s": round(time.monotonic() - began, 3), "reason": given.reason}
        self._answered(proposal, given.answer, how, actor=f"human:{name}")
        return given.answer == "approved"

    def _answered(self, proposal: Proposal, what: str, how: Mapping[str, Any], actor: str = "gateway") -> None:
        self._record("approval.answered", proposal, {"answer": what, **how}, actor=actor)
        proposal.state, proposal.reason, proposal.by = what, str(how.get("reason", "")), str(how.get("by", ""))

    async def _carry_out(self, proposal: Proposal, carry_out: CarryOut) -> None:
        self._record("approval.executed", proposal, {})
        began = time.monotonic()
        returned = Returned({}, {}, "cut: the attempt ended")
        try:
            returned = await carry_out(proposal)
        except Exception as error:  # whatever a door meets
            returned = Returned({}, {}, f"it could not be carried out: {type(error).__name__}: {error}"[:500])
        finally:
            took = {"ms": round((time.monotonic() - began) * 1000, 3), "error": returned.error}
            self._record("approval.returned", proposal, {**returned.record, **took})
            proposal.state = "executed" if returned.error is None else "failed"
            proposal.returned = returned.agent
            proposal.reason = returned.error or proposal.reason

    def _refuse(self, proposal: Proposal, why: str) -> str:
        proposal.answers += 1
        if proposal.answers <= MOST_ANSWERS:
            self._record("approval.refused", proposal, {"reason": why})
        return why

    def _record(self, kind: str, proposal: Proposal, data: Mapping[str, Any], actor: str = "gateway") -> None:
        self._attempt.record(kind, {"id": proposal.id, "action": proposal.digest, **data}, actor=actor)
