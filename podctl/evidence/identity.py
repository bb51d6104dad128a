"""Who did an attempt and where it belongs: on every export and every trace."""

from __future__ import annotations

from dataclasses import dataclass

from podctl.evidence.causes import Cause
from podctl.evidence.results import AttemptResult, RunInfo


@dataclass(frozen=True)
class Identity:
    """``passed`` and ``cause`` are None while the attempt has not ended; ``policy`` names the boundary in effect."""

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

    @staticmethod
    def of(info: RunInfo, result: AttemptResult, policy: str = "") -> Identity:
        return Identity(
            run=info.id,
            attempt=result.id,
            ticket=result.ticket,
            scenario=info.scenario,
            agent_name=info.agent_name,
            agent_version=info.agent_version,
            agent_digest=info.agent_digest,
            pod=result.pod,
            policy=policy,
            cause=result.cause,
            passed=result.passed,
        )
