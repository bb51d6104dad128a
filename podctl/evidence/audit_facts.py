"""What the audit log says of a run's rows and files: digests, so that any change to them afterwards is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO, Any

from podctl.evidence import codec
from podctl.evidence.audit_entries import canonical, digest
from podctl.evidence.log import SEALED
from podctl.evidence.reading import Opener, within
from podctl.evidence.results import AttemptResult, RunInfo, RunResult

#: What an agent left beside its records.
FILES = ("stdout", "stderr", "result.json")
#: Characters of a label that the log keeps.
_LABEL = 500


def begun_facts(info: RunInfo, stored: str) -> dict[str, Any]:
    """``stored`` is the run's `RunInfo` as its row has it."""
    return {
        "scenario": info.scenario,
        "agent": {"name": info.agent_name, "version": info.agent_version, "digest": info.agent_digest},
        "topology": info.topology,
        "digests": {**info.digests, "spec": info.spec_digest, "sample": info.sample_digest},
        "backend": info.backend,
        "isolation": info.isolation[:_LABEL],
        "podctl": info.podctl_version,
        "simulated": info.simulated,
        "labels": {name[:_LABEL]: value[:_LABEL] for name, value in sorted(info.labels.items())[:50]},
        "revision": info.revision,
        "shard": "" if info.shard is None else str(info.shard),
        **({} if info.campaign is None else {"campaign": codec.to_json(info.campaign)}),
        "info": digest(stored),
    }


def result_facts(result: AttemptResult, stored: str) -> dict[str, Any]:
    """``stored`` is the attempt's `AttemptResult` as its row has it."""
    return {"root": result.evidence_root, "cause": result.cause.value, "passed": result.passed, "result": digest(stored)}


def sealed_facts(result: AttemptResult, stored: str, directory: Path) -> dict[str, Any]:
    try:
        size = (directory / SEALED).stat().st_size
    except OSError:
        size = 0
    return {**result_facts(result, stored), "bytes": size, "files": file_digests(within(directory))}


def file_digests(opened: Opener) -> dict[str, str]:
    """sha256 of each of `FILES` that is there, and is a file."""
    found = {}
    for name in FILES:
        try:
            with opened(name) as file:
                found[name] = _sha256(file)
        except OSError:
            continue
    return found


def _sha256(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while piece := file.read(1 << 20):
        found.update(piece)
    return found.hexdigest()


def adopted_facts(row: dict[str, Any]) -> dict[str, Any]:
    """Of a run's row as it was found."""
    return {"status": row["status"], "verdict": row["verdict"], "outcome": outcome_digest(row), "info": digest(row["info"])}


def judged_facts(result: RunResult, row: dict[str, Any]) -> dict[str, Any]:
    """``row``: the columns of the run's row, as `run_columns` gives them."""
    return {
        "status": result.status,
        "verdict": result.verdict,
        "attempts": len(result.attempts),
        "outcome": outcome_digest(row),
        "info": digest(row["info"]),
    }


def outcome_digest(row: dict[str, Any]) -> str:
    names = ("status", "verdict", "spent_dollars", "findings", "comparison", "notes")
    return digest(canonical([row[name] for name in names]))
