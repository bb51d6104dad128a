"""Whether a certificate is enough for what is about to happen: one line a requirement. PURE: no network, no clock, no files.

The signature comes first: of what nobody who is trusted signed, not a word is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from podctl.evidence.safe import printable
from podctl.signing import PublicKey
from podctl.spec.ladder import Ladder
from podctl.stats.units import plural
from podctl.trust.certificate import Certificate, read_certificate
from podctl.trust.documents import NotTrusted
from podctl.trust.dsse import open_envelope
from podctl.trust.judging import Case, Met, judge
from podctl.trust.moments import SKEW_S, age_text, moment, seconds_of
from podctl.trust.records import Revocations, Said, read_record, read_revocations

State = Literal["ok", "missing", "waived", "not asked"]


@dataclass(frozen=True)
class Line:
    name: str
    state: State
    detail: str
    todo: str = ""


@dataclass(frozen=True)
class Asked:
    """What a pipeline requires. Digests are sha256 in hex; ages in seconds; empty and None: not asked.

    ``keys``: whose signature counts, one is enough. ``people``: of the ladder, with their keys. ``records`` and ``revocations``: files'
    contents by the name that messages call them.
    """

    keys: Sequence[PublicKey]
    agent: str
    now_s: float
    level: str = ""
    ladder: Ladder | None = None
    people: Mapping[str, PublicKey] = field(default_factory=dict)
    max_age_s: float | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, bytes] = field(default_factory=dict)
    revocations: tuple[str, bytes] | None = None
    max_list_age_s: float | None = None

    @property
    def shortest_age_s(self) -> float | None:
        """How long after the run's end the certificate stops being enough; None: never."""
        steps = self.ladder.up_to(self.level) if self.ladder is not None and self.level else ()
        ages = [self.max_age_s, *(step.max_age for step in steps)]
        return min((age for age in ages if age is not None), default=None)


@dataclass(frozen=True)
class Answer:
    """``certificate`` is None when it could not be accepted as one."""

    lines: tuple[Line, ...]
    certificate: Certificate | None

    @property
    def missing(self) -> list[Line]:
        return [line for line in self.lines if line.state == "missing"]


def verify(data: bytes, name: str, asked: Asked) -> Answer:
    """``name`` is what messages call the certificate. Never raises for anything that stands in ``data``."""
    try:
        envelope = open_envelope(data, name)
    except NotTrusted as refused:
        return Answer((_line("format", False, _because(refused)),), None)
    signers = tuple(envelope.signers(asked.keys))
    named = ", ".join(printable(one, 40) for one, _ in envelope.signatures if one) or "no name"
    if not signers:
        said = f"by none of the {len(asked.keys)} keys that were named; its signatures are called {named}"
        return Answer((_line("signature", False, said, "podctl verify --key PUBLIC-KEY, of who certifies"),), None)
    signature = _line("signature", True, f"by key {' and '.join(key.id for key in signers)}")
    try:
        certificate = read_certificate(envelope, name)
    except NotTrusted as refused:
        return Answer((signature, _line("format", False, _because(refused))), None)
    revoked, list_line = _revocations(asked)
    lines = [
        signature,
        *_identity(certificate, asked),
        *_moments(certificate, asked),
        *_digests(certificate, asked),
        list_line,
        *_revoked(certificate, signers, revoked),
    ]
    if asked.ladder is not None and asked.level:
        records, not_accepted = read_records(asked.records, list(asked.people.values()))
        lines += not_accepted
        case = Case(certificate, signers, asked.ladder, asked.people, asked.now_s, records, revoked)
        lines += [_of_level(met) for level in asked.ladder.up_to(asked.level) for met in judge(level, case)]
    else:
        passed = certificate.result == "PASSED"
        why = "; ".join(caveat.text for caveat in certificate.facts.caveats)
        lines.append(_line("result", passed, certificate.result + ("" if passed or not why else f": {printable(why, 300)}")))
    return Answer(tuple(lines), certificate)


def read_records(records: Mapping[str, bytes], people: Sequence[PublicKey]) -> tuple[tuple[Said, ...], list[Line]]:
    """What people of the ladder said, and a line for each record that is not accepted: it counts for nothing."""
    said, lines = [], []
    for name, data in records.items():
        try:
            said.append(read_record(open_envelope(data, name), people, name))
        except NotTrusted as refused:
            lines.append(_line(f"record {printable(name, 60)}", False, _because(refused)))
    return tuple(said), lines


def _line(name: str, ok: bool, detail: str, todo: str = "") -> Line:
    return Line(name, "ok" if ok else "missing", detail, "" if ok else todo)


def _because(refused: NotTrusted) -> str:
    return printable(refused.cause or refused.what, 300)


def _identity(certificate: Certificate, asked: Asked) -> Iterator[Line]:
    agent = certificate.agent
    same = agent.digest == asked.agent
    said = f"{agent.name} {agent.version}, {agent.digest[:12]}…"
    detail = said if same else f"it certifies {said}, and this is {asked.agent[:12]}…"
    yield _line("agent", same, detail, "certify a run of what is about to be deployed: podctl run SCENARIO --agent AGENT")


def _moments(certificate: Certificate, asked: Asked) -> Iterator[Line]:
    facts = certificate.facts
    latest = max(seconds_of(facts.certified), certificate.ended_s)
    if latest > asked.now_s + SKEW_S:
        yield _line(
            "dates", False, f"it was certified {facts.certified}, and here it is {moment(asked.now_s)}", "look at both clocks"
        )
    age = max(0.0, asked.now_s - certificate.ended_s)
    said = f"the run ended {facts.ended}, {age_text(age)} ago"
    if asked.max_age_s is None:
        yield Line("freshness", "not asked", said)
        return
    fresh = age <= asked.max_age_s
    yield _line(
        "freshness",
        fresh,
        said + ("" if fresh else f"; at most {age_text(asked.max_age_s)} is asked"),
        "run it again, and certify",
    )


def _digests(certificate: Certificate, asked: Asked) -> Iterator[Line]:
    for name, wanted in asked.digests.items():
        found = certificate.digests.get(name, "")
        told = f"{found[:12]}…" if found else "none"
        yield _line(
            name,
            found == wanted,
            told if found == wanted else f"{told}, and {wanted[:12]}… is asked",
            f"run it with that {name}",
        )


def _revocations(asked: Asked) -> tuple[Revocations | None, Line]:
    demanded = asked.max_list_age_s is not None
    if asked.revocations is None:
        if demanded:
            return None, _line("revocations", False, "no list was named", "--revoked FILE, as podctl revoke writes it")
        return None, Line("revocations", "not asked", "no list was named")
    name, data = asked.revocations
    try:
        found = read_revocations(data, [*asked.keys, *asked.people.values()], name)
    except NotTrusted as refused:
        return None, _line("revocations", False, _because(refused), "fetch the list anew")
    issued, age = seconds_of(found.issued), max(0.0, asked.now_s - seconds_of(found.issued))
    said = f"a list of {found.issued}, {age_text(age)} old, with {plural(len(found.entries), 'entry', 'entries')}"
    if issued > asked.now_s + SKEW_S:
        return found, _line("revocations", False, f"{said}: it is of a moment that has not come", "look at the clock")
    fresh = asked.max_list_age_s is None or age <= asked.max_list_age_s
    if not fresh and asked.max_list_age_s is not None:
        said += f"; at most {age_text(asked.max_list_age_s)} is asked"
    return found, _line("revocations", fresh, said, "fetch the list anew; podctl revoke --renew states it again as of now")


def _revoked(certificate: Certificate, signers: Sequence[PublicKey], revoked: Revocations | None) -> Iterator[Line]:
    if revoked is None:
        return
    found = [revoked.find("certificate", certificate.digest), revoked.find("agent", certificate.agent.digest)]
    keys = [revoked.find("key", key.id) for key in signers]
    if all(keys):  # another key that is still good has signed it too, otherwise
        found += keys
    entries = [one for one in found if one is not None]
    for one in entries:
        told = f"this {one.kind if one.kind != 'key' else f'signature, of key {one.id},'} was revoked {one.at}: {printable(one.reason)}"
        yield _line("not revoked", False, told)
    if not entries:
        yield _line("not revoked", True, "neither the certificate nor its agent nor its key")


def _of_level(met: Met) -> Line:
    name = f"{met.level}: {met.demand}"
    if met.waived:
        return Line(name, "waived", printable(f"{met.found}, {met.required} is asked; {met.waived}", 400))
    detail = met.found if met.ok else f"{met.found}; asked: {met.required}"
    return _line(name, met.ok, printable(detail, 400), met.todo)
