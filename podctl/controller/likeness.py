"""Reads what a bundle's files say of production, for a run's fidelity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from podctl.data.captured import read_manifest
from podctl.errors import SpecError
from podctl.evidence.results import FidelityPart
from podctl.pods.fidelity import fidelity
from podctl.spec.bundle import Bundle
from podctl.spec.problems import printable, shown


def likeness(bundle: Bundle, servers: Mapping[str, str]) -> tuple[FidelityPart, ...]:
    """Raises `SpecError` for a captured seed or an import report that is there and is not understood."""
    topology = bundle.topology
    seeds = {
        name: read_manifest(database.seed.captured)
        for name, database in topology.databases.items()
        if database.mode == "mirrored" and database.seed.captured is not None
    }
    return fidelity(topology, seeds, servers, _carried(bundle))


def _carried(bundle: Bundle) -> list[dict[str, Any]] | None:
    origin = bundle.topology.origin
    if origin is None or not origin.report:
        return None
    path = bundle.scenario.topology.parent / origin.report
    if not path.is_file():
        return None  # the topology is what runs; a report that was not kept is a part that nobody can tell
    try:
        items = json.loads(path.read_bytes())["items"]
        return [{key: str(item[key]) for key in ("status", "subject", "key", "why")} for item in items]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(
            f"the import report {printable(shown(path))} is not understood",
            code="import-report",
            cause=f"{type(error).__name__}: {error}"[:200],
            hint="import the topology again, or take `report` out of its `origin`",
        ) from error
