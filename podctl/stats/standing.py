"""How agent versions do on the cases of a suite, over time. PURE."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from podctl.evidence.results import RunInfo
from podctl.stats.summary import Ended, Rate, by_ticket, rate_of


@dataclass(frozen=True)
class CaseFacts:
    """An accepted case. ``since_ns``: when it was accepted; what was worked before was perhaps another."""

    name: str
    ticket: str
    origin: str
    since_ns: int


@dataclass(frozen=True)
class VersionStanding:
    """One agent digest. ``rate``: of the cases it worked; ``common``: of those that every version worked; ``not_worked``: accepted cases
    without an attempt that counts; ``outdated``: attempts made before their case was last accepted, which count nowhere here."""

    agent: str
    digest: str
    first_ns: int
    runs: tuple[str, ...]
    simulated: bool
    rate: Rate
    common: Rate
    origins: dict[str, Rate]
    not_worked: int
    outdated: int


@dataclass(frozen=True)
class CaseStanding:
    """``results``: (passed, of) for each version, in their order; None where it did not work the case."""

    case: CaseFacts
    results: tuple[tuple[int, int] | None, ...]

    @property
    def standing(self) -> Literal["every version passes", "no version passes", "some pass", "not worked"]:
        worked = [result for result in self.results if result is not None]
        if not worked:
            return "not worked"
        if all(passed == of for passed, of in worked):
            return "every version passes"
        return "no version passes" if all(passed == 0 for passed, _ in worked) else "some pass"


@dataclass(frozen=True)
class Standing:
    """``versions``, the oldest first; ``proposed`` and ``rejected`` count cases that are not run."""

    suite: str
    versions: tuple[VersionStanding, ...]
    cases: tuple[CaseStanding, ...]
    proposed: int
    rejected: int

    def of(self, standing: str) -> list[str]:
        return [one.case.name for one in self.cases if one.standing == standing]


def standing(
    suite: str,
    cases: Sequence[CaseFacts],
    runs: Iterable[tuple[RunInfo, Sequence[Ended]]],
    *,
    proposed: int = 0,
    rejected: int = 0,
) -> Standing:
    """``runs``: finished runs of the suite with their attempts. Runs of one agent digest count as one version."""
    since = {case.ticket: case.since_ns for case in cases}
    of_digest: dict[str, list[tuple[RunInfo, list[Ended], int]]] = {}
    for info, attempts in sorted(runs, key=lambda run: (run[0].started_ns, run[0].id)):
        of_suite = [one for one in attempts if one.ticket in since]
        kept = [one for one in of_suite if info.started_ns >= since[one.ticket]]
        of_digest.setdefault(info.agent_digest, []).append((info, kept, len(of_suite) - len(kept)))
    pooled = {digest: [one for _, kept, _ in made for one in kept] for digest, made in of_digest.items()}
    counts = {digest: by_ticket(attempts) for digest, attempts in pooled.items()}
    worked = [set(found) for found in counts.values() if found]
    common = set.intersection(*worked) if worked else set()
    versions = _told_apart(_version(digest, made, pooled[digest], common, cases) for digest, made in of_digest.items())
    each = tuple(CaseStanding(case, tuple(found.get(case.ticket) for found in counts.values())) for case in cases)
    return Standing(suite, versions, each, proposed, rejected)


def _version(
    digest: str,
    made: Sequence[tuple[RunInfo, list[Ended], int]],
    attempts: Sequence[Ended],
    common: set[str],
    cases: Sequence[CaseFacts],
) -> VersionStanding:
    first = made[0][0]
    of_origin = {case.ticket: case.origin for case in cases}
    origins = dict.fromkeys(case.origin for case in cases)
    there = by_ticket(attempts)
    return VersionStanding(
        agent=f"{first.agent_name} {first.agent_version}".strip(),
        digest=digest,
        first_ns=first.started_ns,
        runs=tuple(info.id for info, _, _ in made),
        simulated=any(info.simulated for info, _, _ in made),
        rate=rate_of(attempts),
        common=rate_of([one for one in attempts if one.ticket in common]),
        origins={origin: rate_of([one for one in attempts if of_origin[one.ticket] == origin]) for origin in origins},
        not_worked=sum(case.ticket not in there for case in cases),
        outdated=sum(count for _, _, count in made),
    )


def _told_apart(versions: Iterable[VersionStanding]) -> tuple[VersionStanding, ...]:
    """With a part of the digest where two have one name: somebody changed the agent and not its version."""
    found = tuple(versions)
    names = Counter(one.agent for one in found)
    return tuple(replace(one, agent=f"{one.agent} {one.digest[:8]}") if names[one.agent] > 1 else one for one in found)
