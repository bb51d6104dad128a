"""A TestRun as the cluster has it, and its status. PURE."""

from __future__ import annotations

import time
from calendar import timegm
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

State = Literal["Queued", "Running", "Retrying", "Finished", "Refused"]
_MOST_MESSAGE = 2000

#: State -> condition -> (status, reason); "" stands for the verdict's reason.
_CONDITIONS: dict[State, dict[str, tuple[str, str]]] = {
    "Queued": {"Accepted": ("True", "Queued"), "Running": ("False", "Queued"), "Finished": ("False", "Queued")},
    "Running": {"Accepted": ("True", "Admitted"), "Running": ("True", "Running"), "Finished": ("False", "Running")},
    "Retrying": {
        "Accepted": ("True", "Admitted"),
        "Running": ("False", "EnvironmentFailed"),
        "Finished": ("False", "EnvironmentFailed"),
    },
    "Finished": {"Accepted": ("True", "Admitted"), "Running": ("False", "Finished"), "Finished": ("True", "")},
    "Refused": {"Accepted": ("False", "Refused"), "Running": ("False", "Refused"), "Finished": ("True", "Refused")},
}
_VERDICTS = {"pass": "Passed", "fail": "GateFailed", "inconclusive": "Inconclusive"}


@dataclass(frozen=True)
class TestRun:
    """``status`` is what the API server last said; times are seconds since the epoch."""

    __test__ = False  # pytest: no test, in spite of its name

    name: str
    uid: str
    generation: int
    created: float
    scenario: str
    config_maps: tuple[str, ...] = ()
    directory: str = ""
    agent: str = ""
    pods: int | None = None
    baseline: str = ""
    ttl_s: int | None = None
    deleting: bool = False
    status: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(body: Mapping[str, Any]) -> TestRun:
        """The API server has checked it against the schema."""
        meta, spec = body["metadata"], body["spec"]
        source = spec["source"]
        return TestRun(
            name=meta["name"],
            uid=meta["uid"],
            generation=int(meta.get("generation", 1)),
            created=seconds_of(meta["creationTimestamp"]),
            scenario=spec["scenario"],
            config_maps=tuple(source.get("configMaps", ())),
            directory=source.get("directory", ""),
            agent=spec.get("agent", ""),
            pods=spec.get("pods"),
            baseline=spec.get("baseline", ""),
            ttl_s=spec.get("ttlSecondsAfterFinished"),
            deleting="deletionTimestamp" in meta,
            status=body.get("status") or {},
        )

    @property
    def run(self) -> str:
        """The run's id in the store: the same whoever asks and however often, so that a run is never begun twice."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(self.created))
        return f"{stamp}-{self.uid.replace('-', '')[:8]}"

    @property
    def ended(self) -> bool:
        return self.status.get("state") in ("Finished", "Refused")

    def over_at(self) -> float | None:
        """When it is to be deleted; None while it is not known."""
        finished = self.status.get("finishedAt")
        return None if self.ttl_s is None or not self.ended or not finished else seconds_of(finished) + self.ttl_s

    def owner_reference(self) -> dict[str, Any]:
        """What makes the cluster delete an object together with this one."""
        return {
            "apiVersion": "podctl.dev/v1alpha1",
            "kind": "TestRun",
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


@dataclass(frozen=True)
class Standing:
    """How a TestRun stands, as far as its controller knows."""

    state: State
    message: str = ""
    verdict: str = ""
    planned: int | None = None
    done: int = 0
    passed: int = 0
    pods: int = 0
    spent: str = ""
    failures: int = 0


def standing_of(run: TestRun) -> Standing:
    """How one that a controller has just heard of stood when another last wrote it down."""
    attempts = run.status.get("attempts") or {}
    return Standing(
        "Queued",
        planned=attempts.get("planned"),
        done=attempts.get("done", 0),
        passed=attempts.get("passed", 0),
        spent=run.status.get("spentDollars", ""),
        failures=run.status.get("failures", 0),
    )


def status_of(run: TestRun, standing: Standing, now: float) -> dict[str, Any]:
    """The whole status. A condition's time changes only when its status does."""
    before = run.status
    at = rfc3339(now)
    status: dict[str, Any] = {
        "observedGeneration": run.generation,
        "state": standing.state,
        "message": standing.message[:_MOST_MESSAGE],
        "run": run.run,
        "pods": standing.pods,
        "failures": standing.failures,
        "attempts": dict(before.get("attempts") or {}),
        "spentDollars": standing.spent or before.get("spentDollars", ""),
        "conditions": _conditions(run, standing, at),
    }
    if standing.planned is not None:
        status["attempts"] = {"planned": standing.planned, "done": standing.done, "passed": standing.passed}
    if standing.verdict:
        status["verdict"] = standing.verdict
    started = before.get("startedAt") or (at if standing.state == "Running" else None)
    if started:
        status["startedAt"] = started
    if standing.state in ("Finished", "Refused"):
        status["finishedAt"] = before.get("finishedAt") or at
    return status


def _conditions(run: TestRun, standing: Standing, at: str) -> list[dict[str, Any]]:
    before = {condition["type"]: condition for condition in run.status.get("conditions") or ()}
    made = []
    for kind, (status, reason) in _CONDITIONS[standing.state].items():
        had = before.get(kind, {})
        made.append(
            {
                "type": kind,
                "status": status,
                "reason": reason or _VERDICTS[standing.verdict],
                "message": standing.message[:_MOST_MESSAGE],
                "observedGeneration": run.generation,
                "lastTransitionTime": had["lastTransitionTime"] if had.get("status") == status else at,
            }
        )
    return made


def seconds_of(text: str) -> float:
    """Of an RFC 3339 time in UTC, as the API server writes them."""
    return float(timegm(datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).timetuple()))


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
