"""What a run comes to as an in-toto statement, test result v0.1. PURE.

A statement says no more than the run shows: what lessens it is said in ``caveats``, and what is no pass is never PASSED.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from podctl.errors import SpecError
from podctl.evidence.results import AttemptResult, RunResult
from podctl.spec.attack import AttackGate
from podctl.spec.models import Gate
from podctl.stats.fidelity import score
from podctl.stats.proportions import Interval
from podctl.stats.summary import Summary, by_ticket, summarize
from podctl.stats.units import plural
from podctl.stats.weighed_share import WeighedShare, of_clusters
from podctl.stats.weighing import weighing_of
from podctl.trust.certificate import FACTS, STATEMENT, TEST_RESULT, plain_gate
from podctl.trust.moments import moment

_TITLES = {"pass": "passedTests", "inconclusive": "warnedTests", "fail": "failedTests"}
_SUCCESS_RATE: float = AttackGate.model_fields["success_rate"].default
#: Characters of what is copied from a run, where it is of any length.
_MOST = 2000


def evidence_root(run: RunResult) -> str:
    """sha256 over the roots of all attempts' evidence, by id: what an auditor computes anew from the evidence itself."""
    lines = [f"{attempt.id} {attempt.evidence_root or '-'}" for attempt in sorted(run.attempts, key=lambda a: a.id)]
    return hashlib.sha256("\n".join(["podctl run evidence 1", *lines]).encode()).hexdigest()


def statement(
    run: RunResult,
    certified_ns: int,
    *,
    by: str = "",
    started_by: str = "",
    checkpoint: str = "",
    campaigns: Sequence[RunResult] = (),
) -> dict[str, Any]:
    """``campaigns``: runs that are, of the same agent, boundary and topology. ``by`` and ``started_by``: people or accounts; ``checkpoint``: of the store's audit log. Raises `SpecError` for a run that has not ended, for a shard, and for one of another version's make that lacks its digests."""
    _refuse_unfit(run)
    for campaign in campaigns:
        _refuse_unfit(campaign)
        _refuse_unlike(run, campaign)
    info = run.info
    made = [*([run] if info.campaign is not None else []), *campaigns]
    caveats = [*_caveats(run), *(one for campaign in campaigns for one in _caveats_of_campaign(campaign))]
    facts = {
        "agent": {"name": info.agent_name, "version": info.agent_version, "digest": info.agent_digest},
        "run": info.id,
        "scenario": info.scenario,
        "topology": info.topology,
        "podctl": info.podctl_version,
        "started": moment(info.started_ns / 1e9),
        "ended": moment(info.ended_ns / 1e9),
        "certified": moment(certified_ns / 1e9),
        "status": run.status,
        "verdict": run.verdict,
        "caveats": [{"code": code, "text": text[:_MOST]} for code, text in caveats],
        "simulated": any(is_simulated(one) for one in (run, *campaigns)),
        "modelMode": info.model_mode,
        "models": sorted({use.model[:200] for attempt in run.attempts for use in attempt.models or ()})[:1000],
        "gate": plain_gate(Gate.model_validate(info.settings.get("gate", {}))),
        "findings": [_finding(one) for one in run.findings],
        **_figures(run.plain),
        "fidelity": {"score": score(info.fidelity), "parts": {part.name: part.score for part in info.fidelity}},
        "isolation": {
            "backend": info.backend,
            "described": info.isolation[:_MOST],
            "controls": dict(info.controls),
        },
        "audit": {"root": evidence_root(run), "attempts": len(run.attempts), "checkpoint": checkpoint},
        "campaigns": {one.info.campaign.name: campaign_verdict(one) for one in made if one.info.campaign is not None},
        **({"campaignsEnded": moment(min(one.info.ended_ns for one in made) / 1e9)} if made else {}),
        "startedBy": (info.labels.get("started-by") or started_by)[:200],
        "certifiedBy": by[:200],
        "revision": info.revision,
        "labels": {name[:200]: text[:_MOST] for name, text in info.labels.items()},
    }
    tests: dict[str, list[str]] = {title: [] for title in _TITLES.values()}
    for one in run.findings:
        tests[_TITLES[one.verdict]].append(f"gate.{one.name}")
    return {
        "_type": STATEMENT,
        "subject": [{"name": f"{info.agent_name}@{info.agent_version}", "digest": {"sha256": info.agent_digest}}],
        "predicateType": TEST_RESULT,
        "predicate": {
            "result": "WARNED" if facts["simulated"] and result_of(run) == "PASSED" else result_of(run),
            "configuration": [
                {"name": name, "digest": {"sha256": digest}}
                for name, digest in {**_digests(run), **dict(_campaign_digests(campaigns))}.items()
            ],
            **tests,
            FACTS: facts,
        },
    }


def result_of(run: RunResult) -> str:
    """``PASSED`` only for a finished run of the agent's real model that passed its gate on a sample; ``WARNED`` where nobody can tell."""
    if run.verdict == "fail":
        return "FAILED"
    good = run.verdict == "pass" and run.status == "finished" and not is_simulated(run) and not run.info.suite
    return "PASSED" if good else "WARNED"


def campaign_verdict(run: RunResult) -> str:
    """An attack campaign that was asked for less than `AttackGate` asks by itself, or a chaos campaign that was not asked
    how far success falls, shows less than its name says."""
    asked = (run.info.settings.get("gate", {}).get("attack") or {}).get("success_rate", _SUCCESS_RATE)
    lax = run.info.campaign is not None and run.info.campaign.kind == "attack" and (asked is None or asked > _SUCCESS_RATE)
    if run.info.campaign is not None and run.info.campaign.kind == "chaos":
        lax = not {"chaos.success_drop", "chaos.damaged"} <= {one.name for one in run.findings}
    return "inconclusive" if run.verdict == "pass" and lax else run.verdict


def _refuse_unlike(run: RunResult, campaign: RunResult) -> None:
    """Raises `SpecError` for a campaign that says nothing of this run's agent where it is to work."""
    one, other = run.info, campaign.info
    wrong = "is no campaign"
    if other.campaign is not None:
        same = {
            "agent": one.agent_digest == other.agent_digest,
            "boundary": one.digests["boundary"] == other.digests["boundary"],
            "topology": one.digests["topology"] == other.digests["topology"],
        }
        wrong = (
            f"had another {' and another '.join(what for what, is_so in same.items() if not is_so)}"
            if not all(same.values())
            else ""
        )
    if wrong:
        raise SpecError(
            f"run {other.id} cannot stand beside run {one.id}: it {wrong}",
            code="campaign-unlike",
            unchanged="nothing was written",
            hint="name a run of podctl attack, of the same agent version in the same topology and boundary",
        )


def _campaign_digests(campaigns: Sequence[RunResult]) -> Iterator[tuple[str, str]]:
    for one in campaigns:
        if one.info.campaign is not None:
            yield f"campaign {one.info.campaign.name}", evidence_root(one)


def _caveats_of_campaign(run: RunResult) -> Iterator[tuple[str, str]]:
    name = "" if run.info.campaign is None else run.info.campaign.name
    yield from ((code, f"campaign {name}, run {run.info.id}: {text}") for code, text in _caveats(run) if code != "campaign")


def is_simulated(run: RunResult) -> bool:
    return run.info.simulated or any(attempt.simulated for attempt in run.attempts)


def _refuse_unfit(run: RunResult) -> None:
    info = run.info
    wrong = ""
    if info.shard is not None:
        wrong, hint = (
            f"is shard {info.shard} of a run: alone it is no sample, and has no verdict",
            "podctl merge, and certify the whole",
        )
    elif run.status == "running":
        wrong, hint = "is still being worked on", "wait for its end"
    elif not info.ended_ns:
        wrong, hint = "has not ended: its podctl died before it could judge it", f"podctl run SCENARIO --resume {info.id}"
    elif not {"boundary", "topology"} <= info.digests.keys():
        wrong, hint = "was made before runs kept the digests of their boundary and topology", "run it again"
    if wrong:
        raise SpecError(
            f"run {info.id} cannot be certified: it {wrong}", code="not-certifiable", unchanged="nothing was written", hint=hint
        )


def _digests(run: RunResult) -> Mapping[str, str]:
    info = run.info
    return {
        "sample": info.sample_digest,
        **info.digests,
        "spec": info.spec_digest,
        "fidelity": hashlib.sha256(
            repr([(p.name, p.score, sorted(p.facts.items())) for p in info.fidelity]).encode()
        ).hexdigest(),
        "evidence": evidence_root(run),
    }


def _finding(one: Any) -> dict[str, Any]:
    texts = {name: getattr(one, name)[:_MOST] for name in ("name", "measured", "required", "message")}
    return {**texts, "verdict": one.verdict, "chance": one.chance, "detectable": one.detectable}


def _figures(run: RunResult) -> dict[str, Any]:
    """Over what counts, but for what a boundary says: that holds in quarantine too."""
    counted = summarize(_counted(run))
    every = summarize(run.attempts)
    return {
        "counts": {
            "tickets": counted.rate.tickets,
            "passed": counted.rate.passed,
            "of": counted.rate.of,
            "attempts": every.attempts,
            "infrastructure": every.infrastructure,
            "notRun": every.not_run,
            "boundaryAttempts": every.boundary_attempts,
            "boundaryViolating": every.boundary_violating,
            "quarantined": len({attempt.ticket for attempt in run.attempts} & run.info.quarantine.keys()),
            "retried": sum(attempt.tries > 1 for attempt in run.attempts),
            "repeats": run.info.repeats,
        },
        "passRate": _pass_rate(run, counted),
        "strata": _strata(run, counted),
    }


def _counted(run: RunResult) -> list[AttemptResult]:
    return [attempt for attempt in run.attempts if attempt.ticket not in run.info.quarantine]


def _pass_rate(run: RunResult, counted: Summary) -> dict[str, Any]:
    """Weighed by what tickets stand for, as the gate has it, where the sample is not in proportion to the population."""
    weighing = weighing_of(run)
    if weighing is None or not counted.rate.of:
        return {"share": counted.rate.share, **_bounds(counted.rate.interval), "weighed": False}
    groups = weighing.split(by_ticket(_counted(run)))
    weighed = WeighedShare(tuple(of_clusters(weight, list(those.values())) for weight, those in groups))
    return {"share": weighed.share, **_bounds(weighed.interval()), "weighed": True}


def _bounds(interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {"low": interval.low, "high": interval.high}


def _strata(run: RunResult, counted: Summary) -> dict[str, dict[str, int]]:
    found = {one.name: one.rate for one in counted.strata}
    return {
        name[:_MOST]: {
            "tickets": found[name].tickets if name in found else 0,
            "population": population,
            "passed": found[name].passed if name in found else 0,
            "of": found[name].of if name in found else 0,
        }
        for name, (_, population) in run.info.strata.items()
    }


def _caveats(run: RunResult) -> Iterator[tuple[str, str]]:
    info = run.info
    if is_simulated(run):
        yield "simulated", "the model's answers came from a script: nothing here says how the agent does with a model"
    if run.info.suite:
        yield (
            "suite",
            f"its tickets are the cases of suite {run.info.suite}, kept because they went wrong: a sample of no population",
        )
    if run.status != "finished":
        yield "interrupted", "the run was ended before all its attempts were made"
    if run.verdict == "inconclusive":
        yield "inconclusive", "the sample cannot tell whether all that was asked is met"
    if run.comparison is not None and run.comparison.early_stop is not None:
        yield "ended-early", "the run ended once this version was worse than its baseline for certain"
    if info.merged:
        yield "merged", f"put together from {plural(len(info.merged), 'shard')}: {', '.join(info.merged)}"
    if info.campaign is not None:
        yield (
            "campaign",
            f"the run is the {info.campaign.kind} campaign {info.campaign.name}: figures are of its plain attempts",
        )
    if info.resumed:
        yield "resumed", "the run was cut off and gone on with"
    if info.quarantine:
        yield (
            "quarantined",
            f"{plural(len(info.quarantine), 'ticket')} of the sample do not count: {', '.join(sorted(info.quarantine))}",
        )
    if info.dirty:
        yield "uncommitted", f"files differed from revision {info.revision[:12]}"
    if not info.controls:
        yield "isolation-unknown", "which isolation controls were in effect was not kept"
    weak = [f"{name} {state}" for name, state in info.controls.items() if state != "yes"]
    if weak:
        yield "isolation", f"not in full effect: {', '.join(weak)}"
    if info.model_mode == "replay":
        yield "replayed", "the model's answers were recorded in an earlier run"
