"""What deciding on a request to a service costs at 50 rules: in the gateway's path, beside Cedar alone in the same rounds."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import cedarpy

from benchmarks.effort import Effort
from benchmarks.table import Row, spread
from podctl.boundary.policies import Decider, policies_of
from podctl.boundary.targets import read_target
from podctl.spec.models import Boundary

RULES = 50
TARGET = 10_000
HEADERS = ("Host", "User-Agent", "Accept", "Content-Type", "Content-Length")
LEVELS = ("read", "ai-writable", "recommend")


def measure(effort: Effort) -> list[Row]:
    several = {f"api-{number}": _rules(RULES // 5, ("GET", "POST", "PUT")) for number in range(5)}
    return [
        _row("five services", several, effort, TARGET),
        _row("one service", {"api-0": _rules(RULES, ("GET", "POST", "PUT"))}, effort, TARGET),
        _row("one service and one method", {"api-0": _rules(RULES, ("POST",))}, effort, TARGET),
    ]


def _rules(count: int, methods: tuple[str, ...]) -> dict[str, str]:
    return {
        f"{methods[i % len(methods)]} /v1/things-{i}/{{id}}/parts": LEVELS[1 if len(methods) == 1 else i % 3]
        for i in range(count)
    }


def _row(name: str, services: dict[str, Any], effort: Effort, target: float) -> Row:
    boundary = Boundary(apiVersion="podctl/v1", kind="Boundary", name="bench", services=services)
    policies = policies_of(boundary)
    decider = Decider(policies)
    method, _, path = [written for written in services["api-0"] if not written.startswith("PUT")][-1].partition(" ")
    path = path.replace("{id}", "12345") + "?page=2"
    whole = cedarpy.PolicySet.from_str("\n".join(policy.text for policy in policies))
    nothing = cedarpy.Entities.from_json_str("[]")
    asked = read_target(method, path, HEADERS)
    context = {"method": method, "n": len(asked.segments), "slash": False}
    context |= {f"{kind}{i}": text for i, text in enumerate(asked.segments) for kind in "sf"}
    request = {"principal": 'Agent::"a"', "action": 'Action::"call"', "resource": 'Service::"api-0"', "context": context}
    assert decider.call("a", "api-0", asked).allowed and cedarpy.is_authorized(request, whole, nothing).allowed
    ours, floor = [], []
    for _ in range(effort.times(20)):
        ours.append(_rate(lambda: decider.call("a", "api-0", read_target(method, path, HEADERS)), effort))
        floor.append(_rate(lambda: cedarpy.is_authorized(request, whole, nothing), effort))
    beside = f"cedarpy alone, all {len(policies)} policies parsed once: {spread(floor, '/s')}"
    return Row(f"decisions at {RULES} rules, {name}", ours, "/s", beside, target, at_least=True)


def _rate(work: Any, effort: Effort) -> float:
    times = effort.pick(20, 500, 1000)
    began = perf_counter()
    for _ in range(times):
        work()
    return times / (perf_counter() - began)
