"""How an attempt ended: each cause with whether it is retried and whether it counts against the agent."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    COMPLETED = "completed"
    SANDBOX_FAILED = "sandbox_failed"
    SEED_FAILED = "seed_failed"
    MODEL_PROVIDER_FAILED = "model_provider_failed"
    PODCTL_FAILED = "podctl_failed"
    AGENT_FAILED = "agent_failed"
    AGENT_EXHAUSTED_BUDGET = "agent_exhausted_budget"
    AGENT_TIMED_OUT = "agent_timed_out"
    AGENT_REFUSED = "agent_refused"
    BOUNDARY_VIOLATION = "boundary_violation"
    GRADER_FAILED = "grader_failed"
    CANCELLED = "cancelled"
    UNCLASSIFIED = "unclassified"

    @property
    def retry(self) -> bool:
        """Infrastructure's fault: another try may succeed."""
        return self in _RETRIED

    @property
    def counts(self) -> bool:
        """The attempt's outcome says something about the agent."""
        return self in _COUNTED


_RETRIED = frozenset(
    {Cause.SANDBOX_FAILED, Cause.SEED_FAILED, Cause.MODEL_PROVIDER_FAILED, Cause.PODCTL_FAILED, Cause.GRADER_FAILED}
)
_COUNTED = frozenset(
    {
        Cause.COMPLETED,
        Cause.AGENT_FAILED,
        Cause.AGENT_EXHAUSTED_BUDGET,
        Cause.AGENT_TIMED_OUT,
        Cause.AGENT_REFUSED,
        Cause.BOUNDARY_VIOLATION,
    }
)
