"""Made-up runs, the same every time: a support agent that refunds, cancels and re-addresses orders."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

from podctl.evidence.causes import Cause
from podctl.evidence.records import KINDS, Record, Tokens
from podctl.evidence.results import (
    AttemptResult,
    Attribution,
    Change,
    CheckResult,
    Comparison,
    DiffEntry,
    GateFinding,
    RunInfo,
    RunResult,
    StratumChange,
    TicketFlip,
)
from podctl.evidence.tried import Tried
from podctl.spec.models import Gate
from podctl.stats.gate import judged

START_NS = 1_763_700_000_000_000_000
STRATA = {
    "refund / simple": (0.95, 0.012, 6.0, 16, 5200),
    "refund / partial": (0.70, 0.031, 14.0, 10, 1900),
    "cancel": (0.97, 0.009, 5.0, 8, 2300),
    "address change": (0.85, 0.018, 8.0, 8, 1400),
    "fraud review": (0.45, 0.074, 31.0, 6, 240),
}
GATE = Gate(pass_rate=0.9, cost_per_ticket=Decimal("0.05"), seconds_per_ticket=30.0, regression=0.05)


def attempt(ticket: str = "T-1", passed: bool = True, cause: Cause = Cause.COMPLETED, **fields: object) -> AttemptResult:
    """One attempt with only what a test cares about."""
    values: dict[str, object] = {"id": f"{ticket}-1", "stratum": "refund", "repeat": 1, "position": 1, **fields}
    return AttemptResult(ticket=ticket, passed=passed and cause is Cause.COMPLETED, cause=cause, **values)  # type: ignore[arg-type]


def attempts(passed: int, failed: int = 0, infrastructure: int = 0, cancelled: int = 0) -> list[AttemptResult]:
    """So many of each, every one on a ticket of its own."""
    causes = [(True, Cause.COMPLETED)] * passed + [(False, Cause.COMPLETED)] * failed
    causes += [(False, Cause.SANDBOX_FAILED)] * infrastructure + [(False, Cause.CANCELLED)] * cancelled
    return [
        attempt(f"T-{i:05d}", ok, cause, id=f"{i:05d}-1", position=i, dollars=Decimal("0.02"), wall_s=4.0)
        for i, (ok, cause) in enumerate(causes)
    ]


def info(**fields: object) -> RunInfo:
    values: dict[str, object] = {
        "id": "run-20251121-0426-b7k2",
        "scenario": "shop-refunds",
        "agent_name": "support-agent",
        "agent_version": "2.1.0",
        "agent_digest": "sha256:" + "9f4c21ab" * 8,
        "topology": "shop",
        "backend": "local",
        "isolation": "bubblewrap: own user, process, network and mount namespaces; the gateway is the only door",
        "sample_digest": "sha256:" + "51d0e7c3" * 8,
        "sample_size": 48,
        "population_size": 11040,
        "strata": {name: (size, population) for name, (_, _, _, size, population) in STRATA.items()},
        "repeats": 1,
        "pods": 4,
        "seed": 1,
        "started_ns": START_NS,
        "ended_ns": START_NS + 214 * 10**9,
        "model_mode": "live",
        "podctl_version": "0.1.0",
        "spec_digest": "sha256:" + "0a77be19" * 8,
        "settings": {
            "limits": {"wall": "120 s", "tokens": 200000, "dollars": "1.00"},
            "boundary": {
                "shop-db": {"orders": "read, update status and address", "payments": "read", "refunds": "read, insert"}
            },
            "checks": ["state", "output: category"],
        },
        **fields,
    }
    return RunInfo(**values)  # type: ignore[arg-type]


def _diff(rng: random.Random, order: int, forbidden: bool) -> tuple[DiffEntry, ...]:
    amount = rng.randrange(5, 90)
    entries = [
        DiffEntry("intended", "shop-db", "refunds", "insert", {"id": order + 7000}, actor="agent"),
        DiffEntry(
            "missing", "shop-db", "orders", "update", {"id": order}, "status", "paid", None, "partially_refunded", actor=""
        ),
        DiffEntry(
            "collateral", "shop-db", "orders", "update", {"id": order}, "total_cents", amount * 100, amount * 85, actor="agent"
        ),
    ]
    if forbidden:
        entries.append(
            DiffEntry(
                "forbidden", "shop-db", "payments", "update", {"id": order + 90}, "state", "held", "captured", actor="agent"
            )
        )
    return tuple(entries)


def _attempt(
    rng: random.Random, ticket: str, stratum: str, position: int, repeat: int, skill: float, quirks: bool
) -> AttemptResult:
    rate, cost, seconds, _, _ = STRATA[stratum]
    passed = rng.random() < rate + skill * (1 - rate)
    cause, detail, boundary, tries = Cause.COMPLETED, "", 0, 1
    if quirks and position % 23 == 11:
        cause, detail, passed, tries = (
            Cause.SANDBOX_FAILED,
            "the database's server did not start: no space left on device",
            False,
            3,
        )
    elif not passed:
        cause, detail = rng.choice(
            [
                (Cause.COMPLETED, "check state: 1 change missing, 1 not asked for"),
                (Cause.COMPLETED, "check state: 1 change missing, 1 not asked for"),
                (Cause.AGENT_TIMED_OUT, "no result after 120 s"),
                (Cause.AGENT_FAILED, "exit code 1: KeyError: 'order_id'"),
            ]
        )
        if stratum == "fraud review" and rng.random() < 0.5:
            cause, detail, boundary = Cause.BOUNDARY_VIOLATION, "permission denied for table payments", 2
    diff = () if passed or not cause.counts else _diff(rng, 4100 + position, boundary > 0)
    wall = seconds * rng.lognormvariate(0, 0.5) if cause is not Cause.AGENT_TIMED_OUT else 120.0
    spread = rng.lognormvariate(0, 0.8)
    tokens = Tokens(int(9000 * spread), int(4000 * spread), 0, int(700 * spread), int(300 * spread))
    unknown = quirks and cause is Cause.AGENT_TIMED_OUT and position % 2 == 0
    started = START_NS + position * 4 * 10**9
    checks = (
        CheckResult("state", "state", passed, "" if passed else "1 change missing, 1 not asked for", diff),
        CheckResult("category", "output", True),
    )
    return AttemptResult(
        id=f"{position:04d}-{repeat}",
        ticket=ticket,
        stratum=stratum,
        repeat=repeat,
        position=position,
        cause=cause,
        passed=passed,
        detail=detail,
        checks=checks if cause.counts else (),
        tokens=tokens,
        dollars=None if unknown else Decimal(str(round(cost * spread, 6))),
        wall_s=round(wall, 3),
        cpu_s=round(wall * 0.21, 3),
        max_rss=120 * 2**20,
        queue_s=0.4,
        boundary_attempts=boundary,
        tried=(Tried("UPDATE table payments", "unlisted", "human-only", boundary),) if boundary else (),
        model_calls=4,
        http_calls=6,
        statements=9,
        changes=len(diff) or 2,
        confidence=round(min(0.99, max(0.05, rng.gauss(0.9 if passed else 0.74, 0.12))), 2),
        uses={"GET orders-api /orders/{}": 2 if passed else 4, "tool refund": 1 + (diff == ()), "tool issue_credit": boundary},
        tries=tries,
        pod=f"pod-{position % 4}",
        started_ns=started,
        ended_ns=started + int(wall * 1e9),
    )


def example_run(
    *,
    version: str = "2.1.0",
    skill: float = 0.0,
    seed: int = 7,
    scale: int = 1,
    repeats: int = 1,
    quirks: bool = True,
    **fields: object,
) -> RunResult:
    """48 tickets times ``scale`` in five strata. ``skill`` from -1 to 1 moves the pass rates; ``quirks`` adds trouble."""
    rng = random.Random(seed)
    made, position = [], 0
    for stratum, (_, _, _, size, _) in STRATA.items():
        for _ in range(size * scale):
            position += 1
            for repeat in range(1, repeats + 1):
                made.append(_attempt(rng, f"SUP-{20000 + position * 37}", stratum, position, repeat, skill, quirks))
    result = tuple(made)
    values: dict[str, object] = {"agent_version": version, "repeats": repeats, "sample_size": 48 * scale, **fields}
    spent = sum((a.dollars for a in result if a.dollars is not None), Decimal(0))
    return judged(RunResult(info(**values), "finished", result, "inconclusive", spent_dollars=spent), GATE)


def example_comparison(scale: int = 1, repeats: int = 1, **fields: object) -> RunResult:
    """A run with a baseline that did a little better."""
    baseline = example_run(
        version="2.0.3", skill=0.5, seed=8, scale=scale, repeats=repeats, quirks=False,
        id="run-20251114-1130-x1c9", agent_digest="sha256:" + "77aa00bc" * 8,
    )  # fmt: skip
    run = judged(example_run(scale=scale, repeats=repeats, **fields), GATE, baseline)
    return replace(run, notes=("pod-3 was replaced once: its database server had gone away",))


def example_records(attempt_id: str, rows: int = 14) -> list[Record]:
    """Evidence of one failed attempt."""
    at = lambda s: START_NS + int(s * 1e9)  # noqa: E731
    records = [
        Record(at(0), "attempt.start", "podctl", {"ticket": "SUP-20481", "pod": "pod-1", "agent": {"name": "support-agent"}}),
        Record(at(0.1), "process.start", "podctl", {"name": "agent", "argv": ["python", "agent.py"]}),
        Record(
            at(1.2),
            "model.call",
            "agent",
            {
                "provider": "openai", "model": "gpt-5-mini", "status": 200, "ms": 1840.0, "dollars": "0.0041",
                "tokens": {"input": 2100, "output": 180}, "tool_calls": [{"name": "get_order"}],
            },
        ),
        Record(at(3.1), "http.call", "agent", {"service": "orders-api", "method": "GET", "path": "/orders/4107", "status": 200, "ms": 12.0}),
        Record(at(3.4), "sql.statement", "agent", {"database": "shop-db", "statement": "select * from orders where id = 4107", "ms": 1.9}),
        Record(
            at(5.0),
            "decision",
            "agent",
            {
                "decision": {
                    "kind": "refund", "confidence": 0.81,
                    "options": [
                        {"action": "refund in full", "chosen": True},
                        {"action": "refund one item", "chosen": False, "rejected_because": "no line item named in the ticket"},
                    ],
                }
            },
            "declared",
        ),
        Record(
            at(6.2),
            "row.change",
            "agent",
            {
                "database": "shop-db", "table": "orders", "op": "update", "key": {"id": 4107},
                "old": {"total_cents": 5400}, "new": {"total_cents": 4590}, "user": "agent_rw",
            },
        ),
        Record(at(6.9), "boundary.attempt", "agent", {"via": "sql", "target": "payments", "detail": "permission denied for table payments", "sqlstate": "42501"}),
        Record(at(7.4), "log", "agent", {"severity": "WARN", "body": "could not capture payment, going on"}),
    ]  # fmt: skip
    records += [
        Record(
            at(8 + i / 10), "sql.statement", "agent", {"database": "shop-db", "statement": f"select {i} from items", "ms": 0.7}
        )
        for i in range(max(0, rows - len(records) - 2))
    ]
    records.append(Record(at(60), "process.exit", "podctl", {"name": "agent", "exit_code": 0}))
    records.append(Record(at(60.2), "attempt.end", "podctl", {"cause": "completed", "exit_code": 0, "detail": ""}))
    return records


def run_saying(text: str, repeats: int = 1) -> RunResult:
    """A small run in which every string that is not podctl's own is ``text``."""
    entries = tuple(
        DiffEntry(class_, text, text, "update", {text: text}, text, text, text, text, text)  # type: ignore[arg-type]
        for class_ in ("intended", "missing", "collateral", "forbidden")
    )
    checks = (CheckResult(text, "state", False, text, entries), CheckResult(text, "output", False))
    causes = (Cause.COMPLETED, Cause.SANDBOX_FAILED, Cause.CANCELLED, Cause.AGENT_FAILED)
    made = tuple(
        AttemptResult(
            id=text, ticket=f"{text}{i}", stratum=text, repeat=r, position=i, cause=cause, passed=False, detail=text if i else "",
            checks=checks, dollars=Decimal("0.1"), boundary_attempts=1, confidence=0.5, pod=text, wall_s=1.0,
        )
        for i, cause in enumerate(causes)
        for r in range(repeats)
    )  # fmt: skip
    about = info(
        id=text, scenario=text, agent_name=text, agent_version=text, agent_digest=text, topology=text, backend=text, isolation=text,
        sample_digest=text, spec_digest=text, model_mode=text, podctl_version=text, strata={text: (1, 2)}, repeats=repeats,
        settings={text: {text: [text]}},
    )  # fmt: skip
    attribution = Attribution(
        (StratumChange(text, 4, 0.5, 0.25, 1, 0, 0.5, 0.25),),
        (Change(text, 0.25, 0.5),),
        (Change(text, 3.0, 1.0),),
        (),
        7,
        1007,
    )
    comparison = Comparison(
        text, text, 4, 0.5, 0.25, (TicketFlip(text, text, "worse", 1, 1, 0, 1, text),), 0.5, Decimal(1), Decimal(2), 1.0, 2.0,
        (text,), attribution=attribution,
    )  # fmt: skip
    findings = (GateFinding(text, "fail", text, text, text),)
    return RunResult(about, "finished", made, "fail", findings, comparison, Decimal(1), (text,))


def timeline_saying(text: str) -> list[Record]:
    """A record of every kind, each field of it ``text``."""
    fields = (
        "ticket", "pod", "name", "cause", "detail", "database", "statement", "error", "table", "op", "service", "method", "path",
        "model", "tool", "arguments", "result", "via", "target", "what", "reason", "severity", "body",
    )  # fmt: skip
    data: dict[str, object] = dict.fromkeys(fields, text)
    data |= {
        "argv": [text], "key": {text: text}, "old": {text: "x"}, "new": {text: text}, "tool_calls": [{"name": text}], "attributes": {text: text},
        "decision": {"kind": text, "confidence": text, "options": [{"action": text, "rejected_because": text}, {"action": text, "chosen": True}]},
    }  # fmt: skip
    return [Record(START_NS + i, kind, text, data, "declared") for i, kind in enumerate(KINDS)]
