"""What is known in one place of agents: certificates that are trusted, what people said that counts, what is revoked, and the ladder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from podctl.errors import SpecError
from podctl.evidence.safe import printable
from podctl.signing import PublicKey
from podctl.spec.ladder import Ladder
from podctl.spec.problems import shown
from podctl.trust.certificate import Certificate, read_certificate
from podctl.trust.documents import NotTrusted
from podctl.trust.dsse import open_envelope
from podctl.trust.judging import Case, Met, judge, reached
from podctl.trust.keeping import known_level, load_ladder, read_file
from podctl.trust.records import Revocations, Said, read_revocations
from podctl.trust.verifying import read_records


@dataclass(frozen=True)
class Desk:
    """``found``: certificates with those of the trusted keys that signed them; ``left_out``: a line for each file that is not trusted."""

    ladder: Ladder
    people: dict[str, PublicKey]
    now_s: float
    found: tuple[tuple[Certificate, tuple[PublicKey, ...]], ...]
    said: tuple[Said, ...]
    revoked: Revocations | None
    left_out: tuple[str, ...]

    def newest_of(self, name: str) -> str | None:
        """The digest of the agent of that name whose run ended last."""
        named = [one for one, _ in self.found if one.agent.name == name]
        return max(named, key=lambda one: one.ended_s).agent.digest if named else None

    def revoked_of(self, digest: str) -> list[str]:
        """A line for each thing of the agent's that is revoked."""
        if self.revoked is None:
            return []
        entries = [self.revoked.find("agent", digest)]
        for certificate, signers in self.found:
            if certificate.agent.digest == digest:
                entries.append(self.revoked.find("certificate", certificate.digest))
                entries += [self.revoked.find("key", key.id) for key in signers]
        told = (f"{one.kind} {one.id[:12]}… was revoked {one.at}: {printable(one.reason)}" for one in entries if one)
        return list(dict.fromkeys(told))

    def cases(self, digest: str) -> list[Case]:
        """The agent's certificates that are not revoked."""
        made = []
        for certificate, signers in self.found:
            good = signers if self.revoked is None else _not_revoked(certificate, signers, self.revoked)
            if certificate.agent.digest == digest and good:
                made.append(Case(certificate, good, self.ladder, self.people, self.now_s, self.said, self.revoked))
        return made

    def best(self, digest: str) -> tuple[Case, str, list[Met]] | None:
        """By the certificate that reaches highest, then lacks fewest of the next level's demands, then is newest: it, that level, those demands."""
        names = ["", *(level.name for level in self.ladder.levels)]
        judged = [(case, *reached(self.ladder, case)) for case in self.cases(digest)]
        order = [
            (names.index(level), -sum(not one.holds for one in met), case.certificate.ended_s) for case, level, met in judged
        ]
        return judged[order.index(max(order))] if judged else None

    def case_for(self, digest: str, level: str) -> Case:
        """The certificate that lacks fewest of the demands up to ``level``. Raises `SpecError` when there is none, and for an unknown level."""
        known_level(self.ladder, level)
        cases = self.cases(digest)
        if not cases:
            raise SpecError(
                f"agent {digest[:12]}… has no certificate that counts here",
                code="not-certified",
                unchanged="nothing was written",
                hint="podctl certify RUN; and --trusted PUBLIC-KEY, of who certified",
            )
        return min(cases, key=lambda case: (len(self.lacking(case, level)), -case.certificate.ended_s))

    def lacking(self, case: Case, level: str) -> list[Met]:
        """What does not hold of all that is demanded up to ``level``."""
        return [one for step in self.ladder.up_to(level) for one in judge(step, case) if not one.holds]


def open_desk(
    ladder: Path | None,
    keys: Sequence[PublicKey],
    now_s: float,
    *,
    certificates: Iterable[Path],
    records: Iterable[Path],
    revoked: Path | None,
) -> Desk:
    """``keys``: of who certifies. Raises `SpecError` for a ladder or a file that cannot be read, `NotTrusted` for a list of revocations by nobody who may."""
    own, people = load_ladder(ladder)
    found, left_out = [], []
    for path in certificates:
        try:
            found.append(_certificate(path, keys))
        except NotTrusted as refused:
            left_out.append(f"{refused.what}: {refused.cause}")
    said, lines = read_records({shown(path): read_file(path, "record") for path in records}, list(people.values()))
    left_out += [f"{line.name}: {line.detail}" for line in lines]
    listed = None if revoked is None else _revocations(revoked, [*keys, *people.values()])
    return Desk(own, people, now_s, tuple(found), said, listed, tuple(left_out))


def _certificate(path: Path, keys: Sequence[PublicKey]) -> tuple[Certificate, tuple[PublicKey, ...]]:
    name = shown(path)
    envelope = open_envelope(read_file(path, "certificate"), name)
    signers = tuple(envelope.signers(keys))
    if not signers:
        raise NotTrusted(
            f"{name} is refused", code="not-signed", cause="it is signed by none of the keys that are trusted here"
        )
    return read_certificate(envelope, name), signers


def _revocations(path: Path, may: Sequence[PublicKey]) -> Revocations:
    name = shown(path)
    try:
        return read_revocations(read_file(path, "list of revocations"), may, name)
    except NotTrusted as refused:
        refused.hint = "name who may revoke: another public key, or with --policy the ladder whose people did"
        raise


def _not_revoked(certificate: Certificate, signers: tuple[PublicKey, ...], revoked: Revocations) -> tuple[PublicKey, ...]:
    if revoked.find("certificate", certificate.digest) or revoked.find("agent", certificate.agent.digest):
        return ()
    return tuple(key for key in signers if revoked.find("key", key.id) is None)
