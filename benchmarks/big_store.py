"""A store as a large run leaves it: made up, in the real format, through podctl's own writers where they are quick enough."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from podctl.clock import SystemClock
from podctl.evidence.causes import Cause
from podctl.evidence.log import encode, leaves_file, leaves_path
from podctl.evidence.merkle import leaf_hash, root_of
from podctl.evidence.owner import Owner
from podctl.evidence.records import Record, Tokens
from podctl.evidence.results import AttemptResult, CheckResult, DiffEntry, RunInfo, RunResult
from podctl.evidence.schema import tries
from podctl.evidence.store import Store
from podctl.evidence.store_rows import AttemptState, Planned

RUN = "20261121-120000-abc123"
_START = 1_795_000_000 * 10**9
_STRATA = ("refund", "cancel", "address", "fraud")


def make_store(directory: Path, attempts: int, records_each: int, run: str = RUN) -> None:
    """One finished run. A fifth of the attempts failed their check, one in forty crossed the boundary, one in fifty failed for
    infrastructure's reasons; every attempt has ``records_each`` records in its sealed evidence, or none at all."""
    store = Store.open(directory, SystemClock())
    planned = [Planned(f"{at:05d}-1", f"T-{at:05d}", _STRATA[at % 4], at, 1) for at in range(attempts)]
    store.create_run(_info(attempts, run), planned, Owner.current())
    results = [_finish(store, attempt, records_each, run) for attempt in planned]
    spent = sum((result.dollars or Decimal(0) for result in results), Decimal(0))
    with store._database.writing() as connection:  # start_try and finish_try commit to disk each time
        connection.execute(insert(tries), [_try(result, run) for result in results])
    store.finish_run(run, RunResult(_info(attempts, run), "finished", tuple(results), "fail", spent_dollars=spent))
    store.close()


def take_in(directory: Path, info: RunInfo, results: list[AttemptResult]) -> None:
    """One finished run of these attempts, without their evidence."""
    store = Store.open(directory, SystemClock())
    planned = [AttemptState(Planned(one.id, one.ticket, one.stratum, one.position, one.repeat), "ended") for one in results]
    store.take_in(RunResult(info, "finished", tuple(results), "pass"), planned, [])
    store.close()


def _info(attempts: int, run: str) -> RunInfo:
    strata = dict.fromkeys(_STRATA, (attempts // 4, attempts * 4))
    settings = {"limits": {"wall": "120s"}, "checks": [{"kind": "state"}]}
    return RunInfo(
        run, "large", "agent", "1", "9f" * 32, "shop", "local", "made up", "51" * 32, attempts, attempts * 16, strata, 1, 8, 1,
        _START, _START + 3600 * 10**9, settings=settings,
    )  # fmt: skip


def _finish(store: Store, planned: Planned, records_each: int, run: str) -> AttemptResult:
    at = planned.position
    cause = Cause.BOUNDARY_VIOLATION if at % 40 == 7 else Cause.SANDBOX_FAILED if at % 50 == 3 else Cause.COMPLETED
    passed = cause is Cause.COMPLETED and at % 5 != 2
    diff = (
        DiffEntry("intended", "shop-db", "orders", "update", {"id": at}, "status", "paid", "refunded", "refunded", "agent"),
        DiffEntry(
            "intended", "shop-db", "refunds", "insert", {"id": at}, "", None, {"order_id": at, "cents": 4200}, None, "agent"
        ),
    )
    if cause is Cause.BOUNDARY_VIOLATION:
        diff += (
            DiffEntry("forbidden", "shop-db", "payments", "update", {"id": at}, "state", "held", "captured", actor="agent"),
        )
    elif not passed:
        diff += (DiffEntry("missing", "shop-db", "orders", "update", {"id": at}, "note", "", None, "refund issued"),)
    root = (
        _keep_evidence(store.attempt_directory(run, planned.id), _records(planned, cause, passed, records_each))
        if records_each
        else ""
    )
    return AttemptResult(
        planned.id, planned.ticket, planned.stratum, 1, at, cause, passed,
        detail="" if passed else "1 change missing",
        checks=(CheckResult("state", "state", passed, "" if passed else "1 change missing", diff),),
        tokens=Tokens(9000 + at % 700, 4000, 0, 700, 300), dollars=Decimal("0.0123") + Decimal(at % 90) / 10000,
        wall_s=4.0 + at % 37 / 10, cpu_s=1.5, max_rss=90 * 2**20, queue_s=at / 10,
        phases={"reset": 0.08, "grant": 0.01, "agent": 4.1, "evidence": 0.03, "grade": 0.01},
        boundary_attempts=int(cause is Cause.BOUNDARY_VIOLATION), model_calls=6, http_calls=9, statements=30, changes=2,
        confidence=0.5 + at % 50 / 100, pod=f"abc123-{at % 8}", started_ns=_START + at * 10**8,
        ended_ns=_START + at * 10**8 + 4 * 10**9, evidence_root=root,
    )  # fmt: skip


def _keep_evidence(directory: Path, records: list[Record]) -> str:
    """The root of its tree."""
    directory.mkdir(parents=True)
    lines = [encode(record) for record in records]
    leaves = [leaf_hash(line) for line in lines]
    (directory / "evidence.jsonl").write_bytes(b"".join(lines))
    leaves_path(directory / "evidence.jsonl").write_bytes(leaves_file(leaves))
    for stream in ("stdout", "stderr"):
        (directory / stream).write_bytes(b"")
    (directory / "result.json").write_text('{"status": "done", "answer": {"refunded": true}}')
    return root_of(leaves).hex()


def _records(planned: Planned, cause: Cause, passed: bool, number: int) -> list[Record]:
    start = _START + planned.position * 10**8
    middle = [_middle(planned.position, step) for step in range(number - 3)]
    introduction = {
        "agent": {"name": "agent", "version": "1", "digest": "9f" * 32},
        "ticket": planned.ticket,
        "pod": "abc123-1",
    }
    usage = {
        "wall_s": 4.0,
        "cpu_s": 1.5,
        "max_rss": 90 * 2**20,
        "tokens": {"input": 9000},
        "dollars": "0.0123",
        "phases": {"agent": 4.1},
    }
    told: list[tuple[str, str, str, dict[str, Any]]] = [
        ("runner", "podctl", "attempt.start", introduction),
        *middle,
        ("runner", "podctl", "usage", usage),
        ("runner", "podctl", "attempt.end", {"cause": cause.value, "detail": "", "passed": passed}),
    ]
    return [
        Record(
            start + at * 40_000_000, kind, actor, data, "declared" if kind in ("decision", "span") else "observed", writer, at
        )
        for at, (writer, actor, kind, data) in enumerate(told)
    ]


def _middle(position: int, step: int) -> tuple[str, str, str, dict[str, Any]]:
    """Of ten records: four statements, two HTTP calls, a model call's start and end, a span, and a row change or decision."""
    match step % 10:
        case 0 | 3 | 5 | 7:
            statement = (
                "SELECT id, status, total_cents, note FROM orders WHERE customer_id = $1 ORDER BY created_at DESC LIMIT 20"
            )
            data: dict[str, Any] = {"database": "shop-db", "user": "ag_0123456789", "pid": 4711, "statement": statement}
            return (
                "runner",
                "agent",
                "sql.statement",
                data | {"params": [str(position)], "ms": 0.21, "sqlstate": "", "error": ""},
            )
        case 1 | 6:
            data = {"service": "orders-api", "method": "GET", "path": f"/orders/{position}", "status": 200, "ms": 3.2}
            body = {"order": position, "status": "paid", "lines": [{"sku": "A-1", "quantity": 2}]}
            return "gateway", "agent", "http.call", data | {"request_bytes": 0, "response_bytes": 180, "response_body": body}
        case 2 | 4:
            call = {
                "call_id": f"{position}-{step - step % 4}",
                "provider": "openai",
                "api": "chat",
                "model": "gpt-x",
                "stream": True,
            }
            if step % 10 == 2:
                return (
                    "gateway",
                    "agent",
                    "model.call",
                    call | {"status": "started", "reserved": {"tokens": 9000, "dollars": "0.05"}},
                )
            tokens = {"input": 1500, "cache_read": 600, "cache_write": 0, "output": 120, "reasoning": 50}
            return "gateway", "agent", "model.call", call | {"status": 200, "tokens": tokens, "dollars": "0.002", "ms": 610.0}
        case 8:
            attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_order", "order": position}
            return (
                "gateway",
                "agent",
                "span",
                {"name": "execute_tool get_order", "span_id": f"{step:016x}", "attributes": attributes},
            )
    if step % 20 == 9:
        old = {"id": position, "status": "paid", "total_cents": 4200, "note": ""}
        row = {
            "database": "shop-db",
            "table": "orders",
            "op": "update",
            "key": {"id": position},
            "old": old,
            "user": "ag_0123456789",
        }
        return (
            "runner",
            "agent",
            "row.change",
            row | {"new": old | {"status": "refunded"}, "xid": 900 + step, "statement": "UPDATE orders"},
        )
    options = [
        {"action": "refund", "chosen": True},
        {"action": "escalate", "rejected_because": "the amount is below the limit"},
    ]
    decision = {"id": f"d{step}", "kind": "resolve", "options": options, "confidence": 0.8, "confidence_basis": "self_report"}
    return "gateway", "agent", "decision", {"decision": decision}


def _try(result: AttemptResult, run: str) -> dict[str, Any]:
    return {
        "run": run, "attempt": result.id, "number": 1, "started_ns": result.started_ns, "ended_ns": result.ended_ns,
        "cause": result.cause.value, "dollars": str(result.dollars), "dollars_upper": str(result.dollars), "tokens": "{}",
    }  # fmt: skip
