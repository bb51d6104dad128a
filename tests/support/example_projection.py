"""A made-up projection of `example_run`'s run, the same every time, and one that says a given text everywhere."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from example_run import START_NS, STRATA

from podctl.projection.model import (
    Budget,
    Cap,
    Clearing,
    Coverage,
    Deadline,
    Estimate,
    HumanBaseline,
    MixShift,
    Outcomes,
    Part,
    Period,
    Projection,
    SteadyState,
    StratumProjection,
    Timing,
    TokenKind,
    Unit,
    Volume,
    Warned,
)

METHOD = "bootstrap-t on the log scale"


def around(value: float, unit: Unit = "dollars", spread: float = 0.15) -> Estimate:
    return Estimate(value, unit, value * (1 - spread), value * (1 + 1.4 * spread), 0.95, METHOD)


def _stratum(name: str, tickets: float, counted: int, each: float, resolved: float) -> StratumProjection:
    return StratumProjection(
        name=name, tickets=tickets, sampled=counted + 1, counted=counted, population=int(tickets),
        confidence="usual" if counted >= 25 else "low", dollars=around(tickets * each), dollars_per_ticket=around(each),
        dollars_per_resolved=around(each / resolved), resolved_share=around(resolved, "share", 0.05),
        pod_hours=around(tickets / 400, "hours"), human_hours=around(tickets / 90, "hours"),
    )  # fmt: skip


def example_projection(**changed: Any) -> Projection:
    """12,000 tickets a month, with people, a budget and times."""
    strata = tuple(
        _stratum(name, 12000 * there / 11040, tried * 3, cost * 14, passes)
        for name, (passes, cost, _, tried, there) in STRATA.items()
    )
    total = sum(one.dollars.value or 0.0 for one in strata)
    parts = (
        Part("models", around(84e6, "tokens"), around(0.46 * total), True),
        Part("pods", around(212, "hours"), Estimate(None, "dollars", why="the volume file gives no rate for pods"), False),
        Part("approvals", around(31, "hours"), around(0.07 * total, spread=0.4), True),
        Part("fallback", around(88, "hours"), around(0.29 * total, spread=0.3), True),
        Part("rework", around(52, "hours"), around(0.18 * total, spread=0.5), True),
    )
    projection = Projection(
        run="run-20251121-0426-b7k2", scenario="shop-refunds", agent_name="support-agent", agent_version="2.1.0", simulated=False,
        made_ns=START_NS + 10**13, seed=1, replications=10_000, level=0.95,
        volume=Volume("december", "future", 12000, 12000, 3, 0.1), sampled=148, counted=144, repeats=1,
        total=around(total), covered_dollars=around(total), beside=(replace(around(total, spread=0.12), method="BCa"),), parts=parts,
        per_ticket=around(total / 12000), per_resolved=around(total / 12000 / 0.84),
        outcomes=Outcomes(around(10100, "tickets"), around(1100, "tickets"), around(800, "tickets"), around(0.842, "share", 0.06)),
        tokens=(TokenKind("input", around(60e6, "tokens")), TokenKind("output", around(24e6, "tokens"))),
        pod_hours=around(212, "hours"), human_hours=around(171, "hours"), strata=strata,
        periods=tuple(Period(number, 4000.0, around(total / 3)) for number in (1, 2, 3)),
        caps=(Cap(0.5, around(0.04, "share"), around(310), around(90, "tickets"), Estimate(220, "dollars", -40, 510, 0.95, METHOD)),),
        budget=Budget(3200, 0.17),
        coverage=Coverage(0.95, 0.941, 0.007, 1000, "a log-normal for each stratum"),
        mix=MixShift(around(0.22)),
        baseline=HumanBaseline("handling times of 4,100 tickets", 11.5, 2300, 92_000, around(87_000)),
        timing=Timing(
            tuple(Clearing(pods, around(230 / pods * 1.3, "hours", 0.1), 230 / pods, "pods" if pods < 16 else "tokens a minute") for pods in (4, 8, 16)),
            SteadyState(
                pods=8, per_hour=18.0, stable=True, busy=0.62, least_pods=5, growth_per_hour=0.0, overloaded=0.02,
                wait_mean=around(0.02, "hours"), wait_p95=around(0.3, "hours"), in_system=around(6.1, "tickets"), bound_by="pods",
            ),
            Deadline(24.0, 12),
            ("the provider's limits are those of the volume file",),
        ),
        warnings=(
            Warned("low-confidence", "low confidence: fewer than 25 tickets tell of cancel (24), address change (24) and fraud review (18)"),
            Warned("no-rate", "not in the total, as the volume file gives no rate: pods"),
            Warned("infrastructure", "infrastructure ended 4 attempts of 148: left out, and taken to be like the others of their strata"),
            Warned("not-seen", "no sampled ticket of cancel was wrong; up to 260 of the volume may be"),
        ),
        assumptions=(
            "future tickets are like those that the sample was drawn from, stratum by stratum",
            "models cost what they cost in the run, and answer as they did",
            "an hour of people costs $40.00; a ticket that is handed over takes 9 min 00 s",
        ),
    )  # fmt: skip
    return replace(projection, **changed)


def projection_saying(text: str) -> Projection:
    """Every string that is free text, ``text``."""
    return _saying(example_projection(), text)


#: Fields of fixed words.
_WORDS = ("unit", "of", "confidence")


def _saying(value: Any, text: str, name: str = "") -> Any:
    if isinstance(value, str):
        return (
            value
            if name in _WORDS or (value in ("models", "pods", "approvals", "fallback", "rework") and name == "name")
            else text
        )
    if isinstance(value, tuple):
        return tuple(_saying(item, text) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _saying(getattr(value, field.name), text, field.name) for field in fields(value)})
    return value
