"""What a run would make, from its spec alone."""

from __future__ import annotations

from podctl.controller.likeness import likeness
from podctl.controller.run import Prepared
from podctl.pods.plan import PodSpec, steps
from podctl.reports.wording import fidelity_text
from podctl.spec.approvals import ApprovalRule
from podctl.spec.boundary_rules import rules_of
from podctl.stats.units import dollars, percent, seconds

#: Of each part of the fidelity so many facts, the worst first; reports have the others.
_TOLD = 8


def forecast(prepared: Prepared) -> dict[str, list[str]]:
    """Headings with lines: the agent, the sample, each pod's steps, the bounds on time and money."""
    bundle = prepared.bundle
    scenario, topology, limits = bundle.scenario, bundle.topology, bundle.scenario.limits
    attempts = len(prepared.planned)
    pods = min(scenario.run.pods, attempts)
    most = min(prepared.run_dollars, limits.dollars * attempts)
    left_out = [f"{name}: {entry.reason}" for name, entry in topology.services.items() if entry.mode == "left-out"]
    left_out += [f"{name}: {entry.reason}" for name, entry in topology.databases.items() if entry.mode == "left-out"]
    model = {
        "none": "model calls are refused: at most $0 for models",
        "replay": "model calls are replayed from recordings; their recorded prices count against the budget",
        "scripted": f"a scripted model answers (simulated figures): at most {dollars(most)}",
    }.get(scenario.model.mode, f"at most {dollars(most)} for models ({dollars(limits.dollars)} an attempt)")
    longest = attempts * limits.wall / pods
    facts = {
        "agent": [f"{prepared.identity.name} {prepared.identity.version}  sha256:{prepared.identity.digest[:16]}"],
        "sample": [
            f"{name}: {drawn} of {population} tickets" for name, (drawn, population) in sorted(prepared.drawn.strata.items())
        ],
        "attempts": [
            f"{attempts} = {attempts // scenario.run.repeats} tickets × {scenario.run.repeats}, {pods} pods at once"
            + (f"; shard {prepared.shard} of {len(prepared.drawn.tickets)} tickets" if prepared.shard else ""),
            f"at most {seconds(longest)} of agents' time, and {seconds(limits.run_wall)} in all",
            model,
        ],
        "each pod": [str(step) for step in steps(PodSpec("pod", "run", topology), {})],
    }
    if prepared.left_out:
        facts["sample"] += prepared.left_out
    if left_out:
        facts["left out"] = left_out
    if parts := likeness(bundle, {}):
        facts["fidelity"] = [fidelity_text(parts)]
        facts["fidelity"] += [
            f"{part.name}: {name}: {how}" for part in parts if part.score != 1 for name, how in list(part.facts.items())[:_TOLD]
        ]
    facts["the agent may write"] = [
        f"{database}.{table}: {', '.join(_writes(rule))}"
        for database, rules in bundle.boundary.all_rights().items()
        for table, rule in rules.items()
        if _writes(rule)
    ] or ["nothing by SQL"]
    facts["the agent may ask of services"] = [
        f"{rule.name}: {rule.level}"
        for rule in rules_of(bundle.boundary)
        if rule.kind == "route" and rule.level != "human-only"
    ] or ["nothing"]
    if bundle.boundary.tools:
        facts["the agent may use of tools"] = [
            f"{rule.name}: {rule.level}"
            for rule in rules_of(bundle.boundary)
            if rule.kind == "tool" and rule.level != "human-only"
        ] or ["nothing"]
    if scenario.approvals is not None:
        facts["what the agent proposes is answered"] = [_answered(rule) for rule in scenario.approvals.rules]
    if bundle.boundary.exceptions:
        facts["exceptions to what is never ai-writable"] = [
            f"{one.of}: {one.reason}" + (f", until {one.expires}" if one.expires else "") for one in bundle.boundary.exceptions
        ]
    return facts


def _answered(rule: ApprovalRule) -> str:
    if rule.answer == "person":
        return f"{rule.of}: by people, within {seconds(rule.timeout)}; denied where nobody can be asked"
    share = "" if rule.share is None else f" {percent(rule.share)} of them"
    by = f", by {', '.join(rule.when)}" if rule.when else ""
    return f"{rule.of}: {rule.answer}{share}{by} (simulated)"


def _writes(rule: object) -> list[str]:
    found = []
    for verb in ("insert", "update", "delete"):
        value = getattr(rule, verb)
        if value is True:
            found.append(verb)
        elif value:
            found.append(f"{verb} ({', '.join(value)})")
    return found
