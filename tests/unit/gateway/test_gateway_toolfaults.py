"""Faults of a chaos campaign on calls of tools: what the agent gets, what the server did, and what the records say."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import Rig, rigged
from raw_tools import Agent, boundary, raw_server

from podctl.gateway.contract import Totals
from podctl.gateway.faults import Faults
from podctl.gateway.toolfaults import cut
from podctl.spec.chaos import FAULTS
from podctl.spec.models import ToolLimits, ToolServer

SERVERS = {"raw": ToolServer(seconds=2, limits={"plain": ToolLimits(seconds=0.5)})}
POLICIES = boundary(raw={"counts": "read", "adds": "ai-writable", "plain": "ai-writable", "refuses": "ai-writable"})


def variant(kind: str, **settings: Any) -> dict[str, Any]:
    fault = FAULTS[kind].model_validate({"kind": kind, **settings}).model_dump(mode="json")
    return {"seed": 7, "faults": [{**fault, "name": f"my-{kind}"}]}


Calls = list[tuple[str, dict[str, Any]]]
ERRORS = {
    f"{how}-{effect}": variant("errors", calls=[1, 3], statuses=[503], tool_errors=[how], effect=effect)
    for how in ("result", "protocol")
    for effect in ("before", "after")
}
HELD = {f"held-{effect}": variant("timeouts", calls=[1], hold="60s", effect=effect) for effect in ("before", "after")}
BROKEN = {how: variant("broken", calls=[1], how=[how], seconds="300ms") for how in ("reset", "truncated", "drip")}
SLOW = {"slow": variant("latency", calls=[1], median="300ms", spread=0)}
#: Case -> its variant, and what the agent calls: an attempt each.
CASES: dict[str, tuple[dict[str, Any], Calls]] = {
    **{name: (data, [("plain", {}), ("plain", {}), ("refuses", {})]) for name, data in (ERRORS | HELD).items()},
    **{name: (data, [("adds", {}), ("adds", {})]) for name, data in (BROKEN | SLOW).items()},
    "stale": (
        variant("stale", answers=2),
        [("counts", {"a": 1, "b": 2}), ("counts", {"a": 2}), ("adds", {}), ("adds", {}), *[("counts", {"b": 2, "a": 1})] * 3],
    ),
}


@dataclass
class Found:
    """``answers`` that the agent got, how often the server was ``asked``, `tool.call` data as ``told``."""

    answers: list[Any]
    asked: int
    told: list[dict[str, Any]]
    totals: Totals


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    cases: dict[str, Found] = {}

    def call_all(port: int, calls: Calls) -> list[Any]:
        agent, answers = Agent(port), []
        for tool, arguments in calls:
            try:
                answers.append(agent.call(tool, **arguments)[1])
            except (http.client.HTTPException, ConnectionError) as error:
                answers.append(type(error).__name__)
        return answers

    async def work(rig: Rig) -> None:
        with raw_server() as raw:
            raw.tool("counts", "adds", "plain", "refuses")
            await rig.open_pod({"raw": ("mcp", ("127.0.0.1", raw.port))})
            for name, (data, calls) in CASES.items():
                raw.calls.clear()
                await rig.open(name, policies=POLICIES, servers=SERVERS, variant=data)
                answers = await asyncio.to_thread(call_all, rig.ports["raw"], calls)
                totals, records = await rig.close(name)
                told = [record.data for record in records if record.kind == "tool.call"]
                faults = [record for record in records if record.kind == "fault"]
                assert [(one.actor, one.data["door"]) for one in faults] == [("podctl", "raw")] * sum(totals.faults.values())
                assert [one["fault"]["call"] for one in told if "fault" in one] == [one.data["call"] for one in faults]
                cases[name] = Found(answers, len(raw.calls), told, totals)

    asyncio.run(rigged(tmp_path_factory.mktemp("faults"), work))
    return cases


def said(answer: Any) -> Any:
    return json.loads(answer["result"]["content"][0]["text"])


def test_a_tools_door_draws_as_services_do_and_in_two_shapes() -> None:
    settings = variant("errors", share=0.3)
    service, tools = Faults.of(settings), Faults.of(settings)
    assert service is not None and tools is not None
    plain = [service.next("desk") for _ in range(200)]
    drawn = [tools.next("desk", tool=True) for _ in range(200)]
    hits = [one for one in drawn if one is not None]
    assert {one.how for one in hits} == {"result", "protocol"} and {one.after for one in hits} == {True, False}
    assert [one and (one.status, one.after, one.call) for one in drawn] == [
        one and (one.status, one.after, one.call) for one in plain
    ]


def test_errors_and_time_outs_are_podctls_own_and_befall_the_call_before_or_after_its_work(found: dict[str, Found]) -> None:
    for name in (*ERRORS, *HELD):
        case, (how, _, effect) = found[name], name.partition("-")
        first = case.told[0]
        assert case.asked == len(case.answers) - (0 if effect == "after" else 1 if how == "held" else 2), name
        assert case.answers[1]["result"]["content"][0]["text"] == "done" and "fault" not in case.told[1], "the session goes on"
        assert (first["status"], first["level"], first["policy"]) == ("fault", "ai-writable", "CALL raw.plain")
        assert first["error"] == f"injected: {'timeouts' if how == 'held' else 'errors'}"
        done = (True, "ok") if effect == "after" else (False, None)
        assert (first["fault"]["performed"], first["fault"].get("answered")) == done
        if how == "held":
            assert case.answers[0] == "RemoteDisconnected" and case.totals.fault_s == 0.5 <= first["ms"] / 1000 < 2
            assert case.answers[2]["error"]["message"] == "not today" and case.told[2]["status"] == "error", "the server's own"
            continue
        for answer, tool, told in ((case.answers[0], "plain", first), (case.answers[2], "refuses", case.told[2])):
            if how == "result":
                text = f"Error executing tool {tool}: 503 Service Unavailable"
                assert answer["result"] == {"content": [{"type": "text", "text": text}], "isError": True} == told["result"]
            else:
                assert answer["error"] == {"code": -32603, "message": "Internal error: 503 Service Unavailable"}
        assert case.told[2]["fault"].get("answered") == ("error" if effect == "after" else None)


def test_slow_and_broken_results(found: dict[str, Found]) -> None:
    for name in (*BROKEN, *SLOW):
        assert found[name].asked == 2 and said(found[name].answers[1]) == {"asked": 2}
        assert found[name].told[0]["status"] == "ok" and found[name].told[0]["fault"]
    assert found["reset"].answers[0] == "IncompleteRead" and found["reset"].told[0]["fault"]["how"] == "reset"
    half = [{"type": "text", "text": '{"aske'}]
    assert found["truncated"].answers[0]["result"] == {"content": half} == found["truncated"].told[0]["result"]
    assert said(found["drip"].answers[0]) == said(found["slow"].answers[0]) == {"asked": 1}
    assert found["slow"].told[0]["ms"] >= 300 == found["slow"].told[0]["fault"]["ms"]
    assert found["drip"].totals.fault_s == found["slow"].totals.fault_s == 0.3


def test_what_only_reads_is_stale_for_the_same_arguments(found: dict[str, Found]) -> None:
    case = found["stale"]
    assert [said(one)["asked"] for one in case.answers] == [1, 2, 3, 4, 1, 1, 7] and case.asked == 7
    assert case.answers[5] == case.answers[0] and case.totals.faults == {"stale": 2}
    assert ["fault" in one for one in case.told] == [False] * 4 + [True, True, False]


def test_a_rivals_moment_comes_with_calls_of_tools_too(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        with raw_server() as raw:
            raw.tool("plain")
            await rig.open_pod({"raw": ("mcp", ("127.0.0.1", raw.port))})
            await rig.open(policies=POLICIES, servers=SERVERS, variant={"faults": [{"kind": "rival", "after": 1}]})
            agent = await asyncio.to_thread(Agent, rig.ports["raw"])
            await asyncio.to_thread(agent.call, "plain")
            assert not rig.events
            held = asyncio.create_task(asyncio.to_thread(agent.call, "plain"))
            while not rig.events:
                await asyncio.sleep(0.01)
            assert rig.events == [{"event": "trigger", "attempt": "0001-1"}] and len(raw.calls) == 1
            await rig.gateway.release_attempt("0001-1")
            assert "result" in (await held)[1] and len(raw.calls) == 2
            await rig.close()

    asyncio.run(rigged(tmp_path, work))


def test_results_of_any_shape_are_cut() -> None:
    picture = {"type": "image", "data": "abcd", "mimeType": "image/png"}
    words = {"type": "text", "text": "hello world"}
    assert cut({"content": [picture, words, words], "structuredContent": {"a": 1}, "isError": False}) == {
        "content": [picture, {"type": "text", "text": "hello"}],
        "isError": False,
    }
    for odd in ([], None, "text", [1, None, {"text": 3}]):
        assert isinstance(cut({"content": odd})["content"], list)
