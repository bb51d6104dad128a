"""Faults of a chaos campaign at the gateway: which calls they hit, what the agent gets, and what the records say."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from gateway_rig import Rig, rigged

from podctl.gateway.faults import Faults
from podctl.spec.chaos import FAULTS
from podctl.spec.models import Upstream


def variant(kind: str, seed: int = 7, **settings: Any) -> dict[str, Any]:
    fault = FAULTS[kind].model_validate({"kind": kind, **settings}).model_dump(mode="json")
    return {"seed": seed, "faults": [{**fault, "name": kind}]}


async def with_service(rig: Rig, given: dict[str, Any]) -> tuple[web.AppRunner, list[str]]:
    """A service that counts what it did, and says how often it was asked."""
    did: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        did.append(f"{request.method} {request.path} {(await request.read()).decode()}")
        return web.json_response({"asked": len(did), "filler": "x" * 2000})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await rig.open_pod({"orders": ("http", ("127.0.0.1", port))})
    await rig.open(variant=given)
    return runner, did


async def ask(rig: Rig, method: str = "POST", path: str = "/a", body: bytes | None = b"{}") -> tuple[int | str, Any]:
    """Status and JSON, or the client's error."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.request(method, f"http://127.0.0.1:{rig.ports['orders']}{path}", data=body) as response:
                text = await response.text()
                try:
                    return response.status, json.loads(text)
                except ValueError:
                    return response.status, None
        except aiohttp.ClientError as error:
            return type(error).__name__, None


def served(
    tmp_path: Path, given: dict[str, Any], calls: int, method: str = "POST", path: str = "/a"
) -> tuple[list[Any], list[str], list[dict[str, Any]], Any]:
    """Answers, what the service did, `http.call` data, the totals."""
    found: list[Any] = []

    async def work(rig: Rig) -> None:
        runner, did = await with_service(rig, given)
        answers = [await ask(rig, method, path, None if method == "GET" else b"{}") for _ in range(calls)]
        totals, records = await rig.close()
        await runner.cleanup()
        found.extend(
            [
                answers,
                did,
                [r.data for r in records if r.kind == "http.call"],
                totals,
                [r for r in records if r.kind == "fault"],
            ]
        )

    asyncio.run(rigged(tmp_path, work))
    answers, did, records, totals, faults = found
    assert [(one.actor, one.data["door"]) for one in faults] == [("podctl", "orders")] * sum(totals.faults.values())
    return answers, did, records, totals


def test_the_same_seed_hits_the_same_calls_and_another_seed_others() -> None:
    def drawn(seed: int) -> list[Any]:
        faults = Faults.of(variant("errors", seed=seed, share=0.3))
        assert faults is not None
        return [faults.next("orders") for _ in range(200)]

    assert drawn(1) == drawn(1) != drawn(2)
    hits = [one for one in drawn(1) if one is not None]
    assert (
        40 < len(hits) < 80
        and {one.status for one in hits} == {500, 502, 503, 429}
        and {one.after for one in hits} == {True, False}
    )


def test_doors_do_not_disturb_one_another() -> None:
    """However calls of several services mix, each service's n-th call meets what it would alone."""
    alone, mixed = Faults.of(variant("latency")), Faults.of(variant("latency"))
    assert alone is not None and mixed is not None
    told = [alone.next("a") for _ in range(50)]
    assert told == [(mixed.next("b"), mixed.next("a"))[1] for _ in range(50)]


@pytest.mark.parametrize("seed", range(20))
def test_each_attempt_meets_its_fault_within_three_calls(seed: int) -> None:
    faults = Faults.of(variant("timeouts", seed=seed, share=0.001))
    assert faults is not None and sum(faults.next("orders") is not None for _ in range(3)) == 1
    never = Faults.of(variant("timeouts", seed=seed, share=0))
    assert never is not None and not any(never.next("orders") for _ in range(50))


@pytest.mark.parametrize(("effect", "did"), [("before", 1), ("after", 2)])
def test_an_error_before_and_after_the_service_did_its_work(tmp_path: Path, effect: str, did: int) -> None:
    answers, done, records, totals = served(tmp_path, variant("errors", calls=[1], statuses=[503], effect=effect), 2)
    assert [status for status, _ in answers] == [503, 200] and answers[0][1] == {"error": "Service Unavailable", "status": 503}
    assert len(done) == did and totals.faults == {"errors": 1} and totals.provider_failures == 0
    fault = records[0]["fault"]
    assert (fault["performed"], fault.get("answered")) == ((effect == "after"), 200 if effect == "after" else None)
    assert records[0]["error"] == "injected: errors" and "fault" not in records[1]


def test_a_timeout_holds_the_connection_and_closes_it(tmp_path: Path) -> None:
    began = time.monotonic()
    answers, done, records, totals = served(tmp_path, variant("timeouts", calls=[1], hold="400ms", effect="after"), 2)
    assert answers[0][0] == "ServerDisconnectedError" and answers[1][0] == 200 and len(done) == 2
    assert time.monotonic() - began > 0.4 and totals.fault_s == 0.4
    assert records[0]["status"] is None and records[0]["fault"]["answered"] == 200


def test_latency_is_added_and_told(tmp_path: Path) -> None:
    _, done, records, totals = served(tmp_path, variant("latency", calls=[2], median="300ms", spread=0), 2)
    assert records[0]["ms"] < 250 < 300 <= records[1]["ms"] and records[1]["fault"]["ms"] == 300 and len(done) == 2
    assert totals.fault_s == 0.3


@pytest.mark.parametrize(("how", "expected"), [("reset", "ClientPayloadError"), ("truncated", 200), ("drip", 200)])
def test_broken_answers(tmp_path: Path, how: str, expected: Any) -> None:
    answers, done, records, _ = served(tmp_path, variant("broken", calls=[1], how=[how], seconds="300ms"), 1)
    assert answers[0][0] == expected and len(done) == 1 and records[0]["fault"]["how"] == how
    assert (answers[0][1] is not None) == (how == "drip")


def test_stale_answers_are_the_first_ones_until_the_replica_caught_up(tmp_path: Path) -> None:
    answers, done, records, totals = served(tmp_path, variant("stale", answers=2), 5, method="GET")
    assert [body["asked"] for _, body in answers] == [1, 1, 1, 4, 5] and len(done) == 5
    assert ["fault" in one for one in records] == [False, True, True, False, False] and totals.faults == {"stale": 2}


def test_what_was_not_read_before_is_never_stale(tmp_path: Path) -> None:
    answers, _, _, totals = served(tmp_path, variant("stale"), 3, method="POST")
    assert [body["asked"] for _, body in answers] == [1, 2, 3] and not totals.faults


@pytest.mark.parametrize("status", [429, 500, 529])
def test_model_errors_are_what_clients_know(tmp_path: Path, status: int) -> None:
    """Both providers' own clients read them as their error of that kind, and no call is charged or counted as the provider's failure."""

    async def work(rig: Rig) -> None:
        import anthropic
        import openai

        await rig.open_pod()
        await rig.open(variant=variant("errors", calls=[1, 2], model_statuses=[status]))
        message = [{"role": "user", "content": "hello"}]
        with pytest.raises(anthropic.APIStatusError) as one:
            await rig.anthropic().with_options(max_retries=0).messages.create(model="m", max_tokens=5, messages=message)  # type: ignore[arg-type]
        assert one.value.status_code == status
        assert isinstance(one.value, anthropic.RateLimitError if status == 429 else anthropic.InternalServerError)
        with pytest.raises(openai.APIStatusError) as two:
            await rig.openai().with_options(max_retries=0).chat.completions.create(model="m", messages=message)  # type: ignore[arg-type]
        assert two.value.status_code == (503 if status == 529 else status)
        totals, records = await rig.close()
        assert totals.provider_failures == totals.model_calls == 0 and totals.faults == {"errors": 2}
        assert [record.data["status"] for record in records if record.kind == "fault"] == [status, status]

    (tmp_path / "script.yaml").write_text("rules: [{reply: hi}]\n")
    upstream = Upstream.model_validate(
        {"mode": "scripted", "script": tmp_path / "script.yaml", "prices": {"m": {"input": 1, "output": 1}}}
    )
    asyncio.run(rigged(tmp_path, work, upstream))


def test_a_model_answer_that_breaks_off_is_paid_for_and_told(tmp_path: Path) -> None:
    async def work(rig: Rig) -> None:
        await rig.open_pod()
        await rig.open(variant=variant("broken"))
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
                headers = {"Authorization": "Bearer podctl-attempt-key"}
                async with session.post(rig.base + "/v1/chat/completions", json=body, headers=headers) as response:
                    await response.read()
        totals, records = await rig.close()
        calls = [record.data for record in records if record.kind == "model.call" and record.data["status"] != "started"]
        assert totals.model_calls == 3 and totals.provider_failures == 0
        assert sum("fault" in call for call in calls) == totals.faults["broken"] >= 1

    (tmp_path / "script.yaml").write_text("rules: [{reply: hi}]\n")
    upstream = Upstream.model_validate(
        {"mode": "scripted", "script": tmp_path / "script.yaml", "prices": {"m": {"input": 1, "output": 1}}}
    )
    asyncio.run(rigged(tmp_path, work, upstream))
