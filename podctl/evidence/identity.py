"""Who did an attempt and where it belongs: on every export and every trace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from podctl.evidence.causes import Cause
from podctl.evidence.records import Record
from podctl.evidence.results import AttemptResult, RunInfo

_SEGMENT = re.compile(r"[^A-Za-z0-9.-]")
#: Hexadecimal digits of the boundary's digest on a record; the audit log has all 64.
_SHORT = 16


def spiffe_id(domain: str, pod: str, name: str, version: str) -> str:
    """``spiffe://DOMAIN/pod/POD/agent/NAME/version/VERSION``. What SPIFFE allows in no path, such as the ``+`` of a version, and ``_``
    itself, is ``_`` and two hexadecimal digits for each byte, so that no two agents have one id."""
    segments = ("pod", pod, "agent", name, "version", version)
    return f"spiffe://{domain}/" + "/".join(_SEGMENT.sub(_escaped, segment) for segment in segments)


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"_{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def who(spiffe: str, agent_digest: str, attempt: str, boundary: tuple[str, str], role: str) -> dict[str, str]:
    """What each record of an attempt carries, for it to be told alone whose it is. ``boundary``: name and digest."""
    name, digest = boundary
    return {
        "id": spiffe,
        "digest": agent_digest,
        "attempt": attempt,
        "boundary": f"{name}@{digest[:_SHORT]}",
        "role": role,
    }


@dataclass(frozen=True)
class Identity:
    """``passed`` and ``cause`` are None while the attempt has not ended; ``policy`` names the boundary in effect,
    ``spiffe`` the agent: as records say, empty for records that are older than `who`."""

    run: str
    attempt: str
    ticket: str
    scenario: str
    agent_name: str
    agent_version: str
    agent_digest: str
    pod: str = ""
    policy: str = ""
    cause: Cause | None = None
    passed: bool | None = None
    spiffe: str = ""

    @staticmethod
    def of(info: RunInfo, result: AttemptResult, records: Iterable[Record]) -> Identity:
        """``records``: the attempt's."""
        told: Mapping[str, object] = next((record.who for record in records if record.who), {})
        return Identity(
            run=info.id,
            attempt=result.id,
            ticket=result.ticket,
            scenario=info.scenario,
            agent_name=info.agent_name,
            agent_version=info.agent_version,
            agent_digest=info.agent_digest,
            pod=result.pod,
            policy=str(told.get("boundary", "")),
            cause=result.cause,
            passed=result.passed,
            spiffe=str(told.get("id", "")),
        )
