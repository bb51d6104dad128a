"""A level's demands against a certificate: each with what is asked, what there is, and what would get it. PURE."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from podctl.signing import PublicKey
from podctl.spec.ladder import Ladder, Level
from podctl.spec.models import Gate, Model
from podctl.stats.units import plural
from podctl.trust.certificate import Certificate, Finding
from podctl.trust.moments import SKEW_S, age_text, moment, seconds_of
from podctl.trust.records import Promotion, Revocations, Said, Waiver

_AGAIN = "podctl run SCENARIO, then podctl certify latest"


@dataclass(frozen=True)
class Met:
    """One demand of a level. ``todo`` says what to type where it is not met; ``waived`` who answers for that, and until when."""

    level: str
    demand: str
    ok: bool
    required: str
    found: str
    todo: str = ""
    waived: str = ""

    @property
    def holds(self) -> bool:
        return self.ok or bool(self.waived)


@dataclass(frozen=True)
class Case:
    """What a certificate is judged by. ``signers``: of the certificate; ``people``: of the ladder, with their keys; ``said``: their records."""

    certificate: Certificate
    signers: tuple[PublicKey, ...]
    ladder: Ladder
    people: Mapping[str, PublicKey]
    now_s: float
    said: tuple[Said, ...] = ()
    revoked: Revocations | None = None

    def why_not(self, name: str, said: Said) -> str:
        """Why what ``name`` says does not count; nothing when it does."""
        key, facts = self.people.get(name), self.certificate.facts
        if key is None or key not in said.signers:
            return f"it is not signed with {name}'s key"
        if self.revoked is not None and self.revoked.find("key", key.id) is not None:
            return f"{name}'s key is revoked"
        if self.revoked is not None and self.revoked.find("record", said.digest) is not None:
            return "it is revoked"
        if key in self.signers or name in (_account(facts.startedBy), _account(facts.certifiedBy)):
            return f"{name} made the run or its certificate, and another person has to look"
        if seconds_of(said.content.at) > self.now_s + SKEW_S:
            return "it is of a moment that has not come"
        return ""


#: Days that a waiver may last.
LONGEST_WAIVER = 366


def last_day(from_s: float) -> str:
    """The last day that a waiver of that moment may name."""
    return moment(from_s + LONGEST_WAIVER * 86400)[:10]


def _account(who: str) -> str:
    """``ana`` of ``ana@laptop uid 1000``, as the audit log names people; of a name the name."""
    return who.split("@")[0]


def judge(level: Level, case: Case) -> list[Met]:
    """Every demand that the level makes, in a fixed order. Waivers apply; what is never waived is not."""
    made = [Met(level.name, *one) for rule in _RULES for one in rule(level, case)]
    return [one if one.ok else replace(one, waived=_waived(level, one.demand, case)) for one in made]


def reached(ladder: Ladder, case: Case) -> tuple[str, list[Met]]:
    """The highest level that holds with all below it (empty: none), and what the next one demands (empty: there is none)."""
    highest = ""
    for level in ladder.levels:
        demands = judge(level, case)
        if not all(one.holds for one in demands):
            return highest, demands
        highest = level.name
    return highest, []


def _waived(level: Level, demand: str, case: Case) -> str:
    if demand in level.never_waived or demand.split(".")[0] in level.never_waived:
        return ""
    for said in case.said:
        waiver = said.content
        if not isinstance(waiver, Waiver) or said.agent != case.certificate.agent.digest:
            continue
        same = (waiver.ladder, waiver.level, waiver.demand) == (case.ladder.name, level.name, demand)
        in_time = moment(case.now_s)[:10] <= waiver.until <= last_day(seconds_of(waiver.at))
        if same and in_time and not case.why_not(waiver.owner, said):
            return f"waived by {waiver.owner} until {waiver.until}: {waiver.reason}"
    return ""


#: demand, whether it is met, what is asked, what there is, what to type
_One = tuple[str, bool, str, str, str]


def _verdict(level: Level, case: Case) -> Iterator[_One]:
    facts = case.certificate.facts
    wanted = ("pass",) if level.verdict == "pass" else ("pass", "inconclusive")
    todo = (
        "more tickets settle an inconclusive verdict: podctl gate RUN says how many"
        if facts.verdict == "inconclusive"
        else _AGAIN
    )
    ok = facts.verdict in wanted and (facts.status == "finished" or level.verdict != "pass")
    yield "verdict", ok, " or ".join(wanted), facts.verdict, todo
    if not level.simulated:
        found = "its model's answers came from a script" if facts.simulated else "a real model, or none"
        yield "simulated", not facts.simulated, "no simulated model", found, "run it with model.mode live or record"


def _gate(level: Level, case: Case) -> Iterator[_One]:
    """A requirement that was passed under a laxer threshold says nothing of a stricter one."""
    if level.gate is None:
        return
    asked, findings = case.certificate.gate, {one.name: one for one in case.certificate.facts.findings}
    for name in Gate.model_fields:
        wanted, had = getattr(level.gate, name), getattr(asked, name)
        if wanted is None or name not in level.gate.model_fields_set:
            continue
        finding = findings.get(name) or _worst_of(name, findings.values())
        todo = f"podctl run SCENARIO with gate: {{{name}: {_said(wanted)}}}"
        if had is None or not _as_strict(name, had, wanted):
            yield f"gate.{name}", False, _said(wanted), "not asked" if had is None else f"asked for {_said(had)} only", todo
        elif finding is None and name not in _ONLY_WHEN_EXCEEDED:
            why, more = _NOT_JUDGED.get(name, ("it needs a baseline", " --baseline RUN"))
            yield f"gate.{name}", False, _said(wanted), f"asked, and not judged: {why}", todo + more
        else:
            found = f"{_said(had)} asked: {finding.verdict}, {finding.measured}" if finding else f"{_said(had)} asked, and met"
            yield f"gate.{name}", finding is None or finding.verdict == "pass", _said(wanted), found, _AGAIN


#: These are told where they are exceeded, and then there is no verdict.
_ONLY_WHEN_EXCEEDED = ("infrastructure_failures", "quarantined")
#: Why a requirement has no finding, and what to type besides.
_NOT_JUDGED = {
    "honeytokens": ("none was planted", ", and honeytokens"),
    "chaos": ("the run was no chaos campaign", ", by podctl chaos"),
}
_HIGHER = ("pass_rate",)


def _worst_of(name: str, findings: Iterable[Finding]) -> Finding | None:
    """Of a requirement in parts, such as ``chaos.damaged``, the part that came out worst."""
    parts = [one for one in findings if one.name.startswith(f"{name}.")]
    return min(parts, key=lambda one: ("fail", "inconclusive", "pass").index(one.verdict), default=None)


def _as_strict(name: str, had: Any, wanted: Any) -> bool:
    if name == "pass_hat":
        return bool(had.k >= wanted.k and had.share >= wanted.share)
    if name in ("scan", "chaos"):
        asked = wanted.model_dump(exclude_none=True)
        return all((most := getattr(had, one)) is not None and most <= asked[one] for one in asked)
    return bool(had >= wanted if name in _HIGHER else had <= wanted)


def _said(value: Any) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Model):
        return "{" + ", ".join(f"{name}: {each}" for name, each in value.model_dump(exclude_none=True).items()) + "}"
    return str(value)


def _sample(level: Level, case: Case) -> Iterator[_One]:
    facts = case.certificate.facts
    if level.tickets is not None:
        yield (
            "tickets",
            facts.counts.tickets >= level.tickets,
            f"at least {level.tickets}",
            plural(facts.counts.tickets, "ticket"),
            f"podctl run SCENARIO --sample {level.tickets}",
        )
    if level.stratum_tickets is not None:
        few = [f"{name} {one.tickets}" for name, one in facts.strata.items() if one.tickets < level.stratum_tickets]
        yield (
            "stratum_tickets",
            not few and bool(facts.strata),
            f"at least {level.stratum_tickets} in each of {plural(len(facts.strata), 'stratum', 'strata')}",
            f"too few in {', '.join(few[:5])}{' and others' if len(few) > 5 else ''}" if few else "enough in each",
            "podctl run SCENARIO with sample: {design: equal}, or a larger one",
        )
    for name in level.strata:
        there = name in facts.strata and facts.strata[name].tickets > 0
        yield (
            f"strata.{name}",
            there,
            "in the sample",
            "in it" if there else "not in it",
            "podctl tickets SCENARIO shows the strata",
        )
    if level.repeats is not None:
        yield (
            "repeats",
            facts.counts.repeats >= level.repeats,
            f"at least {level.repeats}",
            str(facts.counts.repeats),
            f"podctl run SCENARIO --repeats {level.repeats}",
        )


def _likeness(level: Level, case: Case) -> Iterator[_One]:
    found = case.certificate.facts.fidelity
    todo = "docs/fidelity.md says what raises it"
    if level.fidelity is not None:
        yield "fidelity", _reaches(found.score, level.fidelity), f"at least {level.fidelity}", _score(found.score), todo
    for name, least in level.fidelity_parts.items():
        part = found.parts.get(name)
        yield f"fidelity_parts.{name}", _reaches(part, least), f"at least {least}", _score(part), todo


def _reaches(score: float | None, least: float) -> bool:
    return score is not None and score >= least


def _score(score: float | None) -> str:
    return "nobody can tell" if score is None else f"{score:.2f}"


def _isolation(level: Level, case: Case) -> Iterator[_One]:
    found = case.certificate.facts.isolation
    if level.backends:
        wanted = " or ".join(level.backends)
        yield (
            "backends",
            found.backend in level.backends,
            wanted,
            found.backend,
            f"podctl run SCENARIO --backend {level.backends[0]}",
        )
    for name in level.controls:
        state = found.controls.get(name, "not known")
        todo = "podctl doctor --escape" if name == "escape suite" else "podctl doctor says what to type"
        yield (
            f"controls.{name}",
            state == "yes",
            "in effect",
            "in effect" if state == "yes" else state,
            f"{todo}, then run it again",
        )


def _boundary(level: Level, case: Case) -> Iterator[_One]:
    certificate = case.certificate
    if level.boundaries:
        digest = certificate.digests.get("boundary", "none")
        wanted = " or ".join(f"{one[:12]}…" for one in level.boundaries)
        yield "boundaries", digest in level.boundaries, wanted, f"{digest[:12]}…", "run it under one of these boundaries"
    if level.boundary_attempts is not None:
        count = certificate.facts.counts.boundaryAttempts
        yield (
            "boundary_attempts",
            count <= level.boundary_attempts,
            f"at most {level.boundary_attempts}",
            plural(count, "attempt"),
            f"podctl describe {certificate.facts.run} tells what was tried",
        )


#: What makes the campaigns that podctl brings.
_CAMPAIGNS = {"attack": "podctl attack SCENARIO", "chaos": "podctl chaos SCENARIO"}
_WITH_IT = ", then podctl certify RUN --campaign THAT-RUN"


def _campaigns(level: Level, case: Case) -> Iterator[_One]:
    for name in level.campaigns:
        found = case.certificate.facts.campaigns.get(name, "")
        todo = _CAMPAIGNS.get(name, f"podctl attack SCENARIO --file FILE, an attack called {name}") + _WITH_IT
        yield f"campaigns.{name}", found == "pass", "passed", found or "not made", todo


def _age(level: Level, case: Case) -> Iterator[_One]:
    if level.max_age is not None:
        age = max(0.0, case.now_s - case.certificate.ended_s)
        yield (
            "max_age",
            age <= level.max_age,
            f"at most {age_text(level.max_age)}",
            f"{age_text(age)} since the run ended",
            _AGAIN,
        )


def _approvals(level: Level, case: Case) -> Iterator[_One]:
    if level.approvals is None:
        return
    certificate = case.certificate
    approved: dict[str, str] = {}
    for said in case.said:
        promotion = said.content
        if not isinstance(promotion, Promotion) or said.agent != certificate.agent.digest:
            continue
        if (promotion.ladder, promotion.level) != (case.ladder.name, level.name):
            continue
        reason = (
            "it is of another certificate" if promotion.certificate != certificate.digest else case.why_not(promotion.by, said)
        )
        if level.approvals.by and promotion.by not in level.approvals.by:
            reason = f"{promotion.by} may not approve this level"
        if approved.get(promotion.by) != "":
            approved[promotion.by] = reason
    by = [name for name, reason in approved.items() if not reason]
    refused = [f"{name}'s does not count: {reason}" for name, reason in approved.items() if reason]
    found = ", ".join(["by " + ", ".join(by) if by else "none", *refused])
    named = ", ".join(level.approvals.by or case.ladder.people)
    todo = f"podctl promote {certificate.agent.name} --to {level.name} --by NAME, one of {named}"
    if not named:
        todo = "no ladder of yours names people who may: podctl trust --print-ladder >ladder.yaml, add `people`, and name it with --policy"
    yield "approvals", len(by) >= level.approvals.count, f"by {plural(level.approvals.count, 'person', 'people')}", found, todo


_RULES: Sequence[Callable[[Level, Case], Iterator[_One]]] = (
    _verdict,
    _gate,
    _sample,
    _likeness,
    _isolation,
    _boundary,
    _campaigns,
    _age,
    _approvals,
)
