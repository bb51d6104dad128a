"""What a capture does at its end: search everything it wrote for raw values, then sign what was found, which is nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from podctl.masking import statement
from podctl.masking.canaries import Canaries, canaries
from podctl.masking.keys import MaskingKey
from podctl.masking.prf import MASKING_VERSION
from podctl.masking.problems import MaskingProblem
from podctl.masking.scan import Scanner, ScanResult, refuse_findings
from podctl.masking.values import ValueMasks
from podctl.masking.watch import Watch
from podctl.signing import SigningKey
from podctl.spec.masking import Masking


def attest(
    seed: Path,
    policy: Masking,
    masking_key: MaskingKey,
    signing_key: SigningKey,
    watch: Watch,
    *,
    also: Sequence[Path] = (),
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Search ``seed`` and ``also`` (a template's data directory built from it, tickets) and write the seed's signed statement.

    ``facts``: what else the statement says (source, rows); JSON values without raw ones. Gives the statement.
    Raises `MaskingProblem` when a raw value is found, a file cannot be read, or a file changes meanwhile: there is no
    statement then.
    """
    looked_for = canaries(watch, ValueMasks(masking_key.secret))
    scanner = Scanner(looked_for.values)
    results = {"seed": scanner.scan([seed]), **{root.name: scanner.scan([root]) for root in also}}
    for result in results.values():
        refuse_findings(result)
    signed = statement.sign(
        seed,
        {
            **(facts or {}),
            "masking": {
                "name": policy.name,
                "version": MASKING_VERSION,
                "policy": policy_digest(policy),
                "key": masking_key.id,
                "masked": watch.counts(),
                "unconfirmed": 0,
            },
            "search": _search(looked_for, results, watch),
        },
        signing_key,
    )
    searched = {name.removeprefix(f"{seed.name}/"): digest for name, digest in results["seed"].files.items()}
    searched.pop(statement.STATEMENT, None)
    if searched != signed["statement"]["files"]:
        raise MaskingProblem(
            f"{seed} changed while it was searched", code="statement-changed", unchanged="no statement was written"
        )
    statement.write(seed, signed)
    return signed


def policy_digest(policy: Masking) -> str:
    """sha256 of what a Masking file says, not of how it is written."""
    return hashlib.sha256(json.dumps(policy.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def _search(looked_for: Canaries, results: dict[str, ScanResult], watch: Watch) -> dict[str, Any]:
    return {
        "values": len(looked_for.values),
        "by_mask": dict(sorted(looked_for.searched.items())),
        "not_searched": dict(sorted(looked_for.left_out.items())),
        "why_not": dict(sorted(looked_for.why.items())),
        "not_known_in_text": watch.knowledge.not_kept,
        "places": {
            name: {"files": len(result.files), "bytes": result.bytes, "sha256": _digest(result.files)}
            for name, result in results.items()
        },
        "findings": 0,
    }


def _digest(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
