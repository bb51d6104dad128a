"""A certificate, read: what an in-toto test result says of one run of one agent digest. PURE.

Of an in-toto statement more keys may be there than are known here, and they are skipped; what is known must be right, and must not
contradict itself. Whether anybody who is trusted signed it is another question (`podctl.trust.verifying`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from podctl.spec.models import Gate
from podctl.trust.documents import read_object, refusal
from podctl.trust.dsse import IN_TOTO, Envelope
from podctl.trust.moments import Moment, seconds_of

STATEMENT = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
#: Where in-toto's predicate is extended: what a deploy gate asks for and test-result has no word for.
FACTS = "https://podctl.dev/certificate/v1"

Text = Annotated[str, Field(max_length=2000)]
Short = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: ASCII alone: what looks like another agent's name is none.
AgentName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,63}$")]
Part = Annotated[float, Field(ge=0, le=1)]
M = TypeVar("M", bound=BaseModel)


class Loose(BaseModel):
    """Keys that are not known are skipped, as in-toto asks of who reads its statements."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Subject(Loose):
    name: Short
    digest: dict[Short, Short]


class Descriptor(Loose):
    name: Short = ""
    digest: dict[Short, Short] = Field(default_factory=dict)


class CertifiedAgent(Loose):
    name: AgentName
    version: Version
    digest: Sha256


class Caveat(Loose):
    """Why a run shows less than it seems to. ``code`` is a stable name."""

    code: Annotated[str, Field(pattern=r"^[a-z-]{1,40}$")]
    text: Text


class Finding(Loose):
    name: Short
    verdict: Literal["pass", "fail", "inconclusive"]
    measured: Text
    required: Text
    message: Text = ""
    chance: Part | None = None
    detectable: float | None = None


class Counts(Loose):
    """``tickets`` to ``of`` are over what counts: neither in quarantine nor ended by infrastructure."""

    tickets: Count
    passed: Count
    of: Count
    attempts: Count
    infrastructure: Count
    notRun: Count
    boundaryAttempts: Count
    boundaryViolating: Count
    quarantined: Count
    retried: Count
    repeats: Count


class PassRate(Loose):
    """With its 95 % interval. ``weighed`` by what tickets stand for in the population, where the sample is not in proportion to it."""

    share: Part | None
    low: Part | None = None
    high: Part | None = None
    weighed: bool = False


class Stratum(Loose):
    tickets: Count
    population: Count
    passed: Count
    of: Count


class Fidelity(Loose):
    score: Part | None
    parts: dict[Short, Part | None]


class Isolation(Loose):
    backend: Short
    described: Text
    controls: dict[Short, Short]


class Audit(Loose):
    """``root`` binds every attempt's evidence; ``checkpoint`` is the signed head of the store's log, where there is one."""

    root: Sha256
    attempts: Count
    checkpoint: Text = ""


class Facts(Loose):
    agent: CertifiedAgent
    run: Short
    scenario: Short
    topology: Short
    podctl: Short
    started: Moment
    ended: Moment
    certified: Moment
    status: Literal["finished", "interrupted"]
    verdict: Literal["pass", "fail", "inconclusive"]
    caveats: Annotated[tuple[Caveat, ...], Field(max_length=50)] = ()
    simulated: bool
    modelMode: Short
    models: Annotated[tuple[Short, ...], Field(max_length=1000)] = ()
    gate: dict[Short, Any]
    findings: Annotated[tuple[Finding, ...], Field(max_length=200)]
    counts: Counts
    passRate: PassRate
    strata: dict[Text, Stratum]
    fidelity: Fidelity
    isolation: Isolation
    audit: Audit
    campaigns: dict[Short, Literal["pass", "fail", "inconclusive"]] = Field(default_factory=dict)
    campaignsEnded: Moment | None = None  # the first of them
    startedBy: Short = ""
    certifiedBy: Short = ""
    revision: Short = ""
    labels: dict[Short, Text] = Field(default_factory=dict)


class TestResult(Loose):
    __test__ = False  # pytest takes it for a test

    result: Literal["PASSED", "WARNED", "FAILED"]
    configuration: Annotated[tuple[Descriptor, ...], Field(max_length=50)]
    passedTests: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    warnedTests: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    failedTests: Annotated[tuple[Text, ...], Field(max_length=1000)] = ()
    facts: Facts = Field(alias=FACTS)


class Statement(Loose):
    type_: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=1)]
    predicateType: Literal["https://in-toto.io/attestation/test-result/v0.1"]
    predicate: TestResult


@dataclass(frozen=True)
class Certificate:
    """``digest`` is sha256 of the signed statement: the certificate's own name."""

    digest: str
    result: Literal["PASSED", "WARNED", "FAILED"]
    facts: Facts
    gate: Gate
    digests: dict[str, str]  # sample, scenario, boundary, topology, evidence and what else was named -> sha256

    @property
    def ended_s(self) -> float:
        """Of what is certified the part that ended first."""
        campaigns = self.facts.campaignsEnded
        return min([seconds_of(self.facts.ended), *([] if campaigns is None else [seconds_of(campaigns)])])

    @property
    def agent(self) -> CertifiedAgent:
        return self.facts.agent


def read_certificate(envelope: Envelope, what: str) -> Certificate:
    """``what`` is what messages call it. Raises `NotTrusted`."""
    if envelope.payload_type != IN_TOTO:
        raise refusal(what, f"its payloadType is not {IN_TOTO}", "payload-type")
    statement = shaped(Statement, read_object(envelope.payload, what), what)
    predicate = statement.predicate
    wrong = next(_contradictions(statement), "")
    if wrong:
        raise refusal(what, wrong, "contradiction")
    return Certificate(
        digest=envelope.digest,
        result=predicate.result,
        facts=predicate.facts,
        gate=_gate(predicate.facts.gate, what),
        digests={one.name: one.digest["sha256"] for one in predicate.configuration if one.name and "sha256" in one.digest},
    )


def shaped(model: type[M], value: dict[str, Any], what: str) -> M:
    """Raises `NotTrusted` with the first thing that is not as it should be."""
    try:
        # JSON mode is strict about types, and yet takes lists for tuples.
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise refusal(what, f"{place or 'it'}: {first['msg']}") from None


def _contradictions(statement: Statement) -> Any:
    """What a statement of podctl's never says; whoever made this one certifies more than there is."""
    predicate, facts = statement.predicate, statement.predicate.facts
    if statement.subject[0].digest.get("sha256") != facts.agent.digest:
        yield "its subject is another agent than the one it speaks of"
    names = [one.name for one in predicate.configuration]
    if len(names) != len(set(names)):
        yield "its configuration names something twice"
    if predicate.result == "PASSED" and (facts.verdict != "pass" or facts.status != "finished" or facts.simulated):
        yield f"it says PASSED of a run that is {facts.status}{', simulated' * facts.simulated}, with the verdict {facts.verdict}"
    if facts.verdict == "fail" and predicate.result != "FAILED":
        yield f"it says {predicate.result} of a run that failed"
    if facts.verdict == "pass" and any(one.verdict != "pass" for one in facts.findings):
        yield "its verdict is pass, and one of its findings is not"
    if not seconds_of(facts.started) <= seconds_of(facts.ended) <= seconds_of(facts.certified):
        yield "it began, ended and was certified in another order"
    if facts.counts.passed > facts.counts.of:
        yield "it counts more passes than attempts"


def _gate(asked: dict[str, Any], what: str) -> Gate:
    """What the run was asked; requirements that this podctl does not know are nothing that it can hold anybody to."""
    known = {name: value for name, value in asked.items() if name in Gate.model_fields}
    try:
        return Gate.model_validate(known)
    except ValidationError:
        raise refusal(what, "its gate is none") from None


def plain_gate(gate: Gate) -> dict[str, Any]:
    """JSON's own types, amounts as text; what is not asked is left out."""
    fields = gate.model_dump(exclude_none=True)
    return {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in fields.items()}
