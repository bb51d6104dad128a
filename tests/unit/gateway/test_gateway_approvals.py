"""Proposals at the gateway's door: what may be proposed, who answers, and that what is approved is sent once, by the gateway, as it was."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import Rig, rigged

from podctl.approvals.actions import Action
from podctl.approvals.grants import Grant, sign
from podctl.boundary.policies import policies_of
from podctl.evidence.log import open_stream
from podctl.gateway.attempts import Attempt, RunLedger
from podctl.gateway.contract import Approving, AttemptPass
from podctl.gateway.desk import Desk, Full, Proposal, Returned
from podctl.signing import SigningKey
from podctl.spec.approvals import Approvals
from podctl.spec.boundary import Boundary

BOUNDARY = Boundary.model_validate(
    {
        "apiVersion": "podctl/v1",
        "kind": "Boundary",
        "name": "b",
        "services": {
            "payments": {"POST /refunds": "recommend", "POST /notes": "ai-writable", "POST /grants": "human-only"},
            "other": {"POST /x": "recommend"},
        },
    }
)
POLICIES = policies_of(BOUNDARY)
WHO = {"digest": "a" * 64, "attempt": "run.0001-1", "id": "spiffe://x/y", "boundary": "b@1", "role": "ag_1"}
ALICE, MALLORY, LAUNCHER = SigningKey.new(), SigningKey.new(), SigningKey.new()
SMALL = {
    "of": "POST payments /refunds",
    "when": {"body.amount": {"at_most": 50}},
    "answer": "approve",
    "delay": "5m",
    "attention": "2m",
}
PERSON = {"answer": "person", "timeout": "5s", "attention": "3m"}


@dataclass
class Seen:
    """A real HTTP server, and each request as it came."""

    calls: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    answer_after: float = 0.0


@pytest.fixture
def seen() -> Iterator[tuple[Seen, tuple[str, int]]]:
    found = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found.calls.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            time.sleep(found.answer_after)
            answer = json.dumps({"refund": len(found.calls)}).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(answer)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield found, ("127.0.0.1", server.server_address[1])
    server.shutdown()
    server.server_close()


def approving(*rules: dict[str, Any], wait: str = "accounted", **more: Any) -> Approving:
    spec = Approvals.model_validate({"rules": list(rules), "wait": wait})
    return Approving(spec, "1:0001-1", {"id": "T-1", "tier": "gold"}, "b" * 64, **more)


def refund(amount: Any = "12.50", **more: Any) -> dict[str, Any]:
    return {
        "service": "payments",
        "method": "POST",
        "path": "/refunds",
        "body": {"amount": amount},
        "reason": "it broke",
        **more,
    }


async def ask(rig: Rig, proposal: Any = None, path: str = "/approvals", **headers: str) -> tuple[int, dict[str, Any]]:
    """A proposal (bytes are sent as they are), or without one a look at how it stands."""
    data = None if proposal is None else proposal if isinstance(proposal, bytes) else json.dumps(proposal).encode()

    def send() -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(urllib.request.Request(rig.base + path, data, headers), timeout=15) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)["error"]

    return await asyncio.to_thread(send)


def rig_with(
    tmp_path: Path, address: tuple[str, int], who: Approving | None, work: Callable[[Rig], Awaitable[None]], **grant: Any
) -> None:
    async def inside(rig: Rig) -> None:
        await rig.open_pod({"payments": ("http", address), "other": ("http", address)})
        await rig.open("run.0001-1", policies=POLICIES, agent="a", who=WHO, approvals=who, **grant)
        await work(rig)

    asyncio.run(rigged(tmp_path, inside))


def said(rig: Rig, kind: str = "approval") -> list[Any]:
    return [record for record in rig.records("run.0001-1") if record.kind.startswith(kind)]


def test_what_a_rule_approves_the_gateway_sends_as_it_was_proposed(tmp_path: Path, seen: Any) -> None:
    found, address = seen

    async def work(rig: Rig) -> None:
        text = '{ "amount" : "12.50" }'
        status, told = await ask(rig, refund(body=text, headers={"Content-Type": "application/json", "Idempotency-Key": "k1"}))
        assert (status, told["state"]) == (200, "executed")
        assert told["returned"] == {"status": 201, "content_type": "application/json", "body": {"text": '{"refund": 1}'}}
        [(method, path, headers, body)] = found.calls
        assert (method, path, body.decode()) == ("POST", "/refunds", text)
        assert headers["idempotency-key"] == "k1" and headers["host"].startswith("payments:")
        assert (await ask(rig, path=f"/approvals/{told['id']}"))[1] == told
        totals = await rig.gateway.close_attempt("run.0001-1")
        records = said(rig)
        kinds = [record.kind.removeprefix("approval.") for record in records]
        assert kinds == ["proposed", "answered", "executed", "returned"]
        assert [record.actor for record in records] == ["agent", "gateway", "gateway", "gateway"]
        assert {record.data["action"] for record in records} == {told["action"]} and all(
            record.who == WHO for record in records
        )
        answered = records[1].data
        assert (answered["answer"], answered["by"], answered["simulated"], answered["waited"]) == (
            "approved",
            "rule 1",
            True,
            False,
        )
        assert records[0].data["body"] == text and records[0].data["policy"] == "POST payments /refunds"
        counts = totals.approvals
        assert counts is not None and (counts.proposed, counts.approved, counts.executed, counts.simulated) == (1, 1, 1, 1)
        assert (counts.delay_s, counts.attention_s, counts.people) == (300, 120, 0) and totals.boundary_attempts == 0

    rig_with(tmp_path, address, approving(SMALL), work)


def test_an_attempt_that_ended_takes_nothing_more(tmp_path: Path) -> None:
    """Whoever was still looking at what is proposed comes too late."""
    done: list[Proposal] = []

    async def carry_out(proposal: Proposal) -> Returned:
        done.append(proposal)
        return Returned({}, {})

    async def work() -> None:
        who = approving({"answer": "approve"})
        fd = open_stream(tmp_path / "a.gw")
        attempt = Attempt(AttemptPass("a", "p", "k", tmp_path / "a.gw", approvals=who), fd, RunLedger(None), lambda _: None)
        desk = Desk(attempt, who)
        asked: dict[str, Any] = {"rule": "r", "reason": "r", "values": {}, "carry_out": carry_out}
        await desk.propose(Action("http", "s", {}), **asked).done.wait()
        await desk.close()
        with pytest.raises(Full):
            desk.propose(Action("http", "s", {}), **asked)
        attempt.close()

    asyncio.run(work())
    assert len(done) == 1


def test_only_what_is_recommended_can_be_proposed(tmp_path: Path, seen: Any) -> None:
    found, address = seen
    anything = {"answer": "approve"}

    async def work(rig: Rig) -> None:
        cases: list[tuple[Any, int, str]] = [
            (refund(path="/notes"), 409, "podctl_not_needed"),
            (refund(path="/grants"), 403, "podctl_human_only"),
            (refund(path="/elsewhere"), 403, "podctl_human_only"),
            (refund(path="/Refunds"), 403, "podctl_human_only"),
            (refund(path="/refunds.all"), 403, "podctl_human_only"),
            (refund(path="/refunds/"), 403, "podctl_human_only"),
            (refund(path="/x/../refunds"), 400, "podctl_ambiguous"),
            (refund(path="/refunds?_method=DELETE"), 400, "podctl_ambiguous"),
            (refund(path="//evil/refunds"), 400, "podctl_ambiguous"),
            (refund(path="http://evil/refunds"), 400, "podctl_ambiguous"),
            (refund(path="/refunds HTTP/1.1\r\nX: y"), 400, "podctl_ambiguous"),
            (refund(service="other", path="/x"), 403, "podctl_service_not_allowed"),
            (refund(service="gateway"), 403, "podctl_service_not_allowed"),
            (refund(headers={"Authorization": "Bearer x"}), 400, "podctl_malformed"),
            (refund(headers={"X-HTTP-Method-Override": "PUT"}), 400, "podctl_malformed"),
            (refund(headers={"Accept": "a\r\nX-Evil: 1"}), 400, "podctl_malformed"),
            (refund(headers={"accept": "a", "Accept": "b"}), 400, "podctl_malformed"),
            (refund(method="post"), 400, "podctl_malformed"),
            (refund(reason=""), 400, "podctl_malformed"),
            (refund(body="x" * 50_000), 400, "podctl_malformed"),
            (refund(body="\ud800"), 400, "podctl_malformed"),
            (refund(more=1), 400, "podctl_malformed"),
            (b'{"service": "payments", "service": "other"}', 400, "podctl_malformed"),
            (b"[" * 50_000, 400, "podctl_malformed"),
            (b"x" * 140_000, 413, "podctl_too_large"),
        ]
        for proposal, status, kind in cases:
            answer = await ask(rig, proposal)
            assert (answer[0], answer[1].get("type")) == (status, kind), (proposal, answer)
        assert found.calls == [] and said(rig) == []
        totals = await rig.gateway.close_attempt("run.0001-1")
        assert totals.boundary_attempts == 12 and totals.approvals is not None and totals.approvals.proposed == 0

    rig_with(tmp_path, address, approving(anything), work, services=("payments",))


def test_without_anybody_who_answers_it_is_as_before(tmp_path: Path, seen: Any) -> None:
    found, address = seen

    async def work(rig: Rig) -> None:
        assert (await ask(rig, refund()))[0] == 403
        totals = await rig.gateway.close_attempt("run.0001-1")
        assert found.calls == [] and totals.approvals is None and totals.refused == 1

    rig_with(tmp_path, address, None, work)


def test_what_is_denied_or_covered_by_nobody_is_not_sent(tmp_path: Path, seen: Any) -> None:
    found, address = seen

    async def work(rig: Rig) -> None:
        for amount in ("50.01", -1, "1e1", None, True, "NaN"):
            status, told = await ask(rig, refund(amount))
            assert (status, told["state"], told["reason"]) == (200, "denied", "no rule covers it"), amount
        status, told = await ask(rig, refund(body='{"amount": 1, "amount": 1000}'))
        assert told["state"] == "denied"
        assert found.calls == []
        assert await ask(rig, path=f"/approvals/{told['id']}x") == (404, (await ask(rig, path="/approvals/no"))[1])

    rig_with(tmp_path, address, approving(SMALL), work)


def test_a_real_wait_waits_and_the_agent_may_poll_or_hang_up(tmp_path: Path, seen: Any) -> None:
    found, address = seen

    async def work(rig: Rig) -> None:
        status, told = await ask(rig, refund())
        assert (status, told["state"]) == (202, "waiting") and found.calls == []
        assert (await ask(rig, path=f"/approvals/{told['id']}"))[0] == 202
        status, told = await ask(rig, path=f"/approvals/{told['id']}", Prefer="respond-async, wait=10")
        assert (status, told["state"], len(found.calls)) == (200, "executed", 1)

    rig_with(tmp_path, address, approving({**SMALL, "delay": "1.6s"}, wait="real"), work)


async def asked(rig: Rig) -> dict[str, Any]:
    """What podctl is told of the latest proposal that waits for a person."""
    while not (found := [event["proposal"] for event in rig.events if event["event"] == "proposal"]):
        await asyncio.sleep(0.02)
    return dict(found[-1])


def grant_for(asked: dict[str, Any], **changed: Any) -> Grant:
    now = int(time.time())
    made = Grant(asked["id"], asked["action"], "run.0001-1", "p1", "approved", now, int(asked["until"]) + 1, "ok")
    return replace(made, **changed)


def test_a_person_s_grant_is_for_one_action_of_one_attempt_once(tmp_path: Path, seen: Any) -> None:
    found, address = seen
    people = {
        "people": {"alice": ALICE.public, "launcher": LAUNCHER.public},
        "barred": {LAUNCHER.public.id: "it launched the run"},
    }

    async def work(rig: Rig) -> None:
        status, told = await ask(rig, refund(900))
        assert (status, told["state"]) == (202, "waiting")
        waiting = await asked(rig)
        assert waiting["id"] == told["id"] and waiting["body"] == '{"amount":900}' and waiting["reason"] == "it broke"
        good = grant_for(waiting)
        altered = json.loads(sign(good, ALICE))
        altered["payload"] = json.loads(sign(replace(good, action="0" * 64), ALICE))["payload"]
        forged = [
            (sign(good, MALLORY), "nobody whom the scenario lists"),
            (json.dumps(altered), "nobody whom the scenario lists"),
            (sign(good, LAUNCHER), "launcher may not answer it: it launched the run"),
            (sign(grant_for(waiting, action="0" * 64), ALICE), "another action"),
            (sign(grant_for(waiting, attempt="run.0002-1"), ALICE), "another attempt"),
            (sign(grant_for(waiting, pod="p2"), ALICE), "another pod"),
            (sign(grant_for(waiting, proposal="0" * 32), ALICE), "another proposal"),
            (sign(grant_for(waiting, not_after=int(time.time()) - 60), ALICE), "its time is over"),
            (sign(grant_for(waiting, answer="perhaps"), ALICE), "no grant"),
            ("{}", "no envelope"),
            ("x" * 20_000, "more than"),
        ]
        for envelope, why in forged:
            assert why in await rig.gateway.grant("run.0001-1", told["id"], envelope), why
        assert found.calls == [] and (await ask(rig, path=f"/approvals/{told['id']}"))[1]["state"] == "waiting"
        assert await rig.gateway.grant("run.0001-1", told["id"], sign(good, ALICE)) == ""
        assert "answered before" in await rig.gateway.grant("run.0001-1", told["id"], sign(good, ALICE))
        status, told = await ask(rig, path=f"/approvals/{told['id']}", Prefer="wait=5")
        assert (told["state"], len(found.calls), found.calls[0][3]) == ("executed", 1, b'{"amount":900}')
        _, second = await ask(rig, refund(900))
        assert second["action"] == told["action"], "the same action again"
        assert "another proposal" in await rig.gateway.grant("run.0001-1", second["id"], sign(good, ALICE)), "replayed"
        totals = await rig.gateway.close_attempt("run.0001-1")
        records = said(rig)
        assert next(record.data["reason"] for record in records if record.kind == "approval.refused").startswith("nobody whom")
        answered = [record for record in records if record.kind == "approval.answered"]
        assert [(record.actor, record.data["answer"], record.data["simulated"]) for record in answered] == [
            ("human:alice", "approved", False),
            ("gateway", "timed-out", False),
        ]
        assert answered[0].data["key"] == ALICE.id and answered[0].data["attention_s"] == 180
        assert len(found.calls) == 1 and totals.approvals is not None and totals.approvals.timed_out == 1
        assert totals.approvals.people == 1 and totals.approvals.delay_s == totals.approvals.people_s > 0
        assert await rig.gateway.grant("run.0001-1", second["id"], "{}") == "the attempt has ended"

    rig_with(tmp_path, address, approving(PERSON, **people), work)


def test_nobody_answers_in_time_and_nobody_can_be_asked(tmp_path: Path, seen: Any) -> None:
    found, address = seen

    async def work(rig: Rig) -> None:
        _, told = await ask(rig, refund(900), Prefer="wait=10")
        assert (told["state"], told["reason"]) == ("timed-out", "nobody answered in time")
        async with asyncio.timeout(10):
            while len(rig.events) < 2:
                await asyncio.sleep(0.02)
        assert [event["event"] for event in rig.events] == ["proposal", "proposal-ended"]

    rig_with(tmp_path, address, approving({**PERSON, "timeout": "200ms"}, people={"alice": ALICE.public}), work)

    async def headless(rig: Rig) -> None:
        began = time.monotonic()
        _, told = await ask(rig, refund(900), Prefer="wait=10")
        assert (told["state"], told["reason"]) == ("denied", "nobody can be asked: there is no terminal")
        assert time.monotonic() - began < 2 and rig.events == []

    (tmp_path / "h").mkdir()
    rig_with(
        tmp_path / "h", address, approving(PERSON, people={"alice": ALICE.public}, nobody="there is no terminal"), headless
    )
    assert found.calls == []


def test_an_attempt_that_ends_while_something_is_sent_says_so(tmp_path: Path, seen: Any) -> None:
    found, address = seen
    found.answer_after = 3.0

    async def work(rig: Rig) -> None:
        _, told = await ask(rig, refund(), Prefer="wait=0")
        assert told["state"] == "approved"
        while not found.calls:
            await asyncio.sleep(0.02)
        totals = await rig.gateway.close_attempt("run.0001-1")
        assert said(rig)[-1].data["error"] == "cut: the attempt ended"
        assert totals.approvals is not None and (totals.approvals.executed, totals.approvals.failed) == (1, 1)

    rig_with(tmp_path, address, approving(SMALL), work)


def test_proposals_are_bounded(tmp_path: Path, seen: Any) -> None:
    _, address = seen

    async def work(rig: Rig) -> None:
        answers = [await ask(rig, refund(900)) for _ in range(101)]
        assert [status for status, _ in answers].count(200) == 100 and answers[-1][0] == 429

    rig_with(tmp_path, address, approving({"answer": "deny"}), work)
