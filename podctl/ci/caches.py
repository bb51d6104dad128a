"""What jobs may keep for one another, each with a key by its content: the same wherever a checkout lies."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podctl.backends.local.state import State
from podctl.backends.local.templates import directory_name
from podctl.evidence.store_read import StoreReader
from podctl.spec.bundle import Bundle
from podctl.spec.topology import databases


@dataclass(frozen=True)
class Cache:
    """``key`` names the content exactly; a cache whose key begins with ``prefix`` is better than none."""

    name: str
    paths: tuple[Path, ...]
    key: str
    prefix: str


def caches(bundles: Sequence[Bundle], store: StoreReader | None, store_directory: Path) -> list[Cache]:
    """Templates (by seeds, server and settings), recorded answers of models (by what is recorded), runs (by which there are).

    Raises `SeedProblem` for a seed that cannot be read.
    """
    templates = {directory_name(bundle.topology.databases[name]) for bundle in bundles for name in databases(bundle.topology)}
    recordings = sorted({bundle.scenario.model.recordings for bundle in bundles if bundle.scenario.model.recordings})
    answers = [[path.name for path in sorted(directory.rglob("*.json"))] for directory in recordings]
    runs = [run.info.id for run in store.list_runs()] if store is not None else []
    return [
        _cache("templates", (State.here().templates,), sorted(templates)),
        _cache("models", tuple(recordings), answers),
        _cache("runs", (store_directory,), runs),
    ]


def _cache(name: str, paths: tuple[Path, ...], content: object) -> Cache:
    prefix = f"podctl-{name}-"
    return Cache(name, paths, prefix + hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24], prefix)


def github_outputs(found: Sequence[Cache]) -> str:
    """Lines for ``$GITHUB_OUTPUT``: ``NAME-path``, ``NAME-key`` and ``NAME-prefix`` of each."""
    lines = []
    for cache in found:
        end = f"end-{hashlib.sha256(os.urandom(16)).hexdigest()[:16]}"
        lines += [f"{cache.name}-path<<{end}", *(str(path) for path in cache.paths), end]
        lines += [f"{cache.name}-key={cache.key}", f"{cache.name}-prefix={cache.prefix}"]
    return "\n".join(lines)
