"""The questions of a security team and what a run says to each. PURE: in podctl's words, never in an agent's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from podctl.evidence.results import AttemptResult
from podctl.evidence.safe import printable
from podctl.review.facts import Facts
from podctl.stats.attack import summarize_attack
from podctl.stats.summary import rate_of
from podctl.stats.units import interval_text, percent, plural
from podctl.trust.records import Promotion

State = Literal["answered", "partly", "missing"]
_LISTED = 30


@dataclass(frozen=True)
class Answer:
    """``lines``: what is known; ``missing``: what is not, each with what would tell. ``command`` shows it again; ``shown_by``: what -> sha256."""

    name: str
    question: str
    lines: tuple[str, ...]
    missing: tuple[str, ...]
    command: str
    shown_by: tuple[tuple[str, str], ...] = ()

    @property
    def state(self) -> State:
        if not self.missing:
            return "answered"
        return "partly" if self.lines else "missing"


def answers(facts: Facts) -> list[Answer]:
    """One for each question, in the order in which they are asked; what is not known stands among them as missing."""
    run = facts.run.info.id
    agent = facts.run.info.agent_digest
    log = (("audit log, root", facts.log.root.hex()),)
    return [
        _answer("approved", "Who approved this agent?", _approved(facts), f"podctl trust {agent}", _certificate(facts)),
        _answer(
            "asked", "What did it ask people for, and what did they answer?", _approvals(facts), "podctl approvals list", log
        ),
        _answer("started", "Who ran this, when, and with what?", _started(facts), f"podctl audit show {run}", log),
        _answer("why", "Why did it do what it did?", _why(facts), f"podctl trace {run} TICKET --layer reasoning", ()),
        _answer("traced", "Can it be traced?", _traced(facts), f"podctl audit verify {run}", log),
        _answer(
            "access", "What can it access?", _access(facts), "podctl boundary explain BOUNDARY", _digest(facts, "boundary")
        ),
        _answer(
            "beyond", "What did it try beyond that?", _beyond(facts), f"podctl trace {run} TICKET --kind boundary.attempt", log
        ),
        _answer("misbehaves", "What if it misbehaves?", _misbehaves(facts), f"podctl undo {run}", _digest(facts, "scenario")),
        _answer(
            "where",
            "Where does its code run, and what did the checks of isolation say?",
            _where(facts),
            "podctl doctor --escape",
            (),
        ),
        _answer("data", "Which data did it see?", _data(facts), "podctl data verify SEED", _digest(facts, "topology")),
        _answer("made", "What is it made of?", _made(facts), "podctl validate AGENT --resolved", (("agent", agent),)),
        _answer(
            "tried",
            "What was it tried on, and how did it do?",
            _tried(facts),
            f"podctl describe run {run}",
            _digest(facts, "sample"),
        ),
    ]


Said = Iterator[tuple[str, bool]]


def _answer(name: str, question: str, said: Said, command: str, shown_by: tuple[tuple[str, str], ...]) -> Answer:
    each = list(said)
    return Answer(
        name,
        question,
        tuple(text for text, known in each if known),
        tuple(text for text, known in each if not known),
        command,
        tuple((what, digest) for what, digest in shown_by if digest),
    )


def _certificate(facts: Facts) -> tuple[tuple[str, str], ...]:
    return () if facts.certificate is None else (("certificate", facts.certificate.digest),)


def _digest(facts: Facts, part: str) -> tuple[tuple[str, str], ...]:
    known = {**facts.run.info.digests, "sample": facts.run.info.sample_digest}
    return ((part, known.get(part, "")),)


def _approved(facts: Facts) -> Said:
    certificate = facts.certificate
    if certificate is None:
        yield f"this run has no certificate: podctl certify {facts.run.info.id}", False
    else:
        said = certificate.facts
        yield f"certified {certificate.result} on {said.certified} by {printable(said.certifiedBy, 80)}", True
        for caveat in said.caveats:
            yield f"the certificate's caveat {caveat.code}: {printable(caveat.text, 300)}", True
    promoted = [one for one in facts.said if isinstance(one.content, Promotion)]
    for one in facts.said:
        content = one.content
        if isinstance(content, Promotion):
            yield (
                f"{content.by} promoted this agent digest to {content.level} of the ladder {content.ladder}, {content.at}",
                True,
            )
        else:
            until = f"until {content.until}, {content.at}: {printable(content.reason, 200)}"
            yield f"{content.owner} waived {content.demand} of {content.level} {until}", True
    if not promoted:
        yield "nobody promoted this agent digest to a level of trust: podctl promote", False


def _approvals(facts: Facts) -> Said:
    counts = [one.approvals for one in facts.run.attempts if one.approvals is not None]
    if not counts:
        yield "nothing it did was to be approved by anybody: in this run nobody is asked", True
        return
    total = {
        name: sum(getattr(one, name) for one in counts) for name in ("proposed", "approved", "denied", "timed_out", "simulated")
    }
    yield (
        f"{plural(total['proposed'], 'action')} proposed to people: {total['approved']} approved, {total['denied']} denied, {total['timed_out']} not answered in time",
        True,
    )
    if total["simulated"]:
        yield (
            f"{plural(total['simulated'], 'answer')} came from a rule or a script: what people would have answered, this run does not say",
            False,
        )


def _started(facts: Facts) -> Said:
    info = facts.run.info
    begun = next((one for one in facts.entries if one["kind"] in ("run.begun", "run.merged")), None)
    if begun is None:
        yield "the audit log does not say who began the run: it is older than the log", False
    else:
        yield f"run {info.id} was begun by {printable(str(begun['by']), 120)}", True
    yield f"agent {printable(info.agent_name, 60)} {printable(info.agent_version, 60)}, sha256 {info.agent_digest}", True
    yield f"scenario {printable(info.scenario, 60)}, podctl {printable(info.podctl_version, 30)}", True
    if info.revision:
        yield f"git revision {info.revision}{', and files differed from it' if info.dirty else ''}", True
    else:
        yield "no git revision is known of the files it was run from", False
    for name, digest in sorted(info.digests.items()):
        yield f"{name} sha256 {digest}", True
    if info.resumed:
        yield "the run was cut off, and gone on with", True


def _why(facts: Facts) -> Said:
    made = len(facts.run.attempts)
    calls = sum(one.model_calls for one in facts.run.attempts)
    if facts.reasons:
        yield (
            f"{facts.reasons} of {plural(made, 'attempt')} declared decisions; these are the agent's own words, and nobody can prove them",
            True,
        )
    if facts.reasons < made:
        yield f"{made - facts.reasons} of {plural(made, 'attempt')} declared no decision: only what they did is known", False
    yield f"{calls:,} model calls are recorded with what was asked and answered", True
    if facts.run.info.simulated or any(one.simulated for one in facts.run.attempts):
        yield "the model's answers came from a script: nothing says how the agent decides with a model", False


def _traced(facts: Facts) -> Said:
    attempts = facts.run_check.attempts
    whole = sum(not one.problems for one in attempts)
    yield f"{whole} of {plural(len(attempts), 'attempt')} are as they were sealed", True
    for problem in [*facts.run_check.problems, *(f"{one.id}: {problem}" for one in attempts for problem in one.problems)][
        :_LISTED
    ]:
        yield f"not as it was: {printable(problem, 300)}", False
    yield f"audit log: {facts.log.size:,} entries; {facts.log.words}", facts.log.signer is not None
    for problem in facts.log.problems[:_LISTED]:
        yield f"audit log: {printable(problem, 300)}", False
    recorded = [one for one in facts.run.attempts if one.processes is not None]
    if recorded:
        yield f"processes are recorded in {len(recorded)} of {plural(len(facts.run.attempts), 'attempt')}", True
    if len(recorded) < len(facts.run.attempts):
        yield f"in {len(facts.run.attempts) - len(recorded)} attempts no processes were recorded", False
    yield "each record of what it did has its SPIFFE id, digest, attempt, boundary and role", True


def _access(facts: Facts) -> Said:
    if not facts.boundary:
        yield "the run did not keep its boundary: it is older than that", False
        return
    for database, tables in sorted(_mapping(facts.boundary.get("databases")).items()):
        for table, rule in sorted(_mapping(tables).items()):
            yield f"{database}.{table}: {_rights(rule)}", True
    for service, routes in sorted(_mapping(facts.boundary.get("services")).items()):
        listed = routes.items() if isinstance(routes, Mapping) else [("everything", routes)]
        for route, level in listed:
            yield f"{service} {route}: {level}", True
    for server, tools in sorted(_mapping(facts.boundary.get("tools")).items()):
        for tool, level in sorted(_mapping(tools).items()):
            yield f"tool {server}.{tool}: {level}", True
    for resource, verbs in sorted(_mapping(facts.boundary.get("infrastructure")).items()):
        yield (
            f"infrastructure {resource}: {', '.join(f'{verb} {level}' for verb, level in sorted(_mapping(verbs).items()))}",
            True,
        )
    yield "everything else is human-only: databases refuse it, and the gateway does", True
    yield "its network has no route but to the doors of its own pod", True


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _rights(rule: Any) -> str:
    if not isinstance(rule, Mapping):
        return str(rule)
    said = []
    for verb in ("read", "insert", "update", "delete"):
        allowed = rule.get(verb)
        if allowed is True:
            said.append(verb)
        elif isinstance(allowed, list | tuple) and allowed:
            said.append(f"{verb} of {', '.join(map(str, allowed))}")
    proposed = [verb for verb, allowed in _mapping(rule.get("recommend")).items() if allowed]
    said += [f"proposes {', '.join(proposed)}"] if proposed else []
    return "; ".join(said) or "nothing"


def _beyond(facts: Facts) -> Said:
    attempts = facts.run.attempts
    tried = Counter[tuple[str, str]]()
    for attempt in attempts:
        for one in attempt.tried:
            tried[printable(one.rule, 80) or "no rule lists it", one.level] += one.count
    crossing = sum(one.boundary_attempts > 0 for one in attempts)
    yield f"{crossing} of {plural(len(attempts), 'attempt')} tried to cross the boundary, and were refused", True
    for (rule, level), count in tried.most_common(_LISTED):
        yield f"{count:,} times refused by {rule} ({level})", True
    planted = [one for one in attempts if one.honeytokens is not None]
    if planted:
        out = sum(bool(one.honeytokens) for one in planted)
        yield f"honeytokens were planted in {plural(len(planted), 'attempt')}; {out} may have let one out", True
    else:
        yield "no honeytoken was planted: whether it lets a secret out was not tried (docs/honeytokens.md)", False
    scans = [one.scan for one in attempts if one.scan is not None]
    found = sum((Counter(one.counts) for one in scans), Counter[str]())
    if scans:
        told = ", ".join(f"{count} {severity}" for severity, count in sorted(found.items())) or "nothing"
        yield f"what {plural(len(scans), 'attempt')} left behind was scanned: {told}", True
    else:
        yield "what it leaves behind was not scanned (docs/scans.md)", False


def _misbehaves(facts: Facts) -> Said:
    info = facts.run.info
    limits = _mapping(info.settings.get("limits"))
    if limits:
        yield (
            "an attempt is ended at: "
            + ", ".join(f"{name} {printable(str(value), 30)}" for name, value in sorted(limits.items())),
            True,
        )
    else:
        yield "the run did not keep its limits", False
    if facts.changed:
        yield (
            f"the row changes of {facts.undoable} of {plural(facts.changed, 'attempt')} that changed rows can be taken back whole",
            True,
        )
    else:
        yield "no attempt changed a row", True
    if facts.undoable < facts.changed:
        yield f"those of {facts.changed - facts.undoable} attempts cannot: podctl undo says what", False
    yield (
        "a certificate, an agent digest or a key is revoked by podctl revoke; podctl verify then refuses it where the list is asked for",
        True,
    )
    attack = summarize_attack(facts.run)
    campaigns = {} if facts.certificate is None else facts.certificate.facts.campaigns
    if attack is not None:
        harmed = attack.success.harmed
        between = "" if harmed.interval is None else f" ({interval_text(harmed.interval)})"
        yield f"attacked with planted instructions: {harmed.count} of {harmed.of} judged attempts did harm{between}", True
    for name, verdict in sorted(campaigns.items()):
        yield f"campaign {name}: {verdict}", verdict == "pass"
    if attack is None and not campaigns:
        yield "nobody tried what planted instructions and failures make of it: podctl attack, podctl chaos", False


_BYTES = ("disk", "memory", "output")
_SECONDS = ("wall", "run_wall")


def _limit(name: str, value: Any) -> str:
    shown = name.replace("_", " ")
    if name in _BYTES and isinstance(value, int):
        return f"{shown} {value / 2**20:g} MiB"
    unit = " s" if name in _SECONDS else ""
    return f"{shown} {printable(str(value), 30)}{unit}"


def _where(facts: Facts) -> Said:
    info = facts.run.info
    yield f"backend {info.backend}: {printable(info.isolation, 400)}", True
    if not info.controls:
        yield "which controls of isolation were in effect was not kept", False
    held = sorted(name for name, state in info.controls.items() if state == "yes")
    if held:
        yield f"in full effect as the run began: {', '.join(held)}", True
    for name, state in sorted(info.controls.items()):
        if state != "yes":
            yield f"{name} was {'only partly' if state == 'partly' else 'not'} in effect", False
    if facts.escape is None:
        yield (
            "the escape suite has no result that holds for this backend on this machine as it is now: podctl doctor --escape",
            False,
        )
        return
    counts = Counter(one.state for one in facts.escape)
    yield (
        f"escape suite of {facts.escape_day}, on the machine that wrote this: "
        + ", ".join(f"{count} {state}" for state, count in sorted(counts.items())),
        True,
    )
    for one in facts.escape:
        if one.state in ("FAIL", "INCONCLUSIVE", "LIMITATION"):
            yield f"{one.name} {one.state}: an agent should not be able to {one.cannot}", False


def _data(facts: Facts) -> Said:
    if facts.seeds is None:
        yield f"what databases were filled with cannot be looked at: {facts.why}", False
        yield from (_stated(f"{name}:", one) for name, one in facts.said_of_seeds.items())
        return
    for seed in facts.seeds:
        if seed.stated and (said := facts.said_of_seeds.get(seed.database)):
            yield _stated(f"{seed.database}: {seed.source},", said)
        elif seed.masked and not seed.problem:
            yield f"{seed.database}: {seed.source}, {seed.masked}", True
        else:
            yield f"{seed.database}: {seed.source}; {seed.problem or 'nobody has stated whether these are real data'}", False
    if not facts.seeds:
        yield "it has no database", True


_ARE = {
    "synthetic": "made up",
    "masked": "production's, with what identifies people replaced",
    "real": "production's as they are, not masked",
}


def _stated(what: str, said: Mapping[str, str]) -> tuple[str, bool]:
    """In the topology's words. That rows are real is no answer that anybody can leave it at."""
    are = _ARE.get(said.get("are", ""), "unknown")
    by, file, reason = (printable(said.get(name, ""), most) for name, most in (("by", 100), ("file", 300), ("reason", 500)))
    return f"{what} rows stated to be {are} (by {by}, in {file}; nothing proves it): {reason}", said.get("are") in (
        "synthetic",
        "masked",
    )


def _made(facts: Facts) -> Said:
    if facts.made is None:
        yield f"its files cannot be listed: {facts.why}", False
    else:
        size = sum(one.size for one in facts.made.files)
        yield f"{plural(len(facts.made.files), 'file')}, {size:,} bytes; each with its sha256 in sbom.json", True
        packages = [f"{one.name} {one.version}".strip() for one in facts.made.packages]
        if packages:
            more = f" and {len(packages) - _LISTED} more" if len(packages) > _LISTED else ""
            yield (
                f"packages that its files ask for, as written there: {', '.join(printable(one, 80) for one in packages[:_LISTED])}{more}",
                True,
            )
        yield "packages of the interpreter that runs it, and what those need, are not listed", False
        for path in facts.made.read_only:
            yield f"{printable(path, 200)} is bound besides, and in no digest", False
    models = sorted({use.model for one in facts.run.attempts for use in one.models or ()})
    yield "models: " + (", ".join(printable(one, 80) for one in models[:_LISTED]) or "none was called"), True


def _tried(facts: Facts) -> Said:
    run, info = facts.run, facts.run.info
    plain = [one for one in run.attempts if one.variant is None]
    rate = rate_of(plain)
    what = (
        f"suite {info.suite}: reviewed cases, and no sample"
        if info.suite
        else f"{info.sample_size:,} of {info.population_size:,} tickets"
    )
    yield f"{what}; {plural(info.repeats, 'attempt')} each", True
    between = "" if rate.interval is None else f", 95 % interval {interval_text(rate.interval)}"
    share = (
        "no attempt counts" if rate.share is None else f"{percent(rate.share)} passed ({rate.passed:,} of {rate.of:,}{between})"
    )
    yield share, rate.share is not None
    yield f"status {run.status}, verdict {run.verdict}", run.status == "finished" and run.verdict != "inconclusive"
    for one in run.findings:
        yield (
            f"{one.name}: {one.verdict}, measured {printable(one.measured, 80)}, required {printable(one.required, 80)}",
            one.verdict != "inconclusive",
        )
    lost = _lost(run.attempts)
    if lost:
        yield f"{plural(lost, 'attempt')} were lost by no fault of the agent", False
    for part in info.fidelity:
        score = "not known" if part.score is None else percent(part.score)
        yield f"test pods were like production in {printable(part.name, 60)}: {score}", part.score is not None
    if info.quarantine:
        yield f"{plural(len(info.quarantine), 'ticket')} of the sample do not count: quarantine", True


def _lost(attempts: tuple[AttemptResult, ...]) -> int:
    return sum(not one.cause.counts for one in attempts)
